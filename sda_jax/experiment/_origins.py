"""Where a training's data come from: a system's simulations, files, or trajectories in memory."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sda_jax.core._errors import ConfigError, require_at_least
from sda_jax.core._keys import stream
from sda_jax.core._numbers import real_array
from sda_jax.core._protocols import Symmetric
from sda_jax.core._units import Standardisation
from sda_jax.data._archive import Archive, open_archive
from sda_jax.data._dataset import load, load_shared, split_sizes, statistics
from sda_jax.data._feed import Feed
from sda_jax.data._files import Files
from sda_jax.data._simulation import simulate
from sda_jax.data._sources import FromArray, FromSimulator, Moved, Replay, Source
from sda_jax.data._summary import summary
from sda_jax.data._survey import Survey, runs, stretches, surveyed
from sda_jax.diffusion._parameterisations import Parameterisation
from sda_jax.diffusion._series_law import odd_states
from sda_jax.experiment._config import Experiment
from sda_jax.experiment._data import (
    TrainingData,
    batched,
    fitted,
    held_out,
    require_form,
    require_system,
    simulate_dataset,
)
from sda_jax.experiment._defaults import completed
from sda_jax.experiment._start import require_random_start, starting_prior
from sda_jax.prior._prior import Prior
from sda_jax.runtime._devices import scattered, sharding

Report = Callable[[str], object]
SERIES_SEGMENTS = 2048  # that the distribution of series is measured on
SERIES_NUMBERS = 2**26  # in them at most


def silent(text: str) -> None:
    """A report to nobody."""


class Origin(Protocol):
    """Where data come from: what is known before any are read, and the data."""

    @property
    def experiment(self) -> Experiment:
        """With network and training chosen."""
        ...

    @property
    def state_shape(self) -> tuple[int, ...]:
        """Of a state with its context, as far as it is known."""
        ...

    @property
    def start(self) -> Prior | None:
        """Whose weights training starts from; None for random ones."""
        ...

    @property
    def identity(self) -> str:
        """What tells these data from others; empty where the experiment does."""
        ...

    def data(self, folder: Path, progress: bool, report: Report) -> TrainingData:
        """Simulates or reads; `folder` is the training's."""
        ...


@dataclass(frozen=True)
class SystemData:
    """Data of a system's simulations: fresh, from a buffer, or stored."""

    experiment: Experiment
    start: Prior | None = None
    identity: str = ""

    @classmethod
    def checked(cls, experiment: Experiment) -> SystemData:
        """Of an experiment that has a system.

        Raises:
            ConfigError: It has none, names another prior to start from that differs, or asks for
                segments that are longer than the trajectories they are cut from.
        """
        require_system(experiment)
        segment, data = experiment.training.segment, experiment.data
        if data.source != "simulator" and segment > data.length:
            raise ConfigError(
                "training.segment",
                segment,
                f"at most {data.length}, the states of a trajectory that it is cut from",
                "Shorten it, or raise data.length.",
            )
        start = None if experiment.start is None else starting_prior(experiment)
        return cls(experiment, start)

    @property
    def state_shape(self) -> tuple[int, ...]:
        """The system's."""
        return self.experiment.system.state_shape

    def data(self, folder: Path, progress: bool, report: Report) -> TrainingData:
        """A stored set is `data.h5` beside `folder`."""
        config = self.experiment
        key = stream(config.seed, "validation data")
        if config.data.source == "stored":
            path = simulate_dataset(config, folder.parent, progress)
            source: Source = FromArray(load_shared(path, "train"))
            validation = held_out(key, config, load_shared(path, "valid"))
            measured = lambda: load(path, "train")  # noqa: E731
        else:
            source, validation = self._simulated(key)
            measured = self._measured
        if isinstance(config.system, Symmetric):
            source = Moved(source, config.system)
        return TrainingData(
            source,
            validation,
            config.system.standardisation,
            fitted(config, self.start, config.system.standardisation, measured),
            config.context,
            config.system,
        )

    def _simulated(self, key: Array) -> tuple[Source, Array]:
        config, data, training = self.experiment, self.experiment.data, self.experiment.training
        source: Source = FromSimulator(config.system)
        if data.source == "replay":
            source = Replay(config.system, data.trajectories, data.length, data.refresh, data.chunk)
        count = training.validation_batches * training.batch
        held = simulate(key, config.system, training.segment, batch=count, chunk=data.chunk)
        return source, batched(config, held)

    def _measured(self) -> Array:
        """A chunk of simulations."""
        config, data = self.experiment, self.experiment.data
        key = stream(config.seed, "parameterisation")
        length = max(data.length, config.training.segment)
        return simulate(key, config.system, length, batch=data.chunk, chunk=data.chunk)


@dataclass(frozen=True)
class FileData:
    """Data of files: read once for their statistics, then again as segments of them are due."""

    experiment: Experiment
    archive: Archive
    start: None = None
    identity: str = ""

    @classmethod
    def opened(cls, experiment: Experiment) -> FileData:
        """Of the files that the experiment names.

        Raises:
            ConfigError: A parameterisation of states of certain forms alone, or another prior to
                start from.
            StorageError: See `open_archive`.
        """
        require_random_start(experiment)
        if not isinstance(experiment.parameterisation, Parameterisation):
            raise ConfigError(
                "parameterisation",
                type(experiment.parameterisation).__name__,
                "Preconditioned, NoisePrediction, or for series SeriesPreconditioned",
                "Choose one of these.",
            )
        archive = open_archive(experiment.data.files)
        layout = archive.layout
        grid = [(len(axis.coordinates), axis.period is not None) for axis in layout.axes]
        require_form(experiment.parameterisation, [points for points, _ in grid])
        return cls(
            completed(experiment, grid, layout.state_shape[-1], layout.context_channels), archive
        )

    @property
    def state_shape(self) -> tuple[int, ...]:
        """Without what the survey finds: a mask is one more thing that the network is told."""
        *space, channels = self.archive.layout.state_shape
        return (*space, channels + self.experiment.context)

    def data(self, folder: Path, progress: bool, report: Report) -> TrainingData:
        """The survey is kept in `folder`, and reported."""
        config, training = self.experiment, self.experiment.training
        found = surveyed(folder / "survey.json", self.archive, progress)
        report(summary(self.archive, found, training.segment))
        states, known = found.standardisation, found.layout.context_channels
        both = Standardisation((*states.mean, *(0.0,) * known), (*states.std, *(1.0,) * known))
        batch, segment, batches = training.batch, training.segment, training.validation_batches
        key = jax.random.fold_in(stream(config.seed, "training segments"), training.seed)
        source = Feed(self.archive, found, key, batch, segment)
        key = stream(config.seed, "validation data")
        held = Feed(self.archive, found, key, batch, segment, "valid")
        held.require_room(batches, "training.validation_batches")
        validation = jnp.asarray(held.segments(0, batches))
        law, whole = (
            fitted(config, None, both, lambda parts=parts: self._series(found, parts))
            for parts in (("train",), ("train", "valid"))
        )
        beside = sum(last - first for _, first, last in held.runs) // segment
        return TrainingData(source, validation, both, law, known, None, found.layout, beside, whole)

    def _series(self, found: Survey, parts: Sequence[str]) -> Float[np.ndarray, "n length *state"]:
        """Segments as long as the lags of series reach, or half of the longest stretch; from each
        part as many as its states are worth."""
        size = found.layout.state_shape[-1]
        train = [last - first for _, first, last in runs(self.archive, found, "train", 1)]
        longest, segment = max(train), self.experiment.training.segment
        length = odd_states(min(longest, max(longest // 2, segment)), size)
        there = {part: stretches(self.archive, found, part, length) for part in parts}
        states = {part: sum(last - first for _, first, last in r) for part, r in there.items()}
        most = min(SERIES_SEGMENTS, SERIES_NUMBERS // (length * size))
        key, drawn = stream(self.experiment.seed, "parameterisation"), []
        for part in parts:
            if states[part]:
                count = max(1, round(most * states[part] / sum(states.values())))
                feed = Feed(self.archive, found, key, count, length, part)
                drawn.append(feed.segments(0, 1)[0])
        return np.concatenate(drawn)


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
        return cls(completed(experiment, grid, channels, experiment.context), x)

    @property
    def state_shape(self) -> tuple[int, ...]:
        """That of the array."""
        return self.trajectories.shape[2:]

    @property
    def identity(self) -> str:
        """Shape and digest."""
        digest = hashlib.sha256(self.trajectories.tobytes()).hexdigest()
        return f"{self.trajectories.shape} {digest}"

    def data(self, folder: Path, progress: bool, report: Report) -> TrainingData:
        """Split in order: the first to train on, then those for validation and test."""
        config, sizes = self.experiment, split_sizes(len(self.trajectories))
        train = self.trajectories[: sizes["train"]]
        held = self.trajectories[sizes["train"] :][: sizes["valid"]]
        key = stream(config.seed, "validation data")
        both = statistics(train)
        return TrainingData(
            FromArray(_shared(train)),
            held_out(key, config, _shared(held)),
            both,
            fitted(config, None, both, lambda: train),
            config.context,
        )


def _shared(x: np.ndarray) -> Array:
    """On the devices of the mesh in use, a share on each where some axis can be shared evenly."""
    return jax.make_array_from_callback(x.shape, sharding(scattered(x.shape)), lambda i: x[i])


def origin_of(data: Any, experiment: Experiment | None) -> Origin:
    """Where the data of `train_prior` come from.

    Raises:
        ConfigError: Two experiments, or none and no data; see the kinds.
    """
    if isinstance(data, Experiment):
        if experiment is not None:
            raise ConfigError(
                "experiment",
                "a second one",
                "one experiment, as the data or beside them",
                "Leave one out.",
            )
        config = data
    else:
        config = Experiment() if experiment is None else experiment
        files = _files(data, config)
        if files is None:
            return ArrayData.checked(config, data)
        replaced = dataclasses.replace(config.data, source="files", files=files)
        config = dataclasses.replace(config, data=replaced)
    if config.data.source == "files":
        return FileData.opened(config)
    return SystemData.checked(config)


def _files(data: Any, experiment: Experiment) -> Files | None:
    """The files that data are, read as the experiment says; None where they are an array."""
    if isinstance(data, Files):
        return data
    paths = [data] if isinstance(data, (str, Path)) else data
    if not isinstance(paths, (list, tuple)) or not all(isinstance(p, (str, Path)) for p in paths):
        return None
    return dataclasses.replace(experiment.data.files, paths=tuple(map(str, paths)))
