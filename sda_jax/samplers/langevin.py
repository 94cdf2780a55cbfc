"""Langevin corrector."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sda_jax.denoise import predicted_noise
from sda_jax.errors import require_at_least, require_positive
from sda_jax.types import Denoiser, PRNGKey, Time, Trajectory, component, static


@component
class Langevin:
    """Unadjusted Langevin steps at a fixed noise level, of size relative to the score's.

    `x <- x - sigma (delta eps + sqrt(2 delta) z)`, `delta = tau / mean(eps^2)` per trajectory.
    Song et al. (2021); Rozet & Louppe (2023), algorithm 4. The stationary law is biased by O(tau).

    Attributes:
        steps: Steps after every predictor step; 0 for none.
        tau: Relative step size.
    """

    steps: int = static(1)
    tau: float = 0.5

    def __post_init__(self) -> None:
        require_at_least("corrections", self.steps, 0)
        require_positive("tau", self.tau)

    def __call__(self, key: PRNGKey, denoiser: Denoiser, x: Trajectory, t: Time) -> Trajectory:
        """Moves x within its law at time t."""
        sigma = denoiser.schedule.sigma(t)

        def step(x: Array, i: Array) -> tuple[Array, None]:
            eps = predicted_noise(denoiser, x, t)
            delta = self.tau / jnp.mean(eps**2)
            z = jax.random.normal(jax.random.fold_in(key, i), x.shape, x.dtype)
            return x - sigma * (delta * eps + jnp.sqrt(2 * delta) * z), None

        return jax.lax.scan(step, x, jnp.arange(self.steps))[0]
