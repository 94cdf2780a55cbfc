"""Observations on a grid, in NetCDF, HDF5 or Zarr."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from sda_jax.core._errors import ObservationError, StorageError, require_choice
from sda_jax.core._numbers import real_array
from sda_jax.data._archive import require_rising
from sda_jax.data._layout import Channel, Layout
from sda_jax.data._opening import open_dataset
from sda_jax.data._times import time_numbers
from sda_jax.observations._interpolation import METHODS
from sda_jax.observations._rows import Rows
from sda_jax.runtime._memory import require_room

ROW = 8  # bytes of a number of a row


@dataclass(frozen=True)
class Gridded:
    """A NetCDF, HDF5 or Zarr file with the prior's variables on any grid, NaN where nothing was
    seen.

    Attributes:
        path: The file.
        std: Of the noise where the file has no variable `<name>_std`: a number; or one for each
            variable by name, in place of what the file says.
        group: Inside the file.
        method: "linear" or "nearest" interpolation of the states.
    """

    path: str
    std: Any = None
    group: str | None = None
    method: str = "linear"

    def __post_init__(self) -> None:
        require_choice("method", self.method, METHODS)


def read_grid(source: Gridded, layout: Layout, start: float, length: int) -> Rows:
    """The values of the prior's variables around the trajectory's times, as rows.

    Raises:
        StorageError: A coordinate or all variables are missing.
        ObservationError: Units or calendars differ, or the noise is not known.
    """
    with open_dataset(source.path, source.group) as dataset:
        names = _variables(source, layout, dataset)
        times = _times(source, layout, dataset)
        near = _near(source, layout, times, start, length)
        unread = len(times) - len(near)
        times = times[near]
        dataset = dataset.isel({layout.time: near})
        sizes = [len(near), len(names), *(dataset.sizes.get(axis.name, 1) for axis in layout.axes)]
        rows = math.prod(sizes)
        size = ROW * (len(layout.axes) + 4) * rows
        require_room(f"{source.path}: a grid of {rows} values", size, "Take a part of it.")
        parts = [
            (i, *_values(source, layout, dataset, channel))
            for i, channel in enumerate(layout.channels)
            if channel.name in names
        ]
        grid = [np.asarray(dataset.coords[axis.name].values, float) for axis in layout.axes]
    shape = parts[0][1].shape
    places = np.meshgrid(times, *grid, indexing="ij")
    values = np.concatenate([v.ravel() for _, v, _ in parts])
    std = np.concatenate([s.ravel() for _, _, s in parts])
    seen = ~np.isnan(values)
    if not (np.isfinite(std[seen]) & (std[seen] > 0)).all() or np.isinf(values).any():
        raise ObservationError(
            source.path, "infinite values, or noise that is not positive and finite",
            "finite values with a positive std", "Correct the file.",
        )  # fmt: skip
    size = int(np.prod(shape))

    def where(row: int) -> str:
        index = np.unravel_index(row % size, shape)
        return f"{names[0] if len(names) == 1 else 'index'} {tuple(map(int, index))}"

    return Rows(
        np.tile(places[0].ravel(), len(parts)),
        [np.tile(p.ravel(), len(parts)) for p in places[1:]],
        np.repeat([i for i, _, _ in parts], size),
        values,
        np.where(seen, std, 1.0),
        where,
        f"{unread} of {unread + len(near)} times far from the trajectory's" if unread else "",
    )


def _variables(source: Gridded, layout: Layout, dataset: xr.Dataset) -> list[str]:
    """The prior's variables that are there, and its coordinates must be."""
    for name in (layout.time, *(axis.name for axis in layout.axes)):
        if name not in dataset.coords:
            raise StorageError(
                source.path,
                f"coordinates {', '.join(map(str, dataset.coords)) or 'none'}",
                f"{name}, as the prior's states have it",
                "Rename the coordinate in the file, or add it.",
            )
    wanted = list(dict.fromkeys(c.name for c in layout.channels))
    names = [v for v in wanted if v in dataset.data_vars]
    if not names:
        raise StorageError(
            source.path,
            f"the variables {', '.join(map(str, dataset.data_vars)) or 'none'}",
            f"one of {', '.join(wanted)}",
            "Rename the variable in the file.",
        )
    return names


def _times(source: Gridded, layout: Layout, dataset: xr.Dataset) -> Float[np.ndarray, " times"]:
    """The file's times, in the prior's calendar."""
    times, calendar, units = time_numbers(source.path, dataset.coords[layout.time])
    if (calendar, units) != (layout.calendar, layout.time_units):
        raise ObservationError(
            f"{source.path}, {layout.time}",
            f"times of the calendar {calendar}" if calendar else f"times in {units!r}",
            f"{layout.calendar or layout.time_units!r}, as the prior's",
            "Convert the times.",
        )
    require_rising(source.path, layout.time, times, layout)
    return times


def _near(
    source: Gridded, layout: Layout, times: np.ndarray, start: float, length: int
) -> Int[np.ndarray, " near"]:
    """The indices of times that lie less than a state's step from the trajectory."""
    places = layout.places(times, start, length)
    near = np.flatnonzero((places > -1) & (places < length))
    if not len(near):
        raise ObservationError(
            f"{source.path}, {layout.time}",
            f"{layout.written(float(times[0]))} to {layout.written(float(times[-1]))}",
            "times of the trajectory asked for",
            "Check --start and --end.",
        )
    return near


def _values(
    source: Gridded, layout: Layout, dataset: xr.Dataset, channel: Channel
) -> tuple[np.ndarray, np.ndarray]:
    """A channel's values and their noise, along time and space."""
    x = dataset[channel.name]
    units = str(x.attrs.get("units", ""))
    if units and channel.units and units != channel.units:
        raise ObservationError(
            f"{source.path}, {channel.name}",
            f"units {units!r}",
            f"{channel.units!r}, as the prior's",
            "Convert the values.",
        )
    try:
        x = x.sel(dict(channel.at))
        noise = _noise(source, dataset, channel.name)
        noise = noise if np.ndim(noise) == 0 else noise.sel(dict(channel.at))
    except KeyError as error:
        raise StorageError(
            f"{source.path}, {channel.name}", f"no {error}", f"{channel.label}", "Add it."
        ) from error
    dims = (layout.time, *(axis.name for axis in layout.axes))
    if set(x.dims) != set(dims):
        raise StorageError(
            f"{source.path}, {channel.name}", f"dimensions {x.dims}", f"{dims}",
            "Give the variable along these alone.",
        )  # fmt: skip
    if np.ndim(noise):
        noise = noise.broadcast_like(x).transpose(*dims)
    where = f"{source.path}, {channel.name}"
    values, std = (
        np.asarray(real_array(where, numbers, ObservationError, np.float64))
        for numbers in (x.transpose(*dims), noise)
    )
    return values, np.broadcast_to(std, values.shape)


def _noise(source: Gridded, dataset: xr.Dataset, name: str) -> Any:
    """The noise of a variable: a number, or what the file says."""
    if isinstance(source.std, dict) and name in source.std:
        return float(source.std[name])
    if f"{name}_std" in dataset:
        return dataset[f"{name}_std"]
    if isinstance(source.std, (int, float)):
        return float(source.std)
    raise ObservationError(
        f"{source.path}, {name}",
        "no std",
        f"the noise of every value: a number, or a variable {name}_std",
        "Give --std.",
    )
