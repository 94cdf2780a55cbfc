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
from sda_jax.core._errors import (
    ConfigError,
    DivergenceError,
    ObservationError,
    SDAError,
    require_at_least,
)
from sda_jax.core._protocols import Denoiser, Guidance, Sampler
from sda_jax.core._units import Standardisation
from sda_jax.observations._observation import Observation
from sda_jax.posterior._presets import PRIOR_SAMPLER, settings
from sda_jax.prior._prior import Prior
from sda_jax.prior._trajectory_denoiser import trajectory_denoiser
from sda_jax.runtime._devices import BATCH, TIME, constrain, over_batch, require_shared
from sda_jax.runtime._memory import run_if_fits
from sda_jax.runtime._processes import finite_rows


def assimilate(
    key: PRNGKey,
    prior: Prior,
    observation: Observation,
    length: int,
    samples: int,
    guidance: Guidance | None = None,
    sampler: Sampler | None = None,
    chunk: int = 64,
    window_chunk: int | None = None,
    window_stride: int = 1,
    context: Any = None,
    progress: bool = False,
) -> Float[Array, "samples length *state"]:
    """Draws an ensemble of trajectories that explain an observation.

    The simulator is not used. Member i's randomness is the key folded with i: chunk and ensemble
    size leave it as it is. A second call with the same shapes and operator compiles nothing.

    Args:
        key: Random key.
        prior: What trajectories look like.
        observation: What was seen, in physical units.
        length: States of the trajectory.
        samples: Members of the ensemble.
        guidance: How the observation enters; None for the default of `presets(prior)`.
        sampler: How the posterior is sampled; None for the default, too.
        chunk: Members sampled at once; lower it if memory runs out.
        window_chunk: Windows of a local network evaluated at once; None for all.
        window_stride: States between neighbouring windows of a local network; see
            `ComposedDenoiser`.
        context: What a prior trained with context asks to be told of the trajectory, in physical
            units: numbers that broadcast against `(length, *space, channels)`.
        progress: Shows a bar over the chunks.

    Returns:
        The ensemble in physical units.

    Raises:
        ConfigError: An impossible length or number.
        ObservationError: The operator does not fit the trajectory or y, or has no usable gradient.
        DivergenceError: Members that are not finite.
        ResourceError: The members of a chunk need more memory than is free.
    """
    guidance, sampler = settings(prior, observation, guidance, sampler)
    posterior = guided(prior, observation, length, guidance, window_chunk, window_stride, context)
    return _ensemble(key, prior, posterior, length, samples, sampler, chunk, progress)


def sample(
    key: PRNGKey,
    prior: Prior,
    length: int,
    samples: int,
    sampler: Sampler = PRIOR_SAMPLER,
    chunk: int = 64,
    window_chunk: int | None = None,
    window_stride: int = 1,
    context: Any = None,
    progress: bool = False,
) -> Float[Array, "samples length *state"]:
    """Draws trajectories from the prior, without observation; arguments as in `assimilate`."""
    _check_length(prior, length)
    denoiser = trajectory_denoiser(prior, length, context, window_chunk, window_stride)
    return _ensemble(key, prior, denoiser, length, samples, sampler, chunk, progress)


def guided(
    prior: Prior,
    observation: Observation,
    length: int,
    guidance: Guidance,
    window_chunk: int | None,
    window_stride: int,
    context: Any,
) -> Denoiser:
    """The posterior's denoiser, of trajectories in standardised units; see `assimilate`."""
    check_observation(prior, observation, length)
    if not bool(jnp.any(observation.observed)):
        warnings.warn(
            "every value of the observation is missing: these are samples of the prior",
            stacklevel=3,
        )
    denoiser = trajectory_denoiser(prior, length, context, window_chunk, window_stride)
    return guidance(denoiser, observation.standardised(prior.standardisation))


def check_sizes(prior: Prior, length: int, samples: int, chunk: int) -> tuple[int, str]:
    """The members sampled at once, and what to do if they do not fit the memory.

    Raises:
        ConfigError: Impossible numbers, or some that the mesh's devices cannot share.
    """
    require_at_least("samples", samples, 1)
    require_at_least("chunk", chunk, 1)
    chunk = min(chunk, samples)
    require_shared("chunk", chunk, BATCH)
    require_shared("length", length, TIME)
    remedies = [f"Lower chunk, the members sampled at once ({chunk})"] * (chunk > 1)
    if prior.window is not None:
        remedies.append("Lower window_chunk, the windows of a member evaluated at once")
    return chunk, ". ".join([*remedies, f"Shorten the trajectory ({length} states)"]) + "."


def diverged(bad: int, samples: int, level: float) -> DivergenceError:
    """The error of `bad` members of `samples` that are not finite, the first of them after the step
    from sigma/mu = `level`; NaN where all steps were finite and what was made of them is not."""
    since = (
        "" if np.isnan(level) else f", the first of them after the step from sigma/mu = {level:.3g}"
    )
    return DivergenceError(
        "ensemble",
        f"{bad} of {samples} members not finite" + since,
        "finite trajectories",
        "Guide more gently (SDA: raise gamma; GaussianCovariance: raise inflation), "
        "lower the tau of corrector steps, or take more steps.",
    )


def _ensemble(
    key: PRNGKey,
    prior: Prior,
    denoiser: Denoiser,
    length: int,
    samples: int,
    sampler: Sampler,
    chunk: int,
    progress: bool,
) -> Array:
    chunk, remedy = check_sizes(prior, length, samples, chunk)
    shape = (length, *prior.state_shape)
    parts = []
    starts = range(0, samples, chunk)
    for start in tqdm(starts, desc="assimilate", unit="chunk", disable=not progress):
        # the last chunk is filled up, so that one compilation serves all
        members = jnp.arange(start, start + chunk)
        drawn = run_if_fits(
            _draw, remedy, key, members, denoiser, prior.standardisation, sampler, shape
        )
        parts.append(drawn[: samples - start])
    ensemble = jnp.concatenate(parts)
    finite = finite_rows(ensemble)
    if not finite.all():
        first = jax.random.fold_in(key, int(np.argmin(finite)))
        level = float(_level_of_divergence(first, denoiser, sampler, shape))
        raise diverged(int((~finite).sum()), samples, level)
    return ensemble


@partial(jax.jit, static_argnames="shape")
def _level_of_divergence(
    key: PRNGKey, denoiser: Denoiser, sampler: Sampler, shape: tuple[int, ...]
) -> Array:
    return sampler.diverged_at(key, denoiser, shape)


@partial(jax.jit, static_argnames="shape")
def _draw(
    key: PRNGKey,
    members: Array,
    denoiser: Denoiser,
    standardisation: Standardisation,
    sampler: Sampler,
    shape: tuple[int, ...],
) -> Array:
    def one(member: Array) -> Array:
        return sampler(jax.random.fold_in(key, member), denoiser, shape)

    drawn = over_batch(one, members)
    return constrain(standardisation.inverse(drawn), BATCH, TIME)


def _check_length(prior: Prior, length: int) -> None:
    require_at_least("length", length, 1)
    if prior.window is not None and length < prior.window:
        raise ConfigError(
            "length",
            length,
            f"at least the prior's window of {prior.window} states",
            "Ask for a longer trajectory.",
        )


def check_observation(prior: Prior, observation: Observation, length: int) -> None:
    """Raises if `observation` cannot be of trajectories of `length` states of `prior`."""
    _check_length(prior, length)
    shape = (length, *prior.state_shape)
    struct = jax.ShapeDtypeStruct(shape, jnp.float32)
    try:
        out = jax.eval_shape(lambda x: observation.operator(x), struct)
    except SDAError:  # an operator of ours that says what is wrong
        raise
    except Exception as error:
        raise ObservationError(
            "operator",
            f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
            f"a JAX function of a trajectory of shape {shape}",
            "Check the indices against the prior's state shape "
            f"{prior.state_shape}, and use jax.numpy inside.",
        ) from error
    if not hasattr(out, "shape") or not jnp.issubdtype(out.dtype, jnp.floating):
        raise ObservationError(
            "operator",
            f"it returns {out}",
            "one array of floating-point numbers",
            "A thresholded or integer observation has no gradient: use a smooth one.",
        )
    if out.shape != jnp.shape(observation.y):
        raise ObservationError(
            "y",
            f"shape {jnp.shape(observation.y)}",
            f"the operator's shape {out.shape} for {length} states of shape {prior.state_shape}",
            "Reshape y, correct the operator or length, or use a prior of y's resolution.",
        )
    try:
        finite, moves = _probe(observation.operator, prior.standardisation, shape)
    except (TypeError, ValueError) as error:
        raise ObservationError(
            "operator",
            f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
            "a function that jax.vjp can differentiate",
            "Replace while loops and callbacks inside it, or give it a custom derivative.",
        ) from error
    if not finite:
        raise ObservationError(
            "operator",
            "values or gradients that are not finite",
            "finite ones on trajectories of the prior's mean and spread",
            "Guard logarithms, roots and divisions inside it.",
        )
    if not moves:
        raise ObservationError(
            "operator",
            "a gradient of zero everywhere",
            "a differentiable function of the trajectory",
            "Rounding, comparing and stop_gradient inside it cut the gradient.",
        )


@partial(jax.jit, static_argnames="shape")
def _probe(
    operator: Any, standardisation: Standardisation, shape: tuple[int, ...]
) -> tuple[Array, Array]:
    """Whether value and gradient are finite, and whether the gradient is anywhere nonzero."""
    x = standardisation.inverse(jax.random.normal(jax.random.key(0), shape))
    y, pull = jax.vjp(operator, x)
    (gradient,) = pull(jax.random.normal(jax.random.key(1), y.shape, y.dtype))
    finite = jnp.all(jnp.isfinite(y)) & jnp.all(jnp.isfinite(gradient))
    return finite, jnp.any(gradient != 0)
