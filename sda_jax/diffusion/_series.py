"""A parameterisation whose networks learn the departure of series from a stationary Gaussian
distribution around a mean that the context tells."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sda_jax.core._arrays import PRNGKey, Scalar, Time
from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError
from sda_jax.core._protocols import Schedule
from sda_jax.diffusion._denoising_errors import by_level
from sda_jax.diffusion._parameterisations import Parameterisation
from sda_jax.diffusion._schedules import noise_level, noise_ratio
from sda_jax.diffusion._series_law import SeriesLaw, odd_states, unbiased_lags

Series = Float[Array, "*batch length channel"]
ByLevel = Float[Array, "levels channel"]
RIDGE = 1e-3  # of the mean's regression, in units of its predictors' variances


@component
class SeriesPreconditioned(Parameterisation):
    """The network predicts what is missing from the best linear estimate, in units of its error.

    For series that are stationary and Gaussian around a mean m that the context tells (the hour of
    the day, the season), with covariance C and `r = sigma/mu`:

        x_hat = m + C (C + r^2)^-1 (x_t/mu - m) + g s F(inputs)

    s is the standard deviation of the linear estimate's error, by channel, and g in [0, 1] how far
    the network was found to be right on data held out, by noise level and channel: where it knows
    no better than the linear estimate, that estimate stands. Without a network (g = 0) the
    posterior of a linear observation is optimal interpolation. The network sees x_t and the
    estimate side by side as channels, each of unit variance, and outputs the state's channels
    (`outputs` of `TemporalConv`). Trajectories longer than the lags reach are composed of windows.

    Attributes:
        lags: Autocovariance `E e_i e_{i+l}^T` of the anomalies, in standardised units; None before
            `fitted`.
        slopes: Of the mean, on 1, the context's channels and their products; None without context.
        gate: g by noise level and channel; None for one.
        widths: Standard deviations of the errors that were measured, in units of those that the
            lags foresee, by noise level and channel; None for one.
        law: Of windows of the trajectory at hand; None before `of_length`.
        mean: m of the trajectory at hand, None for zero; see `conditioned`.
    """

    lags: Float[Array, "lags channel channel"] | None = None
    slopes: Float[Array, "predictors channel"] | None = None
    gate: ByLevel | None = None
    widths: ByLevel | None = None
    law: SeriesLaw | None = None
    mean: Series | None = None

    def fitted(
        self,
        segments: Float[np.ndarray, "m length channel"],
        context: Float[np.ndarray, "m length known"] | None = None,
    ) -> SeriesPreconditioned:
        """With mean and lags measured from segments in standardised units, an odd number of lags
        that segments have the states for."""
        x, slopes = np.asarray(segments, np.float64), None
        if context is not None:
            known = np.asarray(_predictors(jnp.asarray(context)), np.float64)
            rows = known.reshape(-1, known.shape[-1])
            penalty = RIDGE * len(rows) * np.diag(np.maximum(rows.var(axis=0), RIDGE))
            penalty[0, 0] = 0.0
            slopes = np.linalg.solve(rows.T @ rows + penalty, rows.T @ x.reshape(len(rows), -1))
            x = x - known @ slopes
            slopes = jnp.asarray(slopes, jnp.float32)
        lags = unbiased_lags(x, odd_states(x.shape[1], x.shape[2]))
        return dataclasses.replace(self, lags=jnp.asarray(lags, jnp.float32), slopes=slopes)

    def unfitted(self) -> SeriesPreconditioned:
        """Without what was measured: as in a configuration."""
        return SeriesPreconditioned()

    def of_length(self, length: int | None) -> SeriesPreconditioned:
        """That of trajectories of `length` states; None for without their covariance.

        Raises:
            ConfigError: It has not been measured yet, or is an argument of a function that is
                being compiled.
        """
        law = None if length is None else SeriesLaw.of(self.lags, length)
        return dataclasses.replace(self, law=law)

    def conditioned(
        self, context: Float[Array, "*batch length known"] | None
    ) -> SeriesPreconditioned:
        """That of trajectories with this context."""
        if self.slopes is None or context is None:
            return dataclasses.replace(self, mean=None)
        return dataclasses.replace(self, mean=_predictors(context) @ self.slopes)

    def level(self, schedule: Schedule, t: Time) -> Scalar:
        """What the network takes as the noise level: log(sigma/mu), mapped to [0, 1]."""
        return noise_level(schedule, t)

    def inputs(self, x: Series, t: Time, schedule: Schedule) -> Series:
        """What the network sees of `x = x_t`: its anomaly and the linear estimate's."""
        ratio, law = noise_ratio(schedule, t), self._law(x)
        data = self._anomaly(x / schedule.mu(t))
        return jnp.concatenate(
            [data / law.seen_std(ratio), law.estimate(data, ratio) / law.estimate_std(ratio)],
            axis=-1,
        )

    def outputs(self, output: Series, t: Time, schedule: Schedule) -> Series:
        """The network's output.

        Raises:
            ConfigError: It has as many channels as the network's input, not as states have.
        """
        channels = jnp.asarray(self.lags).shape[-1]
        if output.shape[-1] != channels:
            raise ConfigError(
                "network",
                f"{output.shape[-1]} channels of output",
                f"{channels}, those of a state: it sees twice as many",
                f"Set its outputs to {channels}.",
            )
        return output

    def denoise(self, output: Series, x: Series, t: Time, schedule: Schedule) -> Series:
        """`E[x | x_t]` from the network's output at `x = x_t`."""
        ratio, law, data = noise_ratio(schedule, t), self._law(x), x / schedule.mu(t)
        scale = law.error_std(ratio)
        if self.gate is not None:
            scale = scale * _by_level(self.gate, t, schedule)
        return data - law.missing(self._anomaly(data), ratio) + scale * output

    def target(self, x: Series, noise: Series, t: Time, schedule: Schedule) -> Series:
        """What the network is to output for data `x` perturbed by `noise`."""
        ratio, law = noise_ratio(schedule, t), self._law(x)
        # (x - estimate of (x + ratio noise)) without the cancellation at small ratios
        missing = law.missing(self._anomaly(x), ratio) - ratio * law.estimate(noise, ratio)
        return missing / law.error_std(ratio)

    def covariance_times(self, w: Series, t: Time, schedule: Schedule) -> Series:
        """The covariance of x given x_t times `w`: of the linear estimate's error, scaled to the
        errors that were measured."""
        width = self._width(t, schedule)
        return width * self._law(w).covariance_times(width * w, noise_ratio(schedule, t))

    def draw_error(
        self, key: PRNGKey, shape: tuple[int, ...], t: Time, schedule: Schedule
    ) -> Series:
        """A draw from the normal distribution of mean zero and the covariance that
        `covariance_times` applies."""
        law = self._law(jnp.zeros(shape))
        return self._width(t, schedule) * law.draw_error(key, shape, noise_ratio(schedule, t))

    def _anomaly(self, data: Series) -> Series:
        return data if self.mean is None else data - self.mean

    def _width(self, t: Time, schedule: Schedule) -> Array | float:
        return 1.0 if self.widths is None else _by_level(self.widths, t, schedule)

    def _law(self, x: Series) -> SeriesLaw:
        law = SeriesLaw.of(self.lags, x.shape[-2]) if self.law is None else self.law
        law.require_fit(x.shape)
        return law


def _by_level(known: ByLevel, t: Time, schedule: Schedule) -> Float[Array, "*batch channel"]:
    """`by_level`; t may have axes of size one after those of its batch."""
    found = by_level(jnp.asarray(known), t, schedule)
    return found if jnp.ndim(t) == 0 else found.reshape(*jnp.shape(t)[:-1], -1)


def _predictors(context: Float[Array, "*batch length known"]) -> Float[Array, "*batch length p"]:
    """1, the context's channels and their products: two harmonics of each cycle."""
    known = context.shape[-1]
    pairs = [(i, j) for i in range(known) for j in range(i, known)]
    products = [context[..., i : i + 1] * context[..., j : j + 1] for i, j in pairs]
    return jnp.concatenate([jnp.ones((*context.shape[:-1], 1)), context, *products], axis=-1)
