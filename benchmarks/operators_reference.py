"""A particle smoother for observations of windows of states: the reference of generated ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import sda_jax as sda
from sda_jax.classical._particle import _choose
from sda_jax.core._resampling import systematic_resampling
from sda_jax.data._sources import spun_up_states

CANDIDATES = 512  # that the system's step leaves, weighed by windows that have not ended


@sda.component
class Seen:
    """A source's values at every state, NaN where it saw nothing.

    Attributes:
        y: `(length + width, values)`.
        operator: With `of_window`.
        noise: Of a row of y, by `sda.Observation`'s argument.
    """

    y: Any
    operator: Any
    noise: dict[str, Any]

    def log_prob(self, i: Array, window: Array) -> Array:
        """Of what was seen at state i, of the window that ends there (or longer)."""
        operator = self.operator
        row = sda.Observation(
            self.y[i], lambda x: operator.of_window(x[-operator.width :]), **self.noise
        )
        return row.log_likelihood(window)


def seen(observation: sda.Observation, length: int) -> Seen:
    """A source's observation, spread over the states."""
    operator = observation.operator
    y = np.full((length + operator.width, observation.y.shape[-1]), np.nan, np.float32)
    y[np.asarray(operator.ends)] = np.asarray(observation.y)
    noise = {"std": observation.std} if observation.noise is None else {"noise": observation.noise}
    return Seen(y, operator, noise)


def smoother(
    key: Array,
    system: Any,
    parts: Sequence[sda.Observation],
    length: int,
    particles: int,
    samples: int,
    block: int = 32,
) -> np.ndarray:
    """Trajectories of `p(x | y)`, as `sda.particle_smoother` draws them for operators local in
    time: a particle also remembers the last states, of which windows that have not ended yet are
    made with the states chosen after it. These weigh the particles that the system's step leaves,
    of which some are drawn first."""
    sources = tuple(seen(part, length) for part in parts)
    width = max(source.operator.width for source in sources)
    key_filter, key_back = jax.random.split(key)
    buffers, log_weights = _filter(key_filter, system, sources, length, particles, width)
    drawn = [
        _backward(key_back, system, sources, buffers, log_weights, jnp.arange(i, i + block))
        for i in range(0, samples, block)
    ]
    return np.concatenate([np.asarray(part) for part in drawn])[:samples]


@partial(jax.jit, static_argnames=("length", "particles", "width"))
def _filter(
    key: Array, system: Any, sources: tuple[Seen, ...], length: int, particles: int, width: int
) -> tuple[Array, Array]:
    key_start, key_steps = jax.random.split(key)
    start = spun_up_states(key_start, system, particles)
    buffer = jnp.repeat(start[:, None], width, axis=1)

    def weigh(i: Array, buffer: Array) -> Array:
        total = sum(jax.vmap(partial(source.log_prob, i))(buffer) for source in sources)
        return total - jnp.max(total)

    def step(carry: tuple, i: Array) -> tuple[tuple, tuple]:
        buffer, log_weights = carry
        key_resample, key_move = jax.random.split(jax.random.fold_in(key_steps, i))
        chosen = systematic_resampling(key_resample, jnp.exp(log_weights), particles)
        kept = buffer[chosen]
        moved = jax.vmap(system.step)(jax.random.split(key_move, particles), kept[:, -1])
        new = jnp.concatenate([kept[:, 1:], moved[:, None]], axis=1)
        return (new, weigh(i + 1, new)), carry

    first = (buffer, weigh(jnp.zeros((), jnp.int32), buffer))
    return jax.lax.scan(step, first, jnp.arange(length))[1]


@jax.jit
def _backward(
    key: Array,
    system: Any,
    sources: tuple[Seen, ...],
    buffers: Array,
    log_weights: Array,
    members: Array,
) -> Array:
    length, particles, width = buffers.shape[:3]
    key = jax.random.fold_in(key, members[0])
    std = jnp.asarray(system.transition_std)

    def straddling(i: Array, before: Array, after: Array) -> Array:
        """Of windows that end after state i, of one particle's states and those that follow."""
        found = jnp.zeros(())
        for k in range(1, width):
            window = jnp.concatenate([before[k:], after[:k]])
            for source in sources:
                if source.operator.width > k:
                    found += source.log_prob(i + k, window)
        return found

    def step(after: Array, now: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        i, before, weights = now
        scaled = (jax.vmap(system.forecast)(before[:, -1]) / std).reshape(particles, -1)
        wanted = (after[:, 0] / std).reshape(len(members), -1)
        squared = sum(
            (wanted[:, None, c] - scaled[None, :, c]) ** 2 for c in range(scaled.shape[1])
        )
        weights = weights - 0.5 * squared
        key_one = jax.random.fold_in(key, i)
        if width > 1:
            scale = jnp.exp(weights - jnp.max(weights, axis=1, keepdims=True))
            some = partial(systematic_resampling, count=CANDIDATES)
            keys = jax.random.split(jax.random.fold_in(key, length + i), len(members))
            candidates = jax.vmap(some)(keys, scale)
            of_some = jax.vmap(jax.vmap(straddling, (None, 0, None)), (None, 0, 0))
            found = _choose(key_one, of_some(i, before[candidates], after))
            index = jnp.take_along_axis(candidates, found[:, None], axis=1)[:, 0]
        else:
            index = _choose(key_one, weights)
        chosen = before[index, -1]
        return jnp.concatenate([chosen[:, None], after[:, :-1]], axis=1), chosen

    alike = jnp.tile(log_weights[-1], (len(members), 1))
    last = buffers[-1][_choose(jax.random.fold_in(key, length), alike), -1]
    depth = max(width - 1, 1)
    after = jnp.repeat(last[:, None], depth, axis=1)  # beyond the last state nothing is seen
    earlier = (jnp.arange(length - 1), buffers[:-1], log_weights[:-1])
    _, path = jax.lax.scan(step, after, earlier, reverse=True)
    return jnp.moveaxis(jnp.concatenate([path, last[None]]), 0, 1)
