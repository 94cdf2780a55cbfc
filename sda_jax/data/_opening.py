"""Opening NetCDF, HDF5 and Zarr."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import xarray as xr

from sda_jax.core._errors import StorageError
from sda_jax.data._conventions import with_texts
from sda_jax.data._unreadable import unreadable

FORMS = "NetCDF, HDF5 or Zarr"


def open_dataset(path: str | Path, group: str | None = None) -> xr.Dataset:
    """A NetCDF, HDF5 or Zarr file, lazily read, its times in microseconds or dates of `cftime`.

    Raises:
        StorageError: There is no such file, or it is of another kind or damaged.
    """
    path = Path(path)
    if not path.exists():
        raise StorageError(str(path), "no such file", f"a {FORMS} file", "Check it.")
    try:
        options = _of_file(path, group) if path.is_file() else _of_store(path, group)
        if group is not None:
            options["group"] = group
        return with_texts(
            xr.open_dataset(
                path,
                decode_times=xr.coders.CFDatetimeCoder(time_unit="us"),
                decode_timedelta=False,
                cache=False,
                **options,
            )
        )
    except StorageError:
        raise
    except Exception as error:  # whatever the readers make of it
        raise unreadable(path, error, group) from error


def _of_file(path: Path, group: str | None) -> dict[str, Any]:
    """How a file is read."""
    if h5py.is_hdf5(path):
        return {"engine": "h5netcdf", "phony_dims": "sort"}
    with open(path, "rb") as file:
        head = file.read(4)
    if head == b"CDF\x05":
        raise StorageError(
            str(path), "NetCDF in the format CDF-5", FORMS + " of another format",
            "Convert it: nccopy -k nc4 FILE NEW.",
        )  # fmt: skip
    if head[:3] != b"CDF":
        raise StorageError(str(path), f"a file that begins with {head!r}", FORMS, "Convert it.")
    if group is not None:
        raise StorageError(
            str(path), f"a group {group}", "none: NetCDF 3 has no groups", "Leave the group out."
        )
    return {"engine": "scipy"}


def _of_store(path: Path, group: str | None) -> dict[str, Any]:
    """How a Zarr store is read; whether it keeps a copy of all its metadata in one place."""
    third = path / (group or "") / "zarr.json"
    consolidated = (path / ".zmetadata").exists()
    if third.is_file():
        known = json.loads(third.read_text(encoding="utf-8"))
        consolidated = isinstance(known, dict) and bool(known.get("consolidated_metadata"))
    return {"engine": "zarr", "chunks": None, "consolidated": consolidated}
