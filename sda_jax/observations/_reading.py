"""Observations from files: tables of points, gridded data sets, and y of any operator."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sda_jax.core._errors import ObservationError, StorageError
from sda_jax.core._numbers import real_array
from sda_jax.core._registry import import_named
from sda_jax.data._layout import Layout
from sda_jax.data._opening import open_dataset
from sda_jax.data._values import read_values
from sda_jax.observations._angles import as_measured, rows_in_components
from sda_jax.observations._combining import combine
from sda_jax.observations._gridded import Gridded, read_grid
from sda_jax.observations._interpolation import Interpolate, interpolation, require_around
from sda_jax.observations._observation import Observation
from sda_jax.observations._tables import Points, read_table

__all__ = ["Gridded", "OperatorSource", "Points", "ReadResult", "read", "read_all"]


@dataclass(frozen=True)
class OperatorSource:
    """An operator that a user wrote, with its y.

    Attributes:
        operator: `module:function`, importable or a file in the working folder: a JAX function of a
            trajectory `(L, *S)` in physical units.
        path: Of y: `.npy`, or a file with one variable.
        std: Of the noise.
    """

    operator: str
    path: str
    std: float


class ReadResult(NamedTuple):
    """What was made of a source of observations.

    Attributes:
        observation: In physical units.
        report: How many numbers are used, and why others are not; a line each.
        code: A hash of the module that an `OperatorSource`'s operator is in.
    """

    observation: Observation
    report: str
    code: str = ""


def read(
    source: Points | Gridded | OperatorSource, layout: Layout, start: float, length: int
) -> ReadResult:
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
    if isinstance(source, OperatorSource):
        return _by_operator(source)
    measured, own = as_measured(layout)
    if isinstance(source, Points):
        rows = read_table(source, measured)
    else:
        rows = read_grid(source, measured, start, length)
    rows = rows_in_components(rows, layout, own)
    for axis, places in zip(layout.axes, rows.coordinates, strict=True):
        require_around(axis, places, lambda row: f"{source.path}, {rows.where(row)}")
    lines = [f"  not read: {rows.unread}"] * bool(rows.unread)
    missing = np.flatnonzero(np.isnan(rows.values))
    if len(missing):
        where = rows.where(int(missing[0]))
        lines.append(f"  left out: {len(missing)} no value (the first: {where})")
    seen = np.flatnonzero(~np.isnan(rows.values))
    places = [x[seen] for x in rows.coordinates]
    found = interpolation(
        layout, start, length, rows.times[seen], places, rows.channels[seen], source.method
    )
    used = np.ones(len(seen), bool)
    for reason, out in found.reasons:
        new = out & used
        if new.any():
            where = rows.where(int(seen[np.argmax(new)]))
            lines.append(f"  left out: {int(new.sum())} {reason} (the first: {where})")
        used &= ~out
    if not used.any():
        raise ObservationError(
            source.path,
            f"none of {len(rows.values)} values that can be used:\n" + "\n".join(lines) + "\n",
            "observations of the trajectory asked for",
            "Check the period, the coordinates and their units.",
        )
    operator = Interpolate(found.indices[used], found.weights[used], (length, *layout.state_shape))
    observation = Observation(
        rows.values[seen[used]].astype(np.float32),
        operator,
        std=rows.std[seen[used]].astype(np.float32),
    )
    head = f"{source.path}: {int(used.sum())} of {len(rows.values)} values used"
    return ReadResult(observation, "\n".join([head, *lines]))


def read_all(
    sources: Sequence[Points | Gridded | OperatorSource], layout: Layout, start: float, length: int
) -> ReadResult:
    """One observation of all sources, with their own noise each; see `read`."""
    if not sources:
        raise ObservationError(
            "sources", "none", "at least one file of observations", "Give --points or --gridded."
        )
    results = [read(source, layout, start, length) for source in sources]
    observation = (
        results[0].observation if len(results) == 1 else combine(*(r.observation for r in results))
    )
    reports, codes = "\n".join(r.report for r in results), "".join(r.code for r in results)
    return ReadResult(observation, reports, codes)


def _by_operator(source: OperatorSource) -> ReadResult:
    expected = "module:function, a JAX function of a trajectory"
    function, module = import_named("operator", source.operator, expected, ObservationError)
    y = _array(source.path)
    observation = Observation(y, function, std=source.std)
    seen = int((~np.isnan(y)).sum())
    code = hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest()
    report = f"{source.path}: {seen} of {y.size} values used, by {source.operator}"
    return ReadResult(observation, report, code)


def _array(path: str) -> np.ndarray:
    if not path.endswith(".npy"):
        with open_dataset(path) as dataset:
            names = list(dataset.data_vars)
            if len(names) != 1:
                raise StorageError(path, f"variables {names}", "one, which is y", "Keep y alone.")
            values = read_values(path, dataset[names[0]])
            return np.asarray(real_array(path, values, ObservationError))
    try:
        y = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise StorageError(path, f"{error}", "a .npy file of numbers", "Write it anew.") from error
    return np.asarray(real_array(path, y, ObservationError))
