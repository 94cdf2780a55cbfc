"""What parameterisations share whose networks learn the departure from a best linear estimate."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from sda_jax.core._arrays import PRNGKey, Scalar, Time
from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError
from sda_jax.core._protocols import Schedule
from sda_jax.diffusion._denoising_errors import by_level
from sda_jax.diffusion._parameterisations import Parameterisation
from sda_jax.diffusion._schedules import noise_level, noise_ratio

States = Float[Array, "..."]  # (*batch, length, *S)
ByLevel = Float[Array, "levels axis"]


@component
class LinearPreconditioned(Parameterisation):
    """The network predicts what is missing from the best linear estimate, in units of its error.

    For data that are Gaussian around a mean m with covariance C, and `r = sigma/mu`:

        x_hat = m + C (C + r^2)^-1 (x_t/mu - m) + back(g s F(inputs))

    s is the standard deviation of the linear estimate's error, by axis, and g in [0, 1] how far
    the network was found to be right on data held out, by noise level and axis: where it knows
    no better than the linear estimate, that estimate stands. Without a network (g = 0) the
    posterior of a linear observation is optimal interpolation. Axes of a state are its channels, or
    what a subclass takes for them (`along`, `back`). The network sees x_t and the estimate side by
    side as channels, each of unit variance, and outputs the state's channels (`outputs` of
    `TemporalConv` and `UNet`).

    Attributes:
        gate: g by noise level and axis; None for one.
        widths: Standard deviations of the errors that were measured, in units of those that the
            covariance foresees, by noise level and axis; None for one.
        law: C of windows of the trajectory at hand; None before `of_length`.
        mean: m of the trajectory at hand, None for zero; see `conditioned`.
    """

    gate: ByLevel | None = None
    widths: ByLevel | None = None
    law: Any = None
    mean: States | None = None

    @property
    @abstractmethod
    def channels(self) -> int:
        """Of a state."""

    @abstractmethod
    def of_law(self, length: int) -> Any:
        """The law of trajectories of `length` states, or of windows of them."""

    @abstractmethod
    def measured(self) -> dict[str, Any]:
        """The fields that were measured of data, but for gate and widths and the axes that they and
        the network belong to."""

    def of_length(self, length: int | None) -> LinearPreconditioned:
        """That of trajectories of `length` states; None for without their covariance.

        Raises:
            ConfigError: It has not been measured yet, or is an argument of a function that is
                being compiled.
        """
        return dataclasses.replace(self, law=None if length is None else self.of_law(length))

    def level(self, schedule: Schedule, t: Time) -> Scalar:
        """What the network takes as the noise level: log(sigma/mu), mapped to [0, 1]."""
        return noise_level(schedule, t)

    def inputs(self, x: States, t: Time, schedule: Schedule) -> States:
        """What the network sees of `x = x_t`: its anomaly and the linear estimate's."""
        ratio, law = noise_ratio(schedule, t), self._law(x)
        data = self._anomaly(x / schedule.mu(t))
        estimate = self.along(law.estimate(data, ratio))
        return jnp.concatenate(
            [self.along(data) / law.seen_std(ratio), estimate / law.estimate_std(ratio)], axis=-1
        )

    def outputs(self, output: States, t: Time, schedule: Schedule) -> States:
        """The network's output.

        Raises:
            ConfigError: It has as many channels as the network's input, not as states have.
        """
        if output.shape[-1] != self.channels:
            raise ConfigError(
                "network",
                f"{output.shape[-1]} channels of output",
                f"{self.channels}, those of a state: it sees twice as many",
                f"Set its outputs to {self.channels}.",
            )
        return output

    def denoise(self, output: States, x: States, t: Time, schedule: Schedule) -> States:
        """`E[x | x_t]` from the network's output at `x = x_t`."""
        scale = self._law(x).error_std(noise_ratio(schedule, t))
        if self.gate is not None:
            scale = scale * _by_level(self.gate, t, schedule)
        return self.estimate(x, t, schedule) + self.back(scale * output)

    def open(self, t: Time, schedule: Schedule) -> Bool[Array, ""] | None:
        """Whether the gate is, for any axis."""
        return None if self.gate is None else jnp.any(_by_level(self.gate, t, schedule) > 0)

    def estimate(self, x: States, t: Time, schedule: Schedule) -> States:
        """The best linear estimate of the data from `x = x_t`."""
        data = x / schedule.mu(t)
        return data - self._law(x).missing(self._anomaly(data), noise_ratio(schedule, t))

    def target(self, x: States, noise: States, t: Time, schedule: Schedule) -> States:
        """What the network is to output for data `x` perturbed by `noise`."""
        ratio, law = noise_ratio(schedule, t), self._law(x)
        # (x - estimate of (x + ratio noise)) without the cancellation at small ratios
        missing = law.missing(self._anomaly(x), ratio) - ratio * law.estimate(noise, ratio)
        return self.along(missing) / law.error_std(ratio)

    def covariance_times(self, w: States, t: Time, schedule: Schedule) -> States:
        """The covariance of x given x_t times `w`: of the linear estimate's error, scaled to the
        errors that were measured."""
        widened = self._widened(w, t, schedule)
        found = self._law(w).covariance_times(widened, noise_ratio(schedule, t))
        return self._widened(found, t, schedule)

    def draw_error(
        self, key: PRNGKey, shape: tuple[int, ...], t: Time, schedule: Schedule
    ) -> States:
        """A draw from the normal distribution of mean zero and the covariance that
        `covariance_times` applies."""
        law = self._law(jnp.zeros(shape))
        error = law.draw_error(key, shape, noise_ratio(schedule, t))
        return self._widened(error, t, schedule)

    def along(self, x: States) -> States:
        """States by the axes that network, gate and widths are scaled along: the channels."""
        return x

    def back(self, x: States) -> States:
        """Undoes `along`."""
        return x

    def _anomaly(self, data: States) -> States:
        return data if self.mean is None else data - self.mean

    def _widened(self, x: States, t: Time, schedule: Schedule) -> States:
        if self.widths is None:
            return x
        return self.back(_by_level(self.widths, t, schedule) * self.along(x))

    def _law(self, x: States) -> Any:
        law = self.of_law(x.shape[-2 - self.space_axes]) if self.law is None else self.law
        law.require_fit(x.shape)
        return law

    @property
    def space_axes(self) -> int:
        """Axes of space of a state."""
        return 0


@component
class LinearEstimate:
    """The denoiser without a network: the best linear estimate, with the errors that were measured.

    Attributes:
        parameterisation: A `LinearPreconditioned`, of a length.
        schedule: Noise schedule.
        context: That it is conditioned on.
    """

    parameterisation: Any
    schedule: Any
    context: Any = None

    def conditioned(self, context: Float[Array, ...] | None) -> Any:
        """The denoiser that knows this context."""
        told = self.parameterisation.conditioned(context)
        return dataclasses.replace(self, parameterisation=told, context=context)

    def __call__(self, x: States, t: Time) -> States:
        t = jnp.asarray(t, jnp.float32)
        return self.parameterisation.estimate(x, t, self.schedule)

    def covariance_times(self, w: States, t: Time) -> States:
        """The parameterisation's."""
        return self.parameterisation.covariance_times(w, t, self.schedule)

    def draw_error(self, key: PRNGKey, shape: tuple[int, ...], t: Time) -> States:
        """The parameterisation's."""
        return self.parameterisation.draw_error(key, shape, t, self.schedule)


def _by_level(known: ByLevel, t: Time, schedule: Schedule) -> Float[Array, "*batch axis"]:
    """`by_level`; t may have axes of size one after those of its batch."""
    found = by_level(jnp.asarray(known), t, schedule)
    return found if jnp.ndim(t) == 0 else found.reshape(*jnp.shape(t)[:-1], -1)


def predictors(context: Float[Array, "*batch known"]) -> Float[Array, "*batch p"]:
    """1, the context's channels and their products: two harmonics of each cycle."""
    known = context.shape[-1]
    pairs = [(i, j) for i in range(known) for j in range(i, known)]
    products = [context[..., i : i + 1] * context[..., j : j + 1] for i, j in pairs]
    return jnp.concatenate([jnp.ones((*context.shape[:-1], 1)), context, *products], axis=-1)
