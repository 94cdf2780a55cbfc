"""Devices, processes, memory, checkpoints and files that are whole."""

from typing import TYPE_CHECKING

from sda_jax.core._lazy import exports

if TYPE_CHECKING:
    from sda_jax.runtime._devices import Mesh, use_mesh
    from sda_jax.runtime._memory import Memory
    from sda_jax.runtime._processes import join
    from sda_jax.runtime._versions import versions

__all__ = [
    "Memory",
    "Mesh",
    "join",
    "use_mesh",
    "versions",
]
COMPONENTS = [
    "Memory",
    "Mesh",
]

__getattr__, __dir__ = exports(__name__)
