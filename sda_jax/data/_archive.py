"""Trajectories in NetCDF, HDF5 or Zarr files, read lazily as one record in time."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float

from sda_jax.core._errors import ConfigError, StorageError
from sda_jax.data._axes import axis_of, channels_of, constants_of
from sda_jax.data._files import Files
from sda_jax.data._layout import Layout, differing
from sda_jax.data._opening import groups_of, open_dataset
from sda_jax.data._roles import Roles, find_roles
from sda_jax.data._time_coordinates import time_numbers, times_along
from sda_jax.data._times import STANDARD, months_of
from sda_jax.data._transforms import require_angles, turns_of, waves
from sda_jax.data._unreadable import reading
from sda_jax.data._values import read_values
from sda_jax.runtime._room import require_host_room

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
    _kept: list[np.ndarray] | None = None

    def keep(self, most: int) -> None:
        """Reads all states once and keeps them, if they take at most so many bytes.

        Raises:
            StorageError: A file cannot be read.
        """
        states = sum(map(len, self.times))
        if self._kept is None and 4 * states * math.prod(self.layout.state_shape) <= most:
            kept = [self.read(i, 0, len(times)) for i, times in enumerate(self.times)]
            for states_read in kept:
                states_read.setflags(write=False)
            self._kept = kept

    def read(self, trajectory: int, first: int, last: int) -> Float[np.ndarray, " states *state"]:
        """States `first` to `last` of a trajectory, NaN where a value is missing.

        Raises:
            StorageError: A file cannot be read, or has an angle that is none.
        """
        if self._kept is not None:
            return self._kept[trajectory][first:last]
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
        channels, turns = [], turns_of(self.files)
        for v in roles.variables:
            along = [d for d in roles.stacked if d in dataset[v].dims]
            x = dataset[v].isel({k: i for k, i in at.items() if k in dataset[v].dims})
            x = x.transpose(roles.time, *roles.space, *along)
            values = read_values(self.files.paths[index], x)
            shape = (*values.shape[: 1 + len(roles.space)], -1)
            values = values.reshape(shape)
            if v in turns:
                require_angles(self.files.paths[index], v, values, turns[v])
                values = waves(values, turns[v])
            channels.append(values.astype(np.float32))
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
        StorageError: Files that cannot be read, that differ, or whose times do not make a record of
            at least two states; see `find_roles`.
    """
    archive = look_into(files)
    if all(len(record) < 2 for record in archive.times):
        raise StorageError(
            ", ".join(files.paths), "a single state", "at least two states in time", "Add files."
        )
    return archive


def look_into(files: Files) -> Archive:
    """What `open_archive` opens, also of a single state, whose layout has a step of 0."""
    if not files.paths:
        raise ConfigError("data.files.paths", (), "at least one file", "Name your files.")
    looked: list[_Looked] = []
    for index in range(len(files.paths)):
        looked.append(_look(files, index))
        _require_alike(files, looked[0], looked[-1])
    first = looked[0]
    if files.each == "time":
        looked.sort(key=lambda each: each.times[0])
    groups = [looked] if files.each == "time" else [[each] for each in looked]
    parts: list[list[tuple[int, int | None, int]]] = []
    records: list[np.ndarray] = []
    for group in groups:
        members = _require_record(files, group)
        for member in range(members) if first.roles.trajectory else (None,):
            parts.append([(each.index, member, len(each.times)) for each in group])
            records.append(np.concatenate([each.times for each in group]))
    calendars = [each.layout.calendar for each in looked]
    layout = dataclasses.replace(
        first.layout,
        step=_step(records),
        # files from before 1582 say which of the calendars that agree after it
        calendar=next((c for c in calendars if c != STANDARD[0]), first.layout.calendar),
    )
    ends = (min(map(min, records)), max(map(max, records))) if files.trend else None
    layout = dataclasses.replace(layout, months=_months(layout, records), trend=ends)
    return Archive(files, first.roles, layout, parts, records)


def _step(records: list[np.ndarray]) -> float:
    """The mean of the spacings that are near the usual one; 0 where there is none."""
    spacings = np.concatenate([np.diff(record) for record in records])
    if not len(spacings):
        return 0.0
    usual = np.percentile(spacings, 50, method="lower")  # one that occurs
    return float(np.mean(spacings[np.abs(spacings - usual) <= REGULAR * usual]))


class _Looked(NamedTuple):
    """What one file holds."""

    index: int
    roles: Roles
    layout: Layout
    members: int
    times: Float[np.ndarray, " states"]


def _look(files: Files, index: int) -> _Looked:
    path = files.paths[index]
    with open_dataset(path, files.group) as dataset, reading(path):
        _require_variables(files, path, dataset)
        roles = find_roles(files, path, dataset)
        _require_room(path, dataset, roles)
        if (along := times_along(path, dataset, roles.time)) is not None:
            times, calendar, units = time_numbers(path, along)
        else:
            size = dataset.sizes[roles.time]
            times, calendar, units = np.arange(size, dtype=float), None, ""
        axes = tuple(axis_of(path, dataset, d, files.periodic) for d in roles.space)
        layout = Layout(
            channels_of(path, dataset, roles, turns_of(files)),
            axes,
            roles.time,
            calendar=calendar,
            time_units=units,
            constants=constants_of(files.constants, path, dataset, roles.space)
            if index == 0
            else (),
            cycles=files.cycles,
        )
        members = dataset.sizes[roles.trajectory] if roles.trajectory else 0
    require_rising(path, roles.time, times, layout)
    return _Looked(index, roles, layout, members, times)


def _require_variables(files: Files, path: str, dataset: xr.Dataset) -> None:
    """Raises if there are none, but groups that have some."""
    if not dataset.data_vars and files.group is None and (groups := groups_of(path)):
        raise StorageError(
            path,
            f"no variables but in groups: {', '.join(groups)}",
            "one of the groups",
            f"Name it: --data.files.group {groups[0]} (sda-jax inspect: --group).",
        )


def _require_room(path: str, dataset: xr.Dataset, roles: Roles) -> None:
    """Raises `ResourceError` before a state or the times of all are laid out that memory cannot
    hold."""
    state = sum(
        math.prod(n for d, n in dataset[v].sizes.items() if d not in (roles.time, roles.trajectory))
        for v in roles.variables
    )
    steps = dataset.sizes[roles.time]
    largest = max(8 * state, 8 * steps, *(64 * dataset.sizes[d] for d in roles.space), 0)
    require_host_room(
        f"{path}: a state of {state:.3g} numbers and {steps:.3g} times",
        largest,
        "Take a part or a coarser grid of it.",
    )


def _require_alike(files: Files, first: _Looked, other: _Looked) -> None:
    """Raises if two files are not of one set."""
    a, b, path = first.roles, other.roles, files.paths[other.index]
    if (b.time, b.trajectory) != (a.time, a.trajectory):
        raise StorageError(
            path,
            f"the time {b.time} and trajectories along {b.trajectory}",
            f"{a.time} and {a.trajectory}, as in {files.paths[0]}",
            "Rename the dimensions.",
        )
    if (difference := differing(first.layout, other.layout)) is not None:
        what, here, there = difference
        raise StorageError(
            path,
            here,
            f"{what} as in {files.paths[0]}: {there}",
            "Files of one set have the same variables, units and grid.",
        )


def _require_record(files: Files, group: list[_Looked]) -> int:
    """The trajectories of files that follow each other in time.

    Raises:
        StorageError: They have different numbers of trajectories, or do not follow each other.
    """
    roles, layout = group[0].roles, group[0].layout
    counts = {each.members for each in group}
    if len(counts) > 1:
        raise StorageError(
            roles.trajectory or "trajectory", f"{sorted(counts)} trajectories in the files",
            "the same number in each", "Give such files one at a time, or each='trajectory'.",
        )  # fmt: skip
    for before, after in itertools.pairwise(group):
        if after.times[0] <= before.times[-1]:
            raise StorageError(
                files.paths[after.index],
                f"{roles.time} {layout.written(after.times[0])}, not after the last of "
                f"{files.paths[before.index]}, {layout.written(before.times[-1])}",
                "files that follow each other in time",
                "Leave out what is there twice, or set data.files.each to trajectory.",
            )
    return counts.pop()


def _months(layout: Layout, records: list[np.ndarray]) -> int:
    """The calendar months between two states, if there are always as many; otherwise 0."""
    if layout.calendar is None:
        return 0
    found = set()
    for record in records:
        found |= set(np.diff(months_of(layout.dates(record))).tolist())
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
