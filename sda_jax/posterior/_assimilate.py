"""Prior + observation + key -> ensemble of trajectories."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from tqdm import tqdm

from sda_jax.core._arrays import PRNGKey
from sda_jax.core._errors import ConfigError, DivergenceError, EnsembleWarning, whole_number
from sda_jax.core._protocols import Adapts, Denoiser, Guidance, Sampler
from sda_jax.core._requirements import require_protocol
from sda_jax.core._units import Standardisation
from sda_jax.guidance._base import explained
from sda_jax.observations._observation import Observation
from sda_jax.posterior._arguments import (
    SAMPLER_REMEDY,
    check_length,
    check_methods,
    check_observation,
    check_samples,
    check_sizes,
    particles_at_once,
    require_call,
)
from sda_jax.posterior._diagnosis import Diagnosis, Posterior, fits, judged
from sda_jax.posterior._presets import PRIOR_SAMPLER, default_methods, default_sampler
from sda_jax.prior._prior import Prior
from sda_jax.prior._trajectory_denoiser import trajectory_denoiser
from sda_jax.runtime._devices import BATCH, TIME, constrain
from sda_jax.runtime._memory import Memory, needed_bytes, require_memory, run_if_fits
from sda_jax.runtime._processes import finite_rows, whole
from sda_jax.samplers._driver import draw_members, island


def assimilate(
    key: PRNGKey,
    prior: Prior,
    observation: Observation,
    length: int,
    samples: int,
    guidance: Guidance | None = None,
    sampler: Sampler | None = None,
    memory: Memory = Memory(),
    context: Any = None,
    progress: bool = False,
) -> Float[Array, "samples length *state"]:
    """Draws an ensemble of trajectories that explain an observation.

    The simulator is not used. By default members are drawn from populations (`Population`), islands
    of at most 256 that share the ensemble: they depend on those of their island and on how many
    are asked for, not on chunk or devices. Priors around a linear estimate draw independently where
    the observation is linear (`presets`). With a sampler of independent draws
    (`presets(prior)["independent"]`) member i's randomness is the key folded with i: ensemble size
    leaves it as it is, too. An ensemble that should not be trusted is warned of; `draw_posterior`
    gives the diagnosis.
    A second call with the same shapes and operator compiles nothing. It checks and loops on the
    host, so it cannot be called under `jax.jit` or `jax.vmap`.

    Args:
        key: Random key.
        prior: What trajectories look like.
        observation: What was seen, in physical units.
        length: States of the trajectory.
        samples: Members of the ensemble.
        guidance: How the observation enters, a `Guidance`; None for the default of
            `presets(prior, observation, length)`.
        sampler: How the posterior is sampled, a `Sampler`; None for the default, too.
        memory: How much is computed at once.
        context: What a prior trained with context is conditioned on, in physical units: numbers
            that broadcast against `(length, *space, channels)`.
        progress: Shows a bar over the chunks.

    Returns:
        The ensemble in physical units.

    Raises:
        ConfigError: An impossible length or number, or a guidance or sampler that lacks a method.
        ObservationError: The operator does not fit the trajectory or y, or has no usable gradient.
        DivergenceError: Members that are not finite.
        ResourceError: The members of a chunk need more memory than is free.
    """
    require_call("assimilate", key, prior, observation, context)
    found = _posterior(
        key, prior, observation, length, samples, guidance, sampler, memory, context, progress
    )
    warn(found.diagnosis)
    return found.ensemble


def draw_posterior(
    key: PRNGKey,
    prior: Prior,
    observation: Observation,
    length: int,
    samples: int,
    guidance: Guidance | None = None,
    sampler: Sampler | None = None,
    memory: Memory = Memory(),
    context: Any = None,
    progress: bool = False,
) -> Posterior:
    """The ensemble of `assimilate`, with its diagnosis in place of warnings; arguments and errors
    as there."""
    require_call("draw_posterior", key, prior, observation, context)
    return _posterior(
        key, prior, observation, length, samples, guidance, sampler, memory, context, progress
    )


def _posterior(
    key: PRNGKey,
    prior: Prior,
    observation: Observation,
    length: int,
    samples: int,
    guidance: Guidance | None,
    sampler: Sampler | None,
    memory: Memory,
    context: Any,
    progress: bool,
) -> Posterior:
    length = check_length(prior, length)
    samples = check_samples(prior, length, samples)
    posterior, sampler = posterior_denoiser(
        prior, observation, length, samples, guidance, sampler, memory, context
    )
    shape = (length, *prior.state_shape)

    def needed(sampler: Sampler) -> int:
        given = (key, jnp.arange(island(sampler)), posterior, prior.standardisation)
        return needed_bytes(_draw.lower(*given, sampler, shape).compile())

    sampler = particles_at_once(sampler, posterior, samples, shape, memory, needed)
    ensemble, report = _ensemble(key, prior, posterior, length, samples, sampler, memory, progress)
    fit = fits(observation, ensemble)
    return Posterior(ensemble, judged(*fit, jax.tree.map(whole, report)))


def warn(diagnosis: Diagnosis) -> None:
    """Warns the caller's caller of what is wrong with an ensemble."""
    if not diagnosis.trusted:
        warnings.warn(diagnosis.summary(), EnsembleWarning, stacklevel=3)


def sample(
    key: PRNGKey,
    prior: Prior,
    length: int,
    samples: int,
    sampler: Sampler = PRIOR_SAMPLER,
    memory: Memory = Memory(),
    context: Any = None,
    progress: bool = False,
) -> Float[Array, "samples length *state"]:
    """Draws trajectories from the prior, without observation; arguments as in `assimilate`."""
    require_call("sample", key, prior, context)
    length = check_length(prior, length)
    samples = check_samples(prior, length, samples)
    require_memory(memory)
    require_protocol("sampler", sampler, Sampler, SAMPLER_REMEDY)
    denoiser = trajectory_denoiser(prior, length, context, memory)
    return _ensemble(key, prior, denoiser, length, samples, sampler, memory, progress)[0]


def posterior_denoiser(
    prior: Prior,
    observation: Observation,
    length: int,
    samples: int,
    guidance: Guidance | None = None,
    sampler: Sampler | None = None,
    memory: Memory = Memory(),
    context: Any = None,
) -> tuple[Denoiser, Sampler]:
    """The posterior's denoiser, of trajectories `(L, *S)` in standardised units, and the sampler to
    draw from it with: what `assimilate` runs; arguments as there.

    Raises:
        ConfigError, ObservationError: See `assimilate`.
    """
    check_observation(prior, observation, length)
    require_memory(memory)
    check_methods(guidance, sampler)
    length, samples = whole_number("length", length), whole_number("samples", samples)
    guidance, sampler = default_methods(prior, observation, length, guidance, sampler)
    if not bool(jnp.any(observation.observed)):
        warnings.warn(
            "every value of the observation is missing: these are samples of the prior",
            stacklevel=4,
        )
    denoiser = trajectory_denoiser(prior, length, context, memory)
    standardised = observation.standardised(prior.standardisation)
    posterior = guided(denoiser, standardised, guidance)
    if sampler is None:
        sampler = default_sampler(prior, posterior)
    if isinstance(sampler, Adapts):
        sampler = sampler.fitted(posterior, samples, (length, *prior.state_shape), memory.chunk)
    return posterior, sampler


def guided(denoiser: Denoiser, observation: Observation, guidance: Guidance) -> Denoiser:
    """The posterior's denoiser that guidance makes of the prior's and of an observation, both of
    trajectories in standardised units; it explains the observation whatever the guidance.

    Raises:
        ConfigError: What the guidance gives is no denoiser.
    """
    posterior = guidance(denoiser, observation)
    require_protocol("guidance's result", posterior, Denoiser, "Return a denoiser.")
    numbers = (jax.Array, np.ndarray, np.generic, float, int)
    for place, leaf in jax.tree_util.tree_leaves_with_path(posterior):
        if not isinstance(leaf, numbers):
            raise ConfigError(
                f"guidance's result{jax.tree_util.keystr(place)}",
                f"a {type(leaf).__name__}",
                "numbers and arrays, which compiled functions can take",
                "Decorate its class with sda_jax.component, and declare fields that are no numbers "
                "with sda_jax.static.",
            )
    return explained(posterior, denoiser, observation)


def diverged(bad: int, samples: int, level: float) -> DivergenceError:
    """The error of `bad` members of `samples` that are not finite, the first of them after the step
    from sigma/mu = `level`; 0 where all steps were finite and what was made of them is not."""
    since = f", the first of them after the step from sigma/mu = {level:.3g}" if level > 0 else ""
    return DivergenceError(
        "ensemble",
        f"{bad} of {samples} members not finite" + since,
        "finite trajectories",
        "Guide more gently (SDA: raise gamma; GaussianCovariance: raise inflation), "
        "lower the tau of corrector steps, or take more steps; and guard logarithms, roots and "
        "divisions inside the operator, which members on their way may not be defined for.",
    )


def require_finite(x: Array, diverged_at: Array, samples: int) -> None:
    """Raises `DivergenceError` if one of the first `samples` members is not finite."""
    finite = finite_rows(x)[:samples]
    if not finite.all():
        level = float(whole(diverged_at)[int(np.argmin(finite))])
        raise diverged(int((~finite).sum()), samples, level)


def _ensemble(
    key: PRNGKey,
    prior: Prior,
    denoiser: Denoiser,
    length: int,
    samples: int,
    sampler: Sampler,
    memory: Memory,
    progress: bool,
) -> tuple[Array, dict[str, Array]]:
    shape = (length, *prior.state_shape)

    def arguments(start: int, chunk: int) -> tuple[Any, ...]:
        members = jnp.arange(start, start + chunk)
        return key, members, denoiser, prior.standardisation, sampler, shape

    def needed(chunk: int) -> int:
        return needed_bytes(_draw.lower(*arguments(0, chunk)).compile())

    chunk, remedy = check_sizes(prior, length, samples, sampler, memory.chunk, needed)
    parts = []
    starts = range(0, samples, chunk)
    for start in tqdm(starts, desc="assimilate", unit="chunk", disable=not progress):
        # the last chunk is filled up, so that one compilation serves all
        parts.append(run_if_fits(_draw, remedy, *arguments(start, chunk)))
    ensemble, diverged_at, report = jax.tree.map(lambda *part: jnp.concatenate(part), *parts)
    require_finite(ensemble, diverged_at, samples)
    islands = -(-samples // island(sampler))
    return ensemble[:samples], jax.tree.map(lambda a: a[:islands], report)


@partial(jax.jit, static_argnames="shape")
def _draw(
    key: PRNGKey,
    members: Array,
    denoiser: Denoiser,
    standardisation: Standardisation,
    sampler: Sampler,
    shape: tuple[int, ...],
) -> tuple[Array, Array, dict[str, Array]]:
    """Members in physical units, where each diverged, and what the sampler reports."""
    drawn, diverged_at, report = draw_members(key, members, denoiser, sampler, shape)
    return constrain(standardisation.inverse(drawn), BATCH, TIME), diverged_at, report
