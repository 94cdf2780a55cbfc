"""Pseudoinverse-guided diffusion: data as independent standard normal numbers."""

from __future__ import annotations

import jax
from jaxtyping import Array

from sda_jax.core._arrays import Time, Trajectory
from sda_jax.core._component import component
from sda_jax.core._errors import require_at_least
from sda_jax.core._protocols import Denoiser
from sda_jax.core._record import static
from sda_jax.diffusion._denoising_errors import DenoisingErrors
from sda_jax.diffusion._schedules import noise_ratio
from sda_jax.guidance._base import GuidanceMethod, innovation_gradient
from sda_jax.observations._observation import Observation


@component
class PiGDM(GuidanceMethod):
    """`p(y | x_t) = N(y; A(x_hat), Sigma_y + r^2/(1 + r^2) J J^T)`, `r = sigma/mu`, J the
    operator's Jacobian with respect to standardised states.

    Song et al. (2023), section 3.1, with the covariance of x given x_t of a standard normal x. The
    equations are solved by conjugate gradients that never evaluate the network.

    Attributes:
        iterations: Of conjugate gradients.
    """

    iterations: int = static(20)

    def __post_init__(self) -> None:
        require_at_least("iterations", self.iterations, 1)

    def twist(
        self, denoiser: Denoiser, observation: Observation, x: Trajectory, t: Time
    ) -> tuple[Array, Array]:
        """`x_hat` and the gradient of `log p(y | x_t)`."""

        def covariance(w: Array) -> Array:
            return DenoisingErrors().covariance_times(w, t, denoiser.schedule)

        x_hat, pull_x = jax.vjp(lambda x: denoiser(x, t), x)
        near = observation.near(x_hat, noise_ratio(denoiser.schedule, t))
        (gradient,) = pull_x(innovation_gradient(near, x_hat, covariance, self.iterations))
        return x_hat, gradient
