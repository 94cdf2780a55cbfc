"""Observations from files: tables of points, gridded data sets, and operators of one's own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sda_jax.archive import open_dataset, time_numbers
from sda_jax.errors import ObservationError, StorageError, require_choice
from sda_jax.interpolation import METHODS, Interpolate, interpolation
from sda_jax.layout import Layout
from sda_jax.observation import Observation, combine

COLUMNS = ("time", "variable", "value", "std", "units")  # beside those of the layout's axes


@dataclass(frozen=True)
class Points:
    """A CSV or Parquet table, a row for each observed number.

    Columns: `time`; one for each dimension of space, by its name; `variable`, and a column for each
    dimension that became channels (where there is more than one channel); `value`; `std`; and, if
    there, `units`. Others are not looked at.

    Attributes:
        path: The table.
        std: Of all rows, where there is no such column.
        columns: What the table calls a column that is expected under another name.
        method: "linear" or "nearest" interpolation of the states.
    """

    path: str
    std: float | None = None
    columns: dict[str, str] = field(default_factory=dict)
    method: str = "linear"

    def __post_init__(self) -> None:
        require_choice("method", self.method, METHODS)


@dataclass(frozen=True)
class Gridded:
    """A NetCDF, HDF5 or Zarr file with the prior's variables on a grid of its own, NaN where
    nothing was seen.

    Attributes:
        path: The file.
        std: Of the noise: a number, or one for each variable by name; for those left out, the
            file's variable `<name>_std`.
        group: Inside the file.
        method: "linear" or "nearest" interpolation of the states.
    """

    path: str
    std: Any = None
    group: str | None = None
    method: str = "linear"

    def __post_init__(self) -> None:
        require_choice("method", self.method, METHODS)


@dataclass(frozen=True)
class Operated:
    """An operator of one's own with its y.

    Attributes:
        operator: `module:function`, importable or a file in the working folder: a JAX function of a
            trajectory `(L, *S)` in physical units.
        path: Of y: `.npy`, or a file with one variable.
        std: Of the noise.
    """

    operator: str
    path: str
    std: float


class Used(NamedTuple):
    """What was made of a source of observations.

    Attributes:
        observation: In physical units.
        report: How many numbers are used, and why others are not; a line each.
    """

    observation: Observation
    report: str


class _Rows(NamedTuple):
    """Observed numbers, whatever file they came from."""

    times: np.ndarray
    coordinates: list[np.ndarray]
    channels: np.ndarray
    values: np.ndarray
    std: np.ndarray
    where: Any  # from a row to its place in the file, for people


def read(source: Points | Gridded | Operated, layout: Layout, start: float, length: int) -> Used:
    """The observation in a file.

    Args:
        source: The file and how to take it.
        layout: Of the prior's states.
        start: Time of the trajectory's first state, as the layout's number.
        length: States of the trajectory.

    Raises:
        StorageError: The file is missing or damaged, or columns are.
        ObservationError: Its contents are impossible, or none of them can be used.
    """
    if isinstance(source, Operated):
        return _operated(source)
    rows = _table(source, layout) if isinstance(source, Points) else _grid(source, layout)
    seen = ~np.isnan(rows.values)
    found = interpolation(
        layout, start, length, rows.times, rows.coordinates, rows.channels, source.method
    )
    used, lines = seen.copy(), []
    for reason, out in [("no value", ~seen), *found.reasons]:
        new = out & (used | ~seen) if reason == "no value" else out & used
        if new.any():
            first = rows.where(int(np.argmax(new)))
            lines.append(f"  left out: {int(new.sum())} {reason} (the first: {first})")
        used &= ~out
    if not used.any():
        raise ObservationError(
            source.path,
            f"none of {len(used)} values that can be used:\n" + "\n".join(lines) + "\n",
            "observations of the trajectory asked for",
            "Check the period, the coordinates and their units.",
        )
    operator = Interpolate(found.indices[used], found.weights[used], (length, *layout.state_shape))
    observation = Observation(
        rows.values[used].astype(np.float32), operator, std=rows.std[used].astype(np.float32)
    )
    head = f"{source.path}: {int(used.sum())} of {len(used)} values used"
    return Used(observation, "\n".join([head, *lines]))


def read_all(
    sources: Sequence[Points | Gridded | Operated], layout: Layout, start: float, length: int
) -> Used:
    """One observation of all sources, with their own noise each; see `read`."""
    if not sources:
        raise ObservationError(
            "sources", "none", "at least one file of observations", "Give --points or --gridded."
        )
    found = [read(source, layout, start, length) for source in sources]
    observation = (
        found[0].observation if len(found) == 1 else combine(*(u.observation for u in found))
    )
    return Used(observation, "\n".join(u.report for u in found))


def _table(source: Points, layout: Layout) -> _Rows:
    path = Path(source.path)
    if not path.is_file():
        raise StorageError(source.path, "no such file", "a CSV or Parquet table", "Check the path.")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            table = pd.read_parquet(path)
            first = 0
        else:
            table = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
            first = 2  # the row's line in the file
    except (ValueError, OSError, ImportError, pd.errors.ParserError) as error:
        raise StorageError(
            source.path,
            f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
            "a CSV or Parquet table with a header",
            "Check the file.",
        ) from error
    if table.empty:
        raise StorageError(source.path, "no rows", "at least one observation", "Check the file.")
    _require_distinct(source.path, table, first)

    def column(name: str) -> pd.Series:
        called = source.columns.get(name, name)
        if called not in table:
            raise StorageError(
                source.path,
                f"columns {', '.join(map(str, table.columns))}",
                f"one called {called}",
                f"Add it, or say what it is called: --columns {name}=NAME.",
            )
        return table[called]

    def numbers(name: str, missing: bool = False) -> np.ndarray:
        texts = column(name)
        label = source.columns.get(name, name)
        if texts.dtype.kind in "iufb":
            found = texts.to_numpy(float)
        else:
            stripped = texts.astype(str).str.strip()
            empty = stripped.str.lower().isin(["", "nan", "na", "null", "none"]).to_numpy()
            found = pd.to_numeric(stripped.where(~empty), errors="coerce").to_numpy(float)
            bad = np.isnan(found) & ~empty
            if bad.any():
                row = int(np.argmax(bad))
                raise ObservationError(
                    f"{source.path}, line {row + first}, {label}",
                    repr(stripped.iloc[row]),
                    "a number",
                    "Correct the row, or leave the value empty if nothing was seen.",
                )
        wrong = np.isinf(found) if missing else ~np.isfinite(found)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ObservationError(
                f"{source.path}, line {row + first}, {label}",
                "nothing" if np.isnan(found[row]) else f"{found[row]}",
                "a finite number",
                "Fill in or remove the row.",
            )
        return found

    label = f"{source.path}, column {source.columns.get('time', 'time')}"
    stamps = column("time")
    times = layout.numbers(
        stamps.to_numpy() if stamps.dtype.kind in "iufM" else stamps.to_numpy(object), label
    )
    values = numbers("value", missing=True)
    std_there = source.columns.get("std", "std") in table
    if not std_there and source.std is None:
        raise ObservationError(
            source.path, "no column std", "the noise of every value", "Add it, or give --std."
        )
    std = numbers("std") if std_there else np.full(len(table), source.std, float)
    if not (std > 0).all():
        row = int(np.argmin(std > 0))
        raise ObservationError(
            f"{source.path}, line {row + first}, std", std[row], "above zero", "Correct the row."
        )
    channels = _channels_of(source, layout, table, column, first)
    coordinates = [numbers(axis.name) for axis in layout.axes]
    return _Rows(times, coordinates, channels, values, std, lambda row: f"line {row + first}")


def _require_distinct(path: str, table: pd.DataFrame, first: int) -> None:
    again = table.duplicated().to_numpy()
    if again.any():
        raise ObservationError(
            f"{path}, line {int(np.argmax(again)) + first}",
            f"a row that is there before; {int(again.sum())} such rows",
            "every observation once",
            "Remove the others: they would count twice.",
        )


def _channels_of(
    source: Points, layout: Layout, table: pd.DataFrame, column: Any, first: int
) -> np.ndarray:
    """The channel of every row, by variable and place, its units compared."""
    rows = len(table)
    names = ["variable"] if len({c.name for c in layout.channels}) > 1 else []
    names += list(dict.fromkeys(d for c in layout.channels for d, _ in c.at))
    if not names and source.columns.get("variable", "variable") in table:
        names = ["variable"]
    texts = [column(name).astype(str).str.strip().to_numpy(object) for name in names]

    def key(values: dict[str, Any]) -> tuple[str, ...]:
        return tuple(_text(values[name]) for name in names)

    known = {key({"variable": c.name, **dict(c.at)}): i for i, c in enumerate(layout.channels)}
    found = np.zeros(rows, int)
    for row in range(rows):
        wanted = key({name: text[row] for name, text in zip(names, texts, strict=True)})
        if wanted not in known:
            said = ", ".join(f"{n} {w!r}" for n, w in zip(names, wanted, strict=True))
            raise ObservationError(
                f"{source.path}, line {row + first}",
                said,
                "one of the prior's: " + ", ".join(c.label for c in layout.channels),
                "Correct or remove the row.",
            )
        found[row] = known[wanted]
    called = source.columns.get("units", "units")
    if called in table:
        for row, units in enumerate(table[called].astype(str).str.strip()):
            ours = layout.channels[found[row]].units
            if units and ours and units != ours:
                raise ObservationError(
                    f"{source.path}, line {row + first}, {called}",
                    repr(units),
                    f"{ours!r}, in which the prior has {layout.channels[found[row]].name}",
                    "Convert the values.",
                )
    return found


def _text(value: Any) -> str:
    """A number in one way of writing, so that 850 and 850.0 are one level."""
    try:
        return f"{float(value):g}"
    except (TypeError, ValueError):
        return str(value)


def _grid(source: Gridded, layout: Layout) -> _Rows:
    with open_dataset(source.path, source.group) as dataset:
        for name in (layout.time, *(axis.name for axis in layout.axes)):
            if name not in dataset.coords:
                raise StorageError(
                    source.path,
                    f"coordinates {', '.join(map(str, dataset.coords)) or 'none'}",
                    f"{name}, as the prior's states have it",
                    "Rename the coordinate in the file, or add it.",
                )
        names = [
            v for v in dict.fromkeys(c.name for c in layout.channels) if v in dataset.data_vars
        ]
        if not names:
            raise StorageError(
                source.path,
                f"the variables {', '.join(map(str, dataset.data_vars)) or 'none'}",
                f"one of {', '.join(dict.fromkeys(c.name for c in layout.channels))}",
                "Rename the variable in the file.",
            )
        times, calendar, _ = time_numbers(source.path, dataset.coords[layout.time])
        if calendar != layout.calendar:
            raise ObservationError(
                f"{source.path}, {layout.time}",
                f"times of the calendar {calendar}",
                f"{layout.calendar}, as the prior's",
                "Convert the times.",
            )
        parts = []
        for i, channel in enumerate(layout.channels):
            if channel.name not in names:
                continue
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
            values = x.transpose(*dims).values.astype(float)
            std = noise.transpose(*dims).values if np.ndim(noise) else np.full(x.shape, noise)
            parts.append((i, values, np.broadcast_to(std, values.shape).astype(float)))
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

    return _Rows(
        np.tile(places[0].ravel(), len(parts)),
        [np.tile(p.ravel(), len(parts)) for p in places[1:]],
        np.repeat([i for i, _, _ in parts], size),
        values,
        np.where(seen, std, 1.0),
        where,
    )


def _noise(source: Gridded, dataset: Any, name: str) -> Any:
    if isinstance(source.std, (int, float)):
        return float(source.std)
    if isinstance(source.std, dict) and name in source.std:
        return float(source.std[name])
    if f"{name}_std" in dataset:
        return dataset[f"{name}_std"]
    raise ObservationError(
        f"{source.path}, {name}",
        "no std",
        f"the noise of every value: a number, or a variable {name}_std",
        "Give --std.",
    )


def _operated(source: Operated) -> Used:
    module, colon, name = source.operator.partition(":")
    expected = "module:function, a JAX function of a trajectory"
    if not colon:
        raise ObservationError("operator", repr(source.operator), expected, "Write both names.")
    sys.path.insert(0, str(Path.cwd()))
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise ObservationError(
            "operator", repr(source.operator), expected, f"Importing it says: {error}."
        ) from error
    finally:
        sys.path.remove(str(Path.cwd()))
    y = _array(source.path)
    observation = Observation(y, function, std=source.std)
    seen = int((~np.isnan(y)).sum())
    return Used(observation, f"{source.path}: {seen} of {y.size} values used, by {source.operator}")


def _array(path: str) -> np.ndarray:
    if not path.endswith(".npy"):
        with open_dataset(path) as dataset:
            names = list(dataset.data_vars)
            if len(names) != 1:
                raise StorageError(path, f"variables {names}", "one, which is y", "Keep y alone.")
            return dataset[names[0]].values.astype(np.float32)
    try:
        return np.load(path, allow_pickle=False).astype(np.float32)
    except (OSError, ValueError) as error:
        raise StorageError(path, f"{error}", "a .npy file of numbers", "Write it anew.") from error
