"""Posteriors as CF files, NetCDF or Zarr, written member by member."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5netcdf
import h5py
import numpy as np
import xarray as xr
import zarr
from jaxtyping import Float

from sda_jax.core._errors import ConfigError, StorageError
from sda_jax.data._layout import Layout
from sda_jax.posterior._cf import FILL, MEMBER, to_xarray
from sda_jax.posterior._sealing import seal_store
from sda_jax.runtime._hdf5 import hdf5_target, seal
from sda_jax.runtime._versions import versions

ZARR, NETCDF = ".zarr", (".nc", ".nc4", ".cdf")
HDF5 = {"libver": "v110", "track_order": True}  # checksums of its bookkeeping; NetCDF's order
BLOCK = 64  # states of a member that lie together in a file


def provenance(prior: str, config: str, seed: int, **more: str) -> dict[str, str]:
    """The attributes that say where a posterior comes from."""
    return {
        "title": "posterior ensemble of score-based data assimilation",
        "source": ", ".join(f"{name} {number}" for name, number in versions().items()),
        "references": "Rozet & Louppe (2023), Score-based Data Assimilation, arXiv:2306.10574",
        "sda_prior": prior,
        "sda_config": config,
        "sda_seed": str(seed),
        **more,
    }


def require_format(path: str | Path) -> Path:
    """The path, whose suffix says NetCDF or Zarr.

    Raises:
        ConfigError: It says neither.
    """
    path = Path(path)
    if path.suffix not in (ZARR, *NETCDF):
        raise ConfigError("path", path, f"a name that ends in {ZARR} or {NETCDF[0]}", "Rename it.")
    return path


def write_posterior(
    path: str | Path,
    members: Iterable[Float[np.ndarray, " length *state"]],
    count: int,
    layout: Layout,
    start: float,
    attributes: dict[str, str] | None = None,
) -> Path:
    """Writes an ensemble, one member in memory at a time; the file appears when it is whole.

    Args:
        path: Ends in `.nc` or `.zarr`.
        members: Trajectories in physical units.
        count: How many.
        layout, start, attributes: See `to_xarray`.

    Raises:
        ConfigError: Another suffix.
        StorageError: It cannot be written.
    """
    path = require_format(path)
    each = (
        to_xarray(np.asarray(member)[None], layout, start, attributes).assign_coords(
            {
                MEMBER: (
                    MEMBER,
                    np.array([i], np.int32),
                    {"standard_name": "realization", "units": "1"},
                )
            }
        )
        for i, member in enumerate(members)
    )
    return _write_zarr(path, each) if path.suffix == ZARR else _write_netcdf(path, each, count)


def _write_netcdf(path: Path, each: Iterable[xr.Dataset], count: int) -> Path:
    with hdf5_target(path) as disk, h5py.File(disk, "w", **HDF5) as hdf5:
        with h5netcdf.File(hdf5, "w") as file:
            for i, dataset in enumerate(each):
                if i == 0:
                    _begin_netcdf(file, dataset, count)
                for name, variable in dataset.data_vars.items():
                    values = variable.values[:, 0]
                    file.variables[str(name)][:, i] = np.where(np.isnan(values), FILL, values)
        if disk.failure is None:
            seal(hdf5)
    return path


def write_summary(path: Path, summary: xr.Dataset) -> None:
    """Writes what `summarise` makes as NetCDF, whole or not at all.

    Raises:
        StorageError: It cannot be written.
    """
    with hdf5_target(path) as disk:
        summary.to_netcdf(disk, engine="h5netcdf")


def _begin_netcdf(file: h5netcdf.File, first: xr.Dataset, count: int) -> None:
    """Everything but the members."""
    # "no fill value" for coordinates, where xarray would declare NaN
    plain = first.copy()
    for name in plain.coords:
        plain[name].encoding.setdefault("_FillValue", None)
    variables, attributes = xr.conventions.cf_encoder(plain.variables, plain.attrs)
    file.dimensions = {str(d): n for d, n in first.sizes.items()} | {MEMBER: count}
    file.attrs.update(_characters(attributes))
    for name, variable in variables.items():
        attrs = dict(variable.attrs)
        fill = attrs.pop("_FillValue", None)
        layout: dict[str, Any] = {}
        if MEMBER in variable.dims[1:]:
            blocks = (min(variable.shape[0], BLOCK), 1, *variable.shape[2:])
            layout = {"chunks": blocks, "fletcher32": True}
        text = variable.dtype.kind in "OU"
        dtype = h5py.string_dtype() if text else variable.dtype
        made = file.create_variable(str(name), variable.dims, dtype, fillvalue=fill, **layout)
        made.attrs.update(_characters(attrs))
        if MEMBER not in variable.dims:
            made[:] = variable.values.astype(object) if text else variable.values
    file.variables[MEMBER][:] = np.arange(count)


def _characters(attributes: dict[str, Any]) -> dict[str, Any]:
    """Texts as characters of UTF-8, which tools older than NetCDF's strings read too."""
    return {
        key: _of_bytes(value.encode("utf-8", "surrogateescape"))
        if isinstance(value, str) and value
        else value
        for key, value in attributes.items()
    }


def _of_bytes(text: bytes) -> np.ndarray:
    kind = "ascii" if text.isascii() else "utf-8"
    return np.array(text, h5py.string_dtype(kind, len(text)))


def _write_zarr(path: Path, each: Iterable[xr.Dataset]) -> Path:
    temporary = path.with_name(path.name + ".partial")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        for i, dataset in enumerate(each):
            if i == 0:
                dataset.to_zarr(temporary, mode="w", consolidated=False, zarr_format=2)
            else:
                dataset.to_zarr(temporary, append_dim=MEMBER, consolidated=False)
        zarr.consolidate_metadata(str(temporary))
        seal_store(temporary)
        shutil.rmtree(path, ignore_errors=True)
        temporary.rename(path)
    except OSError as error:
        raise StorageError(
            str(path),
            f"{error}",
            "a folder that can be written, with room",
            "Check the folder's permissions and space, then run again.",
        ) from error
    finally:
        _discard(temporary)
    return path


def _discard(store: Path) -> None:
    """Removes a store to which, after an error, other threads of Zarr may still be writing."""
    for _ in range(100):
        if not store.exists():
            return
        shutil.rmtree(store, ignore_errors=True)
        time.sleep(0.05)
