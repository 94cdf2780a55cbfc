"""Time grids on which samplers step, from 1 (noise) to 0 (data)."""

from __future__ import annotations

import itertools
import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError, require_below, require_positive
from sda_jax.core._protocols import Schedule
from sda_jax.core._record import static
from sda_jax.diffusion._schedules import noise_ratio


def _grid_from_ratios(schedule: Schedule, ratios: Array) -> Array:
    inner = schedule.time(ratios)[1:-1]
    return jnp.concatenate([jnp.ones(1), inner, jnp.zeros(1)])


@component
class EvenTime:
    """Steps even in t, the paper's."""

    def __call__(self, schedule: Schedule, steps: int) -> Float[Array, " steps+1"]:
        """Times from exactly 1 to exactly 0."""
        return jnp.linspace(1.0, 0.0, steps + 1)


@component
class LogSNR:
    """Steps even in log(sigma/mu) over the schedule's whole range."""

    def __call__(self, schedule: Schedule, steps: int) -> Float[Array, " steps+1"]:
        """Times from exactly 1 to exactly 0."""
        high, low = (jnp.log(noise_ratio(schedule, end)) for end in (1.0, 0.0))
        return _grid_from_ratios(schedule, jnp.exp(jnp.linspace(high, low, steps + 1)))


@component
class Karras:
    """Steps even in (sigma/mu)^(1/rho) over the whole range. Karras et al. (2022), equation 5."""

    rho: float = 7.0

    def __post_init__(self) -> None:
        require_positive("rho", self.rho)

    def __call__(self, schedule: Schedule, steps: int) -> Float[Array, " steps+1"]:
        """Times from exactly 1 to exactly 0."""
        high, low = (noise_ratio(schedule, end) ** (1 / self.rho) for end in (1.0, 0.0))
        return _grid_from_ratios(schedule, jnp.linspace(high, low, steps + 1) ** self.rho)


@component
class Concentrated:
    """A share of the steps even in log(sigma/mu) between two levels, where the posterior is
    decided, the others even outside.

    Attributes:
        low, high: The two values of sigma/mu.
        share: Of the steps between them.
    """

    low: float = 1e-2
    high: float = 10.0
    share: float = 0.8

    def __post_init__(self) -> None:
        require_positive("low", self.low)
        require_below("low", self.low, self.high)
        require_positive("share", self.share)
        require_below("share", self.share, 1)

    def __call__(self, schedule: Schedule, steps: int) -> Float[Array, " steps+1"]:
        """Times from exactly 1 to exactly 0."""
        top, bottom = (jnp.log(noise_ratio(schedule, end)) for end in (1.0, 0.0))
        high, low = (jnp.clip(jnp.log(jnp.asarray(a)), bottom, top) for a in (self.high, self.low))
        outside = (top - high) + (low - bottom)
        # without a part outside, all steps are inside
        share = jnp.where(outside > 1e-6, self.share, 1.0)
        before = (1 - share) * (top - high) / jnp.where(outside > 1e-6, outside, 1.0)
        places = jnp.stack([jnp.zeros(()), before, before + share, jnp.ones(())])
        levels = jnp.stack([top, high, low, bottom])
        logs = jnp.interp(jnp.linspace(0.0, 1.0, steps + 1), places, levels)
        return _grid_from_ratios(schedule, jnp.exp(logs))


@component
class Piecewise:
    """Steps even in log(sigma/mu) between levels, each with its share of them.

    Attributes:
        levels: Values of sigma/mu, falling; infinity is time 1 and 0 is time 0.
        shares: Of the steps, rising: those down to each level, from 0 to 1.
    """

    levels: tuple[float, ...] = static()
    shares: tuple[float, ...] = static((0.0, 1.0))

    def __post_init__(self) -> None:
        falling = all(a > b for a, b in itertools.pairwise(self.levels))
        rising = all(a < b for a, b in itertools.pairwise(self.shares))
        ends = (*self.shares[:1], *self.shares[-1:]) == (0.0, 1.0)
        if not (falling and rising and ends and len(self.levels) == len(self.shares)):
            raise ConfigError(
                "levels, shares",
                (self.levels, self.shares),
                "as many falling levels as rising shares, which go from 0 to 1",
                "Correct them.",
            )

    def __call__(self, schedule: Schedule, steps: int) -> Float[Array, " steps+1"]:
        """Times from that of the first level to that of the last."""
        top, bottom = (noise_ratio(schedule, end) for end in (1.0, 0.0))
        logs = jnp.log(jnp.clip(jnp.asarray(self.levels), bottom, top))
        ratios = jnp.exp(
            jnp.interp(jnp.linspace(0.0, 1.0, steps + 1), jnp.asarray(self.shares), logs)
        )
        times = schedule.time(ratios)
        times = times.at[0].set(1.0) if math.isinf(self.levels[0]) else times
        return times.at[-1].set(0.0) if self.levels[-1] == 0 else times
