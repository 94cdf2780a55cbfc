"""Langevin corrector without the bias of the paper's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sda_jax.core._arrays import PRNGKey, Time, Trajectory
from sda_jax.core._component import component
from sda_jax.core._errors import require_positive
from sda_jax.core._protocols import Denoiser
from sda_jax.core._record import static
from sda_jax.diffusion._denoisers import predicted_noise
from sda_jax.samplers._corrector import RepeatedMoves
from sda_jax.samplers._evaluated import EvaluatesOnce

RISE = 2.0  # of mean(eps^2) within a level, from which on steps are shortened
LONGEST = 1.0  # of steps: beyond 2, the stiffest directions of a noised distribution would explode


@component
class LeimkuhlerMatthews(RepeatedMoves, EvaluatesOnce):
    """Langevin steps whose noise is the mean of two successive normal numbers.

    `x <- x - sigma (delta eps + sqrt(2 delta) (z_k + z_{k+1}) / 2)`: for `Langevin`'s cost, the
    stationary distribution of Gaussian data is exact where that one's variance is too large by
    O(tau). Leimkuhler & Matthews (2013), the limit of high friction. The first noise of a level,
    `sqrt(3) z_0`, keeps the variance to first order: where the distribution has the variance
    sigma^2/lambda and h = delta lambda, it is `1 + h^2 (1 - h)^(2k - 2)` times that after k steps.
    No direction of a noised distribution has lambda above 1, and delta never exceeds 1.

    `delta = tau / mean(eps^2)` as in `Langevin`, but of a level's first step for all of them: steps
    that grow wherever the score is small draw from `p(x) mean(eps^2)` instead of p(x). It is
    shortened where the score more than doubles its square.

    Attributes:
        steps: Steps after every predictor step; 0 for none.
        tau: Step size relative to the score's.
        above, below: Smallest and largest sigma/mu at which steps are made.
    """

    steps: int = static(3)
    tau: float = 0.5
    above: float = 0.0
    below: float = float("inf")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("tau", self.tau)

    def init(self, key: PRNGKey, x: Trajectory) -> tuple[Array, Array]:
        """The first noise, and no mean(eps^2) yet."""
        return jnp.sqrt(3.0) * jax.random.normal(key, x.shape, x.dtype), jnp.zeros(())

    def move(
        self,
        key: PRNGKey,
        denoiser: Denoiser,
        x: Trajectory,
        t: Time,
        memory: tuple[Array, Array],
    ) -> tuple[Array, tuple[Array, Array]]:
        """One step at time t."""
        before, held = memory
        eps = predicted_noise(denoiser, x, t)
        power = jnp.mean(eps**2)
        held = jnp.where(held > 0, held, power)
        delta = jnp.minimum(self.tau / jnp.maximum(held, power / RISE), LONGEST)
        z = jax.random.normal(key, x.shape, x.dtype)
        noise = jnp.sqrt(2 * delta) * (before + z) / 2
        return x - denoiser.schedule.sigma(t) * (delta * eps + noise), (z, held)
