"""The axes, channels and constants that the coordinates and variables of files make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from sda_jax.core._errors import StorageError
from sda_jax.data._conventions import as_text, coordinate_along, is_longitude, turn
from sda_jax.data._layout import Axis, Channel, Constant, rounding
from sda_jax.data._roles import Roles
from sda_jax.data._transforms import components
from sda_jax.data._values import read_values


def axis_of(path: str, dataset: xr.Dataset, name: str, periodic: tuple[str, ...] | None) -> Axis:
    """A dimension of space.

    Raises:
        StorageError: Its coordinates are no numbers, neither rise nor fall, or are uneven though
            periodic.
    """
    size, coordinate = dataset.sizes[name], coordinate_along(dataset, name)
    if coordinate is None:
        values, attrs, called = np.arange(size, dtype=float), {}, name
    else:
        values, attrs, called = coordinate.values, coordinate.attrs, str(coordinate.name)
    if values.dtype.kind not in "iuf":
        raise StorageError(
            f"{path}, {name}", f"coordinates of type {values.dtype}", "numbers",
            "Leave it out of data.files.space: it then becomes channels.",
        )  # fmt: skip
    values = values.astype(float)
    steps = np.diff(values)
    if size < 2 or not np.isfinite(values).all() or not ((steps > 0).all() or (steps < 0).all()):
        raise StorageError(
            f"{path}, {name}",
            f"coordinates from {values[0]} to {values[-1]}, {size} of them",
            "at least two, finite, rising or falling",
            "Sort the file along it, or name space without it in data.files.space: it then becomes "
            "channels.",
        )
    units, standard = attrs.get("units", ""), attrs.get("standard_name", "")
    whole = abs(size * (values[-1] - values[0]) / (size - 1))
    even = np.allclose(steps, whole / size * np.sign(steps[0]), 1e-3, 2 * rounding(values).max())
    east = is_longitude(called, units, standard)
    is_periodic = east and even and abs(whole - turn(units)) < 1e-3 * turn(units)
    if periodic is not None:
        is_periodic = name in periodic
    if is_periodic and not even:
        raise StorageError(
            f"{path}, {name}", "uneven coordinates", "even ones along a periodic dimension",
            "Interpolate the data, or leave it out of data.files.periodic.",
        )  # fmt: skip
    period = (turn(units) if east else float(whole)) if is_periodic else None
    return Axis(name, tuple(values.tolist()), units, standard, period)


def labels_of(path: str, dataset: xr.Dataset, name: str) -> list[Any]:
    """What the places along a dimension are called: numbers, or texts without blanks around them.

    Raises:
        StorageError: Two have one name.
    """
    if name not in dataset.coords:
        return list(range(dataset.sizes[name]))
    values = np.atleast_1d(dataset[name].values)
    if values.dtype.kind == "f":  # the shortest number: 0.1, not the double nearest to float32's
        found = [float(str(v)) for v in values]
    elif values.dtype.kind in "iub":
        found = values.tolist()
    else:  # texts and dates
        found = [as_text(v).strip() for v in values.astype(object).tolist()]
    if len(set(found)) < len(found):
        repeated = next(v for i, v in enumerate(found) if v in found[:i])
        raise StorageError(
            f"{path}, {name}",
            f"the label {repeated!r} more than once",
            "labels that differ, for each makes a channel",
            "Give the file's coordinate distinct labels, or leave it out.",
        )
    return found


def channels_of(
    path: str, dataset: xr.Dataset, roles: Roles, turns: Mapping[str, float]
) -> tuple[Channel, ...]:
    """The channels that the variables make; angles, of full turns by variable, two each.

    Raises:
        StorageError: Labels of a dimension are repeated.
    """
    found = []
    for v in roles.variables:
        attrs = dataset[v].attrs
        said = [attrs.get(key, "") for key in ("units", "long_name", "standard_name")]
        along = [d for d in roles.stacked if d in dataset[v].dims]
        labels = [labels_of(path, dataset, d) for d in along]
        made = []
        for place in np.ndindex(*(dataset.sizes[d] for d in along)):
            at = tuple((d, labels[i][k]) for i, (d, k) in enumerate(zip(along, place, strict=True)))
            made.append(Channel(v, *said, at=at))
        found += components(tuple(made), turns[v]) if v in turns else made
    return tuple(found)


def constants_of(
    names: tuple[str, ...], path: str, dataset: xr.Dataset, space: tuple[str, ...]
) -> tuple[Constant, ...]:
    """The fields without time that are part of the context.

    Raises:
        StorageError: A variable is not there, is not along space and nothing else, or is the same
            everywhere.
    """
    constants = []
    for name in names:
        x = dataset[name] if name in dataset.data_vars else None
        if x is None or set(x.dims) != set(space) or not space or x.dtype.kind not in "iuf":
            raise StorageError(
                f"{path}, {name}",
                f"dimensions {x.dims} and type {x.dtype}" if x is not None else "no such variable",
                f"numbers along {' and '.join(space) or 'space, which these states do not have'}",
                "Correct data.files.constants.",
            )
        values = read_values(path, x.transpose(*space)).astype(float).ravel()
        there = values[~np.isnan(values)]
        wrong = None
        if not len(there):
            wrong = "no values"
        elif np.isinf(there).any():
            wrong = "infinite values"
        elif there.std() <= 1e-6 * np.abs(there.mean()):
            wrong = "the same everywhere"
        if wrong is not None:
            raise StorageError(
                f"{path}, {name}",
                wrong,
                "finite values that differ from point to point",
                "Leave it out of data.files.constants.",
            )
        z = np.nan_to_num((values - there.mean()) / there.std())
        constants.append(Constant(name, z.astype("<f4").tobytes().hex()))
    return tuple(constants)
