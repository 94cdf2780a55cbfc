"""Exact and asymptotically exact posteriors, to measure against."""

from sda_jax.truth.kalman import GaussianTrajectory, exact_prior, kalman_smoother, trajectory_law
from sda_jax.truth.particle import bootstrap_filter, particle_smoother, systematic_resampling
from sda_jax.truth.refine import Refined, refine

__all__ = [
    "GaussianTrajectory",
    "Refined",
    "bootstrap_filter",
    "exact_prior",
    "kalman_smoother",
    "particle_smoother",
    "refine",
    "systematic_resampling",
    "trajectory_law",
]
