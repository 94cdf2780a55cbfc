"""What the correctors share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sda_jax.core import _protocols as protocols
from sda_jax.core._arrays import PRNGKey, Time, Trajectory
from sda_jax.core._component import component
from sda_jax.core._errors import require_at_least, require_below
from sda_jax.core._protocols import Denoiser, Schedule
from sda_jax.core._requirements import require_protocol
from sda_jax.diffusion._schedules import noise_ratio


class RepeatedMoves(ABC):
    """Base class of correctors: repeats a `move`, which a subclass writes and which leaves the
    distribution of x_t as it is, at noise levels from `above` to `below`."""

    @property
    @abstractmethod
    def steps(self) -> int:
        """Steps after every predictor step."""

    @property
    @abstractmethod
    def above(self) -> float:
        """Smallest sigma/mu at which steps are made."""

    @property
    @abstractmethod
    def below(self) -> float:
        """Largest sigma/mu at which steps are made."""

    def __post_init__(self) -> None:
        require_at_least("corrections", self.steps, 0)
        require_at_least("above", self.above, 0)
        require_below("above", self.above, self.below)

    def init(self, key: PRNGKey, x: Trajectory) -> Any:
        """What the first step at a level is given, as later ones are given what those before them
        leave; nothing."""
        return ()

    @abstractmethod
    def move(
        self, key: PRNGKey, denoiser: Denoiser, x: Trajectory, t: Time, memory: Any
    ) -> tuple[Array, Any]:
        """One step at time t."""

    def __call__(self, key: PRNGKey, denoiser: Denoiser, x: Trajectory, t: Time) -> Trajectory:
        """Moves x within its distribution at time t."""

        def step(carry: tuple[Array, Any], i: Array) -> tuple[tuple[Array, Any], None]:
            return self.moved(key, i, denoiser, carry[0], t, carry[1]), None

        def moved(x: Array) -> Array:
            start = x, self.start(key, x)
            return jax.lax.scan(step, start, jnp.arange(self.steps))[0][0]

        if self.steps == 0:
            return x
        return jax.lax.cond(self.active(denoiser.schedule, t), moved, lambda x: x, x)

    def start(self, key: PRNGKey, x: Trajectory) -> Any:
        """What the first step at a level is given, `key` being the level's."""
        return self.init(jax.random.fold_in(key, self.steps), x)

    def moved(
        self, key: PRNGKey, i: Array, denoiser: Denoiser, x: Trajectory, t: Time, memory: Any
    ) -> tuple[Array, Any]:
        """Step i of a level, `key` being the level's."""
        return self.move(jax.random.fold_in(key, i), denoiser, x, t, memory)

    def active(self, schedule: Schedule, t: Time) -> Array:
        """Whether steps are made at time t."""
        ratio = noise_ratio(schedule, t)
        return (ratio >= self.above) & (ratio <= self.below) & (self.steps > 0)


@component
class Correctors:
    """Several correctors one after the other, as where number and size of the steps are to depend
    on the noise level: each has a range of levels of its own.

    Attributes:
        parts: Correctors, in order: `Langevin`, `LeimkuhlerMatthews`, `Gibbs` or your own.
    """

    parts: tuple = ()

    def __post_init__(self) -> None:
        for i, part in enumerate(self.parts):
            require_protocol(f"parts[{i}]", part, protocols.Corrector)

    def __call__(self, key: PRNGKey, denoiser: Denoiser, x: Trajectory, t: Time) -> Trajectory:
        """Moves x within its distribution at time t."""
        for i, part in enumerate(self.parts):
            x = part(jax.random.fold_in(key, i), denoiser, x, t)
        return x

    def active(self, schedule: Schedule, t: Time) -> Array:
        """Whether any part makes steps at time t."""
        moved = jnp.zeros(jnp.shape(t), bool)
        for part in self.parts:
            moved |= part.active(schedule, t)
        return moved
