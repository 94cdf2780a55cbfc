"""Ensembles as data sets with names, coordinates and units, by CF conventions."""

from __future__ import annotations

import numpy as np
import xarray as xr
from jaxtyping import Float

from sda_jax.core._errors import StorageError
from sda_jax.data._conventions import is_latitude, is_longitude
from sda_jax.data._layout import Axis, Layout
from sda_jax.data._times import EPOCH

FILL = np.float32(9.969209968386869e36)  # netCDF's own for missing numbers
MEMBER = "member"


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
        layout.time: time_variable(layout, start, length),
    }
    for axis in layout.axes:
        coordinates[axis.name] = xr.Variable(
            (axis.name,), np.array(axis.coordinates), _described(axis)
        )
    variables = {}
    space = tuple(axis.name for axis in layout.axes)
    for name in dict.fromkeys(channel.name for channel in layout.channels):
        indices = [i for i, c in enumerate(layout.channels) if c.name == name]
        first = layout.channels[indices[0]]
        stacked = [d for d, _ in first.at]
        labels = [
            list(dict.fromkeys(layout.channels[i].at[k][1] for i in indices))
            for k in range(len(stacked))
        ]
        for d, values in zip(stacked, labels, strict=True):
            coordinates[d] = xr.Variable((d,), np.array(values))
        values = ensemble[..., indices].reshape(*ensemble.shape[:-1], *map(len, labels))
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


def time_variable(layout: Layout, start: float, length: int) -> xr.Variable:
    """The times of a trajectory as a file has them."""
    numbers = layout.times(start, length)
    if layout.calendar is None:
        attrs = {"units": layout.time_units} if layout.time_units else {}
        return xr.Variable((layout.time,), numbers, attrs)
    variable = xr.Variable(
        (layout.time,), layout.dates(numbers), {"standard_name": "time", "axis": "T"}
    )
    variable.encoding = {"units": EPOCH, "calendar": layout.calendar, "dtype": "float64"}
    return variable


def _described(axis: Axis) -> dict[str, str]:
    said = {"units": axis.units, "standard_name": axis.standard_name}
    known = axis.name, axis.units, axis.standard_name
    if is_latitude(*known) or "_y_" in axis.standard_name:
        said["axis"] = "Y"
    elif is_longitude(*known) or "_x_" in axis.standard_name:
        said["axis"] = "X"
    return {key: value for key, value in said.items() if value}
