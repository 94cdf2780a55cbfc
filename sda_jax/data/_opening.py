"""Opening NetCDF, HDF5 and Zarr."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import xarray as xr
from h5py import h5g

from sda_jax.core._errors import SDAError, StorageError
from sda_jax.data._codecs import require_codecs
from sda_jax.data._text import with_whole_texts
from sda_jax.runtime._own_contents import require_own_contents


def open_dataset(path: str | Path, group: str | None = None) -> xr.Dataset:
    """A NetCDF, HDF5 or Zarr file, lazily read.

    Raises:
        StorageError: There is no such file, it is of another kind or damaged, reads other files,
            or has a filter that is not read.
    """
    path = Path(path)
    if not path.exists():
        raise StorageError(str(path), "no such file", "a NetCDF, HDF5 or Zarr file", "Check it.")
    options: dict[str, Any] = {
        "engine": "zarr",
        "chunks": None,
        "consolidated": _is_consolidated(path),
    }
    if path.is_file():
        with open(path, "rb") as file:
            head = file.read(4)
        if head == b"\x89HDF":
            options = {"engine": "h5netcdf", "phony_dims": "sort"}
        elif head[:3] == b"CDF" and group is None:
            options = {"engine": "scipy"}
        else:
            raise StorageError(
                str(path),
                f"a file that begins with {head!r}",
                "NetCDF, HDF5 or Zarr",
                "Convert it.",
            )
    if group is not None:
        options["group"] = group
    try:
        if options["engine"] == "zarr":
            require_codecs(path)
        elif options["engine"] == "h5netcdf":
            with h5py.File(path) as file:
                require_own_contents(path, h5g.open(file.id, b"/"))
        opened = xr.open_dataset(path, decode_timedelta=False, cache=False, **options)
        return with_whole_texts(opened)
    except SDAError:
        raise
    except Exception as error:
        raise StorageError(
            str(path),
            f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
            "a whole NetCDF, HDF5 or Zarr file" + (f" with a group {group}" if group else ""),
            "Check the file and its groups.",
        ) from error


def _is_consolidated(store: Path) -> bool:
    """Whether a Zarr store keeps a copy of all its metadata in one place."""
    third = store / "zarr.json"
    return (store / ".zmetadata").exists() or (
        third.is_file()
        and "consolidated_metadata" in third.read_text(encoding="utf-8", errors="replace")
    )
