"""Rows of an array that come block by block, each process keeping its own share, until all are
there and one file takes them."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sda_jax.core._errors import StorageError
from sda_jax.runtime._claims import abandon, claim, clear
from sda_jax.runtime._files import atomic, write_text
from sda_jax.runtime._hdf5 import read_all, read_hdf5
from sda_jax.runtime._processes import on_process_zero, together

PART = re.compile(r"(\d+)-(\d+)-([0-9a-f]{8})\.npy")  # first row and column in it, checksum
BLOCK = re.compile(r"(\d{8,})-(\d{8,})")
NOTE = re.compile(r"note-([0-9a-f]{8})\.json")


class Parts:
    """The folder `<path>.parts`, with a folder for every finished block of rows.

    A part says in its name which rows and columns it holds, with a checksum of them and of their
    place, so that what is lost, changed or in another's place is noticed.

    Args:
        path: The file that is to be.
        description: What it is to hold, as JSON.
        shape: Of the array, `(rows, columns, ...)`.

    Raises:
        StorageError: The folder has parts of something else, another run is at work on it, or it
            cannot be written.
    """

    def __init__(self, path: str | Path, description: str, shape: tuple[int, ...]):
        self.path, self.shape = Path(path), shape
        self.folder = parts_folder(self.path)
        claim(self.folder, description, "path")

    def has(self, first: int, last: int) -> bool:
        """Whether rows `first ... last` are finished.

        Raises:
            StorageError: They were, and are damaged or not all there any more.
        """

        def verified() -> bool:
            if not self._block(first, last).is_dir():
                return False
            for _ in self._pieces(first, last):
                pass
            self.noted(first, last)
            return True

        return bool(on_process_zero(verified))

    def write(self, first: int, last: int, x: jax.Array, note: Any = None) -> None:
        """Keeps `x`, whose rows from 0 are rows `first ... last`, and perhaps more to be left out;
        every process writes what it has of it.

        Args:
            first, last: The block.
            x: Its rows.
            note: What is to be said of the block, as JSON.
        """
        block = self._block(first, last)
        partial = block.with_name(block.name + ".partial")

        def share() -> None:
            for shard in x.addressable_shards:
                if shard.replica_id == 0:
                    row, column = (s.start or 0 for s in shard.index[:2])
                    contents = io.BytesIO()
                    np.save(contents, np.asarray(shard.data))
                    data = contents.getbuffer()
                    name = f"{row:08d}-{column:08d}-{_sum(data, first, row, column)}.npy"
                    with atomic(partial / name, every=True) as temporary:
                        temporary.write_bytes(data)

        text = json.dumps(note)
        name = f"note-{_sum(text.encode(), first)}.json"
        on_process_zero(lambda: shutil.rmtree(partial) if partial.exists() else None)
        together(share)
        on_process_zero(lambda: write_text(partial / name, text))
        on_process_zero(lambda: os.replace(partial, block))

    def noted(self, first: int, last: int) -> Any:
        """What `write` was told to note of the block.

        Raises:
            StorageError: It is gone or damaged.
        """
        block = self._block(first, last)
        found = [(p, m) for p in sorted(block.glob("*.json")) if (m := NOTE.fullmatch(p.name))]
        if len(found) != 1:
            raise _damaged(block, f"{len(found)} notes of its rows")
        path, named = found[0]
        text = path.read_bytes()
        if _sum(text, first) != named[1]:
            raise _damaged(path, "contents other than it was written with")
        return json.loads(text)

    def blocks(self, size: int) -> list[tuple[int, int]]:
        """Blocks of all rows: those that are finished, and of what is between them blocks of at
        most `size`, which may be another than where the run began."""
        named = (BLOCK.fullmatch(path.name) for path in self.folder.iterdir())
        done = sorted((int(m[1]), int(m[2])) for m in named if m)
        found, at, rows = [], 0, self.shape[0]
        for first, last in [*done, (rows, rows)]:
            if first >= at:
                found += [(a, min(a + size, first)) for a in range(at, first, size)]
                found += [(first, last)] * (last > first)
                at = last
        return found

    def copy(self, blocks: list[tuple[int, int]], first: int, data: Any) -> None:
        """Copies rows from `first` on into the HDF5 data set `data`, as many as it has.

        Raises:
            StorageError: A part is damaged, or rows are not there exactly once.
        """
        end = first + len(data)
        for low, high in blocks:
            if high <= first or low >= end:
                continue
            for row, column, part in self._pieces(low, high):
                begin, until = max(row, first), min(row + len(part), end)
                if begin < until:
                    columns = slice(column, column + part.shape[1])
                    data[begin - first : until - first, columns] = part[begin - row : until - row]

    def remove(self) -> None:
        """Removes the folder, when the file is there."""
        abandon(self.folder)

    def _block(self, first: int, last: int) -> Path:
        return self.folder / f"{first:08d}-{last:08d}"

    def _pieces(self, low: int, high: int) -> Iterator[tuple[int, int, np.ndarray]]:
        """The parts of a block: first row and column in the whole array, and values; without rows
        that are to be left out.

        Raises:
            StorageError: A part is damaged or, at the end, rows were not there exactly once.
        """
        block = self._block(low, high)
        times = np.zeros((high - low, self.shape[1]), np.uint8)
        for path in sorted(block.glob("*.npy")):
            row, column, part = self._load(path, low)
            part = part[: max(0, high - low - row)]
            times[row : row + len(part), column : column + part.shape[1]] += 1
            yield low + row, column, part
        wrong = np.flatnonzero((times != 1).any(axis=1))
        if len(wrong):
            said = f"row {low + wrong[0]} " + ("twice" if times[wrong[0]].max() > 1 else "missing")
            raise _damaged(block, f"parts with {said}")

    def _load(self, path: Path, low: int) -> tuple[int, int, np.ndarray]:
        named = PART.fullmatch(path.name)
        if named is None:
            raise _damaged(path, "a file that is no part")
        row, column = int(named[1]), int(named[2])
        if _sum(path.read_bytes(), low, row, column) != named[3]:
            raise _damaged(path, "contents other than it was written with")
        return row, column, np.load(path, mmap_mode="r", allow_pickle=False)


def _sum(contents: Any, *place: int) -> str:
    """A checksum of contents and of where they belong."""
    return f"{zlib.crc32(contents, zlib.crc32(str(place).encode())):08x}"


def _damaged(path: Path, found: str) -> StorageError:
    folder = path if path.is_dir() else path.parent
    return StorageError(
        str(path),
        found,
        "whole parts, every row once",
        f"Remove the folder {folder} and run again.",
    )


def parts_folder(path: Path) -> Path:
    """Where the parts of a file are."""
    return path.with_name(path.name + ".parts")


def is_finished(path: Path, kind: str, attribute: str, value: str, name: str) -> bool:
    """Whether a whole file of that kind and with that attribute is there, as the first process sees
    it; parts that were left by who was killed in between are removed.

    Raises:
        StorageError: It is there with another attribute, and so another `name`, or it is damaged.
    """

    def found() -> bool:
        if not path.exists():
            return False
        with read_hdf5(path, kind) as file:
            if file.attrs.get(attribute) != value:
                raise StorageError(
                    str(path), f"another {name}", "this one or no file", "Choose another --output."
                )
            read_all(file)
        clear(parts_folder(path))
        return True

    return bool(on_process_zero(found))
