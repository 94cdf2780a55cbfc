"""The prior whose weights a training starts from."""

from __future__ import annotations

import jax
from jaxtyping import PyTree

from sda_jax.core._errors import ConfigError
from sda_jax.core._registry import classes_in
from sda_jax.diffusion._denoisers import NetworkDenoiser
from sda_jax.experiment._config import Experiment
from sda_jax.experiment._data import states_and_context
from sda_jax.prior._loading import load_prior
from sda_jax.prior._prior import Prior


def require_random_start(experiment: Experiment) -> None:
    """Raises `ConfigError` if the experiment names a prior to start from."""
    if experiment.start is not None:
        raise ConfigError(
            "start",
            experiment.start,
            "none: training on data of your own starts from random weights",
            "Unset it.",
        )


def starting_prior(experiment: Experiment) -> Prior:
    """The prior whose weights training starts from.

    Raises:
        ConfigError: It differs from what the experiment trains.
    """
    name, network, schedule = str(experiment.start), experiment.network, experiment.schedule
    prior = load_prior(name, components=classes_in(experiment))
    other = prior.denoiser
    start = NetworkDenoiser(
        network, other.variables, schedule, other.parameterisation, experiment.context
    )
    *space, channels = experiment.system.state_shape
    shape = (experiment.training.segment, *space, channels - experiment.context)
    initial = jax.eval_shape(lambda: start.init(jax.random.key(0), shape))
    both = experiment.system.standardisation
    states, context = states_and_context(both, experiment.context)
    for what, ours, theirs in (
        ("parameterisation", experiment.parameterisation, other.parameterisation.unfitted()),
        ("schedule", schedule, other.schedule),
        ("standardisation", states, prior.standardisation),
        ("context", context, prior.context),
        ("window", experiment.window, prior.window),
        ("state shape", shape[1:], prior.state_shape),
        ("weights", _shapes(initial), _shapes(other.variables)),
    ):
        if ours != theirs:
            raise ConfigError(
                "start",
                f"{name}, whose {what} differs from the configured",
                f"a prior with the same {what}",
                "Start from another prior, or configure its network.",
            )
    return prior


def _shapes(variables: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf.shape, variables)
