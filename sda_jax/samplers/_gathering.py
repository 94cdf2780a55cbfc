"""Weighed particles of several searches put together, and how many independent draws they are
worth."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array

from sda_jax.core._arrays import PRNGKey, Trajectory
from sda_jax.core._resampling import ordered_resampling


class Gathered(NamedTuple):
    """Particles of all searches so far, of equal weight.

    Attributes:
        x: At the noise level where the search ends.
        x_hat: Their posterior means.
        roots: Which particle of which search each descends from.
        log_total: Logarithm of the sum of all weights; -inf before the first search.
    """

    x: Trajectory
    x_hat: Trajectory
    roots: Array
    log_total: Array


def none_gathered(x: Trajectory) -> Gathered:
    """Before the first search, of particles like `x`."""
    return Gathered(x, x, jnp.zeros(len(x), jnp.int32), jnp.float32(-jnp.inf))


class Union(NamedTuple):
    """Particles gathered before and those of one more search, with normalised weights."""

    x: Trajectory
    x_hat: Trajectory
    roots: Array
    weights: Array
    log_total: Array

    def drawn(self, key: PRNGKey, count: int) -> Array:
        """Indices of so many, by `ordered_resampling`."""
        return ordered_resampling(key, self.x_hat, self.weights, count)

    def resampled(self, key: PRNGKey, count: int) -> Gathered:
        """So many of equal weight."""
        index = self.drawn(key, count)
        return Gathered(self.x[index], self.x_hat[index], self.roots[index], self.log_total)


def union(
    gathered: Gathered, x: Trajectory, x_hat: Trajectory, log_weights: Array, roots: Array
) -> Union:
    """Searches have their evidence for weight, which the weights of their particles add up to."""
    before = gathered.log_total - jnp.log(len(gathered.x))
    both = jnp.concatenate([jnp.full(len(gathered.x), before), log_weights])
    total = logsumexp(both)
    return Union(
        jnp.concatenate([gathered.x, x]),
        jnp.concatenate([gathered.x_hat, x_hat]),
        jnp.concatenate([gathered.roots, roots]),
        jnp.exp(both - total),
        total,
    )


def squared_error(found: Union, families: int) -> Array:
    """Squared Monte Carlo error of the mean of weighed particles, as a share of their variance:
    `1 / n` of n independent draws.

    Particles that descend from the same one are a family, and families are independent of each
    other: what the error is can be read off how their sums differ (Lee and Whiteley, 2018). With a
    single family nothing is known and it is infinite.

    Args:
        found: Particles, their weights and roots.
        families: That there may be.
    """
    flat = found.x_hat.reshape(len(found.x_hat), -1)
    flat = flat - found.weights @ flat
    sums = jax.ops.segment_sum(found.weights[:, None] * flat, found.roots, families)
    shares = jax.ops.segment_sum(found.weights, found.roots, families)
    known = 1 - jnp.sum(shares**2)
    variance = jnp.sum(found.weights[:, None] * flat**2)
    squared = jnp.sum(sums**2) / jnp.maximum(variance, jnp.finfo(flat.dtype).tiny)
    return jnp.where(known > 1e-6, squared / jnp.where(known > 1e-6, known, 1.0), jnp.inf)
