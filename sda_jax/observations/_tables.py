"""Tables of observed points."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sda_jax.core._errors import ObservationError, StorageError, require_choice
from sda_jax.data._layout import Channel, Layout
from sda_jax.observations._interpolation import METHODS


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


class Rows(NamedTuple):
    """Observed numbers, whatever file they came from.

    Attributes:
        times, coordinates, channels: Where they are, with an array for each axis of space.
        values, std: What was seen, NaN where nothing, and its noise.
        where: From a row to its place in the file, for people.
        unread: What was not even looked at, for the report.
    """

    times: np.ndarray
    coordinates: list[np.ndarray]
    channels: np.ndarray
    values: np.ndarray
    std: np.ndarray
    where: Any
    unread: str = ""


def read_table(source: Points, layout: Layout) -> Rows:
    """The rows of a table, all of them.

    Raises:
        StorageError: No such table, no rows, or a column is missing.
        ObservationError: A row is impossible or there twice.
    """
    path = Path(source.path)
    if not path.is_file():
        raise StorageError(source.path, "no such file", "a CSV or Parquet table", "Check the path.")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            table = pd.read_parquet(path)
            first = 0
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)  # too many fields
                table = pd.read_csv(
                    path, dtype=str, keep_default_na=False, skipinitialspace=True,
                    index_col=False, skip_blank_lines=False,
                )  # fmt: skip
            table = table[~(table.isna() | (table == "")).all(axis=1)]
            first = 2  # the line in the file of what pandas counts as row 0
    except (
        ValueError, OSError, ImportError, pd.errors.ParserError, pd.errors.ParserWarning
    ) as error:  # fmt: skip
        raise StorageError(
            source.path,
            f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
            "a CSV or Parquet table with a header",
            "Check the file.",
        ) from error
    if table.empty:
        raise StorageError(source.path, "no rows", "at least one observation", "Check the file.")

    def line(row: int) -> str:
        return f"line {int(table.index[row]) + first}"

    _require_distinct(source.path, table, line)

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
                    f"{source.path}, {line(row)}, {label}",
                    repr(stripped.iloc[row]),
                    "a number",
                    "Correct the row, or leave the value empty if nothing was seen.",
                )
        wrong = np.isinf(found) if missing else ~np.isfinite(found)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ObservationError(
                f"{source.path}, {line(row)}, {label}",
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
            f"{source.path}, {line(row)}, std", std[row], "above zero", "Correct the row."
        )
    channels = _channels_of(source, layout, table, column, line)
    coordinates = [numbers(axis.name) for axis in layout.axes]
    return Rows(times, coordinates, channels, values, std, line)


def _require_distinct(path: str, table: pd.DataFrame, line: Any) -> None:
    again = table.duplicated().to_numpy()
    if again.any():
        raise ObservationError(
            f"{path}, {line(int(np.argmax(again)))}",
            f"a row that is there before; {int(again.sum())} such rows",
            "every observation once",
            "Remove the others: they would count twice.",
        )


def _channels_of(
    source: Points, layout: Layout, table: pd.DataFrame, column: Any, line: Any
) -> np.ndarray:
    """The channel of every row, by variable and place, its units compared."""
    dimensions = list(dict.fromkeys(d for c in layout.channels for d, _ in c.at))
    several = len({c.name for c in layout.channels}) > 1
    everywhere = [d for d in dimensions if all(d in dict(c.at) for c in layout.channels)]
    needed = ["variable"] * several + everywhere
    names = [
        name
        for name in ("variable", *dimensions)
        if name in needed or source.columns.get(name, name) in table
    ]
    texts = [column(name).astype(str).str.strip().to_numpy(object) for name in names]
    known: dict[tuple[str, ...], int] = {}
    found = np.zeros(len(table), int)
    for row, wanted in enumerate(zip(*texts, strict=True) if names else ()):
        if wanted not in known:
            given = dict(zip(names, wanted, strict=True))
            fits = [i for i, c in enumerate(layout.channels) if _is_of(given, c)]
            if len(fits) != 1:
                said = ", ".join(f"{n} {w!r}" for n, w in given.items())
                raise ObservationError(
                    f"{source.path}, {line(row)}",
                    said,
                    "one of the prior's: " + ", ".join(c.label for c in layout.channels),
                    "Correct or remove the row.",
                )
            known[wanted] = fits[0]
        found[row] = known[wanted]
    called = source.columns.get("units", "units")
    if called in table:
        for row, units in enumerate(table[called].astype(str).str.strip()):
            ours = layout.channels[found[row]].units
            if units and ours and units != ours:
                raise ObservationError(
                    f"{source.path}, {line(row)}, {called}",
                    repr(units),
                    f"{ours!r}, in which the prior has {layout.channels[found[row]].name}",
                    "Convert the values.",
                )
    return found


def _is_of(given: dict[str, str], channel: Channel) -> bool:
    """Whether a row's variable and place are a channel's."""
    if given.get("variable", channel.name) != channel.name:
        return False
    return all(d in given and _same(given[d], label) for d, label in channel.at)


def _same(text: str, label: Any) -> bool:
    """Whether a text names a label: numbers by their value, so that 850 is 850.0, texts as they
    are."""
    if isinstance(label, str):
        return text == label
    try:
        return float(text) == float(label)
    except ValueError:
        return False
