"""Functions of one thing, of many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def map_batches(one: Callable[[Any], Any], x: Any, most: int) -> Any:
    """`one` of everything along the leading axis of `x`, at most `most` side by side.

    Batches are of one size, the last one filled up with what comes first: `jax.lax.map` compiles
    `one` again for what is left over.
    """
    count = len(jax.tree.leaves(x)[0])
    size = evened(count, most)
    if size == count:
        return jax.vmap(one)(x)
    places = jnp.arange(-(-count // size) * size) % count
    found = jax.lax.map(one, jax.tree.map(lambda a: a[places], x), batch_size=size)
    return jax.tree.map(lambda a: a[:count], found)


def evened(count: int, most: int, unit: int = 1) -> int:
    """The size of batches of `count` things, a multiple of `unit` as small as the number of batches
    allows, which is that of batches of `most`."""
    batches = -(-count // (max(most // unit, 1) * unit))
    return -(-count // (batches * unit)) * unit
