"""Folders that belong to one run."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from sda_jax.core._errors import StorageError
from sda_jax.runtime._files import read_text, write_text
from sda_jax.runtime._processes import on_process_zero

_HELD: dict[Path, int] = {}  # file descriptors, closed when the program ends


def hold(folder: str | Path) -> None:
    """Keeps other programs from the folder's run until this one ends, however it ends.

    Raises:
        StorageError: Another program is at work there, or the folder cannot be written.
    """
    folder = Path(folder).absolute()
    lock = folder / ".lock"
    if folder in _HELD:
        if lock.exists():
            return
        release(folder)  # it was removed since
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(lock, os.O_WRONLY | os.O_CREAT, 0o666)
    except OSError as error:
        raise StorageError(
            str(folder), f"{error}", "a folder that can be written", "Check its permissions."
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(file)
        raise StorageError(
            str(folder),
            "a folder in which another run is at work",
            "one run at a time",
            "Wait for it to end, or choose another --output.",
        ) from error
    except OSError as error:
        os.close(file)
        raise StorageError(
            str(folder), f"{error}", "a file system that can lock files", "Use another disk."
        ) from error
    _HELD[folder] = file


def release(folder: str | Path) -> None:
    """Lets other programs at a folder that was held."""
    os.close(_HELD.pop(Path(folder).absolute()))


def claim(folder: str | Path, config_json: str, option: str = "--output") -> Path:
    """Makes `folder` the home of the run that `config_json` describes, for this program alone.

    An empty or new folder is taken; one that holds the same run is continued.

    Args:
        folder: To be held.
        config_json: What says which run it is.
        option: Of the command, that chooses another folder.

    Returns:
        The folder.

    Raises:
        StorageError: It holds another run or other files, another program is at work in it, or it
            cannot be written.
    """
    on_process_zero(lambda: _claim(Path(folder), config_json, option))
    return Path(folder)


def _claim(folder: Path, config_json: str, option: str) -> None:
    marker = folder / "config.json"
    if marker.is_file():
        found = read_text(marker)
        if found != config_json:
            old, new = found.splitlines(), config_json.splitlines()
            changed = [line.strip() for line in new if line not in old][:5]
            raise StorageError(
                str(folder),
                f"the folder of another run (differing: {'; '.join(changed) or 'fields removed'})",
                "an empty folder, or the folder of this very run",
                f"Choose another {option}, or remove the folder.",
            )
        hold(folder)
        return
    ours = (".partial", ".lock")
    if folder.is_dir() and any(p for p in folder.iterdir() if not p.name.endswith(ours)):
        raise StorageError(
            str(folder), "a folder with other files", "an empty folder", f"Choose another {option}."
        )
    hold(folder)
    write_text(marker, config_json)
