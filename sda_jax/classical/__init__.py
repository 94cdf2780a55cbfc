"""Exact and asymptotically exact posteriors, to measure against."""

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
