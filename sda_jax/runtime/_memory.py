"""How much is computed at once, and whether a compiled program fits the memory that is free."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

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
