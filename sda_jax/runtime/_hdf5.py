"""HDF5 files of this package: whole, of a kind and version, and with a hash of their contents."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5g

from sda_jax.core._errors import SDAError, StorageError
from sda_jax.core._requirements import require_path
from sda_jax.runtime._damage import proves_damage
from sda_jax.runtime._files import atomic
from sda_jax.runtime._own_contents import require_own_contents
from sda_jax.runtime._versions import FORMAT, HDF5_VERSION, versions

DIGEST = "sda_digest"
BLOCK_BYTES = 2**16  # of small states and trajectories that lie together
READ_BYTES = 2**26  # at once, of what is only verified


@contextlib.contextmanager
def hdf5_target(path: str | Path) -> Generator[_Patient, None, None]:
    """The open file on which HDF5 is to write, whole or not at all: all that the package writes in
    HDF5 goes through it.

    Raises:
        StorageError: The folder cannot be written, or the disk is full.
    """
    with atomic(path) as temporary, _Patient(temporary, "w+") as disk:
        try:
            yield disk
        except Exception as error:  # what HDF5 makes of a file that cannot grow
            if disk.failure is None:
                raise
            raise disk.failure from error
        if disk.failure is not None:
            raise disk.failure


@contextlib.contextmanager
def write_hdf5(path: str | Path, kind: str) -> Generator[h5py.File, None, None]:
    """An HDF5 file open for writing, whole or not at all; `kind` says what it holds.

    From version 1.10 on, HDF5 keeps checksums of its own bookkeeping.
    """
    with hdf5_target(path) as disk, h5py.File(disk, "w", libver="v110") as file:
        file.attrs["format"] = FORMAT
        file.attrs["format_version"] = HDF5_VERSION
        file.attrs["kind"] = kind
        file.attrs["versions"] = json.dumps(versions())
        yield file
        if disk.failure is None:
            seal(file)


class _Patient(io.FileIO):
    """A file that keeps its first failure to write to itself: HDF5 would try again whenever it
    closes something, and crash at exit."""

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
    """A float32 data set `(rows, length, ...)` to be filled, with a checksum of each of its blocks
    that its readers verify."""
    rows, length, *state = shape
    size = 4 * int(np.prod(state))
    columns = min(length, max(64, BLOCK_BYTES // size))
    blocks = (min(rows, max(1, BLOCK_BYTES // (size * columns))), columns, *state)
    return file.create_dataset(name, shape, "float32", chunks=blocks, fletcher32=True)


def seal(file: h5py.File) -> None:
    """Keeps in the file a hash of its contents, which is compared when it is read."""
    file.attrs[DIGEST] = _digest(file)


def _digest(file: h5py.File) -> str:
    """A hash of all attributes and of all data sets that have no checksums of their own."""
    digest = hashlib.sha256()

    def add_value(name: str, value: Any) -> None:
        value = np.asarray("nothing" if isinstance(value, h5py.Empty) else value)
        text = value.dtype.kind in "OSU" or value.dtype.hasobject
        digest.update(f"{name}{value.shape}{'text' if text else value.dtype}".encode())
        contents = str(value.tolist()).encode("utf-8", "surrogatepass") if text else value.tobytes()
        digest.update(contents)

    def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
        digest.update(name.encode())
        for key in sorted(item.attrs):
            if key != DIGEST:
                add_value(key, item.attrs[key])
        if isinstance(item, h5py.Dataset) and item.fletcher32:
            digest.update(f"{item.shape}{item.dtype}".encode())
        elif isinstance(item, h5py.Dataset):
            add_value("", item[()])

    add("/", file)
    file.visititems(add)
    return digest.hexdigest()


@contextlib.contextmanager
def read_hdf5(path: str | Path, kind: str) -> Generator[h5py.File, None, None]:
    """An HDF5 file of this package open for reading.

    Raises:
        StorageError: No such file, or it is damaged, of another program, kind or version, or reads
            other files.
    """
    path = require_path("path", path)
    with _opened(path, kind, lambda file: _check_header(path, file, kind)) as file:
        yield file


def attribute_of(path: str | Path, name: str) -> str | None:
    """An attribute of an HDF5 file of whatever program as text; None where it has none, or cannot
    be read, which its readers say."""
    try:
        with h5py.File(path, "r") as file:
            require_own_contents(path, h5g.open(file.id, b"/"))
            return str(file.attrs[name])
    except Exception:  # whatever HDF5 makes of it
        return None


def verify_hdf5(path: str | Path, kind: str) -> None:
    """Reads a sealed file of whatever program once, and all of it.

    Raises:
        StorageError: No such file, or it is damaged or was never sealed.
    """

    def check(file: h5py.File) -> None:
        if DIGEST not in file.attrs:
            found, remedy = f"no attribute {DIGEST}", "Name the file as it was written."
            raise StorageError(str(path), found, f"a {kind} file of {FORMAT}", remedy)

    with _opened(require_path("path", path), kind, check) as file:
        read_all(file)


@contextlib.contextmanager
def _opened(
    path: Path, kind: str, check: Callable[[h5py.File], None]
) -> Generator[h5py.File, None, None]:
    """A sealed file, checked."""
    if not path.is_file():
        raise StorageError(str(path), "no such file", f"a {kind} file", "Check the path.")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise StorageError(
            str(path),
            f"{error}",
            f"a readable {kind} file",
            "It is damaged: make it again." if proves_damage(error) else "Check the file.",
        ) from error
    complete = f"a complete {kind} file"
    damaged = complete, "It is damaged: make it again."
    with file:
        try:
            require_own_contents(path, h5g.open(file.id, b"/"))
            check(file)
            whole = file.attrs.get(DIGEST) == _digest(file)
        except SDAError:
            raise
        except Exception as error:  # whatever HDF5 makes of it
            raise StorageError(str(path), f"{error}", *damaged) from error
        if not whole:
            found, remedy = "contents other than it was written with", "It is damaged or was edited"
            raise StorageError(str(path), found, complete, f"{remedy}: make it again.")
        try:
            yield file
        except SDAError:
            raise
        except (KeyError, OSError, TypeError, ValueError) as error:
            if proves_damage(error):
                raise StorageError(str(path), f"{error}", *damaged) from error
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the system, and maybe of another file
            found, usable = f"{type(error).__name__}: {error}", f"the contents of a {kind} file"
            raise StorageError(str(path), found, usable, "Make the file again.") from error


def read_all(file: h5py.File) -> None:
    """Reads all data sets that have checksums of their own, which HDF5 verifies.

    Raises:
        OSError: One of them is wrong.
    """

    def read(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if not (isinstance(item, h5py.Dataset) and item.fletcher32):
            return
        (rows, columns, *rest), (row, column, *_) = item.shape, item.chunks
        size = item.dtype.itemsize * int(np.prod(rest))
        wide = min(columns, max(column, READ_BYTES // (size * row) // column * column))
        high = max(row, READ_BYTES // (size * wide) // row * row)
        for a in range(0, rows, high):
            for b in range(0, columns, wide):
                item[a : a + high, b : b + wide]

    file.visititems(read)


def _check_header(path: Path, file: h5py.File, kind: str) -> None:
    attributes = {n: str(file.attrs.get(n)) for n in ("format", "kind", "format_version")}
    if (attributes["format"], attributes["kind"]) != (FORMAT, kind):
        found = f"format {attributes['format']}, kind {attributes['kind']}"
        expected = f"format {FORMAT}, kind {kind}"
        raise StorageError(str(path), found, expected, "Name another file.")
    if attributes["format_version"] != str(HDF5_VERSION):
        raise StorageError(
            str(path),
            f"format version {attributes['format_version']}",
            f"version {HDF5_VERSION}",
            "Make the file again with this version of sda_jax.",
        )
