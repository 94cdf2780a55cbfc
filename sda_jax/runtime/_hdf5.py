"""HDF5 files of this package: whole, of a kind and version, and with a hash of their contents."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5g

from sda_jax.core._errors import SDAError, StorageError
from sda_jax.runtime._files import atomic
from sda_jax.runtime._own_contents import require_own_contents
from sda_jax.runtime._versions import FORMAT, FORMAT_VERSION, versions

DIGEST = "digest"


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
    """A float32 data set `(rows, length, ...)` to be filled, with checksums that its readers
    verify."""
    blocks = (1, min(shape[1], 64), *shape[2:])
    return file.create_dataset(name, shape, "float32", chunks=blocks, fletcher32=True)


def _digest(file: h5py.File) -> str:
    """A hash of all attributes and of all data sets that have no checksums of their own."""
    digest = hashlib.sha256()

    def add_value(name: str, value: np.ndarray) -> None:
        text = value.dtype.kind in "OSU"
        digest.update(f"{name}{value.shape}{'text' if text else value.dtype}".encode())
        digest.update(str(value.tolist()).encode() if text else value.tobytes())

    def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
        digest.update(name.encode())
        for key in sorted(item.attrs):
            if key != DIGEST:
                add_value(key, np.asarray(item.attrs[key]))
        if isinstance(item, h5py.Dataset) and item.fletcher32:
            digest.update(f"{item.shape}{item.dtype}".encode())
        elif isinstance(item, h5py.Dataset):
            add_value("", np.asarray(item[()]))

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
            require_own_contents(path, h5g.open(file.id, b"/"))
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
