"""The header of NetCDF 3 files: how long they must be, and what their texts are in bytes.

Format: Unidata, "The NetCDF Classic Format Specification", CDF-1 and CDF-2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

import xarray as xr

from sda_jax.core._errors import StorageError
from sda_jax.data._conventions import as_text

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8}  # of an element: byte, char, short, int, float, double
CHARACTERS = 2
DIMENSIONS, VARIABLES, ATTRIBUTES = 10, 11, 12  # tags of lists
STREAMED = 2**32 - 1  # records that were not counted
T = TypeVar("T")
LOST = "\ufffd"  # what a reader puts in the place of what is no UTF-8


class Header(NamedTuple):
    """What is taken of a header.

    Attributes:
        size: Bytes that the file must have at least.
        texts: Attributes that are texts, by variable; None for those of the file.
    """

    size: int
    texts: dict[str | None, dict[str, bytes]]


def require_length(path: Path) -> Header:
    """The header of a NetCDF 3 file, which is not shorter than it says.

    Raises:
        StorageError: It is, or the header is none.
    """
    length = path.stat().st_size
    with open(path, "rb") as file:
        try:
            header = _header(_Reader(file, length))
        except (EOFError, KeyError, IndexError) as error:
            found = f"a header that says {error}"
            raise _damaged(path, found, "the header of NetCDF 3") from error
    if length < header.size:
        raise _damaged(path, f"{length} bytes", f"{header.size}, as its header says")
    return header


def _damaged(path: Path, found: str, expected: str) -> StorageError:
    return StorageError(str(path), found, expected, "It is damaged: make it again.")


def with_own_texts(dataset: xr.Dataset, header: Header) -> xr.Dataset:
    """The data set with names and attributes as the file has them: its reader takes names as
    Latin-1 and attributes as UTF-8, which either may not be."""
    for name, attributes in header.texts.items():
        holder = dataset if name is None else dataset.variables.get(name)
        for key, value in attributes.items():
            if holder is not None and LOST in str(holder.attrs.get(key, "")):
                holder.attrs[key] = as_text(value)
    names = {n: as_text(str(n).encode("latin-1")) for n in (*dataset.variables, *dataset.sizes)}
    return dataset.rename({old: new for old, new in names.items() if new != old})


class _Reader:
    """Reads the parts of a header one after the other."""

    def __init__(self, file: BinaryIO, length: int):
        self.file, self.left = file, length
        self.place_bytes = 4 if self.take(4)[3] == 1 else 8

    def take(self, size: int) -> bytes:
        self.left -= size
        if self.left < 0:
            raise EOFError("it is longer than the file")
        return self.file.read(size)

    def padded(self, size: int) -> bytes:
        return self.take(-(-size // 4) * 4)[:size]

    def number(self, size: int = 4) -> int:
        return int.from_bytes(self.take(size), "big")

    def name(self) -> str:
        return self.padded(self.number()).decode("latin-1")

    def several(self, tag: int, one: Callable[[], T]) -> list[T]:
        """A list, after its tag and its length; both are 0 of an empty one."""
        found, count = self.number(), self.number()
        if found not in (0, tag) or (count and not found):
            raise KeyError(f"a list of kind {found} where {tag} is expected")
        return [one() for _ in range(count)]


def _header(reader: _Reader) -> Header:
    records = reader.number()
    sizes = [
        size for _, size in reader.several(DIMENSIONS, lambda: (reader.name(), reader.number()))
    ]
    texts: dict[str | None, dict[str, bytes]] = {None: _texts(reader)}
    ends, steps = [0], []

    def variable() -> tuple[str, list[int], dict[str, bytes], int, int]:
        name = reader.name()
        shape = [sizes[reader.number()] for _ in range(reader.number())]
        own, kind = _texts(reader), SIZES[reader.number()]
        reader.number()
        return name, shape, own, kind, reader.number(reader.place_bytes)

    for name, shape, own, kind, begin in reader.several(VARIABLES, variable):
        texts[name] = own
        along_records = bool(shape) and shape[0] == 0
        size = kind * math.prod(shape[along_records:])
        if along_records:
            steps.append((begin, size))
        else:
            ends.append(begin + size)
    step = sum(-(-size // 4) * 4 if len(steps) > 1 else size for _, size in steps)
    if records not in (0, STREAMED):
        ends += [begin + (records - 1) * step + size for begin, size in steps]
    return Header(max(ends), texts)


def _texts(reader: _Reader) -> dict[str, bytes]:
    """The attributes that are texts."""

    def attribute() -> tuple[str, int, bytes]:
        name, kind = reader.name(), reader.number()
        return name, kind, reader.padded(SIZES[kind] * reader.number())

    return {
        name: value
        for name, kind, value in reader.several(ATTRIBUTES, attribute)
        if kind == CHARACTERS
    }
