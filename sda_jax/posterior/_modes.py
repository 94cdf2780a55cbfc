"""The most probable trajectories: modes of the posterior, found from an ensemble's members."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy.cluster.hierarchy import fcluster, linkage

from sda_jax.core._arrays import Trajectory
from sda_jax.core._batches import map_batches
from sda_jax.core._errors import DivergenceError, require_positive, whole_number
from sda_jax.core._protocols import Denoiser, Guidance, Schedule
from sda_jax.core._requirements import require_untraced
from sda_jax.diffusion._schedules import noise_ratio
from sda_jax.guidance import GaussianCovariance
from sda_jax.observations._observation import Observation, log_likelihood
from sda_jax.posterior._arguments import LOOP, check_methods, check_observation, ensemble_of
from sda_jax.posterior._presets import default_methods
from sda_jax.prior._prior import Prior, require_prior
from sda_jax.prior._trajectory_denoiser import trajectory_denoiser
from sda_jax.runtime._memory import run_in_chunks

MOMENTUM = 0.9


class Modes(NamedTuple):
    """Modes of a posterior, the one with most members first.

    Attributes:
        trajectories: One a mode, in physical units: of its members' ends, the one that fits best.
        members: How many members led to each, an estimate of its probability.
        of_member: The mode of each member.
        log_likelihood: `log p(y | x)` of each mode.
    """

    trajectories: Float[np.ndarray, "modes length *state"]
    members: Int[np.ndarray, " modes"]
    of_member: Int[np.ndarray, " samples"]
    log_likelihood: Float[np.ndarray, " modes"]


def find_modes(
    prior: Prior,
    observation: Observation,
    ensemble: Float[Array, "samples length *state"],
    guidance: Guidance | None = None,
    level: float = 0.3,
    levels: int = 24,
    steps: int = 8,
    distance: float = 0.1,
    chunk: int | None = None,
    context: Any = None,
) -> Modes:
    """Moves members uphill to modes of the posterior and lists each mode once.

    `x <- E[x_0 | x_t = mu x, y]` is an ascent of `log p(x_t | y)` by a step of sigma^2 (Tweedie's
    formula): the mean shift of the posterior smoothed by noise of `sigma/mu`. From `level` on the
    noise falls, so that what is found at last is a mode of the posterior itself. It needs the
    denoiser where weak-constraint 4D-Var needs the system and its adjoint; in the spirit of
    RED-diff, Mardani et al. (2023), without random noise.

    Args:
        prior: What trajectories look like.
        observation: In physical units.
        ensemble: Members to start from, in physical units; a posterior's.
        guidance: How the observation enters; None for the default of `presets(prior)`. Without an
            inflation that follows the innovations, which would weigh y anew to the last: 1 stands
            for it.
        level: First sigma/mu, in standardised units: larger than a mode is wide, smaller than
            modes are apart.
        levels: Noise levels, even in log(sigma/mu).
        steps: Evaluations at each level.
        distance: Root mean square distance, in standardised units, up to which two ends are of one
            mode.
        chunk: Members moved at once; None for as many as fit the memory, on CPU at most 64.
        context: See `assimilate`.

    Raises:
        ConfigError: Impossible numbers.
        ObservationError: The operator does not fit the members or y.
        DivergenceError: A member's end is not finite.
        ResourceError: The members of a chunk need more memory than is free.
    """
    require_untraced("find_modes", LOOP, prior, observation, ensemble, context)
    require_prior(prior)
    levels, steps = whole_number("levels", levels), whole_number("steps", steps)
    chunk = None if chunk is None else whole_number("chunk", chunk)
    for name, value in (("level", level), ("distance", distance)):
        require_positive(name, value)
    check_methods(guidance, None)
    members = ensemble_of(ensemble, prior.state_shape)
    check_observation(prior, observation, members.shape[1])
    denoiser = trajectory_denoiser(prior, members.shape[1], context)
    guidance, _ = default_methods(prior, observation, None, guidance)
    if isinstance(guidance, GaussianCovariance) and guidance.inflation is None:
        guidance = dataclasses.replace(guidance, inflation=1.0)
    posterior = guidance(denoiser, observation.standardised(prior.standardisation))
    start = prior.standardisation.forward(members)
    given = (posterior, start, level, levels, steps)
    ends, finite = run_in_chunks(_climb, given, len(start), chunk, "the members that climb at once")
    if not bool(jnp.all(finite)):
        first = float(_ratios(posterior.schedule, level, levels)[jnp.argmin(jnp.all(finite, 0))])
        raise DivergenceError(
            "ensemble",
            f"{int(jnp.sum(~finite[:, -1]))} of {len(ends)} members not finite, the first of them "
            f"at sigma/mu = {first:.3g}",
            "finite modes",
            "Lower level, or guide more gently.",
        )
    labels = _clusters(np.asarray(ends), distance)
    found = np.asarray(prior.standardisation.inverse(ends))
    likelihood = np.asarray(log_likelihood(observation, found))
    sizes = np.bincount(labels)
    order = np.argsort(-sizes, kind="stable")
    best = [
        max(np.flatnonzero(labels == label), key=lambda member: likelihood[member])
        for label in order
    ]
    return Modes(found[best], sizes[order], np.argsort(order)[labels], likelihood[best])


def _ratios(schedule: Schedule, level: float, levels: int) -> Array:
    """The sigma/mu of the levels."""
    return jnp.exp(jnp.linspace(jnp.log(level), jnp.log(noise_ratio(schedule, 0.0)), levels))


@partial(jax.jit, static_argnames=("levels", "steps", "chunk"))
def _climb(
    denoiser: Denoiser, start: Array, level: float, levels: int, steps: int, chunk: int
) -> tuple[Array, Bool[Array, "samples levels"]]:
    """The members' ends, and whether they were finite at each level."""
    schedule = denoiser.schedule

    def one(x: Trajectory) -> tuple[Trajectory, Array]:
        def at(x: Array, ratio: Array) -> tuple[Array, Array]:
            t = schedule.time(ratio)

            def step(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
                x, before = carry
                ahead = x + MOMENTUM * (x - before)
                return (denoiser(schedule.mu(t) * ahead, t), x), None

            x = jax.lax.scan(step, (x, x), None, length=steps)[0][0]
            return x, jnp.all(jnp.isfinite(x))

        return jax.lax.scan(at, x, _ratios(schedule, level, levels))

    return map_batches(one, start, chunk)


def _clusters(ends: np.ndarray, distance: float) -> np.ndarray:
    """Labels from 0 of ends within `distance` of each other, by single linkage."""
    flat = ends.reshape(len(ends), -1).astype(np.float64)
    if len(flat) == 1:
        return np.zeros(1, int)
    limit = distance * np.sqrt(flat.shape[1])
    return fcluster(linkage(flat, "single"), limit, "distance") - 1
