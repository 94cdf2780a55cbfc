"""Resampling of weighted particles."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Int

from sda_jax.core._arrays import PRNGKey

POWER_ITERATIONS = 16


def ordered_resampling(
    key: PRNGKey,
    particles: Float[Array, " particles *trajectory"],
    weights: Float[Array, " particles"],
    count: int,
) -> Int[Array, " count"]:
    """Indices of `count` ancestors, drawn systematically in the order of the particles along the
    direction in which they differ most: two modes that it separates keep their shares within a
    particle. Gerber, Chopin and Whiteley (2019), with the principal axis instead of a Hilbert
    curve."""
    flat = jnp.nan_to_num(particles.reshape(len(particles), -1))
    scaled = jnp.sqrt(weights)[:, None] * (flat - weights @ flat)

    def power(_: int, axis: Array) -> Array:
        axis = scaled.T @ (scaled @ axis)
        return axis / jnp.maximum(jnp.linalg.norm(axis), jnp.finfo(axis.dtype).tiny)

    axis = jax.random.normal(jax.random.key(0), flat.shape[1:])
    axis = jax.lax.fori_loop(0, POWER_ITERATIONS, power, axis)
    order = jnp.argsort(flat @ axis)
    return order[systematic_resampling(key, weights[order], count)]


def effective_share(log_weights: Float[Array, " n"]) -> Array:
    """Effective sample size of weights, as a share of their number."""
    total, squares = logsumexp(log_weights), logsumexp(2 * log_weights)
    return jnp.exp(2 * total - squares) / len(log_weights)


def systematic_resampling(key: PRNGKey, weights: Float[Array, " n"], count: int) -> Array:
    """Indices of `count` ancestors, by one uniform number. Kitagawa (1996)."""
    cumulative = jnp.cumsum(weights)
    points = (jnp.arange(count) + jax.random.uniform(key)) / count * cumulative[-1]
    return jnp.minimum(jnp.searchsorted(cumulative, points), len(weights) - 1)
