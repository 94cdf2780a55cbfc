"""What tables and gridded files have in common once they are read."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


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
