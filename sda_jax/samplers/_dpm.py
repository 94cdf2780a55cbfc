"""Second-order multistep predictor."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sda_jax.core._arrays import PRNGKey, Time, Trajectory
from sda_jax.core._component import component
from sda_jax.core._errors import require_at_least, require_at_most
from sda_jax.core._protocols import Denoiser
from sda_jax.diffusion._schedules import noise_ratio
from sda_jax.samplers._evaluated import EvaluatesOnce
from sda_jax.samplers._exponential import renewed_step


class Memory(NamedTuple):
    """The last posterior mean and the last step in `-log(sigma/mu)`; 0 before the first."""

    x_hat: Trajectory
    h: Float[Array, ""]


@component
class DPMSolverPP2M(EvaluatesOnce):
    """DPM-Solver++(2M): exponential integrator on a posterior mean extrapolated from two steps.

    Lu et al. (2022), algorithm 2, and with fresh noise the same extrapolation of `Ancestral`: their
    SDE variants, to the order at which both agree. The first step is of first order, and so
    is one that follows a corrector's.

    Attributes:
        eta: Share of the noise drawn anew, 0 for the probability-flow ODE, 1 for the SDE.
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        require_at_least("eta", self.eta, 0)
        require_at_most("eta", self.eta, 1)

    def init(self, x: Trajectory) -> Memory:
        """Before the first step."""
        return Memory(jnp.zeros_like(x), jnp.zeros(()))

    def step(
        self, key: PRNGKey, denoiser: Denoiser, x: Trajectory, t: Time, s: Time, memory: Memory
    ) -> tuple[Array, Memory]:
        """From time t to s < t."""
        schedule, x_hat = denoiser.schedule, denoiser(x, t)
        h = jnp.log(noise_ratio(schedule, t)) - jnp.log(noise_ratio(schedule, s))
        half_ratio = jnp.where(memory.h > 0, h / (2 * jnp.where(memory.h > 0, memory.h, 1.0)), 0.0)
        extrapolated = x_hat + half_ratio * (x_hat - memory.x_hat)
        z = jax.random.normal(key, x.shape, x.dtype)
        return renewed_step(schedule, x, extrapolated, t, s, self.eta, z), Memory(x_hat, h)
