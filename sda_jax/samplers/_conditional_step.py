"""The conditional step of one particle: a draw from the Gaussian that x_s given x_t and y would
have, and what it weighs."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sda_jax.core._arrays import PRNGKey, Time, Trajectory
from sda_jax.core._linalg import cholesky, solve_factored, solve_lower
from sda_jax.diffusion._schedules import noise_ratio
from sda_jax.guidance._base import Guided
from sda_jax.guidance._statistical import Level, log_likelihood


class Place(NamedTuple):
    """Where a particle is, and what guidance makes of it: its posterior mean, how far y moves that,
    and `log p(y | x_t)`."""

    x: Trajectory
    x_hat: Trajectory
    shift: Trajectory
    log_twist: Array


def looked_at(posterior: Guided, level: Level, x: Trajectory, t: Time) -> Place:
    """What guidance makes of a particle at `x = x_t`; `level` is that of t."""
    x_hat = posterior.denoiser(x, t)
    near = posterior.method.linearised(posterior.observation, x_hat, level)
    factor = cholesky(near.covariance(level))
    explained = near.jacobian.T @ solve_factored(factor, near.residual)
    shift = level.basis @ (level.variances * explained)
    log_twist = log_likelihood(posterior.observation, x_hat, level, near, factor)
    return Place(x, x_hat, shift.reshape(x.shape), log_twist)


def moved(
    key: PRNGKey, posterior: Guided, level: Level, place: Place, t: Time, s: Time
) -> tuple[Trajectory, Array]:
    """A draw of x_s given x_t and y, were the data Gaussian, from a particle at time t > s, and the
    log ratio of the prior's kernel to that one's density there.

    In V's basis the prior's kernel has the covariance `D = v + c^2 V`, the other one
    `D - c^2 V H^T S^-1 H V`, H the operator's Jacobian and S the residual's covariance.
    """
    schedule, variances = posterior.schedule, level.variances
    share = (noise_ratio(schedule, s) / noise_ratio(schedule, t)) ** 2
    c = schedule.mu(s) * (1 - share)
    v = schedule.sigma(s) ** 2 * (1 - share)
    prior = v + c**2 * variances
    near = posterior.method.linearised(posterior.observation, place.x_hat, level)
    h, s_prior = near.jacobian, near.covariance(level)
    s_narrow = s_prior - (h * (c**2 * variances**2 / prior)) @ h.T
    factor, rest, narrow = cholesky(s_prior), cholesky(near.noise), cholesky(s_narrow)
    keys = jax.random.split(key, 3)
    # by Matheron's rule: an error of x_hat, one of y, and the update for both
    error = jnp.sqrt(variances) * jax.random.normal(keys[0], variances.shape)
    seen = h @ error + rest @ jax.random.normal(keys[1], near.residual.shape)
    error = error - variances * (h.T @ solve_factored(factor, seen))
    delta = c * error + jnp.sqrt(v) * jax.random.normal(keys[2], variances.shape)
    shift = c * (level.basis.T @ place.shift.reshape(-1))
    across = solve_lower(narrow, h @ (c * variances * delta / prior))
    log_ratio = (
        -jnp.sum(shift * (delta + shift / 2) / prior)
        + (across @ across) / 2
        + jnp.sum(jnp.log(jnp.diagonal(narrow)) - jnp.log(jnp.diagonal(factor)))
    )
    mean = share * schedule.mu(s) / schedule.mu(t) * place.x + c * place.x_hat
    moved = (level.basis @ (shift + delta)).reshape(mean.shape)
    return mean + moved, log_ratio
