"""Observation files (HDF5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sda_jax.core._component import is_component
from sda_jax.core._errors import ConfigError, StorageError, require_at_most
from sda_jax.core._json import dumps, loads
from sda_jax.core._numbers import whole_number
from sda_jax.core._registry import registry
from sda_jax.core._requirements import require_untraced
from sda_jax.observations._observation import Observation, require_observation
from sda_jax.runtime._hdf5 import read_hdf5, write_hdf5

LONGEST = 2**31 - 1  # states that an index can count


def save_observation(path: str | Path, observation: Observation, length: int) -> None:
    """Writes an observation whose operator is a component.

    Args:
        path: The file: datasets `y` and `std`, `covariance` or `noise` (JSON), attributes
            `operator` (JSON) and `length`.
        observation: In physical units.
        length: States of the trajectory that it is of.

    Raises:
        ConfigError: The operator is a plain function, which has no place in a data file; `length`
            is no integer from 1 on, or `path` no path.
        ObservationError: `observation` is none.
        StorageError: The file cannot be written.
    """
    require_untraced("save_observation", "Call it outside of compiled functions.", observation)
    require_observation(observation)
    length = whole_number("length", length)
    require_at_most("length", length, LONGEST)
    operator = dumps(observation.operator)
    with write_hdf5(path, "observation") as file:
        file["y"] = np.asarray(observation.y, np.float32)
        for name in ("std", "covariance"):
            if getattr(observation, name) is not None:
                file[name] = np.asarray(getattr(observation, name), np.float32)
        if observation.noise is not None:
            file["noise"] = dumps(observation.noise)  # too long for an attribute with many elements
        file.attrs["operator"] = operator
        file.attrs["length"] = length


def load_observation(path: str | Path, components: Iterable[type] = ()) -> tuple[Observation, int]:
    """Reads what `save_observation` wrote: the observation and the trajectory's length.

    Args:
        path: The file.
        components: Your own classes that it may name: operators, noise models.

    Raises:
        ConfigError: It names a class that is not known.
        StorageError: The file is missing, damaged or of another kind.
        ObservationError: Its noise is impossible.
    """
    table = registry(components)
    with read_hdf5(path, "observation") as file:
        operator = _component(path, "operator", file.attrs["operator"], table)
        noise = {n: _numbers(path, file, n) for n in ("std", "covariance") if n in file}
        if "noise" in file:
            noise["noise"] = _component(path, "noise", file["noise"].asstr()[()], table)
        length = file.attrs["length"]
        if not isinstance(length, (int, np.integer)) or not 1 <= length <= LONGEST:
            expected = f"an integer from 1 to {LONGEST}"
            raise StorageError(f"{path}, length", f"{length!r}", expected, "Make it again.")
        return Observation(_numbers(path, file, "y"), operator, **noise), int(length)


def _component(path: str | Path, name: str, text: str, table: Mapping[str, type]) -> Any:
    try:
        found = loads(text, table)
    except ConfigError as error:
        where = f"{path}, {name}: {error.argument}"
        raise ConfigError(where, error.value, error.expected, error.remedy) from error
    if not is_component(found):
        raise StorageError(f"{path}, {name}", f"{found!r}", "a component", "Make it again.")
    return found


def _numbers(path: str | Path, file: h5py.File, name: str) -> np.ndarray:
    data = file[name]
    if not isinstance(data, h5py.Dataset) or data.dtype.kind not in "iuf":
        found = f"type {data.dtype}" if isinstance(data, h5py.Dataset) else "no array"
        raise StorageError(f"{path}, {name}", found, "numbers", "Make it again.")
    return data[()]
