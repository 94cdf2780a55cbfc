"""jax-cfd on current JAX.

jax-cfd 0.2.1, its last release, calls `jax.tree_map`, `jax.tree_flatten` and their like, which JAX
has since moved to `jax.tree`. Its modules are given a stand-in for `jax` that has the old names
too; JAX itself stays as it is. Nothing else of jax-cfd needs a change for periodic grids.
"""

from __future__ import annotations

import pkgutil
import sys
from types import ModuleType
from typing import Any

import jax
from jax_cfd import base
from jax_cfd.base import (
    advection,
    boundaries,
    diffusion,
    equations,
    forcings,
    funcutils,
    grids,
    initial_conditions,
    pressure,
)

__all__ = [
    "advection",
    "boundaries",
    "diffusion",
    "equations",
    "forcings",
    "funcutils",
    "grids",
    "initial_conditions",
    "pressure",
]


class _WithOldNames(ModuleType):
    """`jax`, with `tree_map` and its like taken from `jax.tree`."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("tree_") and name != "tree_util":
            return getattr(jax.tree, name.removeprefix("tree_"))
        return getattr(jax, name)


_stand_in = _WithOldNames("jax")
for _module in pkgutil.iter_modules(base.__path__, base.__name__ + "."):
    _loaded = sys.modules.get(_module.name)
    if _loaded is not None and vars(_loaded).get("jax") is jax:
        vars(_loaded)["jax"] = _stand_in
