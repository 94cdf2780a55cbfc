"""The format of the files that this package writes, and the versions of what they come from."""

from __future__ import annotations

import contextlib
from importlib.metadata import PackageNotFoundError, version

FORMAT = "sda_jax"
FORMAT_VERSION = 2


def versions() -> dict[str, str]:
    """Versions of this package and of what its results depend on."""
    found = {}
    for name in ("sda_jax", "jax", "flax", "optax", "orbax-checkpoint", "numpy"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
