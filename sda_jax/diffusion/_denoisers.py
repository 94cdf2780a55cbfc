"""Network outputs, noise and posterior means; the training loss; the errors that are left."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from sda_jax.core._arrays import PRNGKey, Scalar, Time, Trajectory
from sda_jax.core._component import component, static
from sda_jax.core._errors import ConfigError, require_positive
from sda_jax.core._protocols import Denoiser, Schedule
from sda_jax.diffusion._schedules import noise_level, noise_ratio
from sda_jax.diffusion._stationary import autocovariance, draw_series, times_covariance
from sda_jax.networks import Network

ERROR_LEVELS = 25  # noise levels of measured errors, four a decade


@component
class Parameterisation:
    """What the parameterisations share: the network sees x_t scaled to unit variance.

    What is measured of its errors (`with_measured_errors`) stands for the distribution of x given
    x_t.

    Attributes:
        errors: Mean squared denoising errors by noise level and channel.
        correlations: Of the errors of states, by noise level, lag and pair of channels; None for
            fields.
    """

    errors: Float[Array, "levels channel"] | None = None
    correlations: Float[Array, "levels lags channel channel"] | None = None

    def unfitted(self) -> Any:
        """Without what was measured from data: what a configuration says of it."""
        return dataclasses.replace(self, errors=None, correlations=None)

    def inputs(self, x: Array, t: Time, schedule: Schedule) -> Array:
        """What the network sees of `x = x_t`."""
        return x / jnp.sqrt(schedule.mu(t) ** 2 + schedule.sigma(t) ** 2)

    def outputs(self, output: Array, t: Time, schedule: Schedule) -> Array:
        """What `denoise` takes and `target` is compared with, from the network's output."""
        return output

    def covariance_times(self, w: Array, t: Time, schedule: Schedule) -> Array:
        """The covariance of x given x_t times `w`: of the measured errors, or of independent
        standard normal data."""
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
        logs = jnp.log(self.errors) / 2
        below, weight = self._between(t, schedule)
        return jnp.exp((1 - weight) * logs[below] + weight * logs[below + 1])

    def _correlation(self, t: Time, schedule: Schedule) -> Array:
        below, weight = self._between(t, schedule)
        known = jnp.asarray(self.correlations)
        return (1 - weight) * known[below] + weight * known[below + 1]

    def _between(self, t: Time, schedule: Schedule) -> tuple[Array, Array]:
        """The measured level below time t and the weight of the one above."""
        last = len(jnp.asarray(self.errors)) - 1
        place = jnp.clip(noise_level(schedule, t), 0.0, 1.0) * last
        below = jnp.minimum(jnp.floor(place).astype(int), last - 1)
        return below, place - below


@component
class NoisePrediction(Parameterisation):
    """The network predicts the noise: `x_hat = (x_t - sigma eps) / mu` (Tweedie's formula).

    Rozet & Louppe (2023), equation 7. The network is told t.
    """

    def level(self, schedule: Schedule, t: Time) -> Scalar:
        """What the network is told of the noise."""
        return t

    def denoise(self, output: Array, x: Array, t: Time, schedule: Schedule) -> Array:
        """`E[x | x_t]` from the network's output at `x = x_t`."""
        return (x - schedule.sigma(t) * output) / schedule.mu(t)

    def target(self, x: Array, noise: Array, t: Time, schedule: Schedule) -> Array:
        """What the network is to output for data `x` perturbed by `noise`."""
        return noise


@component
class Preconditioned(Parameterisation):
    """The network predicts the data's and the noise's mixture of unit variance at every level.

    `x_hat = c_skip x_t/mu + c_out F(c_in x_t/mu, log(sigma/mu))` with the coefficients of Karras
    et al. (2022), table 1, for data of standard deviation `data_std`.
    """

    data_std: float = 1.0

    def level(self, schedule: Schedule, t: Time) -> Scalar:
        """What the network is told of the noise: log(sigma/mu), mapped to [0, 1]."""
        return noise_level(schedule, t)

    def _coefficients(self, ratio: Array) -> tuple[Array, Array]:
        total = ratio**2 + self.data_std**2
        return self.data_std**2 / total, ratio * self.data_std / jnp.sqrt(total)

    def denoise(self, output: Array, x: Array, t: Time, schedule: Schedule) -> Array:
        """`E[x | x_t]` from the network's output at `x = x_t`."""
        c_skip, c_out = self._coefficients(noise_ratio(schedule, t))
        return c_skip * x / schedule.mu(t) + c_out * output

    def target(self, x: Array, noise: Array, t: Time, schedule: Schedule) -> Array:
        """What the network is to output for data `x` perturbed by `noise`."""
        ratio = noise_ratio(schedule, t)
        total = ratio**2 + self.data_std**2
        # (x - c_skip (x + ratio noise)) / c_out without the cancellation at small ratios
        return (ratio * x / self.data_std - self.data_std * noise) / jnp.sqrt(total)


def _like(a: Array, x: Array) -> Array:
    """`a` of shape `(*batch,)` with axes of size one added, to broadcast against `x`."""
    return a.reshape(a.shape + (1,) * (x.ndim - a.ndim))


@component
class NetworkDenoiser:
    """A score network as a denoiser of segments.

    Attributes:
        network: Linen module `(x, level) -> like x`; it sees inputs of unit variance.
        variables: Its weights.
        schedule: Noise schedule it was trained with.
        parameterisation: What its output means.
        channels: Of its context: what the network is told of each state beside x_t (static fields,
            parameters, the season).
        context: Standardised, `(*batch, L, *space, channels)`; see `conditioned`.
    """

    network: Network = static()
    variables: PyTree[Array]
    schedule: Any
    parameterisation: Any
    channels: int = static(0)
    context: Any = None

    def conditioned(
        self, context: Float[Array, "*batch length *space channel"] | None
    ) -> NetworkDenoiser:
        """The denoiser that knows this context."""
        return dataclasses.replace(self, context=context)

    def init(self, key: PRNGKey, shape: tuple[int, ...]) -> PyTree[Array]:
        """Random weights for segments of shape `(L, *S)`."""
        t = jnp.ones(())
        seen = self.parameterisation.inputs(jnp.zeros(shape), t, self.schedule)
        known = jnp.zeros((*shape[:-1], self.channels)) if self.channels else None
        return self.network.init(key, seen, t, known)

    def output(
        self, x: Float[Array, "*batch length *state"], t: Float[Array, "*batch"] | float
    ) -> Float[Array, "*batch length *state"]:
        """What the parameterisation denoises with at `x = x_t`, batched as the network is."""
        t = jnp.asarray(t, jnp.float32)
        t_like, schedule = _like(t, x), self.schedule
        seen = self.parameterisation.inputs(x, t_like, schedule)
        level = self.parameterisation.level(schedule, t)
        if self.channels and self.context is None:
            raise ConfigError(
                "context",
                None,
                f"an array of {self.channels} channels, which this network was trained with",
                "Pass context.",
            )
        output = self.network.apply(self.variables, seen, level, self.context)
        return self.parameterisation.outputs(output, t_like, schedule)

    def __call__(self, x: Trajectory, t: Time) -> Trajectory:
        return self.parameterisation.denoise(self.output(x, t), x, t, self.schedule)

    def covariance_times(self, w: Trajectory, t: Time) -> Trajectory:
        """The parameterisation's `covariance_times`."""
        return self.parameterisation.covariance_times(w, t, self.schedule)

    def draw_error(self, key: PRNGKey, shape: tuple[int, ...], t: Time) -> Trajectory:
        """The parameterisation's `draw_error`."""
        return self.parameterisation.draw_error(key, shape, t, self.schedule)


def with_measured_errors(
    key: PRNGKey,
    denoiser: NetworkDenoiser,
    x: Float[Array, "batches batch length *state"],
    valid: Bool[np.ndarray, "*state"] | None = None,
) -> NetworkDenoiser:
    """The denoiser with its parameterisation's errors measured: what guidance takes for the
    covariance of x given x_t (`covariance_times`).

    Args:
        key: Random key of the noise.
        denoiser: Trained.
        x: Segments that it was not trained on, in standardised units, with the context as last
            channels.
        valid: Where states have values; elsewhere errors do not count.
    """
    schedule = denoiser.schedule
    share = 1.0 if valid is None else valid.reshape(-1, valid.shape[-1]).mean(axis=0)
    low, high = (jnp.log(noise_ratio(schedule, end)) for end in (0.0, 1.0))
    ratios = jnp.exp(jnp.linspace(low, high, ERROR_LEVELS))

    states = x.ndim == 4

    def of(
        denoiser: NetworkDenoiser, x: Array, level: tuple[PRNGKey, Array]
    ) -> tuple[Array, Array]:
        key, ratio = level
        t = schedule.time(ratio)

        def one(batch: tuple[PRNGKey, Array]) -> tuple[Array, Array]:
            key, (x, known) = batch[0], with_context(batch[1], denoiser.channels)
            x_t = schedule.mu(t) * x + schedule.sigma(t) * jax.random.normal(key, x.shape)
            if known is None:
                e = jax.vmap(lambda x: denoiser(x, t))(x_t) - x
            else:
                e = jax.vmap(lambda x, c: denoiser.conditioned(c)(x, t))(x_t, known) - x
            e = e if valid is None else jnp.where(valid, e, 0.0)
            squares = jnp.mean(e.reshape(-1, x.shape[-1]) ** 2, axis=0) / share
            return squares, autocovariance(e) if states else jnp.zeros(())

        found = jax.lax.map(one, (jax.random.split(key, len(x)), x))
        return jax.tree.map(lambda a: jnp.mean(a, axis=0), found)

    keys = jax.random.split(key, len(ratios))
    measure = jax.jit(lambda denoiser, x, levels: jax.lax.map(partial(of, denoiser, x), levels))
    errors, lags = measure(denoiser, x, (keys, ratios))
    std = jnp.sqrt(errors)
    correlations = lags / (std[:, None, :, None] * std[:, None, None, :]) if states else None
    parameterisation = dataclasses.replace(
        denoiser.parameterisation, errors=errors, correlations=correlations
    )
    return dataclasses.replace(denoiser, parameterisation=parameterisation)


def predicted_noise(denoiser: Denoiser, x: Trajectory, t: Time) -> Trajectory:
    """`eps(x_t, t) = (x_t - mu x_hat) / sigma`; the score is `-eps / sigma`."""
    schedule = denoiser.schedule
    return (x - schedule.mu(t) * denoiser(x, t)) / schedule.sigma(t)


@component
class UniformTime:
    """Training times uniform in t, the paper's."""

    def __call__(self, schedule: Schedule, u: Array) -> Array:
        """Times for numbers `u` that are uniform in [0, 1]."""
        return u


@component
class LogNormalRatio:
    """Training times whose log(sigma/mu) is normal. Karras et al. (2022), section 5.

    The defaults reach from 0.004 to 12 at two standard deviations: below the transition noise of
    a standardised chaotic trajectory, and up to where nothing of it is left.
    """

    mean: float = -1.5
    std: float = 2.0

    def __post_init__(self) -> None:
        require_positive("std", self.std)

    def __call__(self, schedule: Schedule, u: Array) -> Array:
        """Times for numbers `u` that are uniform in [0, 1]."""
        return schedule.time(jnp.exp(self.mean + self.std * jax.scipy.special.ndtri(u)))


def with_context(
    x: Float[Array, "*batch channel"], channels: int
) -> tuple[Array, Float[Array, "*batch context"] | None]:
    """States and context of data that have the context as their last `channels` channels."""
    return (x[..., :-channels], x[..., -channels:]) if channels else (x, None)


def denoising_loss(
    key: PRNGKey, denoiser: NetworkDenoiser, times: Any, x: Float[Array, "batch length *state"]
) -> Float[Array, ""]:
    """Denoising score matching, averaged over a batch of segments in standardised units, with the
    context as last channels.

    Rozet & Louppe (2023), equation 6. Each segment has its own time; the batch's times are
    stratified (one in each of `batch` equal parts), which leaves the expectation as it is and
    lowers its variance.
    """
    key_t, key_noise = jax.random.split(key)
    x, known = with_context(x, denoiser.channels)
    denoiser = denoiser.conditioned(known)
    batch = x.shape[0]
    u = (jnp.arange(batch) + jax.random.uniform(key_t, (batch,))) / batch
    t = times(denoiser.schedule, u)
    noise = jax.random.normal(key_noise, x.shape, x.dtype)

    schedule = denoiser.schedule
    mu, sigma, t_like = (_like(a, x) for a in (schedule.mu(t), schedule.sigma(t), t))
    target = denoiser.parameterisation.target(x, noise, t_like, schedule)
    return jnp.mean((denoiser.output(mu * x + sigma * noise, t) - target) ** 2)
