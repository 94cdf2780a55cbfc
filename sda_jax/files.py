"""Files of observations and posteriors (HDF5)."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sda_jax import laws, operators
from sda_jax.errors import StorageError
from sda_jax.interpolation import Interpolate
from sda_jax.observation import Observation
from sda_jax.serialize import class_table, dumps, loads
from sda_jax.storage import create_array, read_hdf5, write_hdf5

OPERATORS = class_table(
    [
        operators.Channels,
        operators.Every,
        operators.Joined,
        operators.Chain,
        operators.At,
        operators.FirstMinusLast,
        operators.Coarsen,
        operators.Subsample,
        operators.Crop,
        operators.Mask,
        operators.Ring,
        operators.Vorticity,
        operators.Saturate,
        Interpolate,
    ]
)
LAWS = class_table([laws.StudentT, laws.Poisson, laws.Normal, laws.JoinedLaw])


def save_observation(path: str | Path, observation: Observation, length: int) -> None:
    """Writes an observation whose operator is a component.

    Args:
        path: The file: datasets `y` and `std`, `covariance` or `law` (JSON), attributes
            `operator` (JSON) and `length`.
        observation: In physical units.
        length: States of the trajectory that it is of.

    Raises:
        ConfigError: The operator is a plain function, which has no place in a data file.
        StorageError: The file cannot be written.
    """
    operator = dumps(observation.operator)
    with write_hdf5(path, "observation") as file:
        file["y"] = np.asarray(observation.y, np.float32)
        for name in ("std", "covariance"):
            if getattr(observation, name) is not None:
                file[name] = np.asarray(getattr(observation, name), np.float32)
        if observation.law is not None:
            file["law"] = dumps(observation.law)  # too long for an attribute with many elements
        file.attrs["operator"] = operator
        file.attrs["length"] = length


def load_observation(path: str | Path) -> tuple[Observation, int]:
    """Reads what `save_observation` wrote: the observation and the trajectory's length.

    Raises:
        StorageError: The file is missing, damaged or of another kind.
        ObservationError: Its noise is impossible.
    """
    with read_hdf5(path, "observation") as file:
        operator = loads(file.attrs["operator"], OPERATORS)
        noise = {n: file[n][()] for n in ("std", "covariance") if n in file}
        if "law" in file:
            noise["law"] = loads(file["law"].asstr()[()], LAWS)
        return Observation(file["y"][()], operator, **noise), int(file.attrs["length"])


def save_posterior(
    path: str | Path,
    ensemble: Any,
    description: Any,
    truth: Any = None,
    reference: Any = None,
) -> None:
    """Writes an ensemble.

    Args:
        path: The file.
        ensemble: `(samples, L, *S)` in physical units.
        description: Component or table saved as JSON in the attribute `description`.
        truth: The true trajectory `(L, *S)`, where there is one.
        reference: Another ensemble of the true posterior, where there is one.

    Raises:
        StorageError: The file cannot be written.
    """
    with new_posterior(path, description, truth=truth, reference=reference) as file:
        create_array(file, "ensemble", np.shape(ensemble))[:] = np.asarray(ensemble, np.float32)
        file["ensemble"].attrs["units"] = "physical"


@contextlib.contextmanager
def new_posterior(
    path: str | Path, description: Any, **arrays: Any
) -> Generator[h5py.File, None, None]:
    """A posterior file with everything but the ensemble, for the block to write; see
    `save_posterior`."""
    text = dumps(description)
    with write_hdf5(path, "posterior") as file:
        for name, value in arrays.items():
            if value is not None:
                file[name] = np.asarray(value, np.float32)
                file[name].attrs["units"] = "physical"
        file.attrs["description"] = text
        yield file


def load_posterior(path: str | Path) -> dict[str, np.ndarray]:
    """Reads the arrays that `save_posterior` wrote: ensemble and, if they are there, truth and
    reference.

    Raises:
        StorageError: The file is missing, damaged or of another kind.
    """
    with read_hdf5(path, "posterior") as file:
        arrays = {n: file[n][()] for n in ("ensemble", "truth", "reference") if n in file}
    if "ensemble" not in arrays:
        raise StorageError(str(path), "no ensemble", "a whole posterior file", "Make it again.")
    return arrays
