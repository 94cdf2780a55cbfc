"""Tweedie moment projected diffusion: the covariance's row sums as independent variances."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sda_jax.core._arrays import Time, Trajectory
from sda_jax.core._component import component
from sda_jax.core._protocols import Denoiser
from sda_jax.diffusion._schedules import noise_ratio
from sda_jax.guidance._base import GuidanceMethod
from sda_jax.observations._observation import Observation


@component
class TMPD(GuidanceMethod):
    """`p(y | x_t) = N(y; A(x_hat), Sigma_y + diag(v))`, v the row sums of `J V J^T`, at least 0,
    with `V = sigma^2/mu d x_hat/d x_t` and J the operator's Jacobian.

    Boys et al. (2023), section 3.2. Exact where observed elements are independent of each other
    given x_t; the row sums of a trained network's Jacobian may be negative and count as 0 then.
    """

    def twist(
        self, denoiser: Denoiser, observation: Observation, x: Trajectory, t: Time
    ) -> tuple[Array, Array]:
        """`x_hat` and the gradient of `log p(y | x_t)`, v held constant."""
        schedule = denoiser.schedule
        x_hat, pull_x = jax.vjp(lambda x: denoiser(x, t), x)
        prediction, push = jax.linearize(observation.operator, x_hat)
        pull = jax.linear_transpose(push, x_hat)
        (ones,) = pull(jnp.where(observation.observed, 1.0, 0.0).astype(prediction.dtype))
        sums = push(schedule.sigma(t) ** 2 / schedule.mu(t) * pull_x(ones)[0])
        near = observation.near(x_hat, noise_ratio(schedule, t))
        slope = jax.grad(near.log_prob)(prediction, jnp.maximum(sums, 0.0))
        (w,) = pull(slope)
        return x_hat, pull_x(w)[0]
