"""Moment-matching posterior sampling: the full covariance of x given x_t, without forming it."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sda_jax.core._arrays import Time, Trajectory
from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError, require_at_least, require_choice, require_positive
from sda_jax.core._protocols import Denoiser
from sda_jax.core._record import static
from sda_jax.diffusion._gaussian import covariance_times
from sda_jax.diffusion._schedules import noise_ratio
from sda_jax.guidance._base import (
    GuidanceMethod,
    Pull,
    conjugate_gradients,
    gmres,
    innovation_covariance,
)
from sda_jax.guidance._gaussian import GaussianCovariance, bounded
from sda_jax.observations._observation import Observation


@component
class MMPS(GuidanceMethod):
    """`p(y | x_t) = N(y; A(x_hat), Sigma_y + A V A^T)`, `V = sigma^2/mu d x_hat/d x_t`, the system
    of equations for its gradient solved by a few iterations.

    Rozet et al. (2024), section 3.2. Exact where `TweedieCovariance` is and the iterations
    suffice. A trained network's Jacobian is wrong where the noise drowns the data: above `limit`,
    another guidance takes over. The covariance that it begins from, without its inflation, also
    preconditions the conjugate gradients: their first direction is its step's.

    Attributes:
        iterations: Of the solver, a VJP through the network each. "cg" ends at a direction along
            which the Jacobian is not positive. Where it is a network's, neither symmetric nor
            always positive, more need not solve the equations better
            (`benchmarks/results/attribution.md`).
        limit: The sigma/mu below which the network's Jacobian is used.
        solver: "cg", preconditioned conjugate gradients, or "gmres", not preconditioned, which does
            not ask for a symmetric Jacobian: a composed denoiser's is not.
        above: The guidance above `limit`, a `GaussianCovariance`.
    """

    iterations: int = static(2)
    limit: float = 1.1  # not 1, a level of even grids, where rounding would decide
    solver: str = static("cg")
    above: GaussianCovariance = GaussianCovariance()

    def __post_init__(self) -> None:
        require_at_least("iterations", self.iterations, 1)
        require_positive("limit", self.limit)
        require_choice("solver", self.solver, ("cg", "gmres"))
        if not isinstance(self.above, GaussianCovariance):
            raise ConfigError(
                "above", type(self.above).__name__, "a GaussianCovariance", "Give that guidance."
            )

    def twist(
        self, denoiser: Denoiser, observation: Observation, x: Trajectory, t: Time
    ) -> tuple[Array, Array]:
        """`x_hat` and the gradient of `log p(y | x_t)`, V held constant. No element of the gradient
        exceeds 6/sigma, as with `GaussianCovariance`."""
        x_hat, pull_x = jax.vjp(lambda x: denoiser(x, t), x)
        gradient = jax.lax.cond(
            noise_ratio(denoiser.schedule, t) < self.limit,
            lambda: self._gradient(denoiser, observation, x_hat, pull_x, t),
            lambda: self.above.gradient(denoiser, observation, x_hat, pull_x, t),
        )
        return x_hat, gradient

    def _gradient(
        self, denoiser: Denoiser, observation: Observation, x_hat: Trajectory, pull_x: Pull, t: Time
    ) -> Array:
        schedule = denoiser.schedule
        scale = schedule.sigma(t) ** 2 / schedule.mu(t)
        near = observation.near(x_hat, noise_ratio(schedule, t))
        prediction, push = jax.linearize(near.operator, x_hat)
        pull = jax.linear_transpose(push, x_hat)
        residual = near.residual(prediction)

        if self.solver == "gmres":
            matrix = innovation_covariance(near, push, pull, lambda w: scale * pull_x(w)[0])
            v = gmres(matrix, residual, self.iterations)
            return bounded(pull_x(pull(v)[0])[0], schedule, t)

        rough = innovation_covariance(near, push, pull, partial(covariance_times, denoiser, t=t))

        def precondition(r: Array) -> Array:
            return conjugate_gradients(rough, r, self.above.iterations)

        # Each direction is pulled through the network once, for its product and for the gradient.
        gradient, r = jnp.zeros_like(x_hat), residual
        z = p = precondition(r)
        size, going = jnp.vdot(r, z), jnp.array(True)
        for i in range(self.iterations):
            pulled = pull_x(pull(p)[0])[0]
            known = jnp.where(near.observed, push(scale * pulled), 0.0)
            product = near.noise_times(p) + known
            curvature = jnp.vdot(p, product)
            going &= curvature > 0
            # where the Jacobian is not positive along it, the first step has the length that it
            # would have with the covariance known beforehand
            alpha = jnp.where(going, size / jnp.where(going, curvature, 1.0), float(i == 0))
            gradient, r = gradient + alpha * pulled, r - alpha * product
            z = precondition(r)
            before, size = size, jnp.vdot(r, z)
            p = z + jnp.where(before > 0, size / jnp.where(before > 0, before, 1.0), 0.0) * p
        return bounded(gradient, schedule, t)
