"""Global heaps of HDF5 files: texts and references of variable length lie there, without checksums,
and HDF5 2.0 reads for ever in one whose entries do not follow each other."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path

from h5py import h5d

from sda_jax.core._errors import StorageError

SIGNATURE = b"GCOL\x01\x00\x00\x00"
SMALLEST = 4096  # bytes of a heap
HEAD = 16  # bytes of a heap's own head, and of that of each entry

Extent = tuple[int, int]  # first byte, and the one after the last


def require_whole_heaps(path: str | Path, arrays: Sequence[h5d.DatasetID]) -> None:
    """Raises unless the entries of every global heap follow each other (HDF5 File Format
    Specification, III.E).

    Args:
        path: The file.
        arrays: All its data sets, whose values are not looked through.

    Raises:
        StorageError: Some do not.
    """
    taken = sorted(extent for array in arrays for extent in _extents(array))
    with (
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as contents,
    ):
        for first, last in _between(taken, len(contents)):
            place = contents.find(SIGNATURE, first, last)
            while place >= 0:
                size = _number(contents, place + 8)
                # another size is that of a heap which is no longer in use
                if SMALLEST <= size <= last - place and not _is_whole(contents, place, size):
                    raise StorageError(
                        str(path),
                        f"a global heap at byte {place} whose entries do not follow each other",
                        "a whole file",
                        "It is damaged: make it again, or copy it with h5repack if others read it.",
                    )
                place = contents.find(SIGNATURE, place + 1, last)


def _extents(array: h5d.DatasetID) -> list[Extent]:
    """Where the values of a data set lie."""
    layout = array.get_create_plist().get_layout()
    if layout == h5d.CONTIGUOUS:
        place = array.get_offset()
        return [] if place is None else [(place, place + array.get_storage_size())]
    found: list[Extent] = []
    if layout == h5d.CHUNKED:
        array.chunk_iter(lambda c: found.append((c.byte_offset, c.byte_offset + c.size)))
    return found


def _between(taken: list[Extent], size: int) -> Iterator[Extent]:
    """What is left of a file, where it is long enough for a heap."""
    at = 0
    for first, last in [*taken, (size, size)]:
        if first - at >= SMALLEST:
            yield at, first
        at = max(at, last)


def _is_whole(contents: mmap.mmap, place: int, size: int) -> bool:
    """Whether the entries of a heap, and the room left in it, lie one after the other."""
    at = HEAD
    while size - at >= HEAD:
        index, length = _number(contents, place + at, 2), _number(contents, place + at + 8)
        step = HEAD + -(-length // 8) * 8 if index else length
        if not 0 < step <= size - at:
            return False
        at += step
    return True


def _number(contents: mmap.mmap, place: int, size: int = 8) -> int:
    return int.from_bytes(contents[place : place + size], "little")
