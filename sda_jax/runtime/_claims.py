"""Folders that belong to one run."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from pathlib import Path

from sda_jax.core._errors import StorageError
from sda_jax.runtime._files import read_text, write_text
from sda_jax.runtime._processes import on_process_zero

MARKER = "config.json"  # what says which run it is
LOCK = ".lock"
_HELD: dict[Path, int] = {}  # file descriptors, closed when the program ends


def hold(folder: str | Path) -> None:
    """Keeps other programs from the folder's run until this one ends, however it ends.

    Raises:
        StorageError: Another program is at work there, or the folder cannot be written.
    """
    folder = Path(folder).absolute()
    if folder in _HELD:
        if _is_lock(_HELD[folder], folder):
            return
        release(folder)  # it was removed since
    try:
        file = _locked(folder)
        while not _is_lock(file, folder):  # removed by another program before it was locked
            os.close(file)
            file = _locked(folder)
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(
            str(folder), f"{error}", "a folder that can be written", "Check its permissions."
        ) from error
    _HELD[folder] = file


def _is_lock(file: int, folder: Path) -> bool:
    """Whether an open file is the folder's lock."""
    lock = folder / LOCK
    return lock.exists() and os.path.samestat(os.fstat(file), os.stat(lock))


def _locked(folder: Path) -> int:
    """The folder's lock, open and taken."""
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / LOCK, os.O_WRONLY | os.O_CREAT, 0o666)
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
    return file


def release(folder: str | Path) -> None:
    """Lets other programs at a folder that was held."""
    os.close(_HELD.pop(Path(folder).absolute()))


def claim(
    folder: str | Path, config_json: str, option: str = "--output", apart: tuple[str, ...] = ()
) -> Path:
    """Makes `folder` the home of the run that `config_json` describes, for this program alone.

    A folder that is new, or holds nothing that a run made, is taken; one that holds the same run is
    continued.

    Args:
        folder: To be held.
        config_json: What says which run it is.
        option: Of the command, that chooses another folder.
        apart: Names of files that are no result, and are made anew by another run.

    Returns:
        The folder.

    Raises:
        StorageError: It holds another run or other files, another program is at work in it, or it
            cannot be written.
    """
    on_process_zero(lambda: _claim(Path(folder), config_json, option, apart))
    return Path(folder)


def _claim(folder: Path, config_json: str, option: str, apart: tuple[str, ...]) -> None:
    marker = folder / MARKER
    found = read_text(marker) if marker.is_file() else None
    if found != config_json and not _is_bare(folder, apart):
        if found is None:
            raise StorageError(
                str(folder),
                "a folder with other files",
                "an empty folder",
                f"Choose another {option}.",
            )
        old, new = found.splitlines(), config_json.splitlines()
        changed = [line.strip()[:200] for line in new if line not in old][:5]
        raise StorageError(
            str(folder),
            f"the folder of another run (differing: {'; '.join(changed) or 'fields removed'})",
            "an empty folder, or the folder of this very run",
            f"Choose another {option}, or remove the folder.",
        )
    hold(folder)
    if found != config_json:
        for name in apart:
            (folder / name).unlink(missing_ok=True)
        write_text(marker, config_json)


def _is_bare(folder: Path, apart: tuple[str, ...] = ()) -> bool:
    """Whether nothing is there that a run made: files that are not empty."""
    ours = (MARKER, LOCK, *apart)
    return not any(
        not path.is_dir() and (path.is_symlink() or path.stat().st_size)
        for path in (folder.rglob("*") if folder.is_dir() else ())
        if path.name not in ours and path.suffix != ".partial"
    )


def leave_bare() -> None:
    """Leaves the claimed folders in which nothing was made, for whatever run comes next."""
    for folder in sorted(_HELD, reverse=True):  # the inner ones first
        if _is_bare(folder):
            with contextlib.suppress(OSError):
                (folder / MARKER).unlink(missing_ok=True)
                (folder / LOCK).unlink(missing_ok=True)
                folder.rmdir()
            release(folder)


def abandon(folder: str | Path) -> None:
    """Removes a claimed folder with all that is in it; of a link, what it leads to is emptied."""
    folder = Path(folder)
    _sweep(folder)
    gone = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    os.replace(folder, gone)  # before another run can take it
    release(folder)
    _remove(gone)


def clear(folder: str | Path) -> None:
    """Removes what a run that was killed at its very end left of its folder, unless another one is
    at work there."""
    folder = Path(folder)
    _sweep(folder)
    if (folder / MARKER).is_file():
        with contextlib.suppress(StorageError):
            hold(folder)
            abandon(folder)


def _sweep(folder: Path) -> None:
    """Removes what was being removed when a run was killed."""
    ours = re.compile(re.escape(folder.name) + r"\.\d+\.partial")
    for left in list(folder.parent.iterdir()):
        if ours.fullmatch(left.name):
            _remove(left)


def _remove(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # another run removes it too
        if not folder.is_symlink():
            shutil.rmtree(folder)
            return
        for path in list(folder.iterdir()) if folder.exists() else ():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        folder.unlink()
