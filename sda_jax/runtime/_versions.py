"""The format of the files that this package writes, and what their numbers come from: versions of
packages and JAX's settings."""

from __future__ import annotations

import contextlib
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax

FORMAT = "sda_jax"
HDF5_VERSION = 3  # in 2 the digest had another name
PRIOR_VERSION = 2
NUMERICS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
)


def versions() -> dict[str, str]:
    """Versions of this package and of what its results depend on."""
    found = {}
    for name in ("sda_jax", "jax", "flax", "optax", "orbax-checkpoint", "numpy"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def numerics() -> dict[str, Any]:
    """JAX's settings that numbers depend on: a run that is gone on with needs the same."""
    return {name: getattr(jax.config, name) for name in NUMERICS}
