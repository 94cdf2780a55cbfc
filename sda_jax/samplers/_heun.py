"""Second-order one-step predictor."""

from __future__ import annotations

from jaxtyping import Array

from sda_jax.core._arrays import PRNGKey, Time, Trajectory
from sda_jax.core._component import component
from sda_jax.core._protocols import Denoiser
from sda_jax.diffusion._schedules import noise_ratio
from sda_jax.samplers._exponential import Memoryless


@component
class Heun(Memoryless):
    """Heun's method for `d(x/mu) / dr = (x/mu - x_hat) / r`, `r = sigma/mu`: the probability-flow
    ODE. Two evaluations a step. Karras et al. (2022), algorithm 1.
    """

    def step(
        self, key: PRNGKey, denoiser: Denoiser, x: Trajectory, t: Time, s: Time, memory: tuple
    ) -> tuple[Array, tuple]:
        """From time t to s < t."""
        schedule = denoiser.schedule
        high, low = noise_ratio(schedule, t), noise_ratio(schedule, s)
        start = x / schedule.mu(t)
        slope = (start - denoiser(x, t)) / high
        euler = start + (low - high) * slope
        ahead = (euler - denoiser(schedule.mu(s) * euler, s)) / low
        return schedule.mu(s) * (start + (low - high) * (slope + ahead) / 2), memory
