"""Observations from files: tables of points, gridded data sets, and y of any operator."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sda_jax.core._errors import ObservationError, StorageError
from sda_jax.core._numbers import real_array
from sda_jax.core._registry import import_named
from sda_jax.core._transforms import Transform
from sda_jax.core._units import Standardisation
from sda_jax.data._layout import Layout
from sda_jax.data._opening import open_dataset
from sda_jax.data._transforms import beyond_turns
from sda_jax.data._values import read_values
from sda_jax.observations._angles import as_measured, rows_in_components
from sda_jax.observations._combining import combine
from sda_jax.observations._gridded import Gridded, read_grid
from sda_jax.observations._interpolation import Interpolate, interpolation, require_around
from sda_jax.observations._observation import Observation
from sda_jax.observations._rows import Rows
from sda_jax.observations._tables import Points, read_table

__all__ = ["Gridded", "OperatorSource", "Points", "ReadResult", "read", "read_all"]

NOISE = 5.0  # standard deviations, beyond which a value is no observation


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
        numbers: Which number of the files each element of y is of: an angle makes two elements.
        code: A hash of the module that an `OperatorSource`'s operator is in.
    """

    observation: Observation
    report: str
    numbers: np.ndarray
    code: str = ""


def read(
    source: Points | Gridded | OperatorSource,
    layout: Layout,
    start: float,
    length: int,
    units: Standardisation = Standardisation(),
) -> ReadResult:
    """The observation in a file.

    Args:
        source: The file and how to take it.
        layout: Of the prior's states.
        start: Time of the trajectory's first state, as the layout's number.
        length: States of the trajectory.
        units: Of the prior: with its transforms, outside of which there is nothing to observe.

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
    _require_possible(source.path, rows, measured, own, layout, units)
    total = len(rows.values)
    rows, origins = rows_in_components(rows, layout, own)

    def count(out: np.ndarray) -> int:
        return len(np.unique(origins[out]))

    for axis, places in zip(layout.axes, rows.coordinates, strict=True):
        require_around(axis, places, lambda row: f"{source.path}, {rows.where(row)}")
    lines = [f"  not read: {rows.unread}"] * bool(rows.unread)
    missing = np.flatnonzero(np.isnan(rows.values))
    if len(missing):
        where = rows.where(int(missing[0]))
        lines.append(f"  left out: {count(missing)} no value (the first: {where})")
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
            lines.append(f"  left out: {count(seen[new])} {reason} (the first: {where})")
        used &= ~out
    if not used.any():
        raise ObservationError(
            source.path,
            f"none of {total} values that can be used:\n" + "\n".join(lines) + "\n",
            "observations of the trajectory asked for",
            "Check the period, the coordinates and their units.",
        )
    operator = Interpolate(found.indices[used], found.weights[used], (length, *layout.state_shape))
    observation = Observation(
        rows.values[seen[used]].astype(np.float32),
        operator,
        std=rows.std[seen[used]].astype(np.float32),
    )
    numbers = origins[seen[used]]
    head = f"{source.path}: {len(np.unique(numbers))} of {total} values used"
    return ReadResult(observation, "\n".join([head, *lines]), numbers)


def _require_possible(
    path: str,
    rows: Rows,
    measured: Layout,
    own: list[tuple[int, ...]],
    layout: Layout,
    units: Standardisation,
) -> None:
    """Raises `ObservationError` for a value of rows as measured that its channel cannot have: no
    angle, or further outside of where a transform is defined than noise takes it."""
    for c, (first, *_) in enumerate(own):
        circular = layout.channels[first].circular
        transform = None if units.transforms is None else units.transforms[first]
        here = np.flatnonzero((rows.channels == c) & ~np.isnan(rows.values))
        values, std = rows.values[here], rows.std[here]
        if circular is not None:
            wrong = beyond_turns(values, circular[1])
            expected = f"an angle, of which {circular[1]:g} is a full turn"
        elif transform is not None:
            wrong = _undefined(transform, values, std)
            expected = f"one within {NOISE:g} times its noise of where {transform} is defined"
        else:
            continue
        if wrong.any():
            i = int(np.argmax(wrong))
            noise = "" if transform is None else f" (noise {std[i]:g})"
            raise ObservationError(
                f"{path}, {rows.where(int(here[i]))}",
                f"{measured.channels[c].label} {values[i]:g}" + noise,
                expected,
                "Correct it, or leave it empty if nothing was seen.",
            )


def _undefined(transform: Transform, values: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Which values a transform is not defined for, nor for what is within their noise."""
    within = values + np.array([[-NOISE], [0.0], [NOISE]]) * std
    with jax.debug_nans(False):  # NaN is what is asked for
        found = np.asarray(transform.forward(jnp.asarray(within)))
    return np.all(~np.isfinite(found), axis=0)


def read_all(
    sources: Sequence[Points | Gridded | OperatorSource],
    layout: Layout,
    start: float,
    length: int,
    units: Standardisation = Standardisation(),
) -> ReadResult:
    """One observation of all sources, with their own noise each; see `read`."""
    if not sources:
        raise ObservationError(
            "sources", "none", "at least one file of observations", "Give --points or --gridded."
        )
    results = [read(source, layout, start, length, units) for source in sources]
    observation = (
        results[0].observation if len(results) == 1 else combine(*(r.observation for r in results))
    )
    reports, codes = "\n".join(r.report for r in results), "".join(r.code for r in results)
    first = np.cumsum([0, *(1 + np.max(r.numbers, initial=0) for r in results)])
    numbers = [r.numbers + n for r, n in zip(results, first, strict=False)]
    return ReadResult(observation, reports, np.concatenate(numbers), codes)


def _by_operator(source: OperatorSource) -> ReadResult:
    expected = "module:function, a JAX function of a trajectory"
    function, module = import_named("operator", source.operator, expected, ObservationError)
    y = _array(source.path)
    observation = Observation(y, function, std=source.std)
    seen = int((~np.isnan(y)).sum())
    code = hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest()
    report = f"{source.path}: {seen} of {y.size} values used, by {source.operator}"
    return ReadResult(observation, report, np.arange(y.size), code)


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
