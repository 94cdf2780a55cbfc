"""How much is computed at once, and whether a compiled program fits the memory that is free."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from sda_jax.core._batches import evened
from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError, ResourceError, require_at_least
from sda_jax.core._record import static
from sda_jax.runtime._processes import least
from sda_jax.runtime._room import host_bytes, require_within

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
        tile_chunk: Tiles of a grid larger than the network's crops that are evaluated at once, of
            each window; None for all.

    Raises:
        ConfigError: Impossible numbers.
    """

    chunk: int | None = static(None)
    window_chunk: int | None = static(None)
    window_stride: int = static(1)
    tile_chunk: int | None = static(None)

    def __post_init__(self) -> None:
        for name in ("chunk", "window_chunk", "window_stride", "tile_chunk"):
            if getattr(self, name) is not None:
                require_at_least(name, getattr(self, name), 1)


def require_memory(memory: Any) -> None:
    """Raises `ConfigError` unless `memory` is a `Memory`."""
    if not isinstance(memory, Memory):
        raise ConfigError(
            "memory", repr(memory), "a Memory", "Pass sda_jax.Memory(chunk=64), for instance."
        )


def members_that_fit(
    count: int, needed: Callable[[int], int], unit: int = 1, most: int | None = None
) -> int:
    """What is computed at once where nobody said: as much as fits the free memory, by the compiled
    program's own account of what it takes.

    Args:
        count: Members, particles or trajectories in all.
        needed: Bytes that the program for so many at once takes. It is compiled for what is given
            back, unless that is a single unit.
        unit: What their number must be a multiple of.
        most: More than these gain nothing; None for no such number.

    Returns:
        A multiple of `unit` that leaves little to fill up in the last chunk.
    """
    chunk = evened(count, most or count, unit)
    free = free_bytes()
    if free is None or chunk == unit:
        return chunk
    free = least(free)  # so that all processes take as many
    largest = chunk
    while chunk > unit and (wanted := needed(chunk)) > free:
        smaller = int(chunk * free / wanted)
        if chunk < largest:  # a part of the memory does not grow with the chunk
            smaller = min(smaller, chunk // 2)
        chunk = evened(count, smaller, unit)
    return chunk


def most_at_once() -> int | None:
    """Members of an ensemble beyond which the device gains nothing; None where there is no such
    number."""
    return CPU_MEMBERS if jax.default_backend() == "cpu" else None


def free_bytes() -> int | None:
    """Free memory of the process's first device, or of the machine for a CPU; None if unknown."""
    device = jax.local_devices()[0]
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    return host_bytes() if device.platform == "cpu" else None


def require_room(what: str, size: int, remedy: str) -> None:
    """Raises `ResourceError` if `size` bytes are more than the device's memory that is free;
    arguments as those of `require_within`."""
    require_within(what, size, free_bytes(), remedy)


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


def run_in_chunks(
    function: Any, arguments: tuple[Any, ...], count: int, chunk: int | None, what: str
) -> Any:
    """Calls a jitted function of many members that takes `chunk` of them at once, its last
    argument.

    Args:
        function: What `jax.jit` gave.
        arguments: Its positional arguments before the last.
        count: Members in all.
        chunk: As the user said; None for as many as fit the memory.
        what: They are, for messages.

    Raises:
        ResourceError: They need more memory than is free.
    """

    def needed(chunk: int) -> int:
        return needed_bytes(function.lower(*arguments, chunk).compile())

    if chunk is None:
        chunk = members_that_fit(count, needed, most=most_at_once())
    chunk = min(chunk, count)
    return run_if_fits(function, f"Lower chunk, {what} ({chunk}).", *arguments, chunk)
