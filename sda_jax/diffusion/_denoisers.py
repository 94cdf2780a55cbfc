"""Networks as denoisers."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from sda_jax.core._arrays import PRNGKey, Time, Trajectory
from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError
from sda_jax.core._protocols import Denoiser
from sda_jax.core._record import static
from sda_jax.diffusion._parameterisations import Parameterisation
from sda_jax.networks import Network


def append_axes(a: Array, x: Array) -> Array:
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
        channels: Of its context: what it knows of each state beside x_t (static fields,
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
        told = self.parameterisation
        if isinstance(told, Parameterisation):
            told = told.conditioned(context)
        return dataclasses.replace(self, context=context, parameterisation=told)

    def of_length(self, length: int | None) -> NetworkDenoiser:
        """The denoiser of segments of so many states, None for any; see `Parameterisation`."""
        known = self.parameterisation
        told = known.of_length(length) if isinstance(known, Parameterisation) else known
        return self if told is known else dataclasses.replace(self, parameterisation=told)

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
        t_like, schedule = append_axes(t, x), self.schedule
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
        known = self.parameterisation
        used = known.open(t, self.schedule) if isinstance(known, Parameterisation) else None
        if used is None:
            return known.denoise(self.output(x, t), x, t, self.schedule)
        # at noise levels at which it is not, nobody waits for the network
        like = jax.eval_shape(self.output, x, t)
        nothing = lambda: jnp.zeros(like.shape, like.dtype)  # noqa: E731
        output = jax.lax.cond(used, lambda: self.output(x, t), nothing)
        return known.denoise(output, x, t, self.schedule)

    def covariance_times(self, w: Trajectory, t: Time) -> Trajectory:
        """The parameterisation's `covariance_times`."""
        return self.parameterisation.covariance_times(w, t, self.schedule)

    def draw_error(self, key: PRNGKey, shape: tuple[int, ...], t: Time) -> Trajectory:
        """The parameterisation's `draw_error`."""
        return self.parameterisation.draw_error(key, shape, t, self.schedule)


def with_context(
    x: Float[Array, "*batch channel"], channels: int
) -> tuple[Array, Float[Array, "*batch context"] | None]:
    """States and context of data that have the context as their last `channels` channels."""
    return (x[..., :-channels], x[..., -channels:]) if channels else (x, None)


def predicted_noise(denoiser: Denoiser, x: Trajectory, t: Time) -> Trajectory:
    """`eps(x_t, t) = (x_t - mu x_hat) / sigma`; the score is `-eps / sigma`."""
    schedule = denoiser.schedule
    return (x - schedule.mu(t) * denoiser(x, t)) / schedule.sigma(t)
