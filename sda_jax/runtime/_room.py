"""Whether there is room in the host's memory and on disk."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path

from sda_jax.core._errors import ResourceError
from sda_jax.runtime._processes import least

GIB = 2**30


def host_bytes() -> int | None:
    """Free memory of the machine, as far as this process may use it; None if unknown."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
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


def require_host_room(what: str, size: int, remedy: str) -> None:
    """Raises `ResourceError` if `size` bytes are more than the host's memory that is free."""
    require_within(what, size, host_bytes(), remedy)


def require_within(what: str, size: int, free: int | None, remedy: str) -> None:
    """Raises `ResourceError` if `size` bytes are more than `free` ones in any of the processes.

    Args:
        what: That needs them.
        size: In bytes.
        free: In bytes; None if unknown.
        remedy: What the user can lower.
    """
    most = None if free is None else least(free)  # so that all processes go on or none
    if most is not None and size > most:
        raise ResourceError(
            "memory",
            f"{what} that needs {size / GIB:.1f} GiB",
            f"at most the {most / GIB:.1f} GiB that are free",
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
