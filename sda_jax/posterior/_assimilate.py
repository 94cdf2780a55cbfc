"""Prior + observation + key -> ensemble of trajectories."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
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
from sda_jax.core._requirements import require_protocol
from sda_jax.core._units import Standardisation
from sda_jax.guidance._base import explained
from sda_jax.observations._observation import Observation
from sda_jax.posterior._presets import PRIOR_SAMPLER, default_guidance, default_sampler
from sda_jax.prior._prior import Prior
from sda_jax.prior._trajectory_denoiser import trajectory_denoiser
from sda_jax.runtime._devices import BATCH, TIME, constrain, require_shared, shares
from sda_jax.runtime._memory import Memory, members_that_fit, needed_bytes, run_if_fits
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

    The simulator is not used. Member i's randomness is the key folded with i: chunk and ensemble
    size leave it as it is. (A `PopulationSampler`'s members depend on those of their island alone.)
    A second call with the same shapes and operator compiles nothing. It checks and loops on the
    host, so it cannot be called under `jax.jit` or `jax.vmap`.

    Args:
        key: Random key.
        prior: What trajectories look like.
        observation: What was seen, in physical units.
        length: States of the trajectory.
        samples: Members of the ensemble.
        guidance: How the observation enters, a `Guidance`; None for the default of
            `presets(prior)`.
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
    posterior, sampler = posterior_denoiser(
        prior, observation, length, guidance, sampler, memory, context
    )
    return _ensemble(key, prior, posterior, length, samples, sampler, memory, progress)


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
    _check_length(prior, length)
    require_protocol("sampler", sampler, Sampler)
    denoiser = trajectory_denoiser(prior, length, context, memory)
    return _ensemble(key, prior, denoiser, length, samples, sampler, memory, progress)


def posterior_denoiser(
    prior: Prior,
    observation: Observation,
    length: int,
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
    if guidance is None:
        guidance = default_guidance(prior, observation)
    require_protocol("guidance", guidance, Guidance)
    if sampler is not None:
        require_protocol("sampler", sampler, Sampler)
    check_observation(prior, observation, length)
    if not bool(jnp.any(observation.observed)):
        warnings.warn(
            "every value of the observation is missing: these are samples of the prior",
            stacklevel=3,
        )
    denoiser = trajectory_denoiser(prior, length, context, memory)
    standardised = observation.standardised(prior.standardisation)
    posterior = guided(denoiser, standardised, guidance)
    return posterior, default_sampler(prior, posterior) if sampler is None else sampler


def guided(denoiser: Denoiser, observation: Observation, guidance: Guidance) -> Denoiser:
    """The posterior's denoiser that guidance makes of the prior's and of an observation, both of
    trajectories in standardised units; it explains the observation whatever the guidance.

    Raises:
        ConfigError: What the guidance gives is no denoiser.
    """
    posterior = guidance(denoiser, observation)
    require_protocol("guidance's result", posterior, Denoiser, "Return a denoiser.")
    numbers = (jax.Array, np.ndarray, np.generic, float, int)
    if not all(isinstance(leaf, numbers) for leaf in jax.tree.leaves(posterior)):
        raise ConfigError(
            "guidance's result",
            f"a {type(posterior).__name__}",
            "a component, whose numbers compiled functions can take",
            "Decorate its class with sda_jax.component.",
        )
    return explained(posterior, denoiser, observation)


def check_sizes(
    prior: Prior,
    length: int,
    samples: int,
    sampler: Sampler,
    chunk: int | None,
    needed: Callable[[int], int],
) -> tuple[int, str]:
    """The members sampled at once, and what to do if they do not fit the memory.

    Args:
        prior, length, samples, sampler: See `assimilate`.
        chunk: As the user said, or None.
        needed: Bytes that so many members need.

    Raises:
        ConfigError: Impossible numbers, or some that the mesh's devices cannot share.
    """
    require_at_least("samples", samples, 1)
    require_shared("length", length, TIME)
    together = island(sampler)
    if chunk is None:
        chunk = members_that_fit(samples, math.lcm(together, shares(BATCH)), needed)
    chunk = -(-min(chunk, samples) // together) * together
    require_shared("chunk", chunk // together, BATCH)
    remedies = [f"Lower memory.chunk, the members sampled at once ({chunk})"] * (chunk > 1)
    if prior.window is not None:
        remedies.append("Lower memory.window_chunk, the windows of a member evaluated at once")
    return chunk, ". ".join([*remedies, f"Shorten the trajectory ({length} states)"]) + "."


def diverged(bad: int, samples: int, level: float) -> DivergenceError:
    """The error of `bad` members of `samples` that are not finite, the first of them after the step
    from sigma/mu = `level`; 0 where all steps were finite and what was made of them is not."""
    since = f", the first of them after the step from sigma/mu = {level:.3g}" if level > 0 else ""
    return DivergenceError(
        "ensemble",
        f"{bad} of {samples} members not finite" + since,
        "finite trajectories",
        "Guide more gently (SDA: raise gamma; GaussianCovariance: raise inflation), "
        "lower the tau of corrector steps, or take more steps.",
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
) -> Array:
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
    ensemble, diverged_at = (jnp.concatenate(part)[:samples] for part in zip(*parts, strict=True))
    require_finite(ensemble, diverged_at, samples)
    return ensemble


@partial(jax.jit, static_argnames="shape")
def _draw(
    key: PRNGKey,
    members: Array,
    denoiser: Denoiser,
    standardisation: Standardisation,
    sampler: Sampler,
    shape: tuple[int, ...],
) -> tuple[Array, Array]:
    """Members in physical units, and where each diverged."""
    drawn, diverged_at = draw_members(key, members, denoiser, sampler, shape)
    return constrain(standardisation.inverse(drawn), BATCH, TIME), diverged_at


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
    if not isinstance(out, jax.ShapeDtypeStruct) or not jnp.issubdtype(out.dtype, jnp.floating):
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
