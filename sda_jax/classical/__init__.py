"""Exact and asymptotically exact posteriors, to measure against."""

from typing import TYPE_CHECKING

from sda_jax.core._lazy import exports

if TYPE_CHECKING:
    from sda_jax.classical._kalman import (
        GaussianTrajectory,
        exact_prior,
        kalman_smoother,
        trajectory_distribution,
    )
    from sda_jax.classical._particle import bootstrap_filter, particle_smoother

__all__ = [
    "GaussianTrajectory",
    "bootstrap_filter",
    "exact_prior",
    "kalman_smoother",
    "particle_smoother",
    "trajectory_distribution",
]

__getattr__, __dir__ = exports(__name__)
