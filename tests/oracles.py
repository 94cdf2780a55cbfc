"""Exact answers that tests compare with."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

import sda_jax as sda
from sda_jax.classical import GaussianTrajectory
from sda_jax.core._component import component
from sda_jax.diffusion._gaussian import GaussianDenoiser


@component
class Independent:
    """The exact denoiser of independent normal numbers, in any number of dimensions."""

    variance: Any
    schedule: Any = sda.Cosine()

    def __call__(self, x, t):
        mu, sigma = self.schedule.mu(t), self.schedule.sigma(t)
        return mu * self.variance / (mu**2 * self.variance + sigma**2) * x


def standardised(distribution: GaussianTrajectory, standardisation: sda.Standardisation):
    """Mean and covariance of the distribution in standardised units."""
    std = np.broadcast_to(np.asarray(standardisation.std, float), distribution.mean.shape)
    mean = (distribution.mean - np.asarray(standardisation.mean, float)) / std
    scale = std.reshape(-1)
    return mean, distribution.covariance / np.outer(scale, scale)


def gaussian_denoiser(distribution, standardisation, schedule) -> GaussianDenoiser:
    """The exact denoiser of a Gaussian distribution of trajectories."""
    mean, covariance = standardised(distribution, standardisation)
    return GaussianDenoiser.of(
        jnp.asarray(mean, jnp.float32), jnp.asarray(covariance, jnp.float32), schedule
    )


def condition(distribution: GaussianTrajectory, matrix, y, noise) -> GaussianTrajectory:
    """The distribution given `y = matrix x + N(0, noise)`, x the flattened trajectory."""
    mean, p = distribution.mean.reshape(-1), distribution.covariance
    gain = np.linalg.solve(matrix @ p @ matrix.T + noise, matrix @ p).T
    posterior = mean + gain @ (y - matrix @ mean)
    return GaussianTrajectory(posterior.reshape(distribution.mean.shape), p - gain @ matrix @ p)


def standard_error(values: np.ndarray) -> np.ndarray:
    """Of the mean over the first axis."""
    return values.std(axis=0, ddof=1) / np.sqrt(len(values))
