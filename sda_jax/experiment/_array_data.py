"""Training data of trajectories in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from sda_jax.core._errors import ConfigError, require_at_least
from sda_jax.core._keys import stream
from sda_jax.core._numbers import real_array
from sda_jax.data._dataset import split_sizes, statistics
from sda_jax.data._sources import FromArray
from sda_jax.data._tiling import Tiling
from sda_jax.experiment._config import Experiment
from sda_jax.experiment._crops import tiling_of
from sda_jax.experiment._data import TrainingData, cut, fitted, held_out
from sda_jax.experiment._defaults import completed
from sda_jax.experiment._start import require_random_start
from sda_jax.runtime._devices import scattered, sharding


@dataclass(frozen=True)
class ArrayData:
    """Data of trajectories in memory, of which tenths are held out as of a stored set."""

    experiment: Experiment
    trajectories: Float[np.ndarray, "n length *state"]
    start: None = None

    @classmethod
    def checked(cls, experiment: Experiment, trajectories: Any) -> ArrayData:
        """Of anything that is an array of trajectories.

        Raises:
            ConfigError: It is none, or holds values that are not finite; another prior to start
                from.
        """
        require_random_start(experiment)
        x = np.asarray(real_array("data", trajectories))
        if x.ndim < 3:
            raise ConfigError(
                "data",
                f"{type(trajectories).__name__} of shape {x.shape}",
                "an experiment, paths, or trajectories (n, length, *space, channels)",
                "Stack trajectories of equal length.",
            )
        if not np.isfinite(x).all():
            raise ConfigError(
                "data",
                "values that are missing or not finite",
                "finite trajectories",
                "Fill them in or leave these trajectories out.",
            )
        require_at_least("data: trajectories", len(x), 3)
        grid = [(size, False) for size in x.shape[2:-1]]
        channels = x.shape[-1] - experiment.context
        return cls(completed(experiment, grid, channels, experiment.context, x.shape[1]), x)

    @property
    def state_shape(self) -> tuple[int, ...]:
        """That of the array."""
        return self.trajectories.shape[2:]

    @property
    def tiling(self) -> Tiling | None:
        """Of axes with ends."""
        return tiling_of(self.experiment, [(n, False) for n in self.state_shape[:-1]])

    @property
    def identity(self) -> str:
        """Shape and digest."""
        digest = hashlib.sha256(self.trajectories.tobytes()).hexdigest()
        return f"{self.trajectories.shape} {digest}"

    def data(self, folder: Path, progress: bool, report: Callable[[str], object]) -> TrainingData:
        """Split in order: the first to train on, then those for validation and test."""
        config, sizes = self.experiment, split_sizes(len(self.trajectories))
        train = self.trajectories[: sizes["train"]]
        held = self.trajectories[sizes["train"] :][: sizes["valid"]]
        key = stream(config.seed, "validation data")
        both = statistics(train)
        source, validation = FromArray(_shared(train)), held_out(key, config, _shared(held))
        return TrainingData(
            *cut(source, validation, self.tiling, config),
            both,
            fitted(config, None, both, lambda: train),
            config.context,
            tiling=self.tiling,
        )


def _shared(x: np.ndarray) -> Array:
    """On the devices of the mesh in use, a share on each where some axis can be shared evenly."""
    return jax.make_array_from_callback(x.shape, sharding(scattered(x.shape)), lambda i: x[i])
