"""Gaussian data: their exact denoiser, and the distribution of x given x_t that a denoiser knows
of."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sda_jax.core._arrays import PRNGKey, Time, Trajectory
from sda_jax.core._component import component
from sda_jax.core._protocols import Denoiser, KnowsErrors, Schedule
from sda_jax.diffusion._denoising_errors import DenoisingErrors
from sda_jax.diffusion._schedules import noise_ratio


def covariance_times(denoiser: Denoiser, w: Trajectory, t: Time) -> Trajectory:
    """The covariance of x given x_t times `w`, were the data Gaussian: of the distribution that the
    denoiser knows of (its `covariance_times`), or of independent standardised numbers."""
    if isinstance(denoiser, KnowsErrors):
        return denoiser.covariance_times(w, t)
    return DenoisingErrors().covariance_times(w, t, denoiser.schedule)


def draw_error(key: PRNGKey, denoiser: Denoiser, shape: tuple[int, ...], t: Time) -> Trajectory:
    """A draw from the normal distribution of mean zero whose covariance `covariance_times`
    applies."""
    if isinstance(denoiser, KnowsErrors):
        return denoiser.draw_error(key, shape, t)
    return DenoisingErrors().draw_error(key, shape, t, denoiser.schedule)


@component
class GaussianDenoiser:
    """The exact denoiser of trajectories with distribution `N(mean, covariance)`.

    `E[x | x_t] = m + mu C (mu^2 C + sigma^2 I)^-1 (x_t - mu m)`, evaluated in the covariance's
    eigenbasis. Make one with `GaussianDenoiser.of`.
    """

    mean: Trajectory
    eigenvalues: Float[Array, " n"]
    eigenvectors: Float[Array, "n n"]
    schedule: Any

    @classmethod
    def of(
        cls, mean: Trajectory, covariance: Float[Array, "n n"], schedule: Schedule
    ) -> GaussianDenoiser:
        """From the mean `(L, *S)` and the covariance of the flattened trajectory."""
        eigenvalues, eigenvectors = jnp.linalg.eigh(covariance)
        return cls(mean, jnp.maximum(eigenvalues, 0.0), eigenvectors, schedule)

    def __call__(self, x: Trajectory, t: Time) -> Trajectory:
        mu, sigma = self.schedule.mu(t), self.schedule.sigma(t)
        gain = mu * self.eigenvalues / (mu**2 * self.eigenvalues + sigma**2)
        return self.mean + self._scaled(gain, x - mu * self.mean)

    def covariance_times(self, w: Trajectory, t: Time) -> Trajectory:
        """The covariance of x given x_t times `w`."""
        return self._scaled(self._variances(t), w)

    def draw_error(self, key: PRNGKey, shape: tuple[int, ...], t: Time) -> Trajectory:
        """A draw from the distribution of `x - E[x | x_t]`."""
        white = jax.random.normal(key, shape)
        return self._scaled(jnp.sqrt(self._variances(t)), white)

    def _variances(self, t: Time) -> Array:
        ratio2 = noise_ratio(self.schedule, t) ** 2
        return ratio2 * self.eigenvalues / (self.eigenvalues + ratio2)

    def _scaled(self, gain: Array, x: Trajectory) -> Trajectory:
        with jax.default_matmul_precision("highest"):
            return (self.eigenvectors @ (gain * (self.eigenvectors.T @ x.reshape(-1)))).reshape(
                x.shape
            )
