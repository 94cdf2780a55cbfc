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

LEAST = 1e-3  # share of the error's variance that families must show, well above rounding
# how a distance to the posterior grows with an error of the mean: benchmarks/separation.py
SLOPE, CLOSE = 6.0, 4.0
# of the mean, times that of as many independent draws as members: by 64 of 256 a spread is known to
# a tenth
LARGEST = 2.0


class Gathered(NamedTuple):
    """Particles of all searches so far, of equal weight.

    Attributes:
        x: At the noise level where the search ends.
        x_hat: Their posterior means.
        roots: Which particle each descends from, numbered through all searches.
        names: Which particle each is, numbered likewise: copies have the same.
        log_total: Logarithm of the sum of all weights; -inf before the first search.
    """

    x: Trajectory
    x_hat: Trajectory
    roots: Array
    names: Array
    log_total: Array


def none_gathered(x: Trajectory, log_weights: Array, roots: Array) -> Gathered:
    """Before the first search, of particles like these."""
    return Gathered(x, x, roots, roots, jnp.full_like(log_weights[0], -jnp.inf))


class Union(NamedTuple):
    """Particles gathered before and those of one more search, with normalised weights; attributes
    as in `Gathered`."""

    x: Trajectory
    x_hat: Trajectory
    roots: Array
    names: Array
    weights: Array
    log_total: Array

    def drawn(self, key: PRNGKey, count: int) -> Array:
        """Indices of so many, by `ordered_resampling`."""
        return ordered_resampling(key, self.x_hat, self.weights, count)

    def resampled(self, key: PRNGKey, count: int) -> Gathered:
        """So many of equal weight."""
        index = self.drawn(key, count)
        return Gathered(*(a[index] for a in self[:4]), self.log_total)


def union(
    gathered: Gathered,
    x: Trajectory,
    x_hat: Trajectory,
    log_weights: Array,
    roots: Array,
    names: Array,
) -> Union:
    """Searches have their evidence for weight, which the weights of their particles add up to."""
    before = gathered.log_total - jnp.log(len(gathered.x))
    both = jnp.concatenate([jnp.full(len(gathered.x), before), log_weights])
    total = logsumexp(both)
    more = x, x_hat, roots, names
    arrays = (jnp.concatenate(pair) for pair in zip(gathered[:4], more, strict=True))
    return Union(*arrays, jnp.exp(both - total), total)


def squared_error(found: Union) -> Array:
    """Squared Monte Carlo error of the mean of weighed particles, as a share of their variance:
    `1 / n` of n independent draws.

    Particles that descend from the same one are a family, and families are as good as independent
    of each other: what the error is can be read off how their sums differ (after Lee and Whiteley,
    2018). Of families with shares p the sums around their common mean have `1 - 2 sum p^3 / sum p^2
    + sum p^2` of the variance that the error has, none if there is a single one: of that nothing is
    known, and its error is infinite.
    """
    flat = jnp.nan_to_num(found.x_hat.reshape(len(found.x_hat), -1))
    flat = flat - found.weights @ flat
    size = len(flat)
    _, family = jnp.unique(found.roots, size=size, fill_value=-1, return_inverse=True)
    sums = jax.ops.segment_sum(found.weights[:, None] * flat, family.reshape(-1), size)
    shares = jax.ops.segment_sum(found.weights, family.reshape(-1), size)
    shares = shares / jnp.sum(shares)
    squares = jnp.sum(shares**2)
    known = 1 - 2 * jnp.sum(shares**3) / squares + squares
    variance = jnp.sum(found.weights[:, None] * flat**2)
    squared = jnp.sum(sums**2) / jnp.maximum(variance, jnp.finfo(flat.dtype).tiny)
    usable = known > LEAST
    return jnp.where(usable, squared / jnp.where(usable, known, 1.0), jnp.inf)


def separation(x_hat: Trajectory, names: Array, left: Array | float) -> Array:
    """Variance of members over their mean squared distance to the nearest other one: 1 of a cloud
    in many dimensions, where all are as far from each other; large where modes lie apart.

    Args:
        x_hat: Their posterior means, `(members, L, *S)`.
        names: Which particle each is: copies are no neighbours.
        left: Variance around a posterior mean, summed over the trajectory.
    """
    flat = jnp.nan_to_num(x_hat.reshape(len(x_hat), -1))
    flat = flat - jnp.mean(flat, axis=0)
    norms = jnp.sum(flat**2, axis=1)
    with jax.default_matmul_precision("highest"):
        squares = norms[:, None] + norms[None, :] - 2 * flat @ flat.T
    squares = jnp.where(names[:, None] == names[None, :], jnp.inf, jnp.maximum(squares, 0.0))
    nearest = jnp.mean(jnp.min(squares, axis=1))
    return (jnp.mean(norms) + left) / (nearest + 2 * left)


def distance(apart: Array | float, squared: Array | float, members: int) -> Array:
    """Foreseen Wasserstein distance of members to draws of their posterior, over that of as many
    independent draws: 1 is best, and whether 70 draws are enough hangs on how modes lie.

    Squares of distances grow with the squared error of the mean, the faster the further modes are
    apart: in a cloud of many dimensions members are far from each other anyway.

    Args:
        apart: Their `separation`.
        squared: Of the mean's error, as a share of the variance.
        members: Their number.
    """
    slope = SLOPE * jnp.maximum(apart, CLOSE)
    return jnp.sqrt((1 + slope * (squared + 1 / members)) / (1 + 2 * slope / members))
