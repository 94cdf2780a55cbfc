"""Several draws down to a noise level, of which one that explains the observation goes on."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sda_jax.core._arrays import PRNGKey, Trajectory
from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError, require_at_least, require_at_most, require_positive
from sda_jax.core._protocols import Denoiser, ExplainsObservation, SamplerState
from sda_jax.core._record import static
from sda_jax.samplers._predictor_corrector import PredictorCorrector


class Choice(NamedTuple):
    """What `Candidates` remember: the sampler's memory, the best state so far, and its fit."""

    memory: Any
    best: SamplerState
    fit: Array


@component
class Candidates:
    """A sampler that may start again: a member's draw goes down to a noise level `count` times, one
    after another, and the one that goes on from there explains the observation.

    A posterior's modes are decided at high noise, where no guidance is exact: some draws end in a
    mode that the observation rules out, which no step at low noise leaves. What a candidate
    explains is its `fit` (`ExplainsObservation`); a later one takes the place of an earlier only
    where it is better by more than chance, so that which of two that fit is taken hangs on their
    order alone. Members stay independent of each other. Unlike `twisted_smc` this is not exact in
    the limit: the shares of modes that explain y as well as each other are the guidance's.

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
        if not isinstance(self.sampler, PredictorCorrector):
            raise ConfigError(
                "sampler", repr(self.sampler), "a PredictorCorrector", "Give one: it draws."
            )
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

    def init(self, key: PRNGKey, denoiser: Denoiser, shape: tuple[int, ...]) -> SamplerState:
        """The first candidate before its first step, and the best so far: none."""
        if not isinstance(denoiser, ExplainsObservation):
            raise ConfigError(
                "sampler",
                "Candidates",
                "an observation, by which one is chosen",
                "Draw from the prior by the sampler inside it.",
            )
        first = self.sampler.init(key, denoiser, shape)
        worst = jnp.float32(-jnp.inf)
        return SamplerState(first.x, first.ratio, Choice(first.memory, first, worst))

    def step(
        self, key: PRNGKey, denoiser: Any, state: SamplerState, i: Array | int
    ) -> SamplerState:
        """A step of the candidate under way or of the one that goes on; after a candidate's last
        one, the next begins."""
        candidate, own = self._inner(i)
        # the first one's are the sampler's own; 0 and 1 would be its parts of the key
        mine = self._key(key, candidate)
        memory, best, fit = state.memory
        inner = self.sampler.step(mine, denoiser, SamplerState(state.x, state.ratio, memory), own)
        inner, best, fit = jax.lax.cond(
            (jnp.asarray(i) < self._searching) & (own == self.after - 1),
            lambda: self._chosen(key, denoiser, candidate, inner, best, fit),
            lambda: (inner, best, fit),
        )
        return SamplerState(inner.x, inner.ratio, Choice(inner.memory, best, fit))

    def finish(self, denoiser: Denoiser, state: SamplerState) -> Trajectory:
        """What the sampler makes of the one that went on."""
        return self.sampler.finish(denoiser, state._replace(memory=state.memory.memory))

    def _key(self, key: PRNGKey, candidate: Array) -> PRNGKey:
        other = jax.random.fold_in(key, candidate + 1)
        return jax.lax.cond(candidate > 0, lambda: other, lambda: key)

    def _inner(self, step: Array | int) -> tuple[Array, Array]:
        """The candidate of a step, and the sampler's own step; of those after the choice, which go
        on with the first one's random numbers, 0."""
        step, total = jnp.asarray(step), self._searching
        searching = step < total
        own = jnp.where(searching, step % self.after, step - total + self.after)
        return jnp.where(searching, step // self.after, 0), own

    def _chosen(
        self,
        key: PRNGKey,
        denoiser: Any,
        candidate: Array,
        state: SamplerState,
        best: SamplerState,
        fit: Array,
    ) -> tuple[SamplerState, SamplerState, Array]:
        """What goes on, the best so far and its fit, after a candidate's last step."""
        time = self.sampler.grid(denoiser.schedule, self.sampler.steps)[self.after]
        found = denoiser.fit(state.x, time).astype(jnp.float32)
        found = jnp.where(jnp.isnan(found), -jnp.inf, found)
        gap = self.gap * jnp.sqrt(jnp.sum(denoiser.observation.observed))
        better = (candidate == 0) | (found > fit + gap)
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), state, best)
        fit = jnp.where(better, found, fit)
        again = self.sampler.init(self._key(key, candidate + 1), denoiser, state.x.shape)
        over = candidate == self.count - 1
        return jax.tree.map(lambda a, b: jnp.where(over, a, b), best, again), best, fit
