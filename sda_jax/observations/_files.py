"""Files of observations and posteriors (HDF5)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sda_jax.core._json import class_table, dumps, loads
from sda_jax.observations import _noise_models as noise_models
from sda_jax.observations import _operators as operators
from sda_jax.observations._interpolation import Interpolate
from sda_jax.observations._observation import Observation
from sda_jax.runtime._files import read_hdf5, write_hdf5

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
NOISE_MODELS = class_table(
    [noise_models.StudentT, noise_models.Poisson, noise_models.Normal, noise_models.JoinedNoise]
)


def save_observation(path: str | Path, observation: Observation, length: int) -> None:
    """Writes an observation whose operator is a component.

    Args:
        path: The file: datasets `y` and `std`, `covariance` or `noise` (JSON), attributes
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
        if observation.noise is not None:
            file["noise"] = dumps(observation.noise)  # too long for an attribute with many elements
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
        if "noise" in file:
            noise["noise"] = loads(file["noise"].asstr()[()], NOISE_MODELS)
        return Observation(file["y"][()], operator, **noise), int(file.attrs["length"])
