"""Particles of a search: what is remembered of them, and how they are resampled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array

from sda_jax.core._arrays import PRNGKey
from sda_jax.core._resampling import effective_share, ordered_resampling
from sda_jax.samplers._conditional_step import Place
from sda_jax.samplers._gathering import Gathered, Union, union

HALVINGS = 12


class Streams(NamedTuple):
    """Random keys of one island."""

    search: PRNGKey
    members: PRNGKey


class Particles(NamedTuple):
    """What a population remembers.

    Attributes:
        places: Of the particles; x and x_hat of the members once these go on alone, in the first
            rows.
        log_weights: `(particles,)`; those of a group add up to its estimate of p(y), times its
            size.
        roots: `(particles,)`: which particle each descends from, numbered through all searches.
        gathered: Of the searches before.
        log_evidence: `(searches, groups)`; NaN for searches not made.
        effective: The least effective sample size so far, as a share of a group.
        error: Of the mean, as a share of the spread, after the last search so far.
        separation: Of as many of the particles as there are members, see `separation`.
        distinct: Share of the members that are particles of their own, where they go on alone.
        enough: Whether there will be no more searches.
        predictor: What the predictor of each member remembers.
    """

    places: Place
    log_weights: Array
    roots: Array
    gathered: Gathered
    log_evidence: Array
    effective: Array
    error: Array
    separation: Array
    distinct: Array
    enough: Array
    predictor: Any


def streams(key: PRNGKey) -> Streams:
    """Of an island's key."""
    return Streams(*jax.random.split(key, 3)[1:])


def changed_where(due: Array, change: Callable[[Any], Any], value: Any) -> Any:
    """The value, changed where it is due: a loop, which under `vmap` runs as long as one needs
    it, where both branches of a condition would run for all."""
    body = lambda carry: (jnp.zeros((), bool), change(carry[1]))  # noqa: E731
    return jax.lax.while_loop(lambda carry: carry[0], body, (due, value))[1]


def resampled(
    key: PRNGKey, x_hat: Array, log_weights: Array, threshold: Array | float
) -> tuple[Array, Array]:
    """Ancestors of a group's particles and their weights, where the effective share is below the
    threshold.

    Drawn by a power of the weights, of which enough particles are left; the rest they keep. An
    approximation that is wrong about one particle at one level is not so at the next, which
    gives back what this one takes: a single level cannot decide everything.
    """
    power = _power(log_weights, threshold)
    part = power * log_weights
    total = logsumexp(part)
    index = ordered_resampling(key, x_hat, jnp.exp(part - total), len(log_weights))
    kept = (1 - power) * log_weights[index] + total - jnp.log(len(log_weights))
    due = power > 0
    return jnp.where(due, index, jnp.arange(len(index))), jnp.where(due, kept, log_weights)


def all_found(memory: Particles, names: Array) -> Union:
    """The particles of a search, of these names, beside those of the searches before."""
    places, own = memory.places, (memory.log_weights, memory.roots, names)
    return union(memory.gathered, places.x, places.x_hat, *own)


def with_members(memory: Particles, found: Union, index: Array) -> Particles:
    """With members, of these indices, in the first rows."""
    names, places = found.names[index], memory.places
    others = jnp.sum(names[:, None] == names[None, :], axis=1)
    x, x_hat = (
        old.at[: len(index)].set(new[index])
        for old, new in ((places.x, found.x), (places.x_hat, found.x_hat))
    )
    distinct = jnp.mean(1 / others).astype(memory.distinct.dtype)
    return memory._replace(places=places._replace(x=x, x_hat=x_hat), distinct=distinct)


def group_evidence(log_weights: Array, groups: int) -> Array:
    """Of each group, the logarithm of its estimate of p(y)."""
    each = log_weights.reshape(groups, -1)
    return logsumexp(each, axis=1) - jnp.log(each.shape[1])


def usable(log_weights: Array) -> Array:
    """Without what is no number, which gets no weight."""
    return jnp.where(jnp.isfinite(log_weights), log_weights, -jnp.inf)


def _power(log_weights: Array, threshold: Array | float) -> Array:
    """The power of weights whose effective sample size is the threshold; 1 where that is still
    more, 0 where the weights' own is."""
    finite = jnp.where(jnp.isfinite(log_weights), log_weights, -1e30)

    def halved(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        enough = effective_share(middle * finite) >= threshold
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    low, _ = jax.lax.fori_loop(0, HALVINGS, halved, (jnp.zeros(()), jnp.ones(())))
    return jnp.where(effective_share(finite) >= threshold, 0.0, low)
