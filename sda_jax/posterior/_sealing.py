"""Checksums of posterior files, NetCDF and Zarr, by which damage is noticed when they are read."""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path

from sda_jax.core._errors import StorageError
from sda_jax.core._requirements import require_path
from sda_jax.runtime._files import read_json, write_text
from sda_jax.runtime._hdf5 import verify_hdf5

AGAIN = "It is damaged or was edited: make it again."
SUMS = "sda_checksums.json"  # of a Zarr store: of all its other files


def seal_store(store: Path) -> None:
    """Keeps the checksums of all files of a Zarr store in it."""
    write_text(store / SUMS, json.dumps(_sums(store), indent=0))


def verify_posterior(path: str | Path) -> None:
    """Reads a posterior file once, and all of it.

    Raises:
        StorageError: It is not there, it is damaged, or this package did not write it.
    """
    path = require_path("path", path)
    if not path.is_dir():
        verify_hdf5(path, "posterior")
        return
    if not (path / SUMS).is_file():
        raise StorageError(
            str(path),
            f"no {SUMS} in it",
            "a posterior file of sda_jax",
            "Name the file as it was written.",
        )
    try:
        expected, found = read_json(path / SUMS, "checksums", AGAIN), _sums(path)
    except OSError as error:
        raise _damaged(path, f"{error}") from error
    if expected != found:
        wrong = [n for n in sorted({*found, *expected}) if expected.get(n) != found.get(n)]
        raise _damaged(path, f"{len(wrong)} files missing or changed, the first {wrong[0]}")


def _sums(store: Path) -> dict[str, str]:
    """By the names of files below a folder, without those that Zarr does not read."""
    found = {}
    for path in sorted(store.rglob("*")):
        if path.is_file() and path.name != SUMS and not re.match(r"\.(?!z)", path.name):
            found[path.relative_to(store).as_posix()] = f"{zlib.crc32(path.read_bytes()):08x}"
    return found


def _damaged(path: Path, found: str) -> StorageError:
    return StorageError(
        str(path),
        found,
        "a whole posterior, as it was written",
        AGAIN,
    )
