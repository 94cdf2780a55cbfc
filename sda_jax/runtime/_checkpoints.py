"""Checkpoints of a running training, by Orbax."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from sda_jax.core._errors import StorageError
from sda_jax.runtime._damage import causes
from sda_jax.runtime._processes import on_process_zero


@contextmanager
def checkpointer(
    folder: str | Path, keep: int = 2
) -> Generator[ocp.training.Checkpointer, None, None]:
    """A sequence of checkpoints in `folder`, of which the latest `keep` stay.

    Leaving the block waits for saves under way.
    """
    with _plain(Path(folder).absolute()) as plain:
        yield from _checkpointer(plain, keep)


@contextmanager
def _plain(folder: Path) -> Generator[Path, None, None]:
    """The folder under a name that Orbax can take: it cannot take those that the locale cannot
    read, and gets a link to such."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as other:
            link = Path(other) / "checkpoints"
            link.symlink_to(folder)
            yield link
    else:
        yield folder


def _checkpointer(folder: Path, keep: int) -> Generator[ocp.training.Checkpointer, None, None]:
    policy = ocp.training.preservation_policies.LatestN(keep)
    manager = ocp.training.Checkpointer(
        str(folder),
        preservation_policy=policy,  # ty: ignore[invalid-argument-type]
        cleanup_tmp_directories=True,
    )
    try:
        yield manager
    except BaseException:
        with suppress(Exception):  # a save that failed fails again here
            manager.close()
        raise
    manager.close()


def save(manager: ocp.training.Checkpointer, step: int, state: Any) -> None:
    """Saves `state` as the checkpoint of `step` and waits until it is whole, in every process.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    try:
        manager.save(step, state)
    except jax.errors.JaxRuntimeError:  # another process is gone
        raise
    except (OSError, ValueError, RuntimeError) as error:
        raise StorageError(
            f"{manager.directory}/{step}",
            f"{type(error).__name__}: {str(error)[:300]}",
            "a folder that can be written, with room",
            "Free some space and run again; earlier checkpoints are kept.",
        ) from error


def latest_step(manager: ocp.training.Checkpointer) -> int:
    """The step of the latest complete checkpoint, as the first process sees it; -1 without one."""
    latest = manager.latest
    return on_process_zero(lambda: -1 if latest is None else latest.step)


def restore(manager: ocp.training.Checkpointer, step: int, like: Any) -> Any:
    """The checkpoint of `step`, with the structure of `like` and the shardings of its leaves,
    whatever it was saved from.

    Raises:
        StorageError: The checkpoint is damaged, or of another network or optimiser.
    """
    try:
        return manager.load(step, like)
    except jax.errors.JaxRuntimeError:
        raise
    except Exception as error:
        reason = causes(error)[-1]
        raise StorageError(
            f"{manager.directory}/{step}",
            f"{type(reason).__name__}: {str(reason)[:300]}",
            "a whole checkpoint of this very configuration",
            f"Remove the folder {step} to go on from the one before it, or use the "
            "configuration that wrote it.",
        ) from error
