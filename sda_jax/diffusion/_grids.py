"""Time grids on which samplers step, from 1 (noise) to 0 (data)."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from sda_jax.core._component import component
from sda_jax.core._errors import require_below, require_positive
from sda_jax.core._protocols import Schedule
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
