"""The filters of Zarr stores that are read: those of a list, whatever else is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sda_jax.core._errors import StorageError
from sda_jax.runtime._files import read_json

# of numbers and texts; none makes Python objects of other kinds, as "pickle" does
CODECS = frozenset(
    (
        "adler32", "astype", "bitround", "blosc", "bytes", "bz2", "crc32", "crc32c", "delta",
        "endian", "fixedscaleoffset", "fletcher32", "gzip", "jenkins_lookup3", "json2", "lz4",
        "lzma", "packbits", "pcodec", "quantize", "sharding_indexed", "shuffle", "transpose",
        "vlen-bytes", "vlen-utf8", "zfpy", "zlib", "zstd",
    )
)  # fmt: skip
METADATA = (".zarray", ".zmetadata", "zarr.json")
DEPTH = 32  # of groups in groups


def require_codecs(store: Path) -> None:
    """Reads the metadata of a Zarr store, of either version, before Zarr does.

    Raises:
        StorageError: An array has a filter that is not of the list, or metadata are no JSON.
    """
    waiting = [(store, 0)]
    while waiting:
        folder, depth = waiting.pop()
        said = {name: read_metadata(folder, name) for name in METADATA}
        for name, metadata in said.items():
            for codec in _filters(metadata):
                if codec.removeprefix("numcodecs.") not in CODECS:
                    _refuse(folder / name, codec)
        array = said["zarr.json"].get("node_type") == "array" or said[".zarray"]
        group = (folder / ".zgroup").is_file() or not array
        inner = [each for each in folder.iterdir() if group and each.is_dir()]
        if inner and depth == DEPTH:
            raise StorageError(
                str(folder), "groups nested deeper", f"{DEPTH} levels at most", "Flatten the store."
            )
        waiting += [(each, depth + 1) for each in inner]


def read_metadata(folder: Path, name: str) -> dict[str, Any]:
    """What a file of a Zarr store says of a folder in it; nothing if there is no such file.

    Raises:
        StorageError: It is no JSON.
    """
    path, again = folder / name, "It is damaged: make it again."
    if not path.is_file():
        return {}
    return read_json(path, "the metadata of a Zarr store, JSON", again, finite=False)


def _filters(said: Any) -> Iterator[str]:
    """The names of all filters in metadata: of an array of version 2 or 3, of its shards, and of
    the arrays in a consolidated copy."""
    if isinstance(said, list):
        for each in said:
            yield from _filters(each)
    elif isinstance(said, dict):
        of_array = "shape" in said or "chunk_shape" in said  # not names of variables
        for key, value in said.items():
            if of_array and key in ("compressor", "filters"):
                yield from _named(value, "id")
            elif of_array and key in ("codecs", "index_codecs"):
                yield from _named(value, "name")
            if key != "attributes" and not key.endswith(".zattrs"):
                yield from _filters(value)


def _named(value: Any, key: str) -> Iterator[str]:
    for each in value if isinstance(value, list) else [value]:
        if each is not None:
            yield str(each.get(key)) if isinstance(each, dict) else str(each)


def _refuse(path: Path, name: str) -> None:
    raise StorageError(
        str(path),
        f"the filter {name!r}",
        f"one of {', '.join(sorted(CODECS))}",
        "Write the store again with one of these: others are not decoded, and 'pickle' could run "
        "anything.",
    )
