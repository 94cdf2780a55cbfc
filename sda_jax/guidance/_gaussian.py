"""Guidance with the covariance that x given x_t would have if the data were Gaussian."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sda_jax.core._arrays import PRNGKey, Scalar, Time, Trajectory
from sda_jax.core._component import component
from sda_jax.core._errors import require_at_least, require_positive
from sda_jax.core._protocols import Denoiser, Schedule
from sda_jax.core._record import static
from sda_jax.diffusion._gaussian import covariance_times, draw_error
from sda_jax.diffusion._schedules import noise_ratio
from sda_jax.guidance._base import (
    GuidanceMethod,
    GuidedDraws,
    Pull,
    innovation_gradient,
    predicted_covariance,
)
from sda_jax.observations._observation import Observation

ADAPTED = (0.1, 10.0)  # range of an inflation that follows the innovations
LARGEST = 6.0  # change of the predicted noise, which is a mean of standard normal numbers
PROBES = 4  # fixed errors of x_hat, the same for all members, that tr(A V A^T) is estimated from


def bounded(gradient: Array, schedule: Schedule, t: Time) -> Array:
    """The gradient, no element beyond 6/sigma."""
    limit = LARGEST / schedule.sigma(t)
    return jnp.clip(gradient, -limit, limit)


@component
class GaussianCovariance(GuidanceMethod):
    """`p(y | x_t) = N(y; A(x_hat), Sigma_y + A V A^T)`, V the covariance of x given x_t in closed
    form, were the data the Gaussian that the prior's parameterisation knows of.

    With `SpectralPreconditioned` that is a stationary field's, which knows how errors of
    neighbouring points and states go together; with the others it is the distribution of the errors
    that the network was measured to make, or `PiGDM`'s where none were. The equations are solved by
    conjugate gradients that never evaluate the network.

    V may be inflated, as in ensemble Kalman filters: where members fit y worse than its noise
    (`std(A(x) - y)`, no truth needed), they ask for a larger V. With `inflation=None` each noise
    level finds its own from the innovations, whose squares in units of the noise have the
    expectation `m + inflation tr(A V A^T)`, with m elements of y (Anderson, 2007, in spirit).

    Attributes:
        iterations: Of conjugate gradients.
        inflation: Factor of V; 1 is exact for Gaussian data; None for the innovations' own, from
            0.1 to 10.
        through_network: Whether the gradient passes through the network (a VJP) or takes
            `d x_hat / d x_t = V mu / sigma^2` of the same Gaussian, which makes the guided
            posterior mean its Kalman update.
    """

    iterations: int = static(20)
    inflation: float | None = 1.0
    through_network: bool = static(True)

    def __post_init__(self) -> None:
        require_at_least("iterations", self.iterations, 1)
        if self.inflation is not None:
            require_positive("inflation", self.inflation)

    def __call__(self, denoiser: Denoiser, observation: Observation) -> GuidedDraws:
        """The posterior's denoiser, which can `draw` too."""
        return GuidedDraws(denoiser, observation, self)

    def twist(
        self, denoiser: Denoiser, observation: Observation, x: Trajectory, t: Time
    ) -> tuple[Array, Array]:
        """`x_hat` and the gradient of `log p(y | x_t)`, V held constant. No element of the gradient
        exceeds 6/sigma: where a network's Jacobian is wild, members would run away."""
        if not self.through_network:
            x_hat = denoiser(x, t)
            return x_hat, self.gradient(denoiser, observation, x_hat, None, t)
        x_hat, pull_x = jax.vjp(lambda x: denoiser(x, t), x)
        return x_hat, self.gradient(denoiser, observation, x_hat, pull_x, t)

    def gradient(
        self,
        denoiser: Denoiser,
        observation: Observation,
        x_hat: Trajectory,
        pull_x: Pull | None,
        t: Time,
    ) -> Array:
        """The gradient alone, of a posterior mean already known, with the VJP of the network
        there where the gradient is to pass through it."""
        observation, _ = self._near(denoiser, observation, x_hat, t)
        factor, covariance = self._covariance(denoiser, observation, x_hat, t)
        w = innovation_gradient(observation, x_hat, covariance, self.iterations, inflation=factor)
        schedule = denoiser.schedule
        if self.through_network and pull_x is not None:
            gradient = pull_x(w)[0]
        else:
            gradient = schedule.mu(t) / schedule.sigma(t) ** 2 * factor * covariance(w)
        return bounded(gradient, schedule, t)

    def log_twist(
        self, denoiser: Denoiser, observation: Observation, x_hat: Trajectory, t: Time
    ) -> Array:
        """`log p(y | x_t)`, whose posterior mean is `x_hat`; with a matrix of as many rows as y."""
        observation, log_scale = self._near(denoiser, observation, x_hat, t)
        factor, covariance = self._covariance(denoiser, observation, x_hat, t)
        prediction, push = jax.linearize(observation.operator, x_hat)
        pull = jax.linear_transpose(push, x_hat)
        predicted = predicted_covariance(push, pull, covariance, prediction)
        return observation.log_prob(prediction, factor * predicted) + log_scale

    def draw(
        self, key: PRNGKey, denoiser: Denoiser, observation: Observation, x: Trajectory, t: Time
    ) -> Array:
        """A draw of the data given x_t and y, both distributions Gaussian; exact for Gaussian data
        with inflation 1, which widens what is not observed too: an error of x_hat and one of y are
        drawn and the Kalman update is made for them (Matheron's rule, as in the stochastic ensemble
        Kalman filter). Without a gradient through the network."""
        key_error, key_noise = jax.random.split(key)
        x_hat = denoiser(x, t)
        observation, _ = self._near(denoiser, observation, x_hat, t)
        factor, covariance = self._covariance(denoiser, observation, x_hat, t)
        error = jnp.sqrt(factor) * draw_error(key_error, denoiser, x.shape, t)
        errors = (error, observation.draw_noise(key_noise))
        w = innovation_gradient(observation, x_hat, covariance, self.iterations, errors, factor)
        return x_hat + error + factor * covariance(w)

    def _covariance(
        self, denoiser: Denoiser, observation: Observation, x_hat: Trajectory, t: Time
    ) -> tuple[Scalar, Callable[[Array], Array]]:
        """The inflation, and `w -> V w` without it."""
        factor = self._inflation(denoiser, observation, x_hat, t)
        return factor, lambda w: covariance_times(denoiser, w, t)

    def _near(
        self, denoiser: Denoiser, observation: Observation, x_hat: Trajectory, t: Time
    ) -> tuple[Observation, Scalar]:
        """A Gaussian observation that stands for this one near `x_hat`; see `near_scaled`.

        Raises:
            ObservationError: The inflation is to follow innovations that are not Gaussian.
        """
        if self.inflation is None:
            observation.require_gaussian(
                "the innovations of other distributions say nothing of the inflation",
                "Give GaussianCovariance an inflation.",
            )
        return observation.near_scaled(x_hat, noise_ratio(denoiser.schedule, t))

    def _inflation(
        self, denoiser: Denoiser, observation: Observation, x_hat: Trajectory, t: Time
    ) -> Scalar:
        if self.inflation is not None:
            return self.inflation
        prediction, push = jax.linearize(observation.operator, x_hat)
        innovation = observation.whitened(observation.residual(prediction))

        def expected(key: PRNGKey) -> Array:
            error = push(draw_error(key, denoiser, x_hat.shape, t))
            return jnp.sum(observation.whitened(jnp.where(observation.observed, error, 0.0)) ** 2)

        keys = jax.random.split(jax.random.key(0), PROBES)
        predicted = jnp.mean(jax.vmap(expected)(keys))
        excess = jnp.sum(innovation**2) - jnp.sum(observation.observed)
        found = jnp.clip(excess / jnp.where(predicted > 0, predicted, 1.0), *ADAPTED)
        return jnp.where(predicted > 0, found, 1.0)
