"""Opening NetCDF, HDF5 and Zarr."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr
from h5py import h5g

from sda_jax.core._errors import StorageError
from sda_jax.core._requirements import require_path
from sda_jax.data._codecs import read_metadata, require_codecs
from sda_jax.data._conventions import with_texts
from sda_jax.data._netcdf3 import require_length, with_own_texts
from sda_jax.data._time_coordinates import has_other_dates
from sda_jax.data._unreadable import reading
from sda_jax.runtime._own_contents import require_own_contents

FORMS = "NetCDF, HDF5 or Zarr"


def open_dataset(path: str | Path, group: str | None = None) -> xr.Dataset:
    """A NetCDF, HDF5 or Zarr file, lazily read, its times in microseconds or dates of `cftime`.

    Raises:
        StorageError: There is no such file, it is of another kind or damaged, reads other files,
            or has a filter that is not read.
    """
    path = require_path("path", path)
    if not path.exists():
        raise StorageError(str(path), "no such file", f"a {FORMS} file", "Check it.")
    with reading(path, group):
        options = _of_file(path, group) if path.is_file() else _of_store(path, group)
        if group is not None:
            options["group"] = group
        dataset = _opened(path, xr.coders.CFDatetimeCoder(time_unit="us"), options)
        if any(map(has_other_dates, dataset.variables.values())):
            dataset.close()
            dataset = _opened(path, xr.coders.CFDatetimeCoder(use_cftime=True), options)
        _require_times(path, dataset, options)
        if path.is_dir() and not options["consolidated"]:
            _require_arrays(path / (group or ""), dataset)
        if options["engine"] == "scipy":
            dataset = with_own_texts(dataset, require_length(path))
        return with_texts(dataset)


def _opened(path: Path, times: Any, options: dict[str, Any]) -> xr.Dataset:
    return xr.open_dataset(path, decode_times=times, decode_timedelta=False, cache=False, **options)


def _is_array(folder: Path) -> bool:
    """Whether a folder of a Zarr store has the metadata of an array, whole or not."""
    third = (folder / "zarr.json").is_file()
    third = third and read_metadata(folder, "zarr.json").get("node_type") != "group"
    return third or (folder / ".zarray").is_file()


def _require_arrays(store: Path, dataset: xr.Dataset) -> None:
    """Raises if a folder of a Zarr store has the metadata of an array and none was found in it:
    xarray would leave it out without a word."""
    for folder in (p for p in store.iterdir() if p.is_dir() and p.name not in dataset.variables):
        if _is_array(folder):
            raise StorageError(
                str(folder), "metadata of no array", "those of one", "It is damaged: make it again."
            )


def _require_times(path: Path, dataset: xr.Dataset, options: dict[str, Any]) -> None:
    """Raises if a coordinate with dates of `cftime` misses some: xarray would make up others."""
    dated = [n for n, x in dataset.indexes.items() if isinstance(x, xr.CFTimeIndex)]
    if not dated:
        return
    with _opened(path, False, options) as numbers:
        for name in dated:
            missing = np.isnan(numbers[name].values)
            if missing.any():
                raise StorageError(
                    f"{path}, {name}",
                    f"no time at index {int(np.argmax(missing))}",
                    "a time for every state",
                    "Remove the state or give its time.",
                )


def _of_file(path: Path, group: str | None) -> dict[str, Any]:
    """How a file is read."""
    if h5py.is_hdf5(path):
        with h5py.File(path) as file:  # h5netcdf would complain of it once more when it is deleted
            require_own_contents(path, h5g.open(file.id, b"/"))
            file.attrs.get("_nc3_strict")
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
    require_length(path)
    return {"engine": "scipy"}


def _of_store(path: Path, group: str | None) -> dict[str, Any]:
    """How a Zarr store is read; whether it keeps a copy of all its metadata in one place."""
    require_codecs(path)
    known = read_metadata(path / (group or ""), "zarr.json").get("consolidated_metadata")
    consolidated = bool(known) or (path / ".zmetadata").exists()
    return {"engine": "zarr", "chunks": None, "consolidated": consolidated}


def groups_of(path: str | Path) -> list[str]:
    """The groups with arrays in a file or store that may have some."""
    path, found = Path(path), set()
    if path.is_dir():
        for name in ("zarr.json", ".zarray"):
            folders = (p.parent for p in path.rglob(name))
            found |= {str(p.parent.relative_to(path)) for p in folders if _is_array(p)}
    elif h5py.is_hdf5(path):

        def note(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Dataset):
                found.add(name.rpartition("/")[0])

        with h5py.File(path) as file:
            file.visititems(note)
    return sorted(found - {"", "."})
