"""Several draws down to a noise level, of which one that explains the observation goes on."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from sda_jax.core._arrays import PRNGKey, Trajectory
from sda_jax.core._component import component, static
from sda_jax.core._errors import ConfigError, require_at_least, require_at_most, require_positive
from sda_jax.core._protocols import Denoiser, Levels, Schedule
from sda_jax.diffusion._schedules import noise_ratio
from sda_jax.samplers._draws import Draws
from sda_jax.samplers._predictor_corrector import PredictorCorrector


@component
class Candidates(Draws):
    """A sampler that may start again: a member's draw goes down to a noise level `count` times, one
    after another, and the one that goes on from there explains the observation.

    A posterior's modes are decided at high noise, where no guidance is exact: some draws end in a
    mode that the observation rules out, which no step at low noise leaves. What a candidate
    explains is `Guided.fit`; a later one takes the place of an earlier only where it is better by
    more than chance, so that which of two that fit is taken hangs on their order alone. Members
    stay independent of each other. Unlike `twisted_smc` this is not exact in the limit: the shares
    of modes that explain y as well as each other are the guidance's.

    Attributes:
        sampler: What draws.
        count: Candidates for each member; with 1, the sampler alone.
        share: Of the sampler's steps, after which one is chosen: best where sigma/mu is about 0.2,
            which is 0.6 of a grid even in its logarithm.
        gap: By how much a later candidate must fit better, in standard deviations of the difference
            of two chi-squares' halves, the square root of the number of values observed.

    Raises:
        ConfigError: Impossible numbers, or nothing to choose by: a denoiser of the prior alone.
    """

    sampler: PredictorCorrector = PredictorCorrector()
    count: int = static(2)
    share: float = static(0.6)
    gap: float = 3.0

    def __post_init__(self) -> None:
        require_at_least("count", self.count, 1)
        require_positive("share", self.share)
        require_at_most("share", self.share, 1)
        require_positive("gap", self.gap)

    @property
    def steps(self) -> int:
        """Of all candidates, and of the one that goes on."""
        return self._searching + self.sampler.steps - self.after

    @property
    def after(self) -> int:
        """The sampler's steps before the choice."""
        return math.ceil(self.share * self.sampler.steps)

    @property
    def _searching(self) -> int:
        return self.count * self.after

    def levels(self, schedule: Schedule) -> Levels:
        """The sigma/mu of each evaluation of the denoiser for one sample, a candidate's fit
        included."""
        once = self.sampler.levels_of(schedule, self.after)
        choice = float(
            noise_ratio(schedule, self.sampler.grid(schedule, self.sampler.steps)[self.after])
        )
        fits = Levels(plain=np.full(self.count, choice))
        return self.sampler.levels(schedule).also(fits, *[once] * (self.count - 1))

    def level(self, denoiser: Denoiser, step: Array | int) -> Float[Array, ""]:
        """The sigma/mu that a step starts from."""
        return self.sampler.level(denoiser, self._inner(step)[1])

    def begin(
        self, key: PRNGKey, denoiser: Denoiser, shape: tuple[int, ...]
    ) -> tuple[Trajectory, Any]:
        """The first candidate before its first step, and the best so far: none."""
        if not hasattr(denoiser, "fit"):
            raise ConfigError(
                "sampler",
                "Candidates",
                "an observation, by which one is chosen",
                "Draw from the prior by the sampler inside it.",
            )
        x, memory = self.sampler.begin(key, denoiser, shape)
        return x, (memory, (x, memory), jnp.float32(-jnp.inf))

    def advance(
        self,
        key: PRNGKey,
        denoiser: Denoiser,
        state: tuple[Trajectory, Any],
        first: Array | int,
        steps: int,
    ) -> tuple[tuple[Trajectory, Any], Bool[Array, " steps"]]:
        """The draw `steps` steps after step `first`, and whether it was finite after each; what a
        candidate that is not chosen came to does not count."""
        sampler, shape = self.sampler, state[0].shape

        def step(carry: tuple[Array, Any], number: Array) -> tuple[tuple, Array]:
            x, (memory, best, fit) = carry
            candidate, i = self._inner(number)
            again = candidate > 0
            # the first one's are the sampler's own; 0 and 1 would be its parts of the key
            other = jax.random.fold_in(key, candidate + 1)
            mine = jax.lax.cond(again, lambda: other, lambda: key)
            x, memory = jax.lax.cond(
                (i == 0) & again,
                lambda: sampler.begin(mine, denoiser, shape),
                lambda: (x, memory),
            )
            (x, memory), finite = sampler.advance(mine, denoiser, (x, memory), i, 1)
            searching = number < self._searching
            x, memory, best, fit = jax.lax.cond(
                searching & (i == self.after - 1),
                lambda: self._chosen(denoiser, candidate, (x, memory), best, fit),
                lambda: (x, memory, best, fit),
            )
            last = self._searching - 1
            finite = jnp.where(number == last, jnp.all(jnp.isfinite(x)), finite[0])
            return (x, (memory, best, fit)), finite | (number < last)

        return jax.lax.scan(step, state, first + jnp.arange(steps))

    def end(self, denoiser: Denoiser, state: tuple[Trajectory, Any]) -> Trajectory:
        """The sample that a draw has become after its last step."""
        x, (memory, *_) = state
        return self.sampler.end(denoiser, (x, memory))

    def _inner(self, step: Array | int) -> tuple[Array, Array]:
        """The candidate of a step, and the sampler's own step; of those after the choice, which go
        on with the first one's random numbers, 0."""
        step, total = jnp.asarray(step), self._searching
        searching = step < total
        own = jnp.where(searching, step % self.after, step - total + self.after)
        return jnp.where(searching, step // self.after, 0), own

    def _chosen(
        self,
        denoiser: Any,
        candidate: Array,
        state: tuple[Trajectory, Any],
        best: tuple[Trajectory, Any],
        fit: Array,
    ) -> tuple[Trajectory, Any, tuple[Trajectory, Any], Array]:
        """What goes on, the best so far and its fit, after a candidate's last step."""
        time = self.sampler.grid(denoiser.schedule, self.sampler.steps)[self.after]
        found = denoiser.fit(state[0], time).astype(jnp.float32)
        found = jnp.where(jnp.isnan(found), -jnp.inf, found)
        gap = self.gap * jnp.sqrt(jnp.sum(denoiser.observation.observed))
        better = (candidate == 0) | (found > fit + gap)
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), state, best)
        fit = jnp.where(better, found, fit)
        over = candidate == self.count - 1
        x, memory = jax.tree.map(lambda a, b: jnp.where(over, a, b), best, state)
        return x, memory, best, fit
