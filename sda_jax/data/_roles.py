"""Which dimensions of files are time, space and trajectories: as the user says, or by CF
conventions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import xarray as xr

from sda_jax.core._errors import StorageError
from sda_jax.data._conventions import coordinate_along, is_apart, is_space
from sda_jax.data._files import Files
from sda_jax.data._time_coordinates import is_dated, times_along

TIME_NAMES = ("time", "times", "t", "valid_time", "date")
TRAJECTORY_NAMES = ("trajectory", "member", "realization", "ensemble", "number", "sample", "run")
MANY = 32  # channels that a dimension of unknown meaning makes without being asked for


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
        StorageError: A named dimension or variable is missing, none is the time, a dimension has no
            points, the variables do not have the same dimensions of space, or a dimension that
            nothing is known of would make many channels.
    """
    _named(files, path, dataset)
    time = files.time or _time_of(path, dataset)
    variables = _variables_of(files, path, dataset, time)
    dims = list(dict.fromkeys(str(d) for v in variables for d in dataset[v].dims if d != time))
    trajectory = files.trajectory
    if trajectory is None:
        trajectory = next((d for d in dims if d.lower() in TRAJECTORY_NAMES), None)
    dims = [d for d in dims if d != trajectory]
    space = _space_of(files, path, dataset, variables, dims)
    stacked = tuple(d for d in dims if d not in space)
    if empty := [str(d) for d in (time, trajectory, *dims) if d and not dataset.sizes[d]]:
        raise StorageError(
            path,
            f"nothing along {', '.join(empty)}",
            "at least one point along every dimension",
            "A selection left nothing: make the file anew, or leave its variables out.",
        )
    if files.space is None:
        _require_sure(path, dataset, stacked, space)
    known = (*variables, *files.constants)
    left = tuple(str(v) for v in dataset.data_vars if v not in known)
    return Roles(variables, time, space, trajectory, stacked, left)


def _time_of(path: str, dataset: xr.Dataset) -> str:
    """The one dimension with dates as its coordinate; without, with a name of time; without, with a
    variable of dates along it."""
    sizes, coordinates = dataset.sizes, dataset.coords
    dated = [str(d) for d in sizes if d in coordinates and _is_time(coordinates[d])]
    named = [str(d) for d in sizes if str(d).lower() in TIME_NAMES]
    candidates = dated or named
    if not candidates:
        candidates = [
            str(d) for d in sizes
            if d not in coordinates and times_along(path, dataset, str(d)) is not None
        ]  # fmt: skip
    single = [str(n) for n, x in coordinates.items() if x.ndim == 0 and is_dated(x)]
    if not candidates and single:
        raise StorageError(
            path,
            f"one time, {', '.join(single)}, without a dimension",
            "a dimension of time, if only of one state",
            f"Write the file with it: dataset.expand_dims('{single[0]}') in xarray.",
        )
    if len(candidates) != 1:
        raise StorageError(
            path,
            f"{'no' if not candidates else 'more than one'} dimension that looks like time "
            f"among {', '.join(map(str, sizes)) or 'none'}",
            "one with dates, or called time",
            "Say which it is: --data.files.time NAME.",
        )
    return candidates[0]


def _is_time(coordinate: xr.DataArray) -> bool:
    return is_dated(coordinate) or coordinate.attrs.get("axis", "").strip().upper() == "T"


def _variables_of(files: Files, path: str, dataset: xr.Dataset, time: str) -> tuple[str, ...]:
    """Those that the user names, or all that are numbers along time."""
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
    return tuple(variables)


def _space_of(
    files: Files, path: str, dataset: xr.Dataset, variables: tuple[str, ...], dims: list[str]
) -> tuple[str, ...]:
    """Those that the user names, or those of these dimensions that look like space: at most two,
    and every variable along them."""
    space = files.space
    if space is None:
        known = {d: coordinate_along(dataset, d) for d in dims}
        space = tuple(d for d in dims if _is_space(d, known[d]))
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
    return tuple(space)


def _is_space(name: str, coordinate: xr.DataArray | None) -> bool:
    """By its own name and attributes, or as the latitude or longitude along it."""
    if coordinate is None:
        return is_space(name, {})
    return is_space(name, coordinate.attrs) or is_space(str(coordinate.name), coordinate.attrs)


def _require_sure(
    path: str, dataset: xr.Dataset, stacked: tuple[str, ...], space: tuple[str, ...]
) -> None:
    """Raises if dimensions of unknown meaning would make many channels: they may be space."""
    unknown = [d for d in stacked if not is_apart(d, coordinate_along(dataset, d))]
    many = math.prod(dataset.sizes[d] for d in unknown)
    if many > MANY:
        names = ", ".join(f"{d} ({dataset.sizes[d]})" for d in unknown)
        without = " ".join(space) or "with nothing after it"
        raise StorageError(
            path,
            f"{many} channels along dimensions of unknown meaning: {names}",
            f"dimensions that are known, or at most {MANY} channels",
            f"If they are space, say so: --data.files.space {' '.join((*space, *unknown)[:2])}. If "
            f"they are channels, name space without them: --data.files.space {without}.",
        )
