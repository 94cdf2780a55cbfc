"""Moment-matching posterior sampling: the full covariance of x given x_t, without forming it."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sda_jax.errors import require_at_least, require_positive
from sda_jax.guidance.base import Guided
from sda_jax.observation import Observation
from sda_jax.schedule import noise_ratio
from sda_jax.types import Denoiser, Time, Trajectory, component, static


@component
class MMPS:
    """`p(y | x_t) = N(y; A(x_hat), Sigma_y + A V A^T)`, `V = sigma^2/mu d x_hat/d x_t`, the system
    of equations for its gradient solved by a few conjugate-gradient iterations.

    Rozet et al. (2024), section 3.2. Exact where `TweedieCovariance` is and the iterations
    suffice. A trained network's Jacobian is wrong where the noise drowns the data: above `limit`,
    V is that of independent standardised states, `r^2 / (1 + r^2)` with `r = sigma/mu`.

    Attributes:
        iterations: Of conjugate gradients, a VJP through the network each.
        limit: Largest sigma/mu at which the network's Jacobian is used.
    """

    iterations: int = static(3)
    limit: float = 3.0

    def __post_init__(self) -> None:
        require_at_least("iterations", self.iterations, 1)
        require_positive("limit", self.limit)

    def __call__(self, denoiser: Denoiser, observation: Observation) -> Guided:
        return Guided(denoiser, observation, self)

    def vjps(self, observed: int) -> int:
        """VJPs through the network for each evaluation, whatever the number observed."""
        return self.iterations + 1

    def twist(
        self, denoiser: Denoiser, observation: Observation, x: Trajectory, t: Time
    ) -> tuple[Array, Array]:
        """`x_hat` and the gradient of `log p(y | x_t)`, V held constant."""
        schedule = denoiser.schedule
        scale, ratio = schedule.sigma(t) ** 2 / schedule.mu(t), noise_ratio(schedule, t)
        x_hat, pull_x = jax.vjp(lambda x: denoiser(x, t), x)
        prediction, push_y = jax.linearize(observation.operator, x_hat)
        pull_y = jax.linear_transpose(push_y, x_hat)
        seen = observation.observed
        independent = ratio**2 / (1 + ratio**2) / scale

        def through(w: Array) -> Array:
            """`V w` divided by `sigma^2/mu`."""
            return jax.lax.cond(
                ratio < self.limit, lambda w: pull_x(w)[0], lambda w: independent * w, w
            )

        def covariance(v: Array) -> Array:
            (w,) = pull_y(v)
            spread = jnp.where(seen, push_y(scale * through(w)), 0.0)
            return observation.noise_times(v) + spread

        v = _conjugate_gradients(covariance, observation.residual(prediction), self.iterations)
        (w,) = pull_y(v)
        return x_hat, through(w)


def _conjugate_gradients(matrix: Callable[[Array], Array], b: Array, iterations: int) -> Array:
    """`matrix^-1 b`, approximately; stops at a direction in which the matrix is not
    positive, as the Jacobian of a trained network may make it."""

    def step(carry: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], None]:
        v, r, p = carry
        mapped = matrix(p)
        size, curvature = jnp.vdot(r, r), jnp.vdot(p, mapped)
        usable = (curvature > 0) & (size > 0)
        alpha = jnp.where(usable, size / jnp.where(usable, curvature, 1.0), 0.0)
        v, r = v + alpha * p, r - alpha * mapped
        beta = jnp.where(usable, jnp.vdot(r, r) / jnp.where(usable, size, 1.0), 0.0)
        return (v, r, r + beta * p), None

    return jax.lax.scan(step, (jnp.zeros_like(b), b, b), None, length=iterations)[0][0]
