"""Moment-matching posterior sampling: the full covariance of x given x_t, without forming it."""

from __future__ import annotations

import jax
from jaxtyping import Array

from sda_jax.errors import require_at_least, require_choice, require_positive
from sda_jax.gaussian import gaussian_spread
from sda_jax.guidance.base import SOLVERS, Method, inflated_pull
from sda_jax.observation import Observation
from sda_jax.schedule import noise_ratio
from sda_jax.types import Denoiser, Time, Trajectory, component, static


@component
class MMPS(Method):
    """`p(y | x_t) = N(y; A(x_hat), Sigma_y + A V A^T)`, `V = sigma^2/mu d x_hat/d x_t`, the system
    of equations for its gradient solved by a few iterations.

    Rozet et al. (2024), section 3.2. Exact where `TweedieCovariance` is and the iterations
    suffice. A trained network's Jacobian is wrong where the noise drowns the data: above `limit`,
    V is that of Gaussian data (`gaussian_spread`).

    Attributes:
        iterations: Of the solver, a VJP through the network each.
        limit: Largest sigma/mu at which the network's Jacobian is used.
        solver: "cg", conjugate gradients, or "gmres", which does not ask for a symmetric
            Jacobian: a composed denoiser's is not.
    """

    iterations: int = static(3)
    limit: float = 3.0
    solver: str = static("cg")

    def __post_init__(self) -> None:
        require_at_least("iterations", self.iterations, 1)
        require_positive("limit", self.limit)
        require_choice("solver", self.solver, tuple(SOLVERS))

    def vjps(self, observed: int) -> int:
        """VJPs through the network for each evaluation, whatever the number observed."""
        return self.iterations + (3 if self.solver == "gmres" else 1)

    def twist(
        self, denoiser: Denoiser, observation: Observation, x: Trajectory, t: Time
    ) -> tuple[Array, Array]:
        """`x_hat` and the gradient of `log p(y | x_t)`, V held constant."""
        schedule = denoiser.schedule
        scale = schedule.sigma(t) ** 2 / schedule.mu(t)
        x_hat, pull_x = jax.vjp(lambda x: denoiser(x, t), x)

        def spread(w: Array) -> Array:
            return jax.lax.cond(
                noise_ratio(schedule, t) < self.limit,
                lambda w: scale * pull_x(w)[0],
                lambda w: gaussian_spread(denoiser, w, t),
                w,
            )

        near = observation.near(x_hat, noise_ratio(schedule, t))
        w = inflated_pull(near, x_hat, spread, self.iterations, self.solver)
        return x_hat, spread(w) / scale
