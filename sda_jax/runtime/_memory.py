"""How much is computed at once, and whether a compiled program fits the memory that is free."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from sda_jax.core._component import component, static
from sda_jax.core._errors import ConfigError, ResourceError, require_at_least
from sda_jax.runtime._processes import least

GIB = 2**30
CPU_MEMBERS = 64  # at once, beyond which a CPU gains nothing


@component
class Memory:
    """How much of an ensemble is computed at once: what bounds the memory that it takes.

    Attributes:
        chunk: Members sampled at once; None for as many as fit the device's free memory, on CPU at
            most 64. Members are the same whatever it is.
        window_chunk: Windows of a local network evaluated at once; None for all.
        window_stride: States between neighbouring windows of a local network; beyond 1 cheaper and
            less accurate, see `ComposedDenoiser`.

    Raises:
        ConfigError: Impossible numbers.
    """

    chunk: int | None = static(None)
    window_chunk: int | None = static(None)
    window_stride: int = static(1)

    def __post_init__(self) -> None:
        for name in ("chunk", "window_chunk", "window_stride"):
            if getattr(self, name) is not None:
                require_at_least(name, getattr(self, name), 1)


def require_memory(memory: Any) -> None:
    """Raises `ConfigError` unless `memory` is a `Memory`."""
    if not isinstance(memory, Memory):
        raise ConfigError(
            "memory", repr(memory), "a Memory", "Pass sda_jax.Memory(chunk=64), for instance."
        )


def members_that_fit(samples: int, unit: int, needed: Callable[[int], int]) -> int:
    """The members to sample at once where nobody said: the most that the free memory takes.

    Args:
        samples: Members in all.
        unit: What their number must be a multiple of.
        needed: Bytes that so many members need, which grow in proportion to them.
    """
    free = free_bytes()
    most = samples
    if jax.default_backend() == "cpu":
        most = min(samples, CPU_MEMBERS)
    most = -(-most // unit) * unit
    if free is None or most == unit:
        return most
    free = least(free)  # so that all processes take as many
    wanted = needed(most)
    if wanted <= free:
        return most
    return max(unit, int(most * free / wanted) // unit * unit)


def free_bytes() -> int | None:
    """Free memory of the process's first device, or of the machine for a CPU; None if unknown."""
    device = jax.local_devices()[0]
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    meminfo = Path("/proc/meminfo")
    if device.platform != "cpu" or not meminfo.exists():
        return None
    fields = dict(line.split(":") for line in meminfo.read_text().splitlines())
    free = 1024 * int(fields["MemAvailable"].split()[0])
    group = Path("/sys/fs/cgroup")
    limit, used = (_number(group / name) for name in ("memory.max", "memory.current"))
    if limit is not None and used is not None:
        free = min(free, max(limit - used, 0))
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        free = min(free, max(limit - pages * resource.getpagesize(), 0))
    return free


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return None


def require_room(what: str, size: int, remedy: str) -> None:
    """Raises `ResourceError` if `size` bytes are more than the memory that is free.

    Args:
        what: That needs them.
        size: In bytes.
        remedy: What the user can lower.
    """
    free = free_bytes()
    free = None if free is None else least(free)  # so that all processes go on or none
    if free is not None and size > free:
        raise ResourceError(
            "memory",
            f"{what} that needs {size / GIB:.1f} GiB",
            f"at most the {free / GIB:.1f} GiB that are free",
            remedy,
        )


def require_disk(path: Path, size: int, remedy: str) -> None:
    """Raises `ResourceError` if `size` bytes are more than the disk of `path` has left."""
    folder = next((p for p in path.absolute().parents if p.is_dir()), Path.cwd())
    free = least(shutil.disk_usage(folder).free)
    if size > free:
        raise ResourceError(
            str(path),
            f"a file of {size / GIB:.1f} GiB",
            f"at most the {free / GIB:.1f} GiB that are free on its disk",
            remedy,
        )


def needed_bytes(compiled: Any) -> int:
    """Working memory and outputs of a compiled function, beside its arguments."""
    stats = compiled.memory_analysis()
    return 0 if stats is None else stats.temp_size_in_bytes + stats.output_size_in_bytes


def run_if_fits(function: Any, remedy: str, *arguments: Any) -> Any:
    """Calls a jitted function to its end, after asking whether it fits the memory that is free.

    Args:
        function: What `jax.jit` gave; compiled for these arguments if it is not yet.
        remedy: What the user can lower.
        arguments: Its positional arguments.

    Raises:
        ResourceError: It needs more memory than is free, or ran out of it.
    """
    try:
        needed = needed_bytes(function.lower(*arguments).compile())
        require_room("a computation", needed, remedy)
        return jax.block_until_ready(function(*arguments))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise ResourceError("memory", "RESOURCE_EXHAUSTED", "enough", remedy) from error
