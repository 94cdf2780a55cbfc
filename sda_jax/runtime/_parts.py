"""Rows of an array that come block by block, each process keeping its own share, until all are
there and one file takes them."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sda_jax.core._errors import StorageError
from sda_jax.runtime._claims import hold, release
from sda_jax.runtime._files import atomic, read_text, write_text
from sda_jax.runtime._hdf5 import read_hdf5
from sda_jax.runtime._processes import on_process_zero, together


class Parts:
    """The folder `<path>.parts`, with a folder for every finished block of rows.

    Args:
        path: The file that is to be.
        description: What it is to hold, as JSON.

    Raises:
        StorageError: The folder has parts of something else, another run is at work on it, or it
            cannot be written.
    """

    def __init__(self, path: str | Path, description: str):
        self.path = Path(path)
        self.folder = self.path.with_name(self.path.name + ".parts")
        on_process_zero(lambda: self._claim(description))

    def _claim(self, description: str) -> None:
        marker = self.folder / "description.json"
        if marker.exists() and read_text(marker) != description:
            raise StorageError(
                str(self.folder),
                "parts of something else",
                "parts of the file that is asked for",
                "Remove the folder, or choose another path.",
            )
        hold(self.folder)
        for left in self.folder.parent.glob(f"{self.path.name}.*.partial"):  # by who was killed
            left.unlink()
        write_text(marker, description)

    def has(self, first: int, last: int) -> bool:
        """Whether rows `first ... last` are finished."""
        return bool(on_process_zero(self._block(first, last).is_dir))

    def note(self, first: int, words: Any) -> None:
        """Keeps what is to be said of the block from row `first` on, as JSON."""
        text = json.dumps(words)
        on_process_zero(lambda: write_text(self.folder / f"{first:08d}.json", text))

    def noted(self, first: int) -> Any:
        """What `note` kept.

        Raises:
            StorageError: It is gone or damaged.
        """
        path = self.folder / f"{first:08d}.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise _damaged(path, f"{error}") from error

    def write(self, first: int, last: int, x: jax.Array) -> None:
        """Keeps `x`, whose rows from 0 are rows `first ... last`, and perhaps more to be left out;
        every process writes what it has of it."""
        block = self._block(first, last)
        partial = block.with_name(block.name + ".partial")

        def share() -> None:
            for shard in x.addressable_shards:
                if shard.replica_id == 0:
                    row, column = (s.start or 0 for s in shard.index[:2])
                    data = np.asarray(shard.data)
                    name = partial / f"{row:08d}-{column:08d}-{_checksum(data):08x}.npy"
                    with atomic(name, every=True) as temporary, open(temporary, "wb") as file:
                        np.save(file, data)

        on_process_zero(lambda: shutil.rmtree(partial) if partial.exists() else None)
        together(share)
        on_process_zero(lambda: os.replace(partial, block))

    def copy(self, blocks: list[tuple[int, int]], first: int, data: Any) -> None:
        """Copies rows from `first` on into the HDF5 data set `data`, as many as it has.

        Raises:
            StorageError: A part is damaged.
        """
        for low, high in blocks:
            for path in sorted(self._block(low, high).glob("*.npy")):
                row, column = map(int, path.stem.split("-")[:2])
                part = _load(path)
                begin = max(low + row, first)
                end = min(low + row + len(part), high, first + len(data))
                if begin < end:
                    rows = part[begin - low - row : end - low - row]
                    columns = slice(column, column + part.shape[1])
                    data[begin - first : end - first, columns] = rows

    def remove(self) -> None:
        """Removes the folder, when the file is there."""
        gone = self.folder.with_name(f"{self.folder.name}.{os.getpid()}.partial")
        os.replace(self.folder, gone)  # before another run can take it
        release(self.folder)
        shutil.rmtree(gone)

    def _block(self, first: int, last: int) -> Path:
        return self.folder / f"{first:08d}-{last:08d}"


def _checksum(data: np.ndarray) -> int:
    return zlib.crc32(data.tobytes())


def _load(path: Path) -> np.ndarray:
    try:
        part = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, f"{error}") from error
    if f"{_checksum(part):08x}" != path.stem.split("-")[2]:
        raise _damaged(path, "contents other than it was written with")
    return part


def _damaged(path: Path, found: str) -> StorageError:
    return StorageError(
        str(path), found, "a whole part", f"Remove the folder {path.parent} and run again."
    )


def is_finished(path: Path, kind: str, attribute: str, value: str, name: str) -> bool:
    """Whether a file of that kind and with that attribute is there, as the first process sees it;
    parts that were left by who was killed in between are removed.

    Raises:
        StorageError: It is there with another attribute, and so another `name`.
    """

    def found() -> bool:
        if not path.exists():
            return False
        with read_hdf5(path, kind) as file:
            if file.attrs.get(attribute) != value:
                raise StorageError(
                    str(path), f"another {name}", "this one or no file", "Choose another --output."
                )
        folder = path.with_name(path.name + ".parts")
        for left in (folder, *path.parent.glob(f"{folder.name}.*.partial")):
            if left.exists():
                shutil.rmtree(left)
        return True

    return bool(on_process_zero(found))


def blocks(rows: int, size: int) -> list[tuple[int, int]]:
    """Rows `0 ... rows` in blocks of `size`, the last as long as is left."""
    return [(a, min(a + size, rows)) for a in range(0, rows, size)]
