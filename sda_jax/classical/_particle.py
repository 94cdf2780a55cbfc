"""Asymptotically exact posteriors of systems with Gaussian transitions: a particle filter followed
by backward simulation, and the path-keeping bootstrap filter as the paper's baseline."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sda_jax.classical._arguments import check_particles
from sda_jax.core._arrays import PRNGKey
from sda_jax.core._errors import DivergenceError
from sda_jax.core._numbers import whole_number
from sda_jax.core._protocols import GaussianSystem
from sda_jax.core._resampling import systematic_resampling
from sda_jax.data._sources import spun_up_states
from sda_jax.observations._in_time import local_in_time
from sda_jax.observations._observation import Observation

GROUP = 256  # particles whose weights are summed first when one of many is drawn


class Filtered(NamedTuple):
    """A particle filter's output at every state.

    Attributes:
        particles: `(L, N, *S)`, before resampling.
        log_weights: `(L, N)`, the largest of each state being 0.
        ancestors: `(L, N)`, the index at the state before of each particle's parent.
    """

    particles: Float[Array, "length particles *state"]
    log_weights: Float[Array, "length particles"]
    ancestors: Array


@partial(jax.jit, static_argnames=("length", "particles"))
def _filter(
    key: PRNGKey,
    system: GaussianSystem,
    observation: Observation,
    length: int,
    particles: int,
) -> Filtered:
    operator = local_in_time(observation, length)
    every, of = operator.n, operator.operator
    key_start, key_steps = jax.random.split(key)
    start = spun_up_states(key_start, system, particles)
    identity = jnp.arange(particles)

    def weigh(i: Array, x: Array) -> Array:
        row = i // every
        one = observation.row(row, of)
        log_weights = jax.vmap(one.log_likelihood)(x)
        log_weights = jnp.where(i % every == 0, log_weights, 0.0)
        return log_weights - jnp.max(log_weights)

    def step(carry: tuple[Array, Array, Array], i: Array) -> tuple[tuple, Filtered]:
        x, log_weights, ancestors = carry
        now = Filtered(x, log_weights, ancestors)
        key_resample, key_move = jax.random.split(jax.random.fold_in(key_steps, i))
        chosen = systematic_resampling(key_resample, jnp.exp(log_weights), particles)
        chosen = jnp.where(i % every == 0, chosen, identity)
        keys = jax.random.split(key_move, particles)
        x = jax.vmap(system.step)(keys, x[chosen])
        return (x, weigh(i + 1, x), chosen), now

    _, filtered = jax.lax.scan(
        step, (start, weigh(jnp.zeros((), jnp.int32), start), identity), jnp.arange(length)
    )
    return filtered


def _choose(key: PRNGKey, log_weights: Float[Array, "block n"]) -> Array:
    """An index for each row, with probability proportional to the exponential of its entries."""
    block, n = log_weights.shape
    groups = -(-n // GROUP)
    weights = jnp.exp(log_weights - jnp.max(log_weights, axis=1, keepdims=True))
    weights = jnp.pad(weights, ((0, 0), (0, groups * GROUP - n))).reshape(block, groups, GROUP)
    sums = jnp.cumsum(jnp.sum(weights, axis=2), axis=1)
    key_group, key_member = jax.random.split(key)

    def pick(key: PRNGKey, cumulative: Array) -> Array:
        u = (1 - jax.random.uniform(key, (block, 1))) * cumulative[:, -1:]
        return jnp.sum(cumulative < u, axis=1)

    group = pick(key_group, sums)
    inside = jnp.take_along_axis(weights, group[:, None, None], axis=1)[:, 0]
    return jnp.minimum(group * GROUP + pick(key_member, jnp.cumsum(inside, axis=1)), n - 1)


@jax.jit
def _backward_block(
    key: PRNGKey, system: GaussianSystem, filtered: Filtered, members: Array
) -> Float[Array, "block length *state"]:
    """Trajectories drawn backwards in time from the filter's particles."""
    length = filtered.log_weights.shape[0]
    block = members.shape[0]
    key = jax.random.fold_in(key, members[0])
    std = jnp.asarray(system.transition_std)

    def step(x_next: Array, now: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        i, x, log_weights = now
        forecast = jax.vmap(system.forecast)(x)
        scaled = (forecast / std).reshape(x.shape[0], -1)
        wanted = (x_next / std).reshape(block, -1)
        squared = sum(
            (wanted[:, None, c] - scaled[None, :, c]) ** 2 for c in range(scaled.shape[1])
        )
        index = _choose(jax.random.fold_in(key, i), log_weights - 0.5 * squared)
        return x[index], x[index]

    last = _choose(jax.random.fold_in(key, length), jnp.tile(filtered.log_weights[-1], (block, 1)))
    x_last = filtered.particles[-1][last]
    earlier = (
        jnp.arange(length - 1),
        filtered.particles[:-1],
        filtered.log_weights[:-1],
    )
    _, path = jax.lax.scan(step, x_last, earlier, reverse=True)
    return jnp.moveaxis(jnp.concatenate([path, x_last[None]]), 0, 1)


def particle_smoother(
    key: PRNGKey,
    system: GaussianSystem,
    observation: Observation,
    length: int,
    particles: int = 32768,
    samples: int = 256,
    block: int = 32,
) -> Float[Array, "samples length *state"]:
    """Draws trajectories of `p(x | y)` by forward filtering and backward simulation.

    Godsill, Doucet & West (2004). The first state's distribution is the system's after its spin-up.
    Exact as the number of particles grows; every trajectory looks for parents among all particles,
    so early states do not collapse onto a few ancestors.

    Args:
        key: Random key.
        system: With Gaussian transitions of positive noise.
        observation: With an operator `Every(n, of)` and independent noise, in physical units.
        length: States.
        particles: Particles of the filter.
        samples: Trajectories.
        block: Trajectories drawn at once; memory grows with `block * particles`.

    Raises:
        ConfigError: Under `jax.jit` or the like; no key, a system without transition noise, or
            numbers that are no integers from 1 on.
        ObservationError: The operator is not local in time.
        DivergenceError: All particles lost the observation.
        ResourceError: Particles or trajectories do not fit the memory that is free.
    """
    length, particles, samples = check_particles(
        "particle_smoother", key, system, observation, length, particles, samples
    )
    block = min(whole_number("block", block), samples)
    key_filter, key_back = jax.random.split(key)
    filtered = _checked_filter(key_filter, system, observation, length, particles)
    drawn = [
        _backward_block(key_back, system, filtered, jnp.arange(first, first + block))
        for first in range(0, samples, block)
    ]
    return jnp.concatenate(drawn)[:samples]


def bootstrap_filter(
    key: PRNGKey,
    system: GaussianSystem,
    observation: Observation,
    length: int,
    particles: int = 32768,
    samples: int = 256,
) -> Float[Array, "samples length *state"]:
    """The paths that end in particles of the filter, traced back through their ancestors.

    The paper's "ground truth". Early states collapse onto few ancestors: a baseline only.
    Arguments and errors as in `particle_smoother`.
    """
    length, particles, samples = check_particles(
        "bootstrap_filter", key, system, observation, length, particles, samples
    )
    key_filter, key_last = jax.random.split(key)
    filtered = _checked_filter(key_filter, system, observation, length, particles)
    index = _choose(key_last, jnp.tile(filtered.log_weights[-1], (samples, 1)))

    def step(index: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        x, ancestors = now
        return ancestors[index], x[index]

    _, path = jax.lax.scan(step, index, (filtered.particles, filtered.ancestors), reverse=True)
    return jnp.moveaxis(path, 0, 1)


def _checked_filter(
    key: PRNGKey, system: GaussianSystem, observation: Observation, length: int, particles: int
) -> Filtered:
    filtered = _filter(key, system, observation, length, particles)
    bad = ~jnp.all(jnp.isfinite(jnp.max(filtered.log_weights, axis=1)))
    if bool(bad):
        raise DivergenceError(
            "particles", "weights that are not finite", "finite weights", "Use more particles."
        )
    return filtered
