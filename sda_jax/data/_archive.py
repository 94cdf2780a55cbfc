"""A user's own trajectories: NetCDF, HDF5 or Zarr files read lazily as one record in time."""

from __future__ import annotations

import dataclasses
import itertools
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from sda_jax.core._errors import ConfigError, StorageError
from sda_jax.data._conventions import (
    Files,
    Roles,
    axis_of,
    channels_of,
    find_roles,
    open_dataset,
    time_numbers,
)
from sda_jax.data._layout import STANDARD, Axis, Constant, Layout

OPEN_FILES = 8
REGULAR = 0.2  # of a step that spacings may differ by: months have 28 to 31 days


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
            axes = tuple(axis_of(path, dataset, d, files.periodic) for d in found.space)
            own = Layout(
                channels_of(path, dataset, found),
                axes,
                found.time,
                calendar=calendar,
                time_units=units,
                constants=_constants(files, path, dataset, found.space) if index == 0 else (),
                cycles=files.cycles,
            )
            members = dataset.sizes[found.trajectory] if found.trajectory else 0
        require_rising(path, found.time, numbers, own)
        if layout is None or roles is None:
            roles, layout = found, own
        elif (found.time, found.trajectory) != (roles.time, roles.trajectory):
            raise StorageError(
                path,
                f"the time {found.time} and trajectories along {found.trajectory}",
                f"{roles.time} and {roles.trajectory}, as in {files.paths[0]}",
                "Rename the dimensions.",
            )
        elif (other := differing(layout, own)) is not None:
            raise StorageError(
                path,
                other[1],
                f"{other[0]} as in {files.paths[0]}: {other[2]}",
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
    usual = np.percentile(spacings, 50, method="lower")  # one that occurs
    step = float(np.mean(spacings[np.abs(spacings - usual) <= REGULAR * usual]))
    layout = dataclasses.replace(layout, step=step, months=_months(layout, records))
    return Archive(files, roles, layout, parts, records)


def _constants(
    files: Files, path: str, dataset: xr.Dataset, space: tuple[str, ...]
) -> tuple[Constant, ...]:
    """What the network is told of the points.

    Raises:
        StorageError: A variable is not there, is not along space and nothing else, or is the same
            everywhere.
    """
    found = []
    for name in files.constants:
        x = dataset[name] if name in dataset.data_vars else None
        if x is None or set(x.dims) != set(space) or not space or x.dtype.kind not in "iuf":
            raise StorageError(
                f"{path}, {name}",
                f"dimensions {x.dims} and type {x.dtype}" if x is not None else "no such variable",
                f"numbers along {' and '.join(space) or 'space, which these states do not have'}",
                "Correct data.files.constants.",
            )
        values = x.transpose(*space).values.astype(float).ravel()
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
        found.append(Constant(name, z.astype("<f4").tobytes().hex()))
    return tuple(found)


def _months(layout: Layout, records: list[np.ndarray]) -> int:
    """The calendar months between two states, if there are always as many; otherwise 0."""
    if layout.calendar is None:
        return 0
    found = set()
    for record in records:
        dates = layout.dates(record)
        if layout.calendar in STANDARD:
            months = dates.astype("datetime64[M]").astype(int)
        else:
            months = np.array([d.year * 12 + d.month for d in dates])
        found |= set(np.diff(months).tolist())
    return int(found.pop()) if len(found) == 1 and 0 not in found else 0


def require_rising(path: str, name: str, numbers: np.ndarray, layout: Layout) -> None:
    """Raises `StorageError` unless times rise."""
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


def differing(one: Layout, other: Layout) -> tuple[str, str, str] | None:
    """What differs between the layouts of two files, and what it is in the second and the first."""
    names = [[c.label for c in layout.channels] for layout in (one, other)]
    if names[0] != names[1]:
        return "the variables", ", ".join(names[1]), ", ".join(names[0])
    for a, b in zip(one.channels, other.channels, strict=True):
        if a.units != b.units:
            return f"the units of {a.label}", b.units or "none", a.units or "none"
    names = [[a.name for a in layout.axes] for layout in (one, other)]
    if names[0] != names[1]:
        return "the dimensions of space", ", ".join(names[1]), ", ".join(names[0])
    for a, b in zip(one.axes, other.axes, strict=True):
        same = len(a.coordinates) == len(b.coordinates) and np.allclose(
            a.coordinates, b.coordinates, rtol=1e-5, atol=1e-8
        )
        if a.units != b.units or not same:
            return "the grid", _described(b), _described(a)
    if (one.calendar, one.time_units) != (other.calendar, other.time_units):
        return (
            "the calendar",
            f"{other.calendar or other.time_units}",
            f"{one.calendar or one.time_units}",
        )
    return None


def _described(axis: Axis) -> str:
    return f"{axis.name} {axis.extent}, {len(axis.coordinates)} points"
