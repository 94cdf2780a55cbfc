"""Figures, made without pyplot and its global state."""

from typing import TYPE_CHECKING

from sda_jax.core._lazy import exports

if TYPE_CHECKING:
    from sda_jax.figures._cases import (
        draw_flow,
        draw_posterior,
        observed_fields,
        observed_points,
    )
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
    "draw_flow",
    "draw_posterior",
    "flow_animation",
    "flow_panels",
    "forecast_errors",
    "modes",
    "observed_fields",
    "observed_points",
    "phase_space",
    "posterior_over_time",
    "save",
    "spectra",
    "training_curves",
]

__getattr__, __dir__ = exports(__name__)
