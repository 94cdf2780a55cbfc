"""Whether a compiled program fits the memory that is free, asked before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax

from sda_jax.errors import ResourceError

GIB = 2**30


def free_bytes() -> int | None:
    """Free memory of the default device, or of the machine for a CPU; None where it is unknown."""
    device = jax.devices()[0]
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    meminfo = Path("/proc/meminfo")
    if device.platform != "cpu" or not meminfo.exists():
        return None
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    return None


def needed_bytes(compiled: Any) -> int:
    """Working memory and outputs of a compiled function, beside its arguments."""
    stats = compiled.memory_analysis()
    return 0 if stats is None else stats.temp_size_in_bytes + stats.output_size_in_bytes


def require_memory(compiled: Any, remedy: str) -> None:
    """Raises `ResourceError` with `remedy` if a compiled function needs more than there is."""
    needed, free = needed_bytes(compiled), free_bytes()
    if free is not None and needed > free:
        raise ResourceError(
            "memory",
            f"a computation that needs {needed / GIB:.1f} GiB",
            f"at most the {free / GIB:.1f} GiB that are free",
            remedy,
        )


def is_exhausted(error: Exception) -> bool:
    """Whether an error of JAX's runtime says that memory ran out."""
    return "RESOURCE_EXHAUSTED" in str(error)
