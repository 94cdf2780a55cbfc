"""Random streams: every purpose of the pipeline has its own, by name."""

from __future__ import annotations

import zlib
from typing import Any

import jax
import jax.numpy as jnp

from sda_jax.core._arrays import PRNGKey
from sda_jax.core._errors import ConfigError, require_choice

PURPOSES = (
    "stored set",
    "validation data",
    "validation crops",
    "parameterisation",
    "initial weights",
    "training source",
    "training segments",
    "training steps",
    "validation loss",
    "measured errors",
    "cases",
    "assimilation",
    "held-out noise",
    "forecast",
    "set aside",
)


def require_key(key: Any) -> None:
    """Raises `ConfigError` unless `key` is a random key of JAX."""
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    raw = isinstance(key, jax.Array) and key.dtype == jnp.uint32 and key.shape == (2,)
    if not ((typed and key.ndim == 0) or raw):
        several = typed or (isinstance(key, jax.Array) and key.dtype == jnp.uint32)
        got = f"keys of shape {key.shape}" if several else repr(key)
        raise ConfigError("key", got, "a random key first", "Pass jax.random.key(0).")


def stream(seed: int, purpose: str) -> PRNGKey:
    """The key from which everything random of one purpose follows.

    Args:
        seed: Of the experiment.
        purpose: One of `PURPOSES`.

    Returns:
        The seed's key folded with the CRC-32 of the name, so that a new purpose changes no other.

    Raises:
        ConfigError: No such purpose.
    """
    require_choice("purpose", purpose, PURPOSES)
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(purpose.encode()))
