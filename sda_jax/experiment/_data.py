"""What a training is fed with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from sda_jax.core._errors import ConfigError
from sda_jax.core._keys import stream
from sda_jax.core._paths import require_path
from sda_jax.core._units import Standardisation
from sda_jax.data._dataset import generate
from sda_jax.data._layout import Layout
from sda_jax.data._sources import Cropped, FromArray, Source
from sda_jax.data._tiling import Tiling, cropped
from sda_jax.diffusion._denoisers import with_context
from sda_jax.diffusion._fields import FieldPreconditioned
from sda_jax.diffusion._linear_base import LinearPreconditioned
from sda_jax.diffusion._series import SeriesPreconditioned
from sda_jax.diffusion._spectral import SpectralPreconditioned
from sda_jax.experiment._config import Experiment, require_experiment
from sda_jax.prior._prior import Prior
from sda_jax.runtime._processes import whole


@dataclass(frozen=True)
class TrainingData:
    """What a network is trained on, and what its prior is told of it. Segments are in physical
    units, with the context as last channels, and cut to crops where these are trained on.

    Attributes:
        source: Where training segments come from.
        validation: Segments that are not trained on.
        standardisation: Of the states' channels and those of the context after them.
        parameterisation: What the network's output means, with what it measures of the data.
        context: How many channels are context.
        system: What was simulated, or None.
        layout: What states look like that came from files, or None.
        independent: How many validation segments would fit beside each other into what is held out;
            None for as many as there are.
        whole: The parameterisation as measured on all that is known, which the finished prior has;
            None for the same.
        tiling: The crops that segments are; None for whole states.
        valid: Where states have values, of a state or of each of the validation's crops; None for
            everywhere.
    """

    source: Source
    validation: Float[Array, "batches batch length *state"]
    standardisation: Standardisation
    parameterisation: Any
    context: int = 0
    system: Any = None
    layout: Layout | None = None
    independent: int | None = None
    whole: Any = None
    tiling: Tiling | None = None
    valid: Bool[np.ndarray, "*state"] | None = None

    @property
    def segment_shape(self) -> tuple[int, ...]:
        """Of a state of a segment, without its context."""
        *space, channels = self.validation.shape[3:]
        return (*space, channels - self.context)

    @property
    def statistics(self) -> tuple[Standardisation, Standardisation | None]:
        """Of the states' channels, and of the context's; see `states_and_context`."""
        return states_and_context(self.standardisation, self.context)


def states_and_context(
    both: Standardisation, context: int
) -> tuple[Standardisation, Standardisation | None]:
    """The statistics of the states' channels, and of the `context` channels after them."""
    if not context:
        return both, None
    return both.channels(0, -context), both.channels(-context, None)


def simulate_dataset(experiment: Experiment, folder: str | Path, progress: bool = False) -> Path:
    """Simulates an experiment's stored set into `data.h5` of a folder.

    At once if the file is there and whole; called again after an interruption, it goes on. See
    `sda_jax.data.generate`.

    Raises:
        ConfigError: `experiment` is none or has no system, or `folder` is no path.
        StorageError: The file is of another experiment.
    """
    require_experiment(experiment)
    data, system = experiment.data, require_system(experiment)
    path, sizes = (
        require_path("folder", folder) / "data.h5",
        (data.trajectories, data.length, data.chunk),
    )
    return generate(path, system, experiment.seed, *sizes, progress=progress)


def require_system(experiment: Experiment) -> Any:
    """The experiment's system.

    Raises:
        ConfigError: It has none.
    """
    if experiment.system is None:
        raise ConfigError(
            "experiment.system",
            None,
            "what to train on",
            "Give an experiment with a system (--config), or trajectories of your own (files with "
            "--data).",
        )
    return experiment.system


def held_out(
    key: Array, experiment: Experiment, trajectories: Float[Array, "n length *state"]
) -> Float[Array, "batches batch length *state"]:
    """Validation segments, cut from trajectories that are not trained on."""
    training = experiment.training
    count = training.validation_batches * training.batch
    _, segments = FromArray(trajectories).draw(key, (), count, training.segment)
    return batched(experiment, segments)


def batched(
    experiment: Experiment, segments: Float[Array, "n length *state"]
) -> Float[Array, "batches batch length *state"]:
    """As many batches as validation has."""
    training = experiment.training
    return segments.reshape(training.validation_batches, training.batch, *segments.shape[1:])


def cut(
    source: Source,
    validation: Float[Array, "batches batch length *state"],
    tiling: Tiling | None,
    experiment: Experiment,
) -> tuple[Source, Float[Array, "batches batch length *crop"]]:
    """A source and validation segments as crops, in random places; as they are without a tiling."""
    if tiling is None:
        return source, validation
    flat = validation.reshape(-1, *validation.shape[2:])
    held = cropped(stream(experiment.seed, "validation crops"), tiling, flat)
    return Cropped(source, tiling), batched(experiment, held)


def fitted(
    experiment: Experiment,
    start: Prior | None,
    standardisation: Standardisation,
    trajectories: Callable[[], Array | np.ndarray | list[np.ndarray]],
    temporal: int = 0,
) -> Any:
    """The parameterisation with what it measures of trajectories that are trained on, which for
    series may differ in length: that of `start`, another prior, as it is. Of the context of fields
    the last `temporal` channels are the same everywhere."""
    if start is not None:
        return start.denoiser.parameterisation
    chosen = experiment.parameterisation
    if not isinstance(chosen, SpectralPreconditioned | LinearPreconditioned):
        return chosen
    measured = trajectories()
    if isinstance(chosen, SeriesPreconditioned):
        stacked = not isinstance(measured, list)  # trajectories of one length
        parts = [jnp.asarray(part) for part in ([measured] if stacked else measured)]
        both = [with_context(standardisation.forward(x), experiment.context) for x in parts]
        states = [whole(x) for x, _ in both]
        known = [whole(c) for _, c in both if c is not None]
        if stacked:
            states, known = list(states[0]), list(known[0]) if known else []
        require_form(chosen, states[0].shape[1:-1])
        return chosen.fitted(states, known or None)
    states, known = with_context(standardisation.forward(jnp.asarray(measured)), experiment.context)
    if isinstance(chosen, SpectralPreconditioned):
        return chosen.fitted(whole(states), experiment.training.segment)
    require_form(chosen, states.shape[2:-1])
    if known is not None:
        here = known[(slice(None), slice(None), *(0,) * (states.ndim - 3))]
        known = here[..., here.shape[-1] - temporal :] if temporal else None
    return chosen.fitted(whole(states), None if known is None else whole(known))


def require_form(parameterisation: Any, space: Sequence[int]) -> None:
    """Raises `ConfigError` if a parameterisation of series is to be that of fields, or the other
    way round."""
    points = " x ".join(map(str, space))
    if isinstance(parameterisation, SeriesPreconditioned) and len(space):
        raise ConfigError(
            "parameterisation",
            "SeriesPreconditioned",
            f"one for fields: states have {points} points",
            "Choose FieldPreconditioned.",
        )
    if isinstance(parameterisation, FieldPreconditioned) and not len(space):
        raise ConfigError(
            "parameterisation",
            "FieldPreconditioned",
            "one for series: states have no axis of space",
            "Choose SeriesPreconditioned.",
        )
