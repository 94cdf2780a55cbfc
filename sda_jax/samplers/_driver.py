"""The driver: runs samplers step by step, notices where draws diverge, and lifts samplers of single
draws to populations.

A draw under way is a `Progress`, which can be saved between any two steps.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from sda_jax.core._arrays import PRNGKey, Trajectory
from sda_jax.core._errors import ConfigError
from sda_jax.core._keys import require_key
from sda_jax.core._numbers import whole_number
from sda_jax.core._protocols import Denoiser, PopulationSampler, Reports, Sampler, SamplerState
from sda_jax.core._requirements import require_protocol
from sda_jax.runtime._devices import BATCH, over_batch, shares


class Progress(NamedTuple):
    """Draws under way.

    Attributes:
        state: The sampler's.
        diverged_at: Of each draw that is not finite, the noise-to-signal ratio before the step
            after which it was no longer; 0 of those that are.
    """

    state: SamplerState
    diverged_at: Array


def draw(key: PRNGKey, denoiser: Denoiser, sampler: Sampler, shape: tuple[int, ...]) -> Trajectory:
    """One draw of shape `(L, *S)` from the distribution that a denoiser stands for, in its units;
    of a `PopulationSampler` an island of them, `(island, L, *S)`.

    Raises:
        ConfigError: Something is given that is no key, denoiser or sampler, or no shape.
    """
    require_key(key)
    require_protocol("denoiser", denoiser, Denoiser)
    require_protocol("sampler", sampler, Sampler)
    if not isinstance(shape, (tuple, list)):
        raise ConfigError("shape", f"{shape!r:.80}", "a tuple (L, *S)", "Give that of x.")
    shape = tuple(whole_number("shape", size) for size in shape)
    progress = advance(key, denoiser, sampler, begin(key, denoiser, sampler, shape), 0)
    return sampler.finish(denoiser, progress.state)


def begin(key: PRNGKey, denoiser: Denoiser, sampler: Sampler, shape: tuple[int, ...]) -> Progress:
    """A draw, or an island of them, before its first step."""
    state = sampler.init(key, denoiser, shape)
    return Progress(state, jnp.zeros(state.x.shape[: state.x.ndim - len(shape)]))


def advance(
    key: PRNGKey,
    denoiser: Denoiser,
    sampler: Sampler,
    progress: Progress,
    first: Array | int,
    steps: int | None = None,
) -> Progress:
    """The draw `steps` steps after step `first`; None for all of the sampler's."""

    def step(before: Progress, i: Array) -> tuple[Progress, None]:
        state = sampler.step(key, denoiser, before.state, i)
        lead = before.diverged_at.ndim
        finite = jnp.all(jnp.isfinite(state.x), axis=tuple(range(lead, state.x.ndim)))
        since = jnp.where(before.diverged_at > 0, before.diverged_at, before.state.ratio)
        return Progress(state, jnp.where(finite, 0.0, since)), None

    count = sampler.steps if steps is None else steps
    return jax.lax.scan(step, progress, first + jnp.arange(count))[0]


def island(sampler: Any) -> int:
    """Members that a sampler steps together; 1 of independent draws."""
    return sampler.island if isinstance(sampler, PopulationSampler) else 1


def draw_members(
    key: PRNGKey, members: Array, denoiser: Denoiser, sampler: Sampler, shape: tuple[int, ...]
) -> tuple[Array, Array, dict[str, Array]]:
    """Whole draws of these members `(members, L, *S)`, where each diverged, and what the sampler
    reports of each island.

    Member i of independent draws has the key folded with i; island j, the members from
    `j * island` on, the key folded with j. `members` are whole islands, in order.
    """

    def one(unit: Array) -> tuple[Array, Array, dict[str, Array]]:
        own = jax.random.fold_in(key, unit)
        progress = advance(own, denoiser, sampler, begin(own, denoiser, sampler, shape), 0)
        return _ended(denoiser, sampler, progress)

    return _flat(sampler, *_each(sampler, one, _units(members, sampler)))


def begin_members(
    key: PRNGKey, members: Array, denoiser: Denoiser, sampler: Sampler, shape: tuple[int, ...]
) -> PyTree[Array]:
    """The draws of `draw_members` before their first step."""

    def one(unit: Array) -> Progress:
        return begin(jax.random.fold_in(key, unit), denoiser, sampler, shape)

    return _each(sampler, one, _units(members, sampler))


def advance_members(
    key: PRNGKey,
    members: Array,
    denoiser: Denoiser,
    sampler: Sampler,
    progress: PyTree[Array],
    first: Array | int,
    steps: int,
) -> PyTree[Array]:
    """The draws `steps` steps after step `first`."""

    def one(given: tuple[Array, Progress]) -> Progress:
        unit, before = given
        return advance(jax.random.fold_in(key, unit), denoiser, sampler, before, first, steps)

    return _each(sampler, one, (_units(members, sampler), progress))


def finish_members(
    denoiser: Denoiser, sampler: Sampler, progress: PyTree[Array]
) -> tuple[Array, Array, dict[str, Array]]:
    """What `draw_members` gives, of draws after their last step."""
    return _flat(sampler, *_each(sampler, partial(_ended, denoiser, sampler), progress))


def _ended(
    denoiser: Denoiser, sampler: Sampler, progress: Progress
) -> tuple[Array, Array, dict[str, Array]]:
    report = sampler.report(progress.state) if isinstance(sampler, Reports) else {}
    return sampler.finish(denoiser, progress.state), progress.diverged_at, report


def _each(sampler: Sampler, one: Callable[..., Any], units: PyTree[Array]) -> Any:
    """`one` of each unit: of draws side by side, of islands, which are many already, in turn but
    for those of other devices."""
    if isinstance(sampler, PopulationSampler) and shares(BATCH) == 1:
        return jax.lax.map(one, units)
    return over_batch(one, units)


def _units(members: Array, sampler: Sampler) -> Array:
    """What is drawn with one key each: members, or islands of them."""
    size = island(sampler)
    return members if size == 1 else members[::size] // size


def _flat(
    sampler: Sampler, x: Array, diverged_at: Array, report: dict[str, Array]
) -> tuple[Array, Array, dict[str, Array]]:
    """Members of all islands one after the other."""
    if isinstance(sampler, PopulationSampler):
        return x.reshape(-1, *x.shape[2:]), diverged_at[:, : x.shape[1]].reshape(-1), report
    return x, diverged_at, report
