"""Several processes that run one program, each with devices of its own: joining them, and what they
do one for all or all together."""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from sda_jax.core._errors import ConfigError, ProcessError

if TYPE_CHECKING:
    from jaxtyping import Array

SHUTDOWN_SECONDS = 60  # that a process that ends waits for the others
REMEDY = "See what the other processes printed, then start all again; what was finished is kept."


def join(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> None:
    """Joins the other processes of this program; before anything else asks JAX for devices.

    Args:
        coordinator: `host:port` of process 0, the same everywhere; with None all three are taken
            from the environment of Slurm, Open MPI, Kubernetes or a TPU pod.
        processes: How many there are.
        process: Which one this is, from 0.

    Raises:
        ConfigError: Only some of the three are given, or the environment does not say.
        ProcessError: The others were not found in time.
    """
    given = (coordinator, processes, process)
    if None in given and any(g is not None for g in given):
        raise ConfigError(
            "--coordinator, --processes, --process",
            given,
            "all three, or --distributed alone where the environment says it",
            "Give what is missing.",
        )
    if processes is not None and process is not None and not 0 <= process < processes:
        raise ConfigError(
            "--process", process, f"0 to {processes - 1}", "Number the processes from 0."
        )
    import jax

    # on CPU, programs under way at the same time would mix up their messages
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    try:
        jax.distributed.initialize(
            coordinator, processes, process, shutdown_timeout_seconds=SHUTDOWN_SECONDS
        )
    except ValueError as error:
        raise ConfigError(
            "--distributed",
            f"{error}",
            "an environment that says which process this is",
            "Give --coordinator host:port --processes n --process i.",
        ) from error
    except RuntimeError as error:
        raise ProcessError("--distributed", f"{error}", "all processes", REMEDY) from error


def process_index() -> int:
    """Which of the processes this is; 0 while nothing has imported JAX, which joins them."""
    return sys.modules["jax"].process_index() if "jax" in sys.modules else 0


def process_count() -> int:
    """How many processes there are."""
    return sys.modules["jax"].process_count() if "jax" in sys.modules else 1


def is_process_zero() -> bool:
    """Whether this process prints and writes what there is one of."""
    return process_index() == 0


def on_process_zero(action: Callable[[], Any]) -> int:
    """What the first process's action gives, if it is a number or a truth value, else 0; the others
    wait for it.

    Raises:
        ProcessError: It failed there. The first process raises the failure itself.
    """
    return int(_results_of_all(action if is_process_zero() else lambda: 0)[0])


def together(action: Callable[[], Any]) -> None:
    """Every process acts; nobody goes on before all have.

    Raises:
        ProcessError: It failed in another process. One where it failed raises the failure itself.
    """
    _results_of_all(action)


def _results_of_all(action: Callable[[], Any]) -> np.ndarray:
    """The number that each process's action gives."""
    result, failure = 0, None
    try:
        given = action()
        result = int(given) if isinstance(given, int) else 0
    except Exception as error:  # raised again once the others know
        failure = error
    outcomes = _gathered(np.array([failure is not None, result], np.int32))
    if failure is not None:
        raise failure
    failed = np.flatnonzero(outcomes[:, 0]).tolist()
    if failed:
        listed = ", ".join(map(str, failed))
        raise ProcessError("process", f"a failure in {listed}", "all to succeed", REMEDY)
    return outcomes[:, 1]


def _gathered(x: np.ndarray) -> np.ndarray:
    """What each process has, stacked."""
    if process_count() == 1:
        return x[None]
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(x))


def least(number: float) -> float:
    """The smallest of the numbers that the processes have."""
    return float(_gathered(np.array(number, np.float32)).min())


def require_same(argument: str, text: str) -> None:
    """Raises `ConfigError` in every process if they do not all have the same text."""
    found = _gathered(np.array(zlib.crc32(unaddressed(text).encode()), np.uint32))
    differing = np.flatnonzero(found != found[0]).tolist()
    if differing:
        raise ConfigError(
            argument,
            f"others in process 0 than in {', '.join(map(str, differing))}",
            "the same in every process",
            "Give every process the same command.",
        )


def finite_rows(x: Array) -> np.ndarray:
    """Which rows of an array, perhaps shared by several processes, have finite numbers only."""
    import jax.numpy as jnp

    return whole(jnp.isfinite(x).reshape(len(x), -1).all(axis=1))


def unaddressed(text: str) -> str:
    """A text in which functions have names but no addresses, which differ from run to run."""
    return re.sub(" at 0x[0-9a-f]+", "", text)


def whole(x: Array) -> np.ndarray:
    """An array that several processes may share, in the memory of each."""
    import jax

    if isinstance(x, jax.Array) and not (x.is_fully_addressable or x.is_fully_replicated):
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(x, tiled=True))
    return np.asarray(x)
