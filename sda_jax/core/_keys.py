"""Random streams: every purpose of the pipeline has its own, by name."""

from __future__ import annotations

import zlib

import jax

from sda_jax.core._arrays import PRNGKey
from sda_jax.core._errors import require_choice

PURPOSES = (
    "stored set",
    "validation data",
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
)


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
