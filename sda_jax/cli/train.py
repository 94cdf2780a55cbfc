"""Trains the prior of an experiment, or of your own data."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from sda_jax.cli.common import Arguments, only_training, run, save_trained
from sda_jax.cli.simulate import stored_set
from sda_jax.cli.train_files import train_files
from sda_jax.core._errors import ConfigError
from sda_jax.core._json import dumps
from sda_jax.core._units import Standardisation
from sda_jax.data._simulation import FITTED, HELD_OUT, load, load_shared, simulate
from sda_jax.data._sources import FromArray, FromSimulator, Replay, Source
from sda_jax.diffusion._denoisers import (
    NetworkDenoiser,
    Parameterisation,
    with_context,
    with_measured_errors,
)
from sda_jax.diffusion._spectral import SpectralPreconditioned
from sda_jax.experiment._config import Experiment
from sda_jax.prior._prior import Prior, load_prior
from sda_jax.prior._training import train as train_denoiser
from sda_jax.runtime._files import claim
from sda_jax.runtime._processes import whole


def _source(
    config: Experiment, output: Path
) -> tuple[Source, Float[Array, "batches batch length *state"]]:
    """Where training segments come from, and the fixed validation segments."""
    training = config.training
    key = jax.random.fold_in(jax.random.key(config.seed), HELD_OUT)
    count = training.validation_batches * training.batch
    data = config.data
    if data.source == "stored":
        path = stored_set(config, output)
        source, held = FromArray(load_shared(path, "train")), FromArray(load_shared(path, "valid"))
        _, validation = held.draw(key, (), count, training.segment)
    else:
        source = (
            Replay(config.system, data.trajectories, data.length, data.refresh, data.chunk)
            if data.source == "replay"
            else FromSimulator(config.system)
        )
        validation = simulate(key, config.system, training.segment, batch=count, chunk=data.chunk)
    shape = (training.validation_batches, training.batch, *validation.shape[1:])
    return source, validation.reshape(shape)


def _fitted(config: Experiment, output: Path) -> Any:
    """The parameterisation, with what it measures of the training data: the stored set, or a chunk
    of fresh simulations."""
    parameterisation, system, data = config.parameterisation, config.system, config.data
    if not isinstance(parameterisation, SpectralPreconditioned):
        return parameterisation
    if data.source == "stored":
        trajectories = load(stored_set(config, output), "train")
    else:
        key = jax.random.fold_in(jax.random.key(config.seed), FITTED)
        length = max(data.length, config.training.segment)
        trajectories = simulate(key, system, length, batch=data.chunk, chunk=data.chunk)
    standardised, _ = with_context(system.standardisation.forward(trajectories), config.context)
    return parameterisation.fitted(whole(standardised), config.training.segment)


def states_and_context(config: Experiment) -> tuple[Standardisation, Standardisation | None]:
    """The statistics of the states' channels and of the context's after them."""
    both = config.system.standardisation
    if not config.context:
        return both, None
    return both.channels(0, -config.context), both.channels(-config.context, None)


def _start(config: Experiment, output: Path) -> NetworkDenoiser:
    """What training starts from: random weights (None), or another prior's.

    Raises:
        ConfigError: The network does not take the system's states, or the other prior differs.
    """
    network, schedule = config.network, config.schedule
    *space, channels = config.system.state_shape
    shape = (config.training.segment, *space, channels - config.context)
    key = jax.random.key(0)
    if config.start is None:
        # a grid that the network does not take is noticed before data are simulated
        known = jnp.zeros((*shape[:-1], config.context)) if config.context else None
        jax.eval_shape(lambda: network.init(key, jnp.zeros(shape), jnp.ones(()), known))
        return NetworkDenoiser(network, None, schedule, _fitted(config, output), config.context)
    parts = (config.system, network, schedule, config.parameterisation)
    prior = load_prior(config.start, components=[type(p) for p in parts])
    other = prior.denoiser
    start = NetworkDenoiser(
        network, other.variables, schedule, other.parameterisation, config.context
    )
    for name, ours, theirs in (
        ("parameterisation", config.parameterisation, other.parameterisation.unfitted()),
        ("schedule", schedule, other.schedule),
        ("standardisation", states_and_context(config)[0], prior.standardisation),
        ("context", states_and_context(config)[1], prior.context),
        ("window", config.window, prior.window),
        ("state shape", shape[1:], prior.state_shape),
        (
            "weights",
            *(
                _shapes(v)
                for v in (jax.eval_shape(lambda: start.init(key, shape)), other.variables)
            ),
        ),
    ):
        if ours != theirs:
            raise ConfigError(
                "start",
                f"{config.start}, whose {name} differs from the configured",
                f"a prior with the same {name}",
                "Start from another prior, or configure its network.",
            )
    return start


def _shapes(variables: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf.shape, variables)


def train(arguments: Arguments) -> None:
    """Writes checkpoints and metrics below `train/` and the result to `prior/`."""
    config, output = arguments.config, arguments.options.output
    if arguments.options.data:
        files = dataclasses.replace(config.data.files, paths=tuple(arguments.options.data))
        data = dataclasses.replace(config.data, source="files", files=files)
        config = dataclasses.replace(config, data=data)
    if config.data.source == "files":
        train_files(config, output)
        return
    if config.system is None:
        raise ConfigError(
            "--config, --data", None, "what to train on", "Give a config, or files with --data."
        )
    start = _start(config, output)
    folder = claim(output / "train", dumps(only_training(config)))
    source, validation = _source(config, output)
    standardisation = config.system.standardisation
    denoiser = train_denoiser(
        start, source, validation, standardisation, config.training, folder, config.seed, True
    )
    if isinstance(config.parameterisation, Parameterisation):
        held_out = standardisation.forward(validation)
        denoiser = with_measured_errors(jax.random.key(config.seed), denoiser, held_out)
    states, context = states_and_context(config)
    shape = (*config.system.state_shape[:-1], config.system.state_shape[-1] - config.context)
    prior = Prior(denoiser, states, shape, config.window, config.system, context)
    save_trained(output, folder, prior)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", nargs="+", default=[], help="your own trajectories: NetCDF, HDF5 or Zarr files"
    )


def main(arguments: list[str] | None = None) -> int:
    """Entry point of scripts/train.py."""
    return run(train, str(__doc__), arguments, Experiment(), _options)
