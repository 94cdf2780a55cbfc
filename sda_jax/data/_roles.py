"""Which dimensions of files are time, space and trajectories: as the user says, or by CF
conventions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import xarray as xr

from sda_jax.core._errors import StorageError
from sda_jax.data._files import Files
from sda_jax.data._times import is_time

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
    time = files.time or _time_of(path, dataset)
    variables = _variables_of(files, path, dataset, time)
    dims = list(dict.fromkeys(str(d) for v in variables for d in dataset[v].dims if d != time))
    trajectory = files.trajectory
    if trajectory is None:
        trajectory = next((d for d in dims if d.lower() in TRAJECTORY_NAMES), None)
    dims = [d for d in dims if d != trajectory]
    space = _space_of(files, path, dataset, variables, dims)
    stacked = tuple(d for d in dims if d not in space)
    known = (*variables, *files.constants)
    left = tuple(str(v) for v in dataset.data_vars if v not in known)
    return Roles(variables, time, space, trajectory, stacked, left)


def _time_of(path: str, dataset: xr.Dataset) -> str:
    """The one dimension with dates, or with a name of time."""
    sizes, coordinates = dataset.sizes, dataset.coords
    dated = [str(d) for d in sizes if d in coordinates and is_time(coordinates[d])]
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
    return candidates[0]


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
        coordinates = dataset.coords
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
    return tuple(space)
