"""A user's own trajectories: NetCDF, HDF5 or Zarr files read lazily as one record in time."""

from __future__ import annotations

import dataclasses
import itertools
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cftime
import numpy as np
import xarray as xr
from jaxtyping import Float

from sda_jax.errors import ConfigError, StorageError, require_choice
from sda_jax.layout import EPOCH, STANDARD, Axis, Channel, Layout

OPEN_FILES = 8
REGULAR = 0.2  # of a step that spacings may differ by: months have 28 to 31 days
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
    left = tuple(str(v) for v in dataset.data_vars if v not in variables)
    return Roles(tuple(variables), time, tuple(space), trajectory, stacked, left)


def _axis(path: str, dataset: xr.Dataset, name: str, periodic: tuple[str, ...] | None) -> Axis:
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


def _channels(dataset: xr.Dataset, roles: Roles) -> tuple[Channel, ...]:
    found = []
    for v in roles.variables:
        attrs = dataset[v].attrs
        said = [str(attrs.get(key, "")) for key in ("units", "long_name", "standard_name")]
        along = [d for d in roles.stacked if d in dataset[v].dims]
        labels = [
            dataset.coords[d].values.tolist() if d in dataset.coords else range(dataset.sizes[d])
            for d in along
        ]
        for place in np.ndindex(*(dataset.sizes[d] for d in along)):
            at = tuple((d, labels[i][k]) for i, (d, k) in enumerate(zip(along, place, strict=True)))
            found.append(Channel(v, *said, at))
    return tuple(found)


def _without_sizes(layout: Layout) -> Layout:
    return dataclasses.replace(layout, step=0.0, mask=None)


@dataclass
class Archive:
    """Trajectories in files.

    Attributes:
        files: What the user said.
        roles: What the dimensions are.
        layout: What states look like; its mask is not known yet.
        parts: Of each trajectory in order: the path's index, its place along the trajectory
            dimension (None without), and its number of states.
        times: Of each trajectory's states, as numbers.
    """

    files: Files
    roles: Roles
    layout: Layout
    parts: list[list[tuple[int, int | None, int]]]
    times: list[Float[np.ndarray, " states"]]
    _opened: OrderedDict[int, xr.Dataset] = dataclasses.field(default_factory=OrderedDict)

    def read(self, trajectory: int, first: int, last: int) -> Float[np.ndarray, " states *state"]:
        """States `first` to `last` of a trajectory, NaN where a value is missing.

        Raises:
            StorageError: A file cannot be read.
        """
        found, start = [], 0
        for index, member, count in self.parts[trajectory]:
            a, b = max(first - start, 0), min(last - start, count)
            if a < b:
                found.append(self._read(index, member, a, b))
            start += count
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _read(self, index: int, member: int | None, first: int, last: int) -> np.ndarray:
        roles = self.roles
        at: dict[str, Any] = {roles.time: slice(first, last)}
        if member is not None:
            at[str(roles.trajectory)] = member
        dataset = self._dataset(index)
        channels = []
        try:
            for v in roles.variables:
                along = [d for d in roles.stacked if d in dataset[v].dims]
                x = dataset[v].isel({k: i for k, i in at.items() if k in dataset[v].dims})
                values = x.transpose(roles.time, *roles.space, *along).values
                shape = (*values.shape[: 1 + len(roles.space)], -1)
                channels.append(values.reshape(shape).astype(np.float32))
        except Exception as error:
            raise StorageError(
                self.files.paths[index],
                f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
                "a file that can be read",
                "It is damaged: make it again.",
            ) from error
        return np.concatenate(channels, axis=-1)

    def _dataset(self, index: int) -> xr.Dataset:
        if index not in self._opened:
            while len(self._opened) >= OPEN_FILES:
                self._opened.popitem(last=False)[1].close()
            self._opened[index] = open_dataset(self.files.paths[index], self.files.group)
        self._opened.move_to_end(index)
        return self._opened[index]

    def place(self, trajectory: int, state: int) -> str:
        """Where a state is, for people: the file, its index there and its time."""
        start = 0
        for index, member, count in self.parts[trajectory]:
            if state < start + count:
                where = f"{self.files.paths[index]}, index {state - start}"
                where += "" if member is None else f" of {self.roles.trajectory} {member}"
                time = self.layout.written(float(self.times[trajectory][state]))
                return f"{where} ({self.layout.time} {time})"
            start += count
        raise IndexError(state)


def open_archive(files: Files) -> Archive:
    """Opens files and finds out what they hold; reads their coordinates alone.

    Raises:
        ConfigError: No files.
        StorageError: Files that cannot be read, that differ, or whose times do not make a record;
            see `find_roles`.
    """
    if not files.paths:
        raise ConfigError("data.files.paths", (), "at least one file", "Name your files.")
    roles = layout = None
    times: list[tuple[int, int, np.ndarray]] = []  # path, members, times
    for index, path in enumerate(files.paths):
        with open_dataset(path, files.group) as dataset:
            found = find_roles(files, path, dataset)
            if found.time in dataset.coords:
                numbers, calendar, units = time_numbers(path, dataset.coords[found.time])
            else:
                size = dataset.sizes[found.time]
                numbers, calendar, units = np.arange(size, dtype=float), None, ""
            axes = tuple(_axis(path, dataset, d, files.periodic) for d in found.space)
            own = Layout(
                _channels(dataset, found),
                axes,
                found.time,
                0.0,
                calendar,
                units,
                None,
                files.cycles,
            )
            members = dataset.sizes[found.trajectory] if found.trajectory else 0
        _require_rising(path, found.time, numbers, own)
        if layout is None:
            roles, layout = found, own
        elif (differing := _differing(layout, own)) is not None:
            raise StorageError(
                path,
                differing[1],
                f"{differing[0]} as in {files.paths[0]}: {differing[2]}",
                "Files of one set have the same variables, units and grid.",
            )
        times.append((index, members, numbers))
    assert roles is not None and layout is not None
    if files.each == "time":
        times.sort(key=lambda item: item[2][0])
    groups = [times] if files.each == "time" else [[item] for item in times]
    parts: list[list[tuple[int, int | None, int]]] = []
    records: list[np.ndarray] = []
    for group in groups:
        counts = {members for _, members, _ in group}
        if len(counts) > 1:
            raise StorageError(
                roles.trajectory or "trajectory", f"{sorted(counts)} trajectories in the files",
                "the same number in each", "Give such files one at a time, or each='trajectory'.",
            )  # fmt: skip
        for (a, _, before), (b, _, after) in itertools.pairwise(group):
            if after[0] <= before[-1]:
                raise StorageError(
                    files.paths[b],
                    f"{roles.time} {layout.written(after[0])}, not after the last of "
                    f"{files.paths[a]}, {layout.written(before[-1])}",
                    "files that follow each other in time",
                    "Leave out what is there twice, or set data.files.each to trajectory.",
                )
        for member in range(counts.pop()) if roles.trajectory else (None,):
            parts.append([(index, member, len(numbers)) for index, _, numbers in group])
            records.append(np.concatenate([numbers for _, _, numbers in group]))
    spacings = np.concatenate([np.diff(record) for record in records])
    if not len(spacings):
        raise StorageError(
            ", ".join(files.paths), "a single state", "at least two states in time", "Add files."
        )
    regular = spacings[np.abs(spacings - np.median(spacings)) <= REGULAR * np.median(spacings)]
    step = float(np.mean(regular))
    return Archive(files, roles, dataclasses.replace(layout, step=step), parts, records)


def _require_rising(path: str, name: str, numbers: np.ndarray, layout: Layout) -> None:
    if not len(numbers):
        raise StorageError(f"{path}, {name}", "no states", "at least one", "Leave the file out.")
    bad = np.flatnonzero(np.diff(numbers) <= 0)
    if len(bad):
        i = int(bad[0])
        what = "twice" if numbers[i + 1] == numbers[i] else "after a later one"
        raise StorageError(
            f"{path}, {name}",
            f"{layout.written(float(numbers[i + 1]))} {what}, at index {i + 1}",
            "times that rise",
            "Sort the file in time and remove what is there twice.",
        )


def _differing(one: Layout, other: Layout) -> tuple[str, str, str] | None:
    """What differs between the layouts of two files, and what it is in the second and the first."""
    names = [[c.label for c in layout.channels] for layout in (one, other)]
    if names[0] != names[1]:
        return "the variables", ", ".join(names[1]), ", ".join(names[0])
    for a, b in zip(one.channels, other.channels, strict=True):
        if a.units != b.units:
            return f"the units of {a.label}", b.units or "none", a.units or "none"
    for a, b in zip(one.axes, other.axes, strict=False):
        same = len(a.coordinates) == len(b.coordinates) and np.allclose(
            a.coordinates, b.coordinates, rtol=1e-5, atol=1e-8
        )
        if a.name != b.name or a.units != b.units or not same:
            return "the grid", _described(b), _described(a)
    if (one.calendar, one.time_units) != (other.calendar, other.time_units):
        return (
            "the calendar",
            f"{other.calendar or other.time_units}",
            f"{one.calendar or one.time_units}",
        )
    return None


def _described(axis: Axis) -> str:
    ends = f"{axis.coordinates[0]:g} to {axis.coordinates[-1]:g}"
    return f"{axis.name} {ends} {axis.units}, {len(axis.coordinates)} points"
