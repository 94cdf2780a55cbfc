"""The normal distribution of what a denoiser leaves open."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sda_jax.core._arrays import PRNGKey, Time
from sda_jax.core._component import component
from sda_jax.core._protocols import Schedule
from sda_jax.diffusion._schedules import noise_level, noise_ratio
from sda_jax.diffusion._stationary import draw_series, times_covariance


@component
class DenoisingErrors:
    """The normal distribution that stands for that of x given x_t around its mean: of what was
    measured of a denoiser's errors, or else of independent standard normal data.

    Attributes:
        errors: Mean squared denoising errors by noise level and channel.
        correlations: Of the errors of states, by noise level, lag and pair of channels; None for
            fields.
    """

    errors: Float[Array, "levels channel"] | None = None
    correlations: Float[Array, "levels lags channel channel"] | None = None

    def covariance_times(self, w: Array, t: Time, schedule: Schedule) -> Array:
        """The covariance of x given x_t times `w`."""
        std = self._std(t, schedule)
        if self.correlations is None:
            return std**2 * w
        return std * times_covariance(self._correlation(t, schedule), std * w)

    def draw_error(
        self, key: PRNGKey, shape: tuple[int, ...], t: Time, schedule: Schedule
    ) -> Array:
        """A draw from the normal distribution of mean zero and the covariance that
        `covariance_times` applies."""
        std = self._std(t, schedule)
        if self.correlations is None:
            return std * jax.random.normal(key, shape)
        return std * draw_series(key, self._correlation(t, schedule), shape[0])

    def _std(self, t: Time, schedule: Schedule) -> Array:
        if self.errors is None:
            ratio = noise_ratio(schedule, t)
            return ratio / jnp.sqrt(1 + ratio**2)
        return jnp.exp(by_level(jnp.log(self.errors) / 2, t, schedule))

    def _correlation(self, t: Time, schedule: Schedule) -> Array:
        return by_level(jnp.asarray(self.correlations), t, schedule)


def by_level(known: Float[Array, "levels ..."], t: Time, schedule: Schedule) -> Array:
    """What was measured at noise levels that are evenly spaced in log(sigma/mu), at time t, whose
    axes come first."""
    last = len(known) - 1
    place = jnp.clip(noise_level(schedule, t), 0.0, 1.0) * last
    below = jnp.minimum(jnp.floor(place).astype(int), last - 1)
    weight = (place - below).reshape(*jnp.shape(t), *(1,) * (known.ndim - 1))
    return (1 - weight) * known[below] + weight * known[below + 1]


def linear_error(variance: Array, ratio: Array) -> Array:
    """Variance of the best linear estimate's error: `r^2 v / (v + r^2)`."""
    return ratio**2 * variance / (variance + ratio**2)
