"""Posteriors of a user's own states as CF data sets: NetCDF or Zarr, written member by member."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5netcdf
import h5py
import numpy as np
import xarray as xr
import zarr
from jaxtyping import Float

from sda_jax.core._errors import ConfigError, StorageError
from sda_jax.data._layout import Axis, Layout
from sda_jax.data._times import EPOCH
from sda_jax.runtime._files import atomic
from sda_jax.runtime._versions import versions

FILL = np.float32(9.969209968386869e36)  # netCDF's own for missing numbers
MEMBER = "member"
ZARR, NETCDF = ".zarr", (".nc", ".nc4", ".cdf")
STATES = 64  # of all members that are held at once for statistics


def to_xarray(
    ensemble: Float[np.ndarray, "member length *state"],
    layout: Layout,
    start: float,
    attributes: dict[str, str] | None = None,
) -> xr.Dataset:
    """An ensemble with names, coordinates and units, by CF conventions.

    Args:
        ensemble: In physical units.
        layout: Of its states.
        start: Time of the first state, as the layout's number.
        attributes: Of the whole data set: where it comes from.

    Returns:
        Dimensions time, `member`, those that became channels, space, for CDO wants time first;
        NaN under the mask.
    """
    ensemble = np.where(layout.valid, np.asarray(ensemble, np.float32), np.float32(np.nan))
    members, length = ensemble.shape[:2]
    coordinates = {
        MEMBER: xr.Variable(
            (MEMBER,),
            np.arange(members, dtype=np.int32),
            {"standard_name": "realization", "units": "1"},
        ),
        layout.time: _times(layout, start, length),
    }
    for axis in layout.axes:
        coordinates[axis.name] = xr.Variable((axis.name,), np.array(axis.coordinates), _said(axis))
    variables = {}
    space = tuple(axis.name for axis in layout.axes)
    for name in dict.fromkeys(channel.name for channel in layout.channels):
        own = [i for i, c in enumerate(layout.channels) if c.name == name]
        first = layout.channels[own[0]]
        stacked = [d for d, _ in first.at]
        labels = [
            list(dict.fromkeys(layout.channels[i].at[k][1] for i in own))
            for k in range(len(stacked))
        ]
        for d, found in zip(stacked, labels, strict=True):
            coordinates[d] = xr.Variable((d,), np.array(found))
        values = ensemble[..., own].reshape(*ensemble.shape[:-1], *map(len, labels))
        values = np.moveaxis(values, range(2 + len(space), values.ndim), range(2, 2 + len(stacked)))
        attrs = {
            key: value
            for key in ("units", "long_name", "standard_name")
            if (value := getattr(first, key))
        }
        dims = (layout.time, MEMBER, *stacked, *space)
        variable = xr.Variable(dims, np.swapaxes(values, 0, 1), attrs)
        variable.encoding = {"_FillValue": FILL, "dtype": "float32"}
        variables[name] = variable
    said = {"Conventions": "CF-1.11", **(attributes or {})}
    return xr.Dataset(variables, coordinates, said)


def from_xarray(dataset: xr.Dataset, layout: Layout) -> Float[np.ndarray, "*lead state"]:
    """The arrays of a data set with a layout's variables: an ensemble or a single trajectory.

    Raises:
        StorageError: A variable is missing, or its dimensions are not the layout's.
    """
    space = [axis.name for axis in layout.axes]
    lead = [MEMBER] if MEMBER in dataset.dims else []
    channels = []
    for channel in layout.channels:
        try:
            x = dataset[channel.name].sel(dict(channel.at))
            values = x.transpose(*lead, layout.time, *space).values
        except (KeyError, ValueError) as error:
            raise StorageError(
                channel.label,
                f"{error}".strip("'\""),
                f"{channel.label} along {', '.join([*lead, layout.time, *space])}",
                "Give a file with the prior's variables.",
            ) from error
        channels.append(np.asarray(values, np.float32))
    return np.stack(channels, axis=-1)


def _times(layout: Layout, start: float, length: int) -> xr.Variable:
    numbers = layout.times(start, length)
    if layout.calendar is None:
        attrs = {"units": layout.time_units} if layout.time_units else {}
        return xr.Variable((layout.time,), numbers, attrs)
    variable = xr.Variable(
        (layout.time,), layout.dates(numbers), {"standard_name": "time", "axis": "T"}
    )
    variable.encoding = {"units": EPOCH, "calendar": layout.calendar, "dtype": "float64"}
    return variable


def _said(axis: Axis) -> dict[str, str]:
    said = {"units": axis.units, "standard_name": axis.standard_name}
    for letter, hints in (("Y", ("north", "latitude", "_y_")), ("X", ("east", "longitude", "_x_"))):
        if any(hint in axis.units or hint in axis.standard_name for hint in hints):
            said["axis"] = letter
    return {key: value for key, value in said.items() if value}


def provenance(prior: str, config: str, seed: int, **more: str) -> dict[str, str]:
    """The attributes that say where a posterior comes from."""
    found = ", ".join(f"{name} {number}" for name, number in versions().items())
    return {
        "title": "posterior ensemble of score-based data assimilation",
        "source": found,
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
    with atomic(path) as temporary, h5netcdf.File(temporary, "w") as file:
        for i, dataset in enumerate(each):
            if i == 0:
                _begin_netcdf(file, dataset, count)
            for name, variable in dataset.data_vars.items():
                values = variable.values[:, 0]
                file.variables[str(name)][:, i] = np.where(np.isnan(values), FILL, values)
    return path


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
        blocks = None
        if MEMBER in variable.dims[1:]:
            blocks = (min(variable.shape[0], STATES), 1, *variable.shape[2:])
        text = variable.dtype.kind in "OU"
        dtype = h5py.string_dtype() if text else variable.dtype
        made = file.create_variable(str(name), variable.dims, dtype, fillvalue=fill, chunks=blocks)
        made.attrs.update(_characters(attrs))
        if MEMBER not in variable.dims:
            made[:] = variable.values.astype(object) if text else variable.values
    file.variables[MEMBER][:] = np.arange(count)


def _characters(attributes: dict[str, Any]) -> dict[str, Any]:
    """Texts as characters, which tools older than NetCDF's strings read too."""
    return {
        key: np.bytes_(value.encode()) if isinstance(value, str) and value else value
        for key, value in attributes.items()
    }


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
        shutil.rmtree(path, ignore_errors=True)
        temporary.rename(path)
    except OSError as error:
        raise StorageError(
            str(path), f"{error}", "a folder that can be written, with room", "Free some space."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


def summarise(dataset: xr.Dataset, quantiles: Sequence[float] = (0.05, 0.5, 0.95)) -> xr.Dataset:
    """Mean, spread and quantiles over the members of a posterior, a few states in memory at a time.

    Args:
        dataset: As `write_posterior` writes it, with a dimension `member`.
        quantiles: Between 0 and 1; none for none.

    Returns:
        `<name>_mean`, `<name>_spread` (standard deviation with n - 1) and `<name>_quantile`.

    Raises:
        ConfigError: No members, or impossible quantiles.
    """
    if MEMBER not in dataset.dims:
        raise ConfigError(
            "dataset", f"dimensions {tuple(dataset.dims)}", MEMBER, "Open a posterior file."
        )
    if not all(0 <= q <= 1 for q in quantiles):
        raise ConfigError("quantiles", tuple(quantiles), "numbers from 0 to 1", "Correct them.")
    time = dataset[next(iter(dataset.data_vars))].dims[0]
    blocks = []
    for first in range(0, dataset.sizes[time], STATES):
        part = dataset.isel({time: slice(first, first + STATES)}).load()
        found = {}
        for name, x in part.data_vars.items():
            found[f"{name}_mean"] = x.mean(MEMBER, keep_attrs=True)
            found[f"{name}_spread"] = x.std(MEMBER, ddof=1, keep_attrs=True)
            if quantiles:
                found[f"{name}_quantile"] = x.quantile(
                    list(quantiles), MEMBER, keep_attrs=True, skipna=False
                )
        blocks.append(xr.Dataset(found))
    return xr.concat(
        blocks, dim=time, data_vars="minimal", coords="minimal", compat="override", join="override"
    ).assign_attrs(dataset.attrs)
