"""Observations from files: tables of points, gridded data sets, and operators of one's own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sda_jax.conventions import open_dataset
from sda_jax.errors import ObservationError, StorageError
from sda_jax.gridded import Gridded, read_grid
from sda_jax.interpolation import Interpolate, interpolation
from sda_jax.layout import Layout
from sda_jax.observation import Observation, combine
from sda_jax.tables import Points, read_table

__all__ = ["Gridded", "Operated", "Points", "Used", "read", "read_all"]


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
    rows = read_table(source, layout) if isinstance(source, Points) else read_grid(source, layout)
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
