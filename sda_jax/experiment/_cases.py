"""The cases of an experiment: its prior, its tests, and how their posteriors are drawn."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sda_jax.core._arrays import PRNGKey
from sda_jax.core._errors import ConfigError, require_at_least, require_at_most
from sda_jax.core._keys import stream
from sda_jax.core._registry import classes_in
from sda_jax.data._simulation import simulate
from sda_jax.diffusion._denoisers import with_context
from sda_jax.experiment._config import Assimilation, Case, Experiment
from sda_jax.observations._files import load_observation
from sda_jax.observations._observation import Observation, observe
from sda_jax.posterior._assimilate import draw_posterior
from sda_jax.posterior._cost import count_evaluations
from sda_jax.posterior._diagnosis import Diagnosis
from sda_jax.prior._loading import load_prior
from sda_jax.prior._prior import Prior
from sda_jax.runtime._devices import Mesh
from sda_jax.runtime._processes import whole
from sda_jax.runtime._versions import numerics
from sda_jax.samplers import Evaluations


def describe_run(config: Experiment, **given: Any) -> dict[str, Any]:
    """What makes a run what it is, for `dumps`: the experiment, however many devices share it,
    JAX's numeric settings, and what else was asked for."""
    experiment = dataclasses.replace(config, mesh=Mesh())
    return {"experiment": experiment, "numerics": numerics(), **given}


def configured_prior(
    config: Experiment, output: str | Path, components: Iterable[type] = ()
) -> Prior:
    """The prior that the config names, or the one that training left in `output`.

    Args:
        config: The experiment, whose classes the prior may name.
        output: Folder of the experiment.
        components: Other classes of your own that it may name.

    Raises:
        ConfigError: Its states are not the system's, or it names a class that is not known.
        StorageError: There is no such prior, or it is damaged.
    """
    path = config.prior if config.prior is not None else Path(output) / "prior"
    prior = load_prior(path, [*components, *classes_in(config)])
    if config.system is None:
        return prior
    *space, channels = config.system.state_shape
    if prior.state_shape != (expected := (*space, channels - config.context)):
        raise ConfigError(
            "prior",
            f"states of shape {prior.state_shape}",
            f"{expected}, as the system's",
            "Use a prior of the system's resolution, or change the system.",
        )
    return prior


class TestCase(NamedTuple):
    """An observation to be assimilated, and keys for what follows.

    Attributes:
        observation: In physical units.
        length: States of the trajectory that it is of.
        assimilation, reference: Keys of the posterior's and of the reference's draws.
        truth: What was observed, `(length, *S)`; None where it is unknown or there is none.
        context: That of the truth, or None.
        simulation: A trajectory of the system, which is the truth unless the case imposes y; None
            where the observation is from a file.
    """

    observation: Observation
    length: int
    assimilation: PRNGKey
    reference: PRNGKey
    truth: Array | None = None
    context: Array | None = None
    simulation: Array | None = None


def _keys(config: Experiment, name: str, index: int) -> PRNGKey:
    """Keys of truth, noise, assimilation and reference."""
    require_at_least("index", index, 0)
    require_at_most("index", index, 2**32 - 1)
    key = jax.random.fold_in(stream(config.seed, "cases"), zlib.crc32(name.encode()))
    return jax.random.split(jax.random.fold_in(key, index), 4)


def the_case(config: Experiment, name: str) -> Case:
    """The configured case of that name.

    Raises:
        ConfigError: There is none.
    """
    if name not in config.cases:
        raise ConfigError("case", repr(name), f"one of {sorted(config.cases)}", "Choose one.")
    return config.cases[name]


def draw_case(config: Experiment, name: str, index: int = 0) -> TestCase:
    """The index-th test of a case, fixed by the config's seed: a simulated truth, observed.

    Raises:
        ConfigError: There is no such case or test, or no system to simulate.
    """
    if config.system is None:
        raise ConfigError(
            "system", None, "a system, of which truths are simulated", "Give a config with one."
        )
    case, keys = the_case(config, name), _keys(config, name, index)
    states, context = with_context(simulate(keys[0], config.system, case.length), config.context)
    std = case.std if case.noise is None else None
    observation = observe(keys[1], states, case.operator, std=std, noise=case.noise)
    truth = states
    if case.imposed is not None:
        observation = dataclasses.replace(observation, y=jnp.full_like(observation.y, case.imposed))
        truth = None
    return TestCase(observation, case.length, keys[2], keys[3], truth, context, states)


def case_of_file(
    config: Experiment,
    prior: Prior,
    path: str | Path,
    name: str = "",
    index: int = 0,
    components: Iterable[type] = (),
) -> TestCase:
    """The observation of a file, with the keys of the index-th test of the case `name`. Nothing is
    known of its truth.

    Raises:
        ConfigError: The prior asks for a context, which no such file has, or the file names a class
            that is not known.
        StorageError: The file is missing or damaged.
    """
    if prior.context is not None:
        raise ConfigError(
            "--observation",
            path,
            "none: this prior asks for a context, which the file does not have",
            "Call sda_jax.assimilate with context=.",
        )
    observation, length = load_observation(path, [*components, *classes_in(config)])
    keys = _keys(config, name, index)
    return TestCase(observation, length, keys[2], keys[3])


def sampling_arguments(prior: Prior, test: TestCase, settings: Assimilation) -> dict[str, Any]:
    """What `assimilate` and `assimilate_to_file` are to be called with for a test."""
    return {
        "key": test.assimilation,
        "prior": prior,
        "observation": test.observation,
        "length": test.length,
        "samples": settings.samples,
        "guidance": settings.guidance,
        "sampler": settings.sampler,
        "memory": settings.memory,
        "context": test.context,
    }


def sample_posterior(
    prior: Prior, test: TestCase, settings: Assimilation, progress: bool = False
) -> tuple[Float[np.ndarray, "samples length *state"], Diagnosis]:
    """The ensemble that the configured settings draw, on every process, and its diagnosis."""
    found = draw_posterior(**sampling_arguments(prior, test, settings), progress=progress)
    return whole(found.ensemble), found.diagnosis


def cost_of(prior: Prior, test: TestCase, settings: Assimilation) -> Evaluations:
    """What a member of `sample_posterior` costs, see `count_evaluations`."""
    return count_evaluations(
        prior,
        test.observation,
        test.length,
        settings.guidance,
        settings.sampler,
        settings.memory,
        test.context,
        settings.samples,
    )
