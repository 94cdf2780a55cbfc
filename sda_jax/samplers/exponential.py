"""The paper's predictor: first-order exponential integrator of the probability-flow ODE."""

from __future__ import annotations

from jaxtyping import Array

from sda_jax.types import Schedule, Time, Trajectory, component


@component
class ExponentialIntegrator:
    """`x_s = (mu_s/mu_t) x_t + (sigma_s - (mu_s/mu_t) sigma_t) eps(x_t, t)`, DDIM for VP schedules.

    Zhang & Chen (2023); Rozet & Louppe (2023), equation 12.
    """

    def init(self, x: Trajectory) -> tuple[()]:
        """Nothing to remember."""
        return ()

    def step(
        self, schedule: Schedule, x: Trajectory, x_hat: Trajectory, t: Time, s: Time, memory: tuple
    ) -> tuple[Array, tuple]:
        """From time t to s < t, given `x_hat = E[x | x_t]`."""
        shrink = schedule.sigma(s) / schedule.sigma(t)
        return shrink * x + (schedule.mu(s) - shrink * schedule.mu(t)) * x_hat, memory
