"""Priors: what training produces; saving, loading, training and log densities."""

from typing import TYPE_CHECKING

from sda_jax.core._lazy import exports

if TYPE_CHECKING:
    from sda_jax.prior._loading import load_prior
    from sda_jax.prior._log_density import flow_log_prob, log_prob
    from sda_jax.prior._loop import train
    from sda_jax.prior._prior import Prior
    from sda_jax.prior._saving import save_prior
    from sda_jax.prior._shipped import shipped_priors
    from sda_jax.prior._training import Training
    from sda_jax.prior._trajectory_denoiser import trajectory_denoiser

__all__ = [
    "Prior",
    "Training",
    "flow_log_prob",
    "load_prior",
    "log_prob",
    "save_prior",
    "shipped_priors",
    "train",
    "trajectory_denoiser",
]
COMPONENTS = [
    "Training",
]

__getattr__, __dir__ = exports(__name__)
