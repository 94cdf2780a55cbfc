"""What people use today and what is exact: posteriors to measure against."""

from typing import TYPE_CHECKING

from sda_jax.core._lazy import exports

if TYPE_CHECKING:
    from sda_jax.classical._interpolation_in_time import interpolation_in_time
    from sda_jax.classical._kalman import (
        GaussianTrajectory,
        exact_prior,
        kalman_smoother,
        trajectory_distribution,
    )
    from sda_jax.classical._optimal_interpolation import (
        GaussianClimate,
        GaussianEstimate,
        climate_of,
        optimal_interpolation,
    )
    from sda_jax.classical._particle import bootstrap_filter, particle_smoother

__all__ = [
    "GaussianClimate",
    "GaussianEstimate",
    "GaussianTrajectory",
    "bootstrap_filter",
    "climate_of",
    "exact_prior",
    "interpolation_in_time",
    "kalman_smoother",
    "optimal_interpolation",
    "particle_smoother",
    "trajectory_distribution",
]

__getattr__, __dir__ = exports(__name__)
