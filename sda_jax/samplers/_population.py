"""A population of particles, weighed where modes are decided, refined independently below."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from sda_jax.core._arrays import PRNGKey, Trajectory
from sda_jax.core._batches import map_batches
from sda_jax.core._component import component
from sda_jax.core._errors import (
    ConfigError,
    require_at_least,
    require_at_most,
    require_below,
    require_positive,
)
from sda_jax.core._protocols import Denoiser, Sampler, SamplerState
from sda_jax.core._record import static
from sda_jax.core._resampling import effective_share
from sda_jax.diffusion._grids import Piecewise
from sda_jax.diffusion._schedules import noise_ratio
from sda_jax.guidance._base import Guided
from sda_jax.guidance._statistical import StatisticalLinearization, is_dense
from sda_jax.runtime._memory import most_at_once
from sda_jax.samplers._conditional_step import Place, looked_at, moved
from sda_jax.samplers._dpm import DPMSolverPP2M
from sda_jax.samplers._gathering import (
    LARGEST,
    distance,
    none_gathered,
    separation,
    squared_error,
)
from sda_jax.samplers._leimkuhler import LeimkuhlerMatthews
from sda_jax.samplers._particles import (
    Particles,
    Streams,
    all_found,
    changed_where,
    group_evidence,
    resampled,
    streams,
    usable,
    with_members,
)
from sda_jax.samplers._predictor_corrector import PredictorCorrector

# noise levels of the search and the share of its steps down to each: modes are decided between
# sigma/mu of 8 and 0.4
LEVELS, SHARES = (float("inf"), 20.0, 8.0, 0.4), (0.0, 0.08, 0.2, 0.86)
MEMBERS, FEWEST = 256, 256  # of an island at most; particles at least


@component
class Population:
    """Draws the members of an island together: particles that guided steps move are weighed down
    to the noise level below which an operator is as good as linear; as many as there are members
    are drawn from them and go on independently of each other.

    What guidance is wrong about, weights put right (twisted sequential Monte Carlo, Wu et al.,
    2023): the shares of modes are the posterior's, not the guidance's. A step draws from the
    Gaussian that x given x_t and y would have (`StatisticalLinearization`), without a gradient
    through the network, and the weights know its density. Groups of particles are resampled by
    themselves and meet in the end by their evidence: where they disagree, modes were lost by
    chance. Refinement is a predictor-corrector's, guided through the network.

    Particles that descend from few have less variety than there are members. A search is repeated
    with new particles, at most `searches` times, until those of all searches together, which meet
    by their evidence, are worth a quarter as many independent draws as there are members, and are
    foreseen to be as near to the posterior as these would be, or further by a share of `excess` at
    most: where modes lie apart that takes more of them. Easy observations are searched once.

    Members depend on all others of their island. Other guidance, and trajectories or observations
    that are too large for matrices of their size, are drawn independently, by `alone`.

    Attributes:
        island: Members; at most as many as are asked for, see `fitted`.
        particles: For each member, or more where there are few members.
        search: Weighed steps.
        until: sigma/mu at which members go on alone.
        refinement: Steps of members, with `corrections` each.
        groups: Of particles.
        searches: At most.
        excess: Distance to the posterior, less that of as many independent draws and over it, at
            which no more searches are made; -1 for all searches.
        threshold: Effective sample size, as a share of a group, below which it is resampled.
        at_once: Particles moved at once; the members are the same whatever it is. None for the
            chunk of `Memory`, and where that is None too for 64 on CPU, elsewhere for all.
        alone: Sampler of independent draws.

    Raises:
        ConfigError: Impossible numbers.
    """

    island: int = static(MEMBERS)
    particles: int = static(6)
    search: int = static(44)
    until: float = static(0.15)
    refinement: int = static(12)
    corrections: int = static(4)
    groups: int = static(4)
    searches: int = static(8)
    excess: float = 0.15
    threshold: float = 0.5
    at_once: int | None = static(None)
    alone: Any = PredictorCorrector()

    def __post_init__(self) -> None:
        for name in ("island", "particles", "search", "refinement", "groups", "searches"):
            require_at_least(name, getattr(self, name), 1)
        if self.at_once is not None:
            require_at_least("at_once", self.at_once, 1)
        require_at_least("corrections", self.corrections, 0)
        require_positive("until", self.until)
        require_below("until", self.until, LEVELS[-1])
        require_at_least("excess", self.excess, -1)
        require_positive("threshold", self.threshold)
        require_at_most("threshold", self.threshold, 1)

    @property
    def steps(self) -> int:
        """Of all searches that may be made, the refinement, and one for the last state's mean."""
        return self._searching + self.refinement + 1

    @property
    def _searching(self) -> int:
        return self.searches * self._stages

    @property
    def _stages(self) -> int:
        """Of a search: particles of noise, and its steps."""
        return self.search + 1

    def fitted(
        self, posterior: Denoiser, samples: int, shape: tuple[int, ...], chunk: int | None
    ) -> Sampler:
        """What draws so many members of trajectories `(L, *S)`: with islands that share them, or
        independent draws where the posterior is no population's; `chunk` particles at once where
        nothing else is said."""
        if not _is_weighable(posterior):
            return self.alone
        if not is_dense(int(np.prod(shape)), np.size(posterior.observation.y)):
            return self.alone
        islands = -(-samples // self.island)
        island = -(-samples // islands)
        at_once = self.at_once if self.at_once is not None else chunk
        return dataclasses.replace(self, island=island, at_once=at_once)

    @property
    def each_search(self) -> int:
        """Evaluations of the denoiser for a member: one of each particle at each level."""
        return -(-self._count * self._stages // self.island)

    @property
    def refining(self) -> PredictorCorrector:
        """What moves members once they go on alone."""
        corrector = LeimkuhlerMatthews(self.corrections, 0.5, above=0.005)
        grid = Piecewise((self.until, 0.0))
        return PredictorCorrector(self.refinement, grid, DPMSolverPP2M(), corrector, denoise=0.5)

    def init(self, key: PRNGKey, denoiser: Denoiser, shape: tuple[int, ...]) -> SamplerState:
        """Before the first search, which makes its own particles."""
        posterior = _guided(denoiser)
        x = jnp.zeros((self._count, *shape))
        log_weights, roots = jnp.zeros(self._count), self._numbers(0)
        memory = Particles(
            Place(x, x, x, log_weights),
            log_weights,
            roots,
            none_gathered(x, log_weights, roots),
            jnp.full((self.searches, self.groups), jnp.nan, log_weights.dtype),
            effective=jnp.ones((), log_weights.dtype),
            error=jnp.zeros((), log_weights.dtype),
            separation=jnp.zeros((), log_weights.dtype),
            distinct=jnp.ones((), log_weights.dtype),
            enough=jnp.zeros((), bool),
            predictor=jax.vmap(self.refining.predictor.init)(x[: self.island]),
        )
        return SamplerState(x, noise_ratio(posterior.schedule, self._times(posterior)[0]), memory)

    def step(
        self, key: PRNGKey, denoiser: Denoiser, state: SamplerState, i: Array | int
    ) -> SamplerState:
        """A step of all particles, or of the members."""
        posterior = _guided(denoiser)
        keys, i = streams(key), jnp.asarray(i)
        state = changed_where(
            (i < self._searching) & ~state.memory.enough,
            lambda state: self._searched(keys, posterior, state, i),
            state,
        )
        return changed_where(
            i >= self._searching,
            lambda state: self._refined(keys, posterior, state, i),
            state,
        )

    def upcoming(self, state: SamplerState, step: int) -> Array:
        """The refinement's first step, where all islands have been searched enough."""
        enough = jnp.all(state.memory.enough)
        return jnp.where(enough, jnp.maximum(step, self._searching), step)

    def finish(self, denoiser: Denoiser, state: SamplerState) -> Trajectory:
        """The members, halfway between the last state and its posterior mean."""
        time = self._times(_guided(denoiser))[-1]
        x = state.x[: self.island] / denoiser.schedule.mu(time)
        return (x + state.memory.predictor.x_hat) / 2

    def report(self, state: SamplerState) -> dict[str, Array]:
        """How the search went."""
        memory = state.memory
        return {
            "log_evidence": memory.log_evidence,
            "effective": memory.effective,
            "distinct": memory.distinct,
            "error": memory.error,
            "separation": memory.separation,
        }

    @property
    def _count(self) -> int:
        least = max(self.particles * self.island, FEWEST)
        return -(-least // self.groups) * self.groups

    def _times(self, posterior: Guided) -> Array:
        """Of all steps."""
        schedule, refining = posterior.schedule, self.refining
        search = Piecewise((*LEVELS, self.until), (*SHARES, 1.0))(schedule, self.search)
        return jnp.concatenate([search[:-1], refining.grid(schedule, refining.steps)])

    def _map(self, one: Any, x: Any) -> Any:
        return map_batches(one, x, self.at_once or most_at_once() or self._count)

    def _numbers(self, search: Array | int) -> Array:
        """Of a search's particles, through all searches."""
        own = jnp.arange(self._count)
        return own + jnp.asarray(search * self._count, own.dtype)

    def _searched(
        self, keys: Streams, posterior: Guided, state: SamplerState, i: Array
    ) -> SamplerState:
        """A step of all particles, from t to s, weighed and resampled. A search's first step makes
        particles of noise; after its last one they are gathered."""
        shape, times, count = state.x.shape[1:], self._times(posterior), self._count
        number, own = i // self._stages, i % self._stages
        first = own == 0
        t, s = times[jnp.maximum(own - 1, 0)], times[own]
        key_move, key_resample, key_begin, key_draw = jax.random.split(
            jax.random.fold_in(keys.search, i), 4
        )
        memory, schedule = state.memory, posterior.schedule
        above, below = (posterior.method.level(posterior.denoiser, shape, u) for u in (t, s))
        spread = jnp.sqrt(schedule.mu(1.0) ** 2 + schedule.sigma(1.0) ** 2)
        noise = spread * jax.random.normal(key_begin, state.x.shape)

        def one(given: tuple[PRNGKey, Array, Place]) -> tuple[Place, Array]:
            key, fresh, before = given
            x, log_ratio = moved(key, posterior, above, before, t, s)
            place = looked_at(posterior, below, jnp.where(first, fresh, x), s)
            return place, place.log_twist + jnp.where(first, 0.0, log_ratio - before.log_twist)

        each_key = jax.random.split(key_move, count)
        places, gained = self._map(one, (each_key, noise, memory.places))
        log_weights = jnp.where(first, 0.0, memory.log_weights)
        roots = jnp.where(first, self._numbers(number), memory.roots)
        each = count // self.groups
        weights = usable(log_weights + gained).reshape(self.groups, each)
        effective = jax.vmap(effective_share)(weights)
        grouped = places.x_hat.reshape(self.groups, each, *shape)
        group_keys = jax.random.split(key_resample, self.groups)
        index, weights = jax.vmap(resampled, (0, 0, 0, None))(
            group_keys, grouped, weights, self.threshold
        )
        index = (index + each * jnp.arange(self.groups)[:, None]).reshape(-1)
        memory = memory._replace(
            places=jax.tree.map(lambda a: a[index], places),
            log_weights=weights.reshape(-1),
            roots=roots[index],
            effective=jnp.minimum(memory.effective, jnp.min(effective)),
        )
        left = jnp.sum(below.variances)
        memory = changed_where(
            own == self.search, lambda memory: self._ended(key_draw, memory, number, left), memory
        )
        return SamplerState(memory.places.x, noise_ratio(schedule, s), memory)

    def _ended(self, key: PRNGKey, memory: Particles, number: Array, left: Array) -> Particles:
        """After a search: its particles are gathered, or, where they are enough, members drawn into
        the first rows from those of all searches; `left` as in `separation`."""
        key_draw, key_order, key_keep = jax.random.split(key, 3)
        found = all_found(memory, self._numbers(number))
        index = jax.random.permutation(key_order, found.drawn(key_draw, self.island))
        squared = squared_error(found)
        apart = separation(found.x_hat[index], found.names[index], left)
        enough = distance(apart, squared, self.island) <= 1 + self.excess
        enough &= squared * self.island <= LARGEST**2
        log_evidence = group_evidence(memory.log_weights, self.groups)
        memory = memory._replace(
            log_evidence=memory.log_evidence.at[number].set(log_evidence),
            error=jnp.sqrt(squared),
            separation=apart,
            enough=enough | (number == self.searches - 1),
        )
        return jax.lax.cond(
            memory.enough,
            lambda: with_members(memory, found, index),
            lambda: memory._replace(gathered=found.resampled(key_keep, self._count)),
        )

    def _refined(
        self, keys: Streams, posterior: Guided, state: SamplerState, i: Array
    ) -> SamplerState:
        """A step of the members, each by itself."""
        sampler, own = self.refining, i - self._searching

        def one(given: tuple[Array, Array, Any]) -> SamplerState:
            member, x, memory = given
            mine = jax.random.fold_in(keys.members, member)
            return sampler.step(mine, posterior, SamplerState(x, state.ratio, memory), own)

        members = jnp.arange(self.island)
        found = self._map(one, (members, state.x[: self.island], state.memory.predictor))
        x = state.x.at[: self.island].set(found.x)
        memory = state.memory._replace(predictor=found.memory)
        return SamplerState(x, found.ratio[0], memory)


def _is_weighable(posterior: Any) -> TypeGuard[Guided]:
    return isinstance(posterior, Guided) and isinstance(posterior.method, StatisticalLinearization)


def _guided(denoiser: Any) -> Guided:
    if _is_weighable(denoiser):
        return denoiser
    raise ConfigError(
        "guidance",
        type(getattr(denoiser, "method", denoiser)).__name__,
        "StatisticalLinearization, whose covariances particles are weighed with",
        "Use it, or a sampler of independent draws such as PredictorCorrector.",
    )
