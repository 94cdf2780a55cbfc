"""Exact answers that tests compare with."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

import sda_jax as sda
from sda_jax.classical import GaussianTrajectory
from sda_jax.diffusion._gaussian import GaussianDenoiser


def standardised(law: GaussianTrajectory, standardisation: sda.Standardisation):
    """Mean and covariance of the law in standardised units."""
    std = np.broadcast_to(np.asarray(standardisation.std, float), law.mean.shape)
    mean = (law.mean - np.asarray(standardisation.mean, float)) / std
    scale = std.reshape(-1)
    return mean, law.covariance / np.outer(scale, scale)


def gaussian_denoiser(law, standardisation, schedule) -> GaussianDenoiser:
    """The exact denoiser of a Gaussian law of trajectories."""
    mean, covariance = standardised(law, standardisation)
    return GaussianDenoiser.of(
        jnp.asarray(mean, jnp.float32), jnp.asarray(covariance, jnp.float32), schedule
    )


def condition(law: GaussianTrajectory, matrix, y, noise) -> GaussianTrajectory:
    """The law given `y = matrix x + N(0, noise)`, x the flattened trajectory."""
    mean, p = law.mean.reshape(-1), law.covariance
    gain = np.linalg.solve(matrix @ p @ matrix.T + noise, matrix @ p).T
    posterior = mean + gain @ (y - matrix @ mean)
    return GaussianTrajectory(posterior.reshape(law.mean.shape), p - gain @ matrix @ p)


def standard_error(values: np.ndarray) -> np.ndarray:
    """Of the mean over the first axis."""
    return values.std(axis=0, ddof=1) / np.sqrt(len(values))
