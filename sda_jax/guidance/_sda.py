"""The paper's guidance: a Gaussian likelihood around the posterior mean, of inflated variance."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sda_jax.core._arrays import Time, Trajectory
from sda_jax.core._component import component
from sda_jax.core._protocols import Denoiser
from sda_jax.core._record import static
from sda_jax.diffusion._schedules import noise_ratio
from sda_jax.guidance._base import GuidanceMethod
from sda_jax.observations._linear import row_norms_squared
from sda_jax.observations._observation import Observation


@component
class SDA(GuidanceMethod):
    """`p(y | x_t) = N(y; A(x_hat), Sigma_y + gamma (sigma/mu)^2 diag(J J^T))`, with J the Jacobian
    of the operator with respect to standardised states.

    Rozet & Louppe (2023), section 3.2; there the last factor is 1. Rescaling y, A and the noise
    together changes nothing.

    Averages have small rows, and with `gamma` so much narrower a likelihood than with the paper's
    constant: too stiff for Langevin steps of the paper's size, which leave the distribution (8 x 8
    points of a flow, `tau` 0.5). Take `gamma_obs` there, or a larger `gamma`.

    Attributes:
        gamma: Dimensionless, a number or an array that broadcasts against y.
        gamma_obs: Instead of `gamma diag(J J^T)`, the paper's constant in squared units of y, a
            number or an array; None to use `gamma`.
        through_network: Whether the gradient passes through the network (a VJP) or takes
            `d x_hat / d x_t = 1/mu`.
    """

    gamma: Any = 1e-2
    gamma_obs: Any = None
    through_network: bool = static(True)

    def log_twist(
        self, denoiser: Denoiser, observation: Observation, x_hat: Trajectory, t: Time
    ) -> Array:
        """`log p(y | x_t)`, whose posterior mean is `x_hat`."""
        ratio = noise_ratio(denoiser.schedule, t)
        near, log_scale = observation.near_scaled(x_hat, ratio)
        if self.gamma_obs is None:
            variance = self.gamma * row_norms_squared(observation.operator, x_hat)
        else:
            variance = self.gamma_obs
        extra = jax.lax.stop_gradient(variance * ratio**2)
        return near.log_prob(observation.operator(x_hat), extra) + log_scale

    def twist(
        self, denoiser: Denoiser, observation: Observation, x: Trajectory, t: Time
    ) -> tuple[Array, Array]:
        """`x_hat` and the gradient of `log p(y | x_t)` with respect to x_t."""

        def log_twist(x_hat: Array) -> Array:
            return self.log_twist(denoiser, observation, x_hat, t)

        if self.through_network:

            def through(x: Array) -> tuple[Array, Array]:
                x_hat = denoiser(x, t)
                return log_twist(x_hat), x_hat

            gradient, x_hat = jax.grad(through, has_aux=True)(x)
            return x_hat, gradient
        x_hat = denoiser(x, t)
        gradient = jax.grad(log_twist)(x_hat) / denoiser.schedule.mu(t)
        return x_hat, jnp.asarray(gradient)
