"""Exact posterior of linear-Gaussian chains: Kalman filter and Rauch-Tung-Striebel smoother.

Double precision on the host: these are the answers that everything else is measured against.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sda_jax.classical._arguments import check_chain
from sda_jax.core._errors import ObservationError
from sda_jax.core._protocols import Schedule
from sda_jax.core._requirements import require_protocol
from sda_jax.diffusion._gaussian import GaussianDenoiser
from sda_jax.diffusion._schedules import Cosine
from sda_jax.observations._in_time import local_in_time
from sda_jax.observations._observation import Observation, require_observation
from sda_jax.prior._prior import Prior
from sda_jax.systems import LinearGaussian


class GaussianTrajectory(NamedTuple):
    """A Gaussian distribution of trajectories.

    Attributes:
        mean: `(L, d)`.
        covariance: `(L d, L d)`, of the flattened trajectory.
    """

    mean: Float[np.ndarray, "L d"]
    covariance: Float[np.ndarray, "Ld Ld"]


def _chain(system: LinearGaussian) -> tuple[np.ndarray, ...]:
    a = np.asarray(system.transition, np.float64)
    d = a.shape[0]
    q = np.diag(np.broadcast_to(np.asarray(system.transition_std, np.float64) ** 2, (d,)))
    m0 = np.asarray(system.initial_mean, np.float64)
    p0 = np.asarray(system.initial_covariance, np.float64)
    return a, q, m0, p0


def trajectory_distribution(system: LinearGaussian, length: int) -> GaussianTrajectory:
    """The chain's distribution of trajectories of `length` states, in physical units.

    Raises:
        ConfigError, ResourceError: See `kalman_smoother`.
    """
    length = check_chain("trajectory_distribution", system, length)
    a, q, m, p = _chain(system)
    d = len(m)
    means, blocks = [m], [p]
    for _ in range(length - 1):
        m, p = a @ m, a @ p @ a.T + q
        means.append(m)
        blocks.append(p)
    covariance = np.zeros((length, d, length, d))
    for i in range(length):
        cross = blocks[i]
        for j in range(i, length):
            covariance[j, :, i, :] = cross
            covariance[i, :, j, :] = cross.T
            cross = a @ cross
    return GaussianTrajectory(np.stack(means), covariance.reshape(length * d, length * d))


def exact_prior(system: LinearGaussian, length: int, schedule: Schedule = Cosine()) -> Prior:
    """The prior whose denoiser is exact: what a network that has learned all there is would give.

    Args:
        system: The chain.
        length: States of the trajectories that it serves, and of no others.
        schedule: Noise schedule.

    Raises:
        ConfigError, ResourceError: See `kalman_smoother`; or `schedule` is none.
    """
    require_protocol("schedule", schedule, Schedule)
    distribution, standardisation = trajectory_distribution(system, length), system.standardisation
    std = np.broadcast_to(np.asarray(standardisation.std, np.float64), distribution.mean.shape)
    mean = (distribution.mean - np.asarray(standardisation.mean, np.float64)) / std
    scale = std.reshape(-1)
    denoiser = GaussianDenoiser.of(
        jnp.asarray(mean, jnp.float32),
        jnp.asarray(distribution.covariance / np.outer(scale, scale), jnp.float32),
        schedule,
    )
    return Prior(denoiser, standardisation, system.state_shape, None, system)


def _per_state(
    observation: Observation, d: int, length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Matrix, offset and noise variances of the operator on one state, and its stride."""
    operator = local_in_time(observation, length)
    observation.require_gaussian("the smoother is exact for that only", "Use a particle smoother.")
    zero = jnp.zeros(d)
    offset = np.asarray(operator.operator(zero), np.float64).reshape(-1)
    matrix = np.asarray(jax.jacobian(operator.operator)(zero), np.float64).reshape(-1, d)
    probe = np.asarray(operator.operator(jnp.ones(d)), np.float64).reshape(-1)
    if not np.allclose(probe, matrix.sum(1) + offset, rtol=1e-4, atol=1e-5):
        raise ObservationError(
            "operator", "not affine", "an affine function of the state", "Use a particle smoother."
        )
    std = np.broadcast_to(np.asarray(observation.std, np.float64), np.shape(observation.y))
    return matrix, offset, std.reshape(len(std), -1) ** 2, operator.n


def kalman_smoother(
    system: LinearGaussian, observation: Observation, length: int
) -> GaussianTrajectory:
    """Exact distribution of the trajectory given the observation, in physical units.

    Rauch, Tung & Striebel (1965). The joint covariance of two states is the product of the
    smoother's gains between them and the later state's covariance.

    Args:
        system: The chain.
        observation: With an affine operator `Every(n, of)` and independent noise; NaN = missing.
        length: States.

    Raises:
        ConfigError: Under `jax.jit` or the like; the system is no linear-Gaussian chain, or
            `length` no integer from 1 on.
        ObservationError: The operator is not of that kind, or y is of another length.
        ResourceError: The covariance does not fit the memory that is free.
    """
    length = check_chain("kalman_smoother", system, length, observation)
    require_observation(observation)
    a, q, m, p = _chain(system)
    d = len(m)
    h, offset, variances, every = _per_state(observation, d, length)
    y = np.asarray(observation.y, np.float64).reshape(len(variances), -1)
    filtered, predicted = [], []
    for i in range(length):
        if i:
            m, p = a @ m, a @ p @ a.T + q
        predicted.append((m, p))
        if i % every == 0:
            row = i // every
            seen = ~np.isnan(y[row])
            hs, r = h[seen], np.diag(variances[row][seen])
            gain = np.linalg.solve(hs @ p @ hs.T + r, hs @ p).T
            m = m + gain @ (y[row][seen] - offset[seen] - hs @ m)
            joseph = np.eye(d) - gain @ hs
            p = joseph @ p @ joseph.T + gain @ r @ gain.T
        filtered.append((m, p))
    means, covariance = np.zeros((length, d)), np.zeros((length, d, length, d))
    means[-1], covariance[-1, :, -1, :] = filtered[-1]
    for i in range(length - 2, -1, -1):
        (m, p), (m_next, p_next) = filtered[i], predicted[i + 1]
        gain = np.linalg.solve(p_next, a @ p).T
        smoothed = covariance[i + 1, :, i + 1, :]
        means[i] = m + gain @ (means[i + 1] - m_next)
        covariance[i, :, i, :] = p + gain @ (smoothed - p_next) @ gain.T
        for j in range(i + 1, length):
            covariance[i, :, j, :] = gain @ covariance[i + 1, :, j, :]
            covariance[j, :, i, :] = covariance[i, :, j, :].T
    return GaussianTrajectory(means, covariance.reshape(length * d, length * d))
