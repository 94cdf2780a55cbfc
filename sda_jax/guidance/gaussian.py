"""Guidance with the covariance that x given x_t would have if the data were Gaussian."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sda_jax.denoise import gaussian_error, gaussian_spread
from sda_jax.errors import require_at_least, require_positive
from sda_jax.guidance.base import Method, inflated_pull
from sda_jax.observation import Observation
from sda_jax.types import Denoiser, PRNGKey, Time, Trajectory, component, static


@component
class GaussianCovariance(Method):
    """`p(y | x_t) = N(y; A(x_hat), Sigma_y + A V A^T)`, V the covariance of x given x_t in closed
    form, were the data the Gaussian that the prior's parameterisation knows of.

    With `SpectralPreconditioned` that is a stationary field's, which knows how errors of
    neighbouring points and states go together; with the other parameterisations it is `PiGDM`'s.
    The equations are solved by conjugate gradients that never evaluate the network.

    V may be inflated, as covariances are in ensemble Kalman filters: a network whose estimates
    follow x_t less closely than the Gaussian's forgets part of each update. `std(A(x) - y)` of the
    members beside the noise's says how much is needed, without the truth: larger asks for more.

    Attributes:
        iterations: Of conjugate gradients.
        inflation: Factor of V; 1 is exact for Gaussian data.
        through_network: Whether the gradient passes through the network (a VJP) or takes
            `d x_hat / d x_t = V mu / sigma^2` of the same Gaussian, which makes the guided
            posterior mean its Kalman update.
    """

    iterations: int = static(20)
    inflation: float = 1.0
    through_network: bool = static(True)

    def __post_init__(self) -> None:
        require_at_least("iterations", self.iterations, 1)
        require_positive("inflation", self.inflation)

    def vjps(self, observed: int) -> int:
        """VJPs through the network for each evaluation, whatever the number observed."""
        return int(self.through_network)

    def twist(
        self, denoiser: Denoiser, observation: Observation, x: Trajectory, t: Time
    ) -> tuple[Array, Array]:
        """`x_hat` and the gradient of `log p(y | x_t)`, V held constant."""

        def spread(w: Array) -> Array:
            return self.inflation * gaussian_spread(denoiser, w, t)

        if self.through_network:
            x_hat, pull_x = jax.vjp(lambda x: denoiser(x, t), x)
            (gradient,) = pull_x(inflated_pull(observation, x_hat, spread, self.iterations))
            return x_hat, gradient
        x_hat, schedule = denoiser(x, t), denoiser.schedule
        pulled = spread(inflated_pull(observation, x_hat, spread, self.iterations))
        return x_hat, schedule.mu(t) / schedule.sigma(t) ** 2 * pulled

    def draw(
        self, key: PRNGKey, denoiser: Denoiser, observation: Observation, x: Trajectory, t: Time
    ) -> Array:
        """A draw of the data given x_t and y, both laws Gaussian: an error of x_hat and one of y
        are drawn and the Kalman update is made for them (Matheron's rule, as in the stochastic
        ensemble Kalman filter)."""
        key_error, key_noise = jax.random.split(key)
        x_hat = denoiser(x, t)
        error = jnp.sqrt(self.inflation) * gaussian_error(key_error, denoiser, x.shape, t)

        def spread(w: Array) -> Array:
            return self.inflation * gaussian_spread(denoiser, w, t)

        errors = (error, observation.noise(key_noise))
        w = inflated_pull(observation, x_hat, spread, self.iterations, errors=errors)
        return x_hat + error + spread(w)
