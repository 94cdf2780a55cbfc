"""Where a training's data come from: a system's simulations, files, or trajectories in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sda_jax.core._errors import ConfigError
from sda_jax.core._keys import stream
from sda_jax.core._protocols import Symmetric, Wraps
from sda_jax.core._units import Standardisation
from sda_jax.data._archive import Archive, open_archive
from sda_jax.data._dataset import load, load_shared
from sda_jax.data._feed import CACHED, Feed
from sda_jax.data._files import Files
from sda_jax.data._layout import Layout
from sda_jax.data._simulation import simulate
from sda_jax.data._sources import AT_ONCE, FromArray, FromSimulator, Moved, Replay, Source
from sda_jax.data._summary import summary
from sda_jax.data._survey import parts_of, surveyed
from sda_jax.data._tiling import Tiling
from sda_jax.diffusion._parameterisations import Parameterisation
from sda_jax.experiment._array_data import ArrayData
from sda_jax.experiment._config import Experiment
from sda_jax.experiment._crops import Grid, require_statistics, tiling_of
from sda_jax.experiment._data import (
    TrainingData,
    batched,
    cut,
    fitted,
    held_out,
    require_form,
    require_system,
    simulate_dataset,
)
from sda_jax.experiment._defaults import completed
from sda_jax.experiment._segments import field_segments, series_stretches
from sda_jax.experiment._start import require_random_start, starting_prior
from sda_jax.prior._prior import Prior

Report = Callable[[str], object]


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
    def tiling(self) -> Tiling | None:
        """The crops that are trained on; None for whole states."""
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

    @property
    def tiling(self) -> Tiling | None:
        """Of axes that the system calls periodic, or else of axes with ends."""
        if self.experiment.training.crop is None:
            return None
        space, system = self.state_shape[:-1], self.experiment.system
        wraps = system.periodic if isinstance(system, Wraps) else (False,) * len(space)
        if not isinstance(wraps, tuple | list) or len(wraps) != len(space):
            raise ConfigError(
                "system.periodic",
                wraps,
                f"whether each of the {len(space)} axes of space is periodic",
                "Give a tuple of as many.",
            )
        return tiling_of(self.experiment, list(zip(space, wraps, strict=True)))

    def data(self, folder: Path, progress: bool, report: Report) -> TrainingData:
        """A stored set is `data.h5` beside `folder`."""
        config = self.experiment
        require_statistics(self.tiling, config.system.standardisation)
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
            *cut(source, validation, self.tiling, config),
            config.system.standardisation,
            fitted(config, self.start, config.system.standardisation, measured),
            config.context,
            config.system,
            tiling=self.tiling,
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
        """Simulations, as many as are run at once."""
        config, data = self.experiment, self.experiment.data
        key = stream(config.seed, "parameterisation")
        length = max(data.length, config.training.segment)
        batch = AT_ONCE if data.chunk is None else data.chunk
        return simulate(key, config.system, length, batch=batch, chunk=data.chunk)


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
                "Preconditioned, NoisePrediction, SeriesPreconditioned or FieldPreconditioned",
                "Choose one of these.",
            )
        archive = open_archive(experiment.data.files)
        layout = archive.layout
        grid = grid_of(layout)
        require_form(experiment.parameterisation, [points for points, _ in grid])
        known = layout.state_shape[-1], layout.context_channels
        # held-out segments are as far from those trained on as they are long
        held = [(q - p) // (2 if p else 1) for _, p, q in parts_of(archive, "valid")]
        return cls(completed(experiment, grid, *known, max(held)), archive)

    @property
    def state_shape(self) -> tuple[int, ...]:
        """Without what the survey finds: a mask is one more thing that the network is told."""
        *space, channels = self.archive.layout.state_shape
        return (*space, channels + self.experiment.context)

    @property
    def tiling(self) -> Tiling | None:
        """Of the axes of the files."""
        return tiling_of(self.experiment, grid_of(self.archive.layout))

    def data(self, folder: Path, progress: bool, report: Report) -> TrainingData:
        """The survey is kept in `folder`, and reported."""
        config, training = self.experiment, self.experiment.training
        self.archive.keep(CACHED)
        found = surveyed(folder / "survey.json", self.archive, progress)
        report(summary(self.archive, found, training.segment))
        states, known = found.standardisation, found.layout.context_channels
        transforms = states.transforms and (*states.transforms, *(None,) * known)
        both = Standardisation(
            (*states.mean, *(0.0,) * known), (*states.std, *(1.0,) * known), transforms
        )
        batch, segment, batches = training.batch, training.segment, training.validation_batches
        key = jax.random.fold_in(stream(config.seed, "training segments"), training.seed)
        source = Feed(self.archive, found, key, batch, segment, tiling=self.tiling)
        key = stream(config.seed, "validation data")
        held = Feed(self.archive, found, key, batch, segment, "valid", self.tiling)
        held.require_room(batches, "training.validation_batches")
        validation = jnp.asarray(held.segments(0, batches))
        valid = None if found.layout.mask is None else held.valid(batches)
        measure = field_segments if found.layout.axes else series_stretches
        law, whole = (
            fitted(
                dataclasses.replace(config, context=known),
                None,
                both,
                lambda parts=parts: measure(self.archive, found, parts),
                found.layout.temporal_channels,
            )
            for parts in (("train",), ("train", "valid"))
        )
        beside = sum(last - first for _, first, last in held.runs) // segment
        return TrainingData(
            source,
            validation,
            both,
            law,
            known,
            layout=found.layout,
            independent=beside,
            whole=whole,
            tiling=self.tiling,
            valid=valid,
        )


def grid_of(layout: Layout) -> Grid:
    """Of states that came from files."""
    return [(len(axis.coordinates), axis.period is not None) for axis in layout.axes]


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
