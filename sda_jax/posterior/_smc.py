"""Twisted sequential Monte Carlo: guidance's bias corrected by weights, with the evidence."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sda_jax.core._arrays import PRNGKey, Time, Trajectory
from sda_jax.core._batches import map_batches
from sda_jax.core._errors import (
    DivergenceError,
    require_at_most,
    require_positive,
    whole_number,
)
from sda_jax.core._protocols import Denoiser, Grid, LikelihoodGuidance
from sda_jax.core._requirements import require_protocol
from sda_jax.core._resampling import effective_share, ordered_resampling
from sda_jax.diffusion._gaussian import covariance_times, draw_error
from sda_jax.diffusion._grids import LogSNR
from sda_jax.diffusion._schedules import noise_ratio
from sda_jax.guidance import GaussianCovariance
from sda_jax.guidance._base import conjugate_gradients
from sda_jax.observations._observation import Observation
from sda_jax.posterior._arguments import (
    BYTES,
    LOOP,
    check_length,
    check_observation,
    require_call,
)
from sda_jax.prior._prior import Prior
from sda_jax.prior._trajectory_denoiser import trajectory_denoiser
from sda_jax.runtime._memory import require_room, run_in_chunks

DEFAULT_TWIST = GaussianCovariance()
DEFAULT_GRID = LogSNR()
ITERATIONS = 20  # of conjugate gradients with the kernel's covariance


class _Place(NamedTuple):
    """Where a particle is, and what guidance makes of it."""

    x: Trajectory
    x_hat: Trajectory
    gradient: Trajectory
    log_twist: Array


class Particles(NamedTuple):
    """A weighted ensemble and how it came to be.

    Attributes:
        particles: In physical units.
        log_weights: Normalised: their exponentials add up to 1.
        log_evidence: Estimate of `log p(y)` under the prior.
        effective: Effective sample size after each step, as a share of the particles, before
            resampling; at last with the likelihood itself, which `log_weights` have.
        resampled: Whether the particles were resampled after each step.
        diverged: How many particles lost all weight on the way, being not finite or out of numbers'
            range. Those that were never resampled are at the place of the heaviest.
    """

    particles: Float[Array, "particles length *state"]
    log_weights: Float[Array, " particles"]
    log_evidence: Float[Array, ""]
    effective: Float[Array, " steps+1"]
    resampled: Bool[Array, " steps"]
    diverged: Int[Array, ""]

    def ensemble(self, key: PRNGKey, samples: int) -> Float[Array, "samples length *state"]:
        """Members of equal weight, in random order, by `ordered_resampling`."""
        key, key_order = jax.random.split(key)
        weights = jnp.exp(self.log_weights)
        index = ordered_resampling(key, self.particles, weights, samples)
        return self.particles[jax.random.permutation(key_order, index)]


def twisted_smc(
    key: PRNGKey,
    prior: Prior,
    observation: Observation,
    length: int,
    particles: int,
    guidance: Any = DEFAULT_TWIST,
    steps: int = 256,
    grid: Any = DEFAULT_GRID,
    threshold: float = 0.5,
    chunk: int | None = None,
    context: Any = None,
) -> Particles:
    """Samples the posterior by particles that guided ancestral steps move and weights correct.

    Wu et al. (2023), algorithm 1. The target after each step is the prior's distribution of x_s
    times the guidance's approximation of `p(y | x_s)`, after the last one times the likelihood
    itself: the approximation costs particles, not exactness. Exact for the prior's reversed chain
    as the particles grow, and that chain has the prior's distribution as the steps grow; at once
    for Gaussian data whose covariance the denoiser knows (`covariance_times`), which the kernel's
    covariance includes.

    Args:
        key: Random key.
        prior: What trajectories look like.
        observation: In physical units.
        length: States of the trajectory.
        particles: Their number; the more, the better.
        guidance: With a `log_twist`: `GaussianCovariance` or `SDA`.
        steps: Ancestral steps, an evaluation of the guidance each.
        grid: Time grid.
        threshold: Effective sample size, as a share of the particles, below which they are
            resampled (`ordered_resampling`).
        chunk: Particles moved at once; None for as many as fit the memory, on CPU at most 64.
        context: See `assimilate`.

    Raises:
        ConfigError: Impossible numbers, or guidance without a `log_twist`.
        ObservationError: The operator does not fit the trajectory or y, or the noise is not
            Gaussian.
        DivergenceError: No particle has a finite weight.
        ResourceError: The particles of a chunk need more memory than is free.
    """
    require_call("twisted_smc", key, prior, observation, context, remedy=LOOP)
    particles, steps = whole_number("particles", particles), whole_number("steps", steps)
    chunk = None if chunk is None else whole_number("chunk", chunk)
    require_positive("threshold", threshold)
    require_at_most("threshold", threshold, 1)
    require_protocol("guidance", guidance, LikelihoodGuidance, "Use GaussianCovariance or SDA.")
    require_protocol("grid", grid, Grid)
    length = check_length(prior, length)
    size = BYTES * particles * length * math.prod(prior.state_shape)
    require_room(f"a population of {particles} particles", size, "Ask for fewer.")
    check_observation(prior, observation, length)
    standardised = observation.standardised(prior.standardisation)
    denoiser = trajectory_denoiser(prior, length, context)
    shape = (length, *prior.state_shape)
    given = (key, denoiser, standardised, guidance, grid, threshold, shape, particles, steps)
    found = run_in_chunks(_run, given, particles, chunk, "the particles moved at once")
    if not bool(jnp.isfinite(found.log_evidence)):
        schedule = prior.denoiser.schedule
        last = int(jnp.argmin(jnp.isfinite(found.effective)))  # the first without any weight
        level = float(noise_ratio(schedule, grid(schedule, steps)[last]))
        raise DivergenceError(
            "particles",
            f"none with a finite weight after the step from sigma/mu = {level:.3g}",
            "particles that explain y",
            "Take more particles or steps, or guide more gently.",
        )
    return found._replace(particles=prior.standardisation.inverse(found.particles))


@partial(jax.jit, static_argnames=("shape", "count", "steps", "chunk"))
def _run(
    key: PRNGKey,
    denoiser: Denoiser,
    observation: Observation,
    guidance: Any,
    grid: Any,
    threshold: float,
    shape: tuple[int, ...],
    count: int,
    steps: int,
    chunk: int,
) -> Particles:
    schedule = denoiser.schedule
    times = grid(schedule, steps)
    key_start, key_steps = jax.random.split(key)
    spread = jnp.sqrt(schedule.mu(1.0) ** 2 + schedule.sigma(1.0) ** 2)
    x = spread * jax.random.normal(key_start, (count, *shape))

    def looked_at(x: Array, t: Time) -> _Place:
        x_hat, gradient = guidance.twist(denoiser, observation, x, t)
        return _Place(x, x_hat, gradient, guidance.log_twist(denoiser, observation, x_hat, t))

    def moved(both: tuple[PRNGKey, _Place], t: Time, s: Time) -> tuple[_Place, Array]:
        x, log_ratio = _move(*both, denoiser, t, s)
        place = looked_at(x, s)
        return place, log_ratio + place.log_twist - both[1].log_twist

    def step(carry: tuple, now: tuple[Array, ...]) -> tuple[tuple, tuple[Array, Array, Array]]:
        (places, log_weights, log_evidence), (i, t, s) = carry, now
        key_move, key_resample = jax.random.split(jax.random.fold_in(key_steps, i))
        keys = jax.random.split(key_move, count)
        places, gained = map_batches(lambda b: moved(b, t, s), (keys, places), chunk)
        log_weights, total, effective, lost = _weighed(log_weights, gained)
        due = effective < threshold

        def resampled(places: _Place, log_weights: Array) -> tuple[_Place, Array, Array]:
            weights = jnp.exp(log_weights - total)
            index = ordered_resampling(key_resample, places.x_hat, weights, count)
            chosen = jax.tree.map(lambda a: a[index], places)
            return chosen, jnp.zeros(count), log_evidence + total - jnp.log(count)

        def kept(places: _Place, log_weights: Array) -> tuple[_Place, Array, Array]:
            return places, log_weights, log_evidence

        return jax.lax.cond(due, resampled, kept, places, log_weights), (effective, due, lost)

    places = map_batches(lambda x: looked_at(x, times[0]), x, chunk)
    log_weights, _, _, first_lost = _weighed(jnp.zeros(count), places.log_twist)
    start = (places, log_weights, jnp.zeros(()))
    now = (jnp.arange(steps), times[:-1], times[1:])
    (places, log_weights, log_evidence), (effective, due, lost) = jax.lax.scan(step, start, now)
    exact = jax.vmap(observation.log_likelihood)(places.x / schedule.mu(0.0))
    log_weights, total, last, last_lost = _weighed(log_weights, exact - places.log_twist)
    finite = jnp.isfinite(log_weights).reshape(count, *[1] * len(shape))
    x = jnp.where(finite, places.x, places.x[jnp.argmax(log_weights)])
    return Particles(
        x / schedule.mu(0.0),
        log_weights - total,
        log_evidence + total - jnp.log(count),
        jnp.append(effective, last),
        due,
        first_lost + jnp.sum(lost) + last_lost,
    )


def _weighed(log_weights: Array, gained: Array) -> tuple[Array, Array, Array, Array]:
    """The new weights, the log of their sum, their effective sample size as a share, and how many
    particles just diverged: they weigh nothing."""
    new = log_weights + gained
    usable = jnp.isfinite(new)
    new = jnp.where(usable, new, -jnp.inf)
    total = jax.scipy.special.logsumexp(new)
    return new, total, effective_share(new), jnp.sum(~usable & jnp.isfinite(log_weights))


def _move(
    key: PRNGKey, place: _Place, denoiser: Denoiser, t: Time, s: Time
) -> tuple[Trajectory, Array]:
    """A draw from the guided kernel, and the log ratio of the prior's kernel to it there.

    Both have the covariance `v + c^2 V`: of `q(x_s | x_t, x)`, averaged over x given x_t, V the
    covariance that the denoiser knows of.
    """
    schedule = denoiser.schedule
    share = (noise_ratio(schedule, s) / noise_ratio(schedule, t)) ** 2
    c = schedule.mu(s) * (1 - share)
    variance = schedule.sigma(s) ** 2 * (1 - share)
    shift = schedule.sigma(t) ** 2 / schedule.mu(t) * place.gradient
    mean = share * schedule.mu(s) / schedule.mu(t) * place.x + c * (place.x_hat + shift)
    key_noise, key_error = jax.random.split(key)
    noise = jnp.sqrt(variance) * jax.random.normal(key_noise, mean.shape)
    error = noise + c * draw_error(key_error, denoiser, mean.shape, t)

    def kernel(w: Array) -> Array:
        return variance * w + c**2 * covariance_times(denoiser, w, t)

    scaled = conjugate_gradients(kernel, c * shift, ITERATIONS)
    return mean + error, -jnp.vdot(error, scaled) - jnp.vdot(c * shift, scaled) / 2
