"""Tables of observed points."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sda_jax.core._errors import ObservationError, StorageError, require_choice
from sda_jax.data._layout import Channel, Layout
from sda_jax.observations._interpolation import METHODS
from sda_jax.observations._rows import Rows
from sda_jax.observations._table_files import hashable, open_table


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


def read_table(source: Points, layout: Layout) -> Rows:
    """The rows of a table, all of them.

    Raises:
        StorageError: No such table, no rows, or a column is missing.
        ObservationError: A row is impossible or there twice.
    """
    table = _Table(source, *open_table(source.path))
    stamps = table.column("time")
    times = layout.numbers(
        stamps.to_numpy() if stamps.dtype.kind in "iufM" else stamps.to_numpy(object),
        f"{source.path}, column {table.called('time')}",
    )
    values = table.numbers("value", missing=True)
    std = _noise(table)
    channels = _channels_of(table, layout)
    coordinates = [table.numbers(axis.name) for axis in layout.axes]
    table.require_distinct()
    return Rows(times, coordinates, channels, values, std, table.line)


class _Table(NamedTuple):
    """A table and what its columns are called.

    Attributes:
        source: The file and how to take it.
        rows: Those that are not blank.
        first: The line in the file of what pandas counts as row 0.
    """

    source: Points
    rows: pd.DataFrame
    first: int

    def line(self, row: int) -> str:
        """Where a row is in the file, for people."""
        return f"line {int(self.rows.index[row]) + self.first}"

    def called(self, name: str) -> str:
        """What the table calls a column."""
        return self.source.columns.get(name, name)

    def column(self, name: str) -> pd.Series:
        """A column, which must be there."""
        called = self.called(name)
        if called not in self.rows:
            raise StorageError(
                self.source.path,
                f"columns {', '.join(map(str, self.rows.columns))}",
                f"one called {called}",
                f"Add it, or say what it is called: --columns {name}=NAME.",
            )
        if list(self.rows.columns).count(called) > 1:
            raise StorageError(
                self.source.path,
                f"several columns called {called}",
                "one",
                f"Rename or remove the others, or give --columns {name}=NAME.",
            )
        return self.rows[called]

    def numbers(self, name: str, missing: bool = False) -> np.ndarray:
        """A column of finite numbers; NaN where one is missing, if that may be."""
        texts = self.column(name)
        if texts.dtype.kind == "b":
            raise ObservationError(
                f"{self.source.path}, {self.called(name)}",
                "truth values",
                "numbers",
                "Convert the column, if they are meant as 0 and 1.",
            )
        if texts.dtype.kind in "iuf":
            numbers = texts.to_numpy(float, na_value=np.nan)
        else:
            stripped = texts.astype(str).str.strip()
            nothing = stripped.str.lower().isin(["", "nan", "na", "null", "none"])
            empty = (texts.isna() | nothing).to_numpy()
            numbers = pd.to_numeric(stripped.where(~empty), errors="coerce").to_numpy(float)
            bad = np.isnan(numbers) & ~empty
            if bad.any():
                row = int(np.argmax(bad))
                raise ObservationError(
                    f"{self.source.path}, {self.line(row)}, {self.called(name)}",
                    repr(stripped.iloc[row]),
                    "a number",
                    "Correct the row, or leave the value empty if nothing was seen.",
                )
        wrong = np.isinf(numbers) if missing else ~np.isfinite(numbers)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ObservationError(
                f"{self.source.path}, {self.line(row)}, {self.called(name)}",
                "nothing" if np.isnan(numbers[row]) else f"{numbers[row]}",
                "a finite number",
                "Fill in or remove the row.",
            )
        return numbers

    def require_distinct(self) -> None:
        """Raises if a row is there twice."""
        again = hashable(self.rows).duplicated().to_numpy()
        if again.any():
            raise ObservationError(
                f"{self.source.path}, {self.line(int(np.argmax(again)))}",
                f"a row that is there before; {int(again.sum())} such rows",
                "every observation once",
                "Remove the others: they would count twice.",
            )


def _noise(table: _Table) -> np.ndarray:
    """The standard deviation of every row's noise."""
    path, given = table.source.path, table.source.std
    there = table.called("std") in table.rows
    if not there and given is None:
        raise ObservationError(
            path, "no column std", "the noise of every value", "Add it, or give --std."
        )
    std = table.numbers("std") if there else np.full(len(table.rows), given, float)
    if not (std > 0).all():
        row = int(np.argmin(std > 0))
        raise ObservationError(
            f"{path}, {table.line(row)}, std", std[row], "above zero", "Correct the row."
        )
    return std


def _channels_of(table: _Table, layout: Layout) -> np.ndarray:
    """The channel of every row, by variable and place, its units compared."""
    dimensions = list(dict.fromkeys(d for c in layout.channels for d, _ in c.at))
    several = len({c.name for c in layout.channels}) > 1
    labels = {d: [dict(c.at)[d] for c in layout.channels if d in dict(c.at)] for d in dimensions}
    everywhere = [
        d for d, at in labels.items() if len(at) == len(layout.channels) and len(set(at)) > 1
    ]
    needed = ["variable"] * several + everywhere
    names = [
        name
        for name in ("variable", *dimensions)
        if name in needed or table.called(name) in table.rows
    ]
    texts = [table.column(name).astype(str).str.strip().to_numpy(object) for name in names]
    known: dict[tuple[str, ...], int] = {}
    channels = np.zeros(len(table.rows), int)
    for row, wanted in enumerate(zip(*texts, strict=True) if names else ()):
        if wanted not in known:
            given = dict(zip(names, wanted, strict=True))
            fits = [i for i, c in enumerate(layout.channels) if _is_of(given, c)]
            if len(fits) != 1:
                said = ", ".join(f"{n} {w!r}" for n, w in given.items())
                raise ObservationError(
                    f"{table.source.path}, {table.line(row)}",
                    said,
                    "one of the prior's: " + ", ".join(c.label for c in layout.channels),
                    "Correct or remove the row.",
                )
            known[wanted] = fits[0]
        channels[row] = known[wanted]
    _require_units(table, layout, channels)
    return channels


def _require_units(table: _Table, layout: Layout, channels: np.ndarray) -> None:
    """Raises if a row has other units than its channel."""
    called = table.called("units")
    if called not in table.rows:
        return
    for row, units in enumerate(table.column("units").astype(str).str.strip()):
        channel = layout.channels[channels[row]]
        if units and channel.units and units != channel.units:
            raise ObservationError(
                f"{table.source.path}, {table.line(row)}, {called}",
                repr(units),
                f"{channel.units!r}, in which the prior has {channel.name}",
                "Convert the values.",
            )


def _is_of(given: dict[str, str], channel: Channel) -> bool:
    """Whether a row's variable and place are a channel's."""
    if given.get("variable", channel.name) != channel.name:
        return False
    return all(d not in given or _same(given[d], label) for d, label in channel.at)


def _same(text: str, label: Any) -> bool:
    """Whether a text names a label: numbers by their value, so that 850 is 850.0, texts as they
    are."""
    if isinstance(label, str):
        return text == label.strip()
    try:
        return float(text) == float(label)
    except ValueError:
        return False
