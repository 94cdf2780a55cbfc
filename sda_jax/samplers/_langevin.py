"""Langevin corrector."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sda_jax.core._arrays import PRNGKey, Time, Trajectory
from sda_jax.core._component import component
from sda_jax.core._errors import require_below, require_positive
from sda_jax.core._protocols import Denoiser
from sda_jax.core._record import static
from sda_jax.diffusion._denoisers import predicted_noise
from sda_jax.samplers._corrector import RepeatedMoves
from sda_jax.samplers._evaluated import EvaluatesOnce


@component
class Langevin(RepeatedMoves, EvaluatesOnce):
    """Unadjusted Langevin steps at a fixed noise level.

    `x <- x - sigma (delta eps + sqrt(2 delta) z)`, `delta = tau / mean(eps^2)` per trajectory, so
    that the steps grow where the score is small, or `delta = tau` at every level. Song et al.
    (2021); Rozet & Louppe (2023), algorithm 4. The stationary distribution is biased by O(tau).

    Attributes:
        steps: Steps after every predictor step; 0 for none.
        tau: Step size: relative to the score's, or in units of sigma^2, where it must be below 2.
        relative: Which of the two.
        above, below: Smallest and largest sigma/mu at which steps are made.
    """

    steps: int = static(1)
    tau: float = 0.5
    above: float = 0.0
    below: float = float("inf")
    relative: bool = static(True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("tau", self.tau)
        if not self.relative:
            require_below("tau", self.tau, 2)

    def move(
        self, key: PRNGKey, denoiser: Denoiser, x: Trajectory, t: Time, memory: tuple
    ) -> tuple[Array, tuple]:
        """One step at time t."""
        sigma = denoiser.schedule.sigma(t)
        eps = predicted_noise(denoiser, x, t)
        delta = self.tau / jnp.mean(eps**2) if self.relative else self.tau
        z = jax.random.normal(key, x.shape, x.dtype)
        return x - sigma * (delta * eps + jnp.sqrt(2 * delta) * z), memory
