"""Figures, made without pyplot and its global state."""

from sda_jax.figures._common import save
from sda_jax.figures._flow import flow_animation, flow_panels, forecast_errors, spectra
from sda_jax.figures._states import (
    accuracy_curves,
    modes,
    phase_space,
    posterior_over_time,
    training_curves,
)

__all__ = [
    "accuracy_curves",
    "flow_animation",
    "flow_panels",
    "forecast_errors",
    "modes",
    "phase_space",
    "posterior_over_time",
    "save",
    "spectra",
    "training_curves",
]
