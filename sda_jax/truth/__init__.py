"""Exact and asymptotically exact posteriors, to measure against."""

from sda_jax.truth.kalman import GaussianTrajectory, kalman_smoother, trajectory_law
from sda_jax.truth.particle import bootstrap_filter, particle_smoother, systematic_resampling

__all__ = [
    "GaussianTrajectory",
    "bootstrap_filter",
    "kalman_smoother",
    "particle_smoother",
    "systematic_resampling",
    "trajectory_law",
]
