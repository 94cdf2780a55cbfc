"""Training a prior, of a system or of data of one's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from sda_jax.core._errors import ConfigError
from sda_jax.core._json import dumps, encode
from sda_jax.core._keys import stream
from sda_jax.core._paths import require_path
from sda_jax.core._requirements import require_untraced
from sda_jax.data._files import Files
from sda_jax.diffusion._calibration import describe_gate, gated
from sda_jax.diffusion._denoisers import NetworkDenoiser
from sda_jax.diffusion._linear_base import LinearPreconditioned
from sda_jax.diffusion._measured_errors import with_measured_errors
from sda_jax.diffusion._parameterisations import Parameterisation
from sda_jax.diffusion._spectral import SpectralPreconditioned
from sda_jax.evaluation._fidelity import describe_fidelity, fidelity
from sda_jax.experiment._config import Experiment, require_experiment
from sda_jax.experiment._data import TrainingData
from sda_jax.experiment._origins import Origin, Report, origin_of, silent
from sda_jax.experiment._sharpening import sharpened
from sda_jax.prior._loop import CHECKED, train
from sda_jax.prior._prior import Prior
from sda_jax.prior._saving import save_prior
from sda_jax.runtime._claims import claim
from sda_jax.runtime._processes import on_process_zero
from sda_jax.runtime._records import read_records
from sda_jax.runtime._versions import numerics

# windows of fields held out
MEASURED_ON = 64
DESCRIBED_ON = 16


def train_prior(
    data: Experiment | Files | str | Path | Sequence[str | Path] | Float[Array, "n length *state"],
    folder: str | Path,
    experiment: Experiment | None = None,
    progress: bool = False,
    report: Report = silent,
) -> Prior:
    """Trains a prior and saves it.

    Called again after an interruption it goes on, bit for bit; called again when it is finished, it
    gives the prior once more. The devices are those of `use_mesh`.

    Args:
        data: What is learnt: an experiment, whose `system` is simulated as its `data` says or whose
            `data.files` are read; paths of files, or `Files`, which says how to read them;
            or an array of at least three trajectories in physical units, of which a tenth each is
            held out for validation and test.
        folder: Receives the prior in `prior/`, checkpoints and metrics in `train/`, and the stored
            set of a system in `data.h5`.
        experiment: With files and arrays, the rest: network, training and so on. What it leaves
            open is chosen by the form of the states.
        progress: Shows bars.
        report: Called with what was understood of files, for people.

    Returns:
        The prior that `load_prior` reads from `prior/`.

    Raises:
        ConfigError: What is given does not go together.
        StorageError: The folder is of another training, or files are damaged, cannot be written or
            have changed since the training began.
        DivergenceError: The loss, or a simulation, is not finite.
    """
    require_untraced("train_prior", "Call it outside of compiled functions.", data)
    folder = require_path("folder", folder)
    if experiment is not None:
        require_experiment(experiment, "an Experiment, or None")
    origin = origin_of(data, experiment)
    config = origin.experiment
    _require_network(origin)
    home = claim(folder / "train", _description(origin), apart=("survey.json",))
    found = origin.data(home, progress, report)
    prior = _untrained(origin, found)
    trained = train(
        prior.denoiser,
        found.source,
        found.validation,
        found.standardisation,
        config.training,
        home,
        config.seed,
        progress,
    )
    held_out = found.standardisation.forward(found.validation)
    key = stream(config.seed, "measured errors")
    if isinstance(trained.parameterisation, LinearPreconditioned):
        trained = gated(key, trained, held_out, found.independent, found.valid).of_length(None)
        report(describe_gate(trained, found.independent))
        trained = _with_law(trained, found.whole)
    elif isinstance(trained.parameterisation, SpectralPreconditioned):
        windows = held_out.reshape(-1, *held_out.shape[2:])[:MEASURED_ON]
        trained = sharpened(key, trained, windows)
        report(describe_fidelity(fidelity(key, trained, windows[:DESCRIBED_ON])))
    elif isinstance(trained.parameterisation, Parameterisation):
        trained = with_measured_errors(key, trained, held_out, found.valid)
    prior = dataclasses.replace(prior, denoiser=trained)
    losses = [r["validation_loss"] for r in read_records(home / "metrics.jsonl", CHECKED)]
    notes = {
        "training": encode(_part(config)),
        "validation_loss": min(losses) if config.training.keep == "best" else losses[-1],
    }
    on_process_zero(lambda: save_prior(folder / "prior", prior, notes))
    return prior


def _with_law(denoiser: NetworkDenoiser, law: LinearPreconditioned | None) -> NetworkDenoiser:
    """The denoiser with mean and covariance of a longer record than its gate and widths were
    measured with, if there is one."""
    if law is None:
        return denoiser
    parameterisation = dataclasses.replace(denoiser.parameterisation, **law.measured())
    return dataclasses.replace(denoiser, parameterisation=parameterisation)


def _require_network(origin: Origin) -> None:
    """Raises `ConfigError` if there is no network, it does not take the states, or takes segments
    of one length alone and no window says so: before data are simulated or read."""
    config = origin.experiment
    *space, channels = origin.state_shape
    if origin.tiling is not None:
        space = origin.tiling.shape(space)
    if config.network is None:
        raise ConfigError("network", None, "a score network", "Set it: see sda_jax.networks.")

    def weights(length: int) -> PyTree[jax.ShapeDtypeStruct]:
        states = jnp.zeros((length, *space, channels - config.context))
        known = jnp.zeros((length, *space, config.context)) if config.context else None
        key, level = jax.random.key(0), jnp.ones(())
        return jax.eval_shape(lambda: config.network.init(key, states, level, known))

    segment = config.training.segment
    if weights(segment) != weights(config.window or 1):
        raise ConfigError(
            "window",
            config.window,
            f"the segment's {segment} states: this network takes segments of one length",
            "Set window, and training.segment with it, to an odd number.",
        )


def _part(config: Experiment) -> Experiment:
    """The experiment without what has no part in a training."""
    plain = Experiment()
    return dataclasses.replace(
        config,
        prior=None,
        cases={},
        assimilation=plain.assimilation,
        evaluation=plain.evaluation,
        mesh=plain.mesh,
    )


def _description(origin: Origin) -> str:
    """What says which training it is: the experiment, the data and JAX's numeric settings."""
    given = {"experiment": _part(origin.experiment), "trajectories": origin.identity}
    return dumps(given | {"numerics": numerics()})


def _untrained(origin: Origin, data: TrainingData) -> Prior:
    """The prior with the weights that training starts from; None for random ones.

    Raises:
        ConfigError: The network does not take the states.
    """
    config, start = origin.experiment, origin.start
    weights: Any = None if start is None else start.denoiser.variables
    denoiser = NetworkDenoiser(
        config.network, weights, config.schedule, data.parameterisation, data.context
    ).of_length(config.training.segment)
    jax.eval_shape(
        lambda: denoiser.init(jax.random.key(0), (config.training.segment, *data.segment_shape))
    )
    states, context = data.statistics
    return Prior(
        denoiser,
        states,
        (*origin.state_shape[:-1], data.segment_shape[-1]),
        config.window,
        data.system,
        context,
        data.layout,
        data.tiling,
    )
