"""Files that are whole or not there, and folders that belong to one run."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
from collections.abc import Generator, Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import h5py
import jax
import numpy as np
from safetensors import SafetensorError

from sda_jax.core._errors import SDAError, StorageError
from sda_jax.runtime._processes import is_process_zero, on_process_zero

FORMAT = "sda_jax"
DIGEST = "digest"
FORMAT_VERSION = 2


@contextlib.contextmanager
def atomic(path: str | Path, own: bool = False) -> Generator[Path, None, None]:
    """Gives a temporary path beside `path`, renamed to it when the block ends well.

    Whatever stood at `path` stays untouched until then, also when the process is killed. Of several
    processes that all come here the first one's file stays, or with `own` that of each.

    Raises:
        StorageError: The folder cannot be written, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{jax.process_index()}-{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        if own or is_process_zero():
            os.replace(temporary, path)
    except SDAError:
        raise
    except (OSError, RuntimeError, SafetensorError) as error:
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
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(text)


def read_records(path: str | Path) -> list[dict[str, Any]]:
    """The records of a JSON-lines file, a torn line left out; none where there is no file."""
    path, records = Path(path), []
    for line in path.read_text().splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):
            records.append(json.loads(line))
    return records


def write_records(path: str | Path, records: Iterable[dict[str, Any]]) -> None:
    """Writes a JSON-lines file, whole or not at all."""
    write_text(path, "".join(json.dumps(record) + "\n" for record in records))


def append_record(path: str | Path, record: dict[str, Any]) -> None:
    """Adds a line to a JSON-lines file, once for all processes; torn by a crash, `read_records`
    leaves it out."""

    def append() -> None:
        with open(path, "a") as file:
            file.write(json.dumps(record) + "\n")

    on_process_zero(append)


@contextlib.contextmanager
def write_hdf5(path: str | Path, kind: str) -> Generator[h5py.File, None, None]:
    """An HDF5 file open for writing, whole or not at all; `kind` says what it holds.

    From version 1.10 on, HDF5 keeps checksums of its own bookkeeping.
    """
    with atomic(path) as temporary, _Patient(temporary, "w+") as disk:
        with h5py.File(disk, "w", libver="v110") as file:
            file.attrs["format"] = FORMAT
            file.attrs["format_version"] = FORMAT_VERSION
            file.attrs["kind"] = kind
            file.attrs["versions"] = json.dumps(versions())
            yield file
            if disk.failure is None:
                file.attrs[DIGEST] = _digest(file)
        if disk.failure is not None:
            raise disk.failure


class _Patient(io.FileIO):
    """A file that keeps its first failure to write to itself: HDF5, told of it, would try again
    whenever it closes something, and crash at exit."""

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        left = view
        try:
            while left and self.failure is None:
                left = left[super().write(left) :]
        except OSError as error:
            self.failure = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            if self.failure is None:
                super().truncate(size)
        except OSError as error:
            self.failure = error
        return size or 0

    def flush(self) -> None:
        """Nothing waits here."""


def create_array(file: h5py.Group, name: str, shape: tuple[int, ...]) -> h5py.Dataset:
    """A float32 data set `(rows, length, ...)` to be filled, with checksums that its readers
    verify."""
    blocks = (1, min(shape[1], 64), *shape[2:])
    return file.create_dataset(name, shape, "float32", chunks=blocks, fletcher32=True)


def _digest(file: h5py.File) -> str:
    """A hash of all attributes and of all data sets that have no checksums of their own."""
    found = hashlib.sha256()

    def add_value(name: str, value: np.ndarray) -> None:
        text = value.dtype.kind in "OSU"
        found.update(f"{name}{value.shape}{'text' if text else value.dtype}".encode())
        found.update(str(value.tolist()).encode() if text else value.tobytes())

    def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
        found.update(name.encode())
        for key in sorted(item.attrs):
            if key != DIGEST:
                add_value(key, np.asarray(item.attrs[key]))
        if isinstance(item, h5py.Dataset) and item.fletcher32:
            found.update(f"{item.shape}{item.dtype}".encode())
        elif isinstance(item, h5py.Dataset):
            add_value("", np.asarray(item[()]))

    add("/", file)
    file.visititems(add)
    return found.hexdigest()


@contextlib.contextmanager
def read_hdf5(path: str | Path, kind: str) -> Generator[h5py.File, None, None]:
    """An HDF5 file of this package open for reading.

    Raises:
        StorageError: No such file, or it is damaged, of another program, kind or version.
    """
    path = Path(path)
    if not path.is_file():
        raise StorageError(str(path), "no such file", f"a {kind} file", "Check the path.")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise StorageError(
            str(path), f"{error}", f"a readable {kind} file", "It is damaged: make it again."
        ) from error
    damaged = f"a complete {kind} file", "It is damaged: make it again."
    with file:
        try:
            attributes = {n: str(file.attrs.get(n)) for n in ("format", "kind", "format_version")}
            _check_header(path, attributes, kind)
            whole = file.attrs.get(DIGEST) == _digest(file)
        except SDAError:
            raise
        except Exception as error:  # whatever HDF5 makes of it
            raise StorageError(str(path), f"{error}", *damaged) from error
        if not whole:
            raise StorageError(str(path), "contents other than it was written with", *damaged)
        try:
            yield file
        except SDAError:
            raise
        except (KeyError, OSError, TypeError, ValueError) as error:
            raise StorageError(str(path), f"{error}", *damaged) from error


def _check_header(path: Path, attributes: dict[str, str], kind: str) -> None:
    if (attributes["format"], attributes["kind"]) != (FORMAT, kind):
        found = f"format {attributes['format']}, kind {attributes['kind']}"
        expected = f"format {FORMAT}, kind {kind}"
        raise StorageError(str(path), found, expected, "Name another file.")
    if attributes["format_version"] != str(FORMAT_VERSION):
        raise StorageError(
            str(path),
            f"format version {attributes['format_version']}",
            f"version {FORMAT_VERSION}",
            "Make the file again with this version of sda_jax.",
        )


def versions() -> dict[str, str]:
    """Versions of this package and of what its results depend on."""
    found = {}
    for name in ("sda_jax", "jax", "flax", "optax", "orbax-checkpoint", "numpy"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


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
        found = marker.read_text(errors="replace")
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
