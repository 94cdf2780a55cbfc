"""What the functions that draw posteriors ask of their arguments, before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from sda_jax.core._errors import ConfigError, ObservationError, whole_number
from sda_jax.core._keys import require_key
from sda_jax.core._numbers import real_array
from sda_jax.core._protocols import Adapts, Denoiser, Guidance, PopulationSampler, Sampler
from sda_jax.core._requirements import require_protocol, require_untraced
from sda_jax.observations._checks import prediction_of, require_differentiable
from sda_jax.observations._observation import Observation, require_observation
from sda_jax.prior._prior import Prior, require_prior
from sda_jax.runtime._devices import BATCH, TIME, require_shared, shares
from sda_jax.runtime._memory import Memory, members_that_fit, most_at_once, require_room
from sda_jax.samplers._driver import island

GUIDANCE_REMEDY = (
    "Use one such as sda_jax.SDA(), write what it lacks, or take both of a preset: "
    'guidance, sampler = sda_jax.presets(prior)["fast"].'
)
SAMPLER_REMEDY = (
    "Use one such as sda_jax.PredictorCorrector(), which takes predictor and corrector, or write "
    "what it lacks."
)
LOOP = "Call it in a Python loop: calls with the same shapes compile nothing."
DRAW_INSTEAD = (
    f"{LOOP} In compiled functions use sda_jax.draw(key, posterior, sampler, shape), with "
    "posterior and sampler of sda_jax.posterior.posterior_denoiser(...), called before."
)
BYTES = 4  # of a number in single precision


def require_call(function: str, key: Any, *given: Any, remedy: str = DRAW_INSTEAD) -> None:
    """Raises `ConfigError` if JAX traces the call of a function, or `key` is none."""
    require_untraced(function, remedy, key, *given)
    require_key(key)


def check_methods(guidance: Any, sampler: Any) -> None:
    """Raises `ConfigError` if something is given that is no guidance or no sampler."""
    if guidance is not None:
        require_protocol("guidance", guidance, Guidance, GUIDANCE_REMEDY)
    if sampler is not None:
        require_protocol("sampler", sampler, Sampler, SAMPLER_REMEDY)


def check_samples(prior: Prior, length: int, samples: Any) -> int:
    """`samples` as an integer, of an ensemble that memory can hold.

    Raises:
        ConfigError: It is none.
        ResourceError: The ensemble is larger than the memory that is free.
    """
    samples = whole_number("samples", samples)
    size = BYTES * samples * length * math.prod(prior.state_shape)
    remedy = "Ask for fewer, or draw them onto disk: sda_jax.assimilate_to_file."
    devices = shares(BATCH) * shares(TIME)
    require_room(f"an ensemble of {samples} members", size // devices, remedy)
    return samples


def ensemble_of(value: Any, state_shape: tuple[int, ...] | None = None, least: int = 1) -> Array:
    """An ensemble `(samples, L, *S)` that a user hands over.

    Args:
        value: The members.
        state_shape: Of a state; None if any will do.
        least: Members.

    Raises:
        ConfigError: No array of so many members, or members that are not finite.
    """
    members = real_array("ensemble", value)
    shape = np.shape(members)
    fits = len(shape) > 2 and (state_shape is None or shape[2:] == tuple(state_shape))
    if not fits or shape[0] < least or not shape[1]:
        states = "*state" if state_shape is None else ", ".join(map(str, state_shape))
        expected = f"at least {least} members (samples, length, {states})"
        raise ConfigError("ensemble", f"shape {shape}", expected, "Give one of `assimilate`.")
    whole = np.isfinite(np.asarray(members)).all(axis=tuple(range(1, len(shape))))
    if not whole.all():
        raise ConfigError(
            "ensemble",
            f"{np.sum(~whole)} of {shape[0]} members with values that are missing or not finite",
            "finite members",
            "Leave them out.",
        )
    return jnp.asarray(members, jnp.float32)


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
    require_shared("length", length, TIME)
    together = island(sampler)
    if chunk is None:
        unit = together * shares(BATCH)
        chunk = members_that_fit(samples, needed, unit, most_at_once())
    chunk = -(-min(chunk, samples) // together) * together
    if together > 1:  # islands that nobody asked for are better than none for a device
        chunk = -(-chunk // (together * shares(BATCH))) * together * shares(BATCH)
    require_shared("chunk", chunk // together, BATCH)
    remedies = [f"Lower memory.chunk, the members sampled at once ({chunk})"] * (chunk > 1)
    if prior.window is not None:
        remedies.append("Lower memory.window_chunk, the windows of a member evaluated at once")
    if prior.tiling is not None:
        remedies.append("Lower memory.tile_chunk, the tiles of a window evaluated at once")
    return chunk, ". ".join([*remedies, f"Shorten the trajectory ({length} states)"]) + "."


def particles_at_once(
    sampler: Sampler,
    posterior: Denoiser,
    samples: int,
    shape: tuple[int, ...],
    memory: Memory,
    needed: Callable[[Sampler], int],
) -> Sampler:
    """A population that moves as many particles at once as fit the memory; any other sampler, and
    where the user said how many, the same.

    Args:
        sampler, posterior: What `posterior_denoiser` gave.
        samples, memory: See `assimilate`.
        shape: Of a trajectory.
        needed: Bytes that a sampler needs.
    """
    if not (isinstance(sampler, PopulationSampler) and isinstance(sampler, Adapts)):
        return sampler
    fitted = sampler.fitted

    def moving(chunk: int) -> Any:
        return fitted(posterior, samples, shape, chunk)

    own = jax.tree.structure(moving(1)) == jax.tree.structure(sampler)
    if own or memory.chunk is not None:
        return sampler
    start = jax.eval_shape(lambda: sampler.init(jax.random.key(0), posterior, shape))
    particles = start.x.shape[0]
    return moving(members_that_fit(particles, lambda n: needed(moving(n)), most=most_at_once()))


def check_length(prior: Prior, length: Any) -> int:
    """`length` as an integer.

    Raises:
        ConfigError: `prior` is none, or has no trajectories of `length` states.
        ResourceError: One of them is larger than the memory that is free.
    """
    require_prior(prior)
    length = whole_number("length", length)
    if prior.window is not None and length < prior.window:
        raise ConfigError(
            "length",
            length,
            f"at least the prior's window of {prior.window} states",
            "Ask for a longer trajectory.",
        )
    size = BYTES * length * math.prod(prior.state_shape)
    require_room(f"a trajectory of {length} states", size // shares(TIME), "Shorten it.")
    return length


def check_observation(prior: Prior, observation: Observation, length: int) -> None:
    """Raises if `observation` cannot be of trajectories of `length` states of `prior`."""
    require_prior(prior)
    require_observation(observation)
    length = check_length(prior, length)
    shape = (length, *prior.state_shape)
    out = prediction_of(observation.operator, shape)
    if out.shape != jnp.shape(observation.y):
        raise ObservationError(
            "y",
            f"shape {jnp.shape(observation.y)}",
            f"the operator's shape {out.shape} for {length} states of shape {prior.state_shape}",
            "Reshape y, correct the operator or length, or use a prior of y's resolution.",
        )
    require_differentiable(observation.operator, prior.standardisation, shape)
