"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Generator
from pathlib import Path
from typing import Any

import jax
from safetensors import SafetensorError

from sda_jax.core._errors import ConfigError, SDAError, StorageError
from sda_jax.core._json import parse
from sda_jax.core._requirements import require_path
from sda_jax.runtime._processes import is_process_zero


@contextlib.contextmanager
def atomic(path: str | Path, every: bool = False) -> Generator[Path, None, None]:
    """Gives a temporary path beside `path`, renamed to it when the block ends well.

    Whatever stood at `path` stays untouched until then, also when the process is killed; what
    killed processes left of earlier tries is removed. Of several processes that all come here the
    first one's file stays, or with `every` that of each.

    Raises:
        ConfigError: `path` is none.
        StorageError: The folder cannot be written, or the disk is full.
    """
    path = require_path("path", path)
    temporary = path.with_name(f"{path.name}.{jax.process_index()}-{os.getpid()}.partial")
    descriptor = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_left(path)
        descriptor = _locked(temporary)
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        if every or is_process_zero():
            os.replace(temporary, path)
    except SDAError:
        raise
    except (OSError, RuntimeError, UnicodeError, SafetensorError) as error:
        no_space = isinstance(error, OSError) and error.errno == errno.ENOSPC
        full = no_space or "space" in str(error).lower()
        raise StorageError(
            str(path),
            f"{type(error).__name__}: {error}",
            "a folder that can be written, with room",
            "Free some space and run again; what was finished before is kept."
            if full
            else "Check the folder's permissions and space, then run again.",
        ) from error
    finally:
        with contextlib.suppress(OSError, UnicodeError):  # a name that this locale cannot write
            temporary.unlink(missing_ok=True)
        if descriptor is not None:
            os.close(descriptor)


def _locked(temporary: Path) -> int:
    """A descriptor of the new file, whose lock says that somebody is writing it."""
    while True:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT, 0o666)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # removed before it was locked


def remove_left(path: Path) -> None:
    """Removes the temporary files of `path` that killed processes left; those that are being
    written stay, and all do where files cannot be locked."""
    ours = re.compile(re.escape(path.name) + r"\.\d+-\d+\.partial")
    for left in path.parent.iterdir() if path.parent.is_dir() else ():
        if ours.fullmatch(left.name):
            with contextlib.suppress(OSError):
                descriptor = os.open(left, os.O_WRONLY)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    left.unlink()
                finally:
                    os.close(descriptor)


# names of files that are no UTF-8 in this locale keep their bytes
TEXT: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape"}


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file, whole or not at all; UTF-8 in every locale."""
    with atomic(path) as temporary:
        temporary.write_text(text, **TEXT)


def read_text(path: str | Path) -> str:
    """What `write_text` wrote; bytes that are no UTF-8 stay what they are."""
    return Path(path).read_text(**TEXT)


def read_json(
    path: str | Path, expected: str, remedy: str = "It is damaged.", finite: bool = True
) -> dict[str, Any]:
    """The table in a JSON file.

    Args:
        path: The file.
        expected: What it is to be, for messages.
        remedy: What to do if it is not.
        finite: Whether to refuse NaN and infinite numbers.

    Raises:
        StorageError: It is missing, or holds no JSON or no table.
    """
    try:
        found = parse(read_text(path), finite)
    except OSError as error:
        raise StorageError(str(path), f"{error}", expected, "Check the file.") from error
    except ConfigError as error:
        raise StorageError(str(path), f"{error}", expected, remedy) from error
    if not isinstance(found, dict):
        raise StorageError(str(path), f"a {type(found).__name__}", expected, "Check the file.")
    return found
