"""Training on files."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp

from sda_jax.cli.common import only_training, save_trained
from sda_jax.core._errors import ConfigError
from sda_jax.core._json import dumps
from sda_jax.core._units import Standardisation
from sda_jax.data._archive import open_archive
from sda_jax.data._feed import Feed
from sda_jax.data._simulation import HELD_OUT
from sda_jax.data._survey import summary, surveyed
from sda_jax.diffusion._denoisers import NetworkDenoiser, Parameterisation, with_measured_errors
from sda_jax.experiment._config import Experiment
from sda_jax.experiment._defaults import completed
from sda_jax.prior._prior import Prior
from sda_jax.prior._training import train as train_denoiser
from sda_jax.runtime._files import claim


def train_files(config: Experiment, output: Path) -> None:
    """Trains a prior on files; see `sda_jax.cli.train`."""
    if config.start is not None:
        raise ConfigError(
            "start", config.start, "none: training on files starts from random weights", "Unset it."
        )
    if not isinstance(config.parameterisation, Parameterisation):
        raise ConfigError(
            "parameterisation",
            type(config.parameterisation).__name__,
            "Preconditioned or NoisePrediction, for states of any form",
            "Choose one of these.",
        )
    archive = open_archive(config.data.files)
    config = completed(config, archive.layout)
    folder = claim(output / "train", dumps(only_training(config)))
    found = surveyed(folder / "survey.json", archive, progress=True)
    config = completed(config, found.layout)  # a mask is one more channel of context
    training, layout = config.training, found.layout
    print(summary(archive, found, training.segment), flush=True)
    states = found.standardisation
    known = layout.context_channels
    context = Standardisation((0.0,) * known, (1.0,) * known) if known else None
    both = Standardisation((*states.mean, *(0.0,) * known), (*states.std, *(1.0,) * known))
    start = NetworkDenoiser(config.network, None, config.schedule, config.parameterisation, known)
    Prior(start, states, layout.state_shape, config.window, None, context, layout)  # checked early
    shape = (training.segment, *layout.state_shape)
    jax.eval_shape(lambda: start.init(jax.random.key(0), shape))
    feed = Feed(archive, found, config.seed, training.batch, training.segment)
    held_out = Feed(archive, found, HELD_OUT, training.batch, training.segment, "valid")
    held_out.require_room(training.validation_batches, "training.validation_batches")
    validation = jnp.asarray(held_out.segments(0, training.validation_batches))
    denoiser = train_denoiser(start, feed, validation, both, training, folder, config.seed, True)
    denoiser = with_measured_errors(
        jax.random.key(config.seed),
        denoiser,
        both.forward(validation),
        layout.valid if layout.mask is not None else None,
    )
    prior = Prior(denoiser, states, layout.state_shape, config.window, None, context, layout)
    save_trained(output, folder, prior)
