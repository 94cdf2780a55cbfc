"""What a user's files hold: which dimensions are time, space and trajectories, by what the user
says and by CF conventions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cftime
import numpy as np
import xarray as xr

from sda_jax.core._errors import StorageError, require_choice
from sda_jax.data._layout import EPOCH, STANDARD, Axis, Channel

GLOBE = 360.0

TIME_NAMES = ("time", "t", "valid_time", "date")
TRAJECTORY_NAMES = ("trajectory", "member", "realization", "ensemble", "number", "sample", "run")
SPACE_NAMES = ("lat", "latitude", "lon", "longitude", "x", "y", "rlat", "rlon", "xc", "yc")
SPACE_STANDARD_NAMES = (
    "latitude",
    "longitude",
    "projection_x_coordinate",
    "projection_y_coordinate",
    "grid_latitude",
    "grid_longitude",
)
SPACE_UNITS = ("degrees_north", "degrees_east", "degree_north", "degree_east")


@dataclass(frozen=True)
class Files:
    """Files of trajectories. What is left out is guessed from CF conventions, and printed.

    Attributes:
        paths: NetCDF, HDF5 or Zarr, in any order.
        group: Inside each file.
        variables: Which become channels; empty for all that have the time dimension.
        time: The time dimension.
        space: The dimensions of space, at most two. Other dimensions become channels.
        trajectory: A dimension of independent trajectories.
        each: What several files are: parts of one record in "time", or a "trajectory" each.
        periodic: The dimensions of space that come round.
        missing: What happens where values are missing now and then: "refuse", or "skip" the states
            that have any. What is always missing is a mask, with either.
        constants: Variables along space alone, of the first file, that the network is told of, such
            as orography.
        cycles: What the network is told of the time: "day", "year" or both.
        split: Held out for validation and test: the last tenths of the record's "time", or tenths
            of the "trajectory" dimension; None for the latter from ten trajectories on.
    """

    paths: tuple[str, ...] = ()
    group: str | None = None
    variables: tuple[str, ...] = ()
    time: str | None = None
    space: tuple[str, ...] | None = None
    trajectory: str | None = None
    each: str = "time"
    periodic: tuple[str, ...] | None = None
    missing: str = "refuse"
    constants: tuple[str, ...] = ()
    cycles: tuple[str, ...] = ()
    split: str | None = None

    def __post_init__(self) -> None:
        require_choice("each", self.each, ("time", "trajectory"))
        require_choice("missing", self.missing, ("refuse", "skip"))
        if self.split is not None:
            require_choice("split", self.split, ("time", "trajectory"))


def open_dataset(path: str | Path, group: str | None = None) -> xr.Dataset:
    """A NetCDF, HDF5 or Zarr file, lazily read.

    Raises:
        StorageError: There is no such file, or it is of another kind or damaged.
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
        return xr.open_dataset(path, decode_timedelta=False, cache=False, **options)
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
        third.is_file() and "consolidated_metadata" in third.read_text()
    )


def time_numbers(path: str, coordinate: xr.DataArray) -> tuple[np.ndarray, str | None, str]:
    """Times as numbers (seconds since 1970 where they are dates), their calendar and their units.

    Raises:
        StorageError: Some are missing, or they are texts.
    """
    values = coordinate.values
    if values.dtype.kind == "M":
        numbers, calendar, units = values.astype("datetime64[ns]").astype(np.int64) / 1e9, "", ""
        if np.isnat(values).any():
            numbers = np.where(np.isnat(values), np.nan, numbers)
        calendar = STANDARD[0]
    elif values.dtype.kind == "O" and values.size and isinstance(values.flat[0], cftime.datetime):
        calendar = str(values.flat[0].calendar)
        numbers, units = cftime.date2num(values, EPOCH, calendar=calendar).astype(float), ""
    elif values.dtype.kind in "iuf":
        numbers, calendar, units = values.astype(float), None, coordinate.attrs.get("units", "")
    else:
        raise StorageError(
            f"{path}, {coordinate.name}",
            f"times of type {values.dtype}",
            "dates or numbers",
            "Write CF times (numbers with units such as 'hours since 2000-01-01').",
        )
    if not np.isfinite(numbers).all():
        place = int(np.argmin(np.isfinite(numbers)))
        raise StorageError(
            f"{path}, {coordinate.name}", f"no time at index {place}", "a time for every state",
            "Remove the state or give its time.",
        )  # fmt: skip
    return numbers, calendar, str(units)


def _is_time(coordinate: xr.DataArray) -> bool:
    values = coordinate.values
    dated = values.dtype.kind == "M" or (
        values.dtype.kind == "O" and values.size and isinstance(values.flat[0], cftime.datetime)
    )
    return bool(dated) or "T" in coordinate.attrs.get("axis", "")


def _is_space(name: str, attrs: dict[str, Any]) -> bool:
    return (
        str(attrs.get("axis", "")) in ("X", "Y")
        or attrs.get("standard_name") in SPACE_STANDARD_NAMES
        or attrs.get("units") in SPACE_UNITS
        or name.lower() in SPACE_NAMES
    )


@dataclass(frozen=True)
class Roles:
    """What the dimensions and variables of files are."""

    variables: tuple[str, ...]
    time: str
    space: tuple[str, ...]
    trajectory: str | None
    stacked: tuple[str, ...]
    left_out: tuple[str, ...]


def _named(files: Files, path: str, dataset: xr.Dataset) -> None:
    """Raises if a dimension or variable that the user named is not there."""
    wanted = [files.time, files.trajectory, *(files.space or ()), *(files.periodic or ())]
    for what, names, there in (
        ("a dimension", wanted, dataset.sizes),
        ("a variable", files.variables, dataset.data_vars),
    ):
        for name in names:
            if name is not None and name not in there:
                raise StorageError(
                    path,
                    f"no {what[2:]} {name!r}",
                    f"{what} of {', '.join(map(str, there)) or 'none'}",
                    "Correct the name in data.files.",
                )


def find_roles(files: Files, path: str, dataset: xr.Dataset) -> Roles:
    """What each dimension of a dataset is: as the user says, or by CF conventions.

    Raises:
        StorageError: A named dimension or variable is missing, none is the time, or the variables
            do not have the same dimensions of space.
    """
    _named(files, path, dataset)
    sizes, coordinates = dataset.sizes, dataset.coords
    time = files.time
    if time is None:
        dated = [str(d) for d in sizes if d in coordinates and _is_time(coordinates[d])]
        named = [str(d) for d in sizes if str(d).lower() in TIME_NAMES]
        candidates = dated or named
        if len(candidates) != 1:
            raise StorageError(
                path,
                f"{'no' if not candidates else 'more than one'} dimension that looks like time "
                f"among {', '.join(map(str, sizes)) or 'none'}",
                "one with dates, or called time",
                "Say which it is: --data.files.time NAME.",
            )
        time = candidates[0]
    with_time = [str(v) for v in dataset.data_vars if time in dataset[v].dims]
    numeric = [v for v in with_time if dataset[v].dtype.kind in "iuf"]
    # sorted: a Zarr store has no order
    guessed = sorted(v for v in numeric if not v.endswith(("_bnds", "_bounds")))
    variables = files.variables or tuple(guessed)
    for v in variables:
        if v not in numeric:
            raise StorageError(
                f"{path}, {v}",
                f"dimensions {dataset[v].dims} and type {dataset[v].dtype}",
                f"numbers along {time}",
                "Leave it out of data.files.variables.",
            )
    if not variables:
        raise StorageError(path, f"no variable along {time}", "at least one", "Check the file.")
    dims = list(dict.fromkeys(str(d) for v in variables for d in dataset[v].dims if d != time))
    trajectory = files.trajectory
    if trajectory is None:
        trajectory = next((d for d in dims if d.lower() in TRAJECTORY_NAMES), None)
    dims = [d for d in dims if d != trajectory]
    space = files.space
    if space is None:
        attributes = {d: dict(coordinates[d].attrs) if d in coordinates else {} for d in dims}
        space = tuple(d for d in dims if _is_space(d, attributes[d]))
    if len(space) > 2:
        raise StorageError(
            path,
            f"the dimensions of space {', '.join(space)}",
            "at most two",
            "Name them with --data.files.space; a third, such as height, becomes channels.",
        )
    for v in variables:
        missing = [d for d in space if d not in dataset[v].dims]
        if missing:
            raise StorageError(
                f"{path}, {v}",
                f"dimensions {dataset[v].dims}",
                f"every variable along {', '.join(space)}",
                "Choose variables on one grid with --data.files.variables.",
            )
    stacked = tuple(d for d in dims if d not in space)
    known = (*variables, *files.constants)
    left = tuple(str(v) for v in dataset.data_vars if v not in known)
    return Roles(tuple(variables), time, tuple(space), trajectory, stacked, left)


def axis_of(path: str, dataset: xr.Dataset, name: str, periodic: tuple[str, ...] | None) -> Axis:
    """A dimension of space.

    Raises:
        StorageError: Its coordinates are no numbers, neither rise nor fall, or come round unevenly.
    """
    size = dataset.sizes[name]
    if name not in dataset.coords:
        values, attrs = np.arange(size, dtype=float), {}
    else:
        values, attrs = dataset.coords[name].values, dataset.coords[name].attrs
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
            "Sort the file along it, or name other dimensions in data.files.space.",
        )
    units = str(attrs.get("units", ""))
    even = np.allclose(steps, steps[0], rtol=1e-3)
    round_ = abs(size * steps[0])
    east = units.startswith("degree") and (
        "east" in units or "longitude" in str(attrs.get("standard_name", ""))
    )
    comes_round = east and even and abs(round_ - GLOBE) < 1e-3 * GLOBE
    if periodic is not None:
        comes_round = name in periodic
    if comes_round and not even:
        raise StorageError(
            f"{path}, {name}", "uneven coordinates", "even ones along a periodic dimension",
            "Interpolate the data, or leave it out of data.files.periodic.",
        )  # fmt: skip
    period = (GLOBE if east else float(round_)) if comes_round else None
    standard = str(attrs.get("standard_name", ""))
    return Axis(name, tuple(values.tolist()), units, standard, period)


def _labels(path: str, dataset: xr.Dataset, name: str) -> list[Any]:
    if name not in dataset.coords:
        return list(range(dataset.sizes[name]))
    values = dataset.coords[name].values
    if values.dtype.kind == "f":  # the shortest number: 0.1, not the double nearest to float32's
        found = [float(str(v)) for v in values]
    else:
        found = [v.decode() if isinstance(v, bytes) else v for v in values.tolist()]
    if len(set(found)) < len(found):
        repeated = next(v for i, v in enumerate(found) if v in found[:i])
        raise StorageError(
            f"{path}, {name}",
            f"the label {repeated!r} more than once",
            "labels that differ, for each makes a channel",
            "Give the file's coordinate distinct labels, or leave it out.",
        )
    return found


def channels_of(path: str, dataset: xr.Dataset, roles: Roles) -> tuple[Channel, ...]:
    """The channels that the variables make.

    Raises:
        StorageError: Labels of a dimension are repeated.
    """
    found = []
    for v in roles.variables:
        attrs = dataset[v].attrs
        said = [str(attrs.get(key, "")) for key in ("units", "long_name", "standard_name")]
        along = [d for d in roles.stacked if d in dataset[v].dims]
        labels = [_labels(path, dataset, d) for d in along]
        for place in np.ndindex(*(dataset.sizes[d] for d in along)):
            at = tuple((d, labels[i][k]) for i, (d, k) in enumerate(zip(along, place, strict=True)))
            found.append(Channel(v, *said, at))
    return tuple(found)
