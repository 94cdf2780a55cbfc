"""Guidance with the covariance that x given x_t would have if the data were Gaussian."""

from __future__ import annotations

import jax
from jaxtyping import Array

from sda_jax.denoise import gaussian_spread
from sda_jax.errors import require_at_least
from sda_jax.guidance.base import Method, inflated_pull
from sda_jax.observation import Observation
from sda_jax.types import Denoiser, Time, Trajectory, component, static


@component
class GaussianCovariance(Method):
    """`p(y | x_t) = N(y; A(x_hat), Sigma_y + A V A^T)`, V the covariance of x given x_t in closed
    form, were the data the Gaussian that the prior's parameterisation knows of.

    With `SpectralPreconditioned` that is a stationary field's, which knows how errors of
    neighbouring points and states go together; with the other parameterisations it is `PiGDM`'s.
    The equations are solved by conjugate gradients that never evaluate the network.

    Attributes:
        iterations: Of conjugate gradients.
        through_network: Whether the gradient passes through the network (a VJP) or takes
            `d x_hat / d x_t = V mu / sigma^2` of the same Gaussian, which makes the guided
            posterior mean its Kalman update.
    """

    iterations: int = static(20)
    through_network: bool = static(True)

    def __post_init__(self) -> None:
        require_at_least("iterations", self.iterations, 1)

    def vjps(self, observed: int) -> int:
        """VJPs through the network for each evaluation, whatever the number observed."""
        return int(self.through_network)

    def twist(
        self, denoiser: Denoiser, observation: Observation, x: Trajectory, t: Time
    ) -> tuple[Array, Array]:
        """`x_hat` and the gradient of `log p(y | x_t)`, V held constant."""

        def spread(w: Array) -> Array:
            return gaussian_spread(denoiser, w, t)

        if self.through_network:
            x_hat, pull_x = jax.vjp(lambda x: denoiser(x, t), x)
            (gradient,) = pull_x(inflated_pull(observation, x_hat, spread, self.iterations))
            return x_hat, gradient
        x_hat, schedule = denoiser(x, t), denoiser.schedule
        pulled = spread(inflated_pull(observation, x_hat, spread, self.iterations))
        return x_hat, schedule.mu(t) / schedule.sigma(t) ** 2 * pulled
