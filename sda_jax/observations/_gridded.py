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
from sda_jax.data._axes import labels_of
from sda_jax.data._conventions import coordinate_along, same_place_units
from sda_jax.data._layout import Axis, Channel, Layout
from sda_jax.data._opening import open_dataset
from sda_jax.data._time_coordinates import time_numbers, times_along
from sda_jax.data._times import alike
from sda_jax.data._unreadable import reading
from sda_jax.data._values import read_values
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
    with open_dataset(source.path, source.group) as dataset, reading(source.path):
        names = _variables(source, layout, dataset)
        times = _times(source, layout, dataset)
        grid = [_places(source, dataset, axis) for axis in layout.axes]
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
    """The prior's variables that are there."""
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


def _required(
    source: Gridded, dataset: xr.Dataset, name: str, coordinate: xr.DataArray | None
) -> xr.DataArray:
    """The coordinate of a dimension that the prior's states have."""
    if name not in dataset.dims or coordinate is None:
        raise StorageError(
            source.path,
            f"coordinates {', '.join(map(str, dataset.coords)) or 'none'}",
            f"{name}, as the prior's states have it",
            "Rename the coordinate in the file, or add it.",
        )
    return coordinate


def _places(source: Gridded, dataset: xr.Dataset, axis: Axis) -> Float[np.ndarray, " places"]:
    """The file's coordinates along an axis of the prior's states, in the same units."""
    along, size = coordinate_along(dataset, axis.name), dataset.sizes.get(axis.name)
    if along is None and axis.coordinates == tuple(range(size or 0)):
        return np.array(axis.coordinates)  # neither file has coordinates
    found = _required(source, dataset, axis.name, along)
    units = str(found.attrs.get("units", ""))
    if not same_place_units(units, axis.units):
        raise ObservationError(
            f"{source.path}, {axis.name}",
            f"units {units!r}",
            f"{axis.units!r}, as the prior's",
            "Convert the coordinates.",
        )
    if found.dtype.kind not in "iuf":
        raise StorageError(
            f"{source.path}, {axis.name}", f"coordinates of type {found.dtype}", "numbers",
            "Correct the file.",
        )  # fmt: skip
    return np.asarray(found.values, float)


def _times(source: Gridded, layout: Layout, dataset: xr.Dataset) -> Float[np.ndarray, " times"]:
    """The file's times, in the prior's calendar."""
    along = times_along(source.path, dataset, layout.time)
    times, calendar, units = time_numbers(
        source.path, _required(source, dataset, layout.time, along)
    )
    if (alike(calendar), units) != (alike(layout.calendar), layout.time_units):
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
    place = _place(source.path, dataset, x, channel)
    x = x.isel(place)
    noise = _noise(source, dataset, channel.name)
    dims = (layout.time, *(axis.name for axis in layout.axes))
    if set(x.dims) != set(dims):
        raise StorageError(
            f"{source.path}, {channel.name}", f"dimensions {x.dims}", f"{dims}",
            "Give the variable along these alone.",
        )  # fmt: skip
    where = f"{source.path}, {channel.name}"
    values, std = read_values(source.path, x.transpose(*dims)), noise
    if isinstance(noise, xr.DataArray):
        noise = noise.isel({d: i for d, i in place.items() if d in noise.dims})
        noise = noise.copy(data=read_values(source.path, noise))
        std = noise.broadcast_like(x).transpose(*dims).values
    values, std = (
        np.asarray(real_array(where, numbers, ObservationError, np.float64))
        for numbers in (values, std)
    )
    return values, np.broadcast_to(std, values.shape)


def _place(path: str, dataset: xr.Dataset, x: xr.DataArray, channel: Channel) -> dict[str, int]:
    """Where a channel is along those of a variable's dimensions that became channels."""
    place = {}
    for dimension, label in channel.at:
        known = dimension in dataset.dims or dimension in dataset.coords
        there = labels_of(path, dataset, dimension) if known else []
        label = label.strip() if isinstance(label, str) else label
        if label not in there:
            raise StorageError(
                f"{path}, {channel.name}",
                f"{dimension} {', '.join(map(str, there)) or 'nowhere'}",
                f"{channel.label}",
                "Add it.",
            )
        if dimension in x.dims:
            place[dimension] = there.index(label)
    return place


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
