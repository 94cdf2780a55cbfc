"""Guidance with the exact covariance of x given x_t, for few observed elements."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sda_jax.core._arrays import Time, Trajectory
from sda_jax.core._component import component
from sda_jax.core._linalg import solve_factored
from sda_jax.core._protocols import Denoiser
from sda_jax.diffusion._schedules import noise_ratio
from sda_jax.guidance._base import GuidanceMethod
from sda_jax.observations._observation import Observation


@component
class TweedieCovariance(GuidanceMethod):
    """`p(y | x_t) = N(y; A(x_hat), Sigma_y + A V A^T)`, `V = sigma^2/mu d x_hat/d x_t` the
    covariance of x given x_t.

    Exact where the prior and the noise are Gaussian and A is affine. A VJP through the network for
    every element of y, and V is only as good as the network's Jacobian.
    Rozet et al. (2024), section 3.2, with V dense.
    """

    def twist(
        self, denoiser: Denoiser, observation: Observation, x: Trajectory, t: Time
    ) -> tuple[Array, Array]:
        """`x_hat` and the gradient of `log p(y | x_t)`, V held constant."""
        operator, schedule = observation.operator, denoiser.schedule
        with jax.default_matmul_precision("highest"):
            x_hat, pull_x = jax.vjp(lambda x: denoiser(x, t), x)
            observation = observation.near(x_hat, noise_ratio(schedule, t))
            prediction, pull_y = jax.vjp(operator, x_hat)
            m = prediction.size
            basis = jnp.eye(m, dtype=prediction.dtype).reshape(m, *prediction.shape)
            (rows,) = jax.vmap(pull_y)(basis)
            (pulled,) = jax.vmap(pull_x)(rows)
            rows, pulled = rows.reshape(m, -1), pulled.reshape(m, -1)
            covariance = schedule.sigma(t) ** 2 / schedule.mu(t) * pulled @ rows.T
            covariance = (covariance + covariance.T) / 2
            factor = observation.cholesky(observation.noise_covariance() + covariance)
            residual = observation.residual(prediction).reshape(-1)
            weights = solve_factored(factor, residual)
            weights = jnp.where(observation.observed.reshape(-1), weights, 0.0)
            return x_hat, (weights @ pulled).reshape(x.shape)
