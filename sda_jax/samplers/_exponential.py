"""First-order predictors: the exponential integrator and, with fresh noise, ancestral sampling."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sda_jax.core._arrays import PRNGKey, Scalar, Time, Trajectory
from sda_jax.core._component import component
from sda_jax.core._errors import require_at_least, require_at_most
from sda_jax.core._protocols import Denoiser, Schedule
from sda_jax.diffusion._schedules import noise_ratio
from sda_jax.samplers._evaluated import EvaluatesOnce


def exponential_step(
    schedule: Schedule, x: Trajectory, x_hat: Trajectory, t: Time, s: Time
) -> Array:
    """`x_s = (mu_s/mu_t) x_t + (sigma_s - (mu_s/mu_t) sigma_t) eps(x_t, t)`, written with
    `x_hat`, the posterior mean that is held constant from t to s."""
    shrink = schedule.sigma(s) / schedule.sigma(t)
    return shrink * x + (schedule.mu(s) - shrink * schedule.mu(t)) * x_hat


def renewed_step(
    schedule: Schedule, x: Trajectory, x_hat: Trajectory, t: Time, s: Time, eta: Scalar, z: Array
) -> Array:
    """`exponential_step` with a share `eta` of the noise drawn anew, from the normal numbers `z`:
    at 1 a draw from `q(x_s | x_t, x_hat)`, the forward process run backwards from `x_hat`."""
    share = noise_ratio(schedule, s) / noise_ratio(schedule, t)
    fresh = eta * jnp.sqrt((1 - share) * (1 + share))
    noise = (x - schedule.mu(t) * x_hat) / schedule.sigma(t)
    mixed = jnp.sqrt((1 - fresh) * (1 + fresh)) * noise + fresh * z
    return schedule.mu(s) * x_hat + schedule.sigma(s) * mixed


class Memoryless:
    """Base class of predictors that remember nothing from one step to the next; a subclass writes
    `step`."""

    def init(self, x: Trajectory) -> tuple[()]:
        """Nothing to remember."""
        return ()


@component
class ExponentialIntegrator(Memoryless, EvaluatesOnce):
    """The paper's predictor: the probability-flow ODE with `x_hat` constant over a step, which is
    DDIM for VP schedules.

    Zhang & Chen (2023); Rozet & Louppe (2023), equation 12.
    """

    def step(
        self, key: PRNGKey, denoiser: Denoiser, x: Trajectory, t: Time, s: Time, memory: tuple
    ) -> tuple[Array, tuple]:
        """From time t to s < t."""
        return exponential_step(denoiser.schedule, x, denoiser(x, t), t, s), memory


@component
class Ancestral(Memoryless, EvaluatesOnce):
    """A draw from `q(x_s | x_t, x_hat)`, the forward process run backwards from its data's
    posterior mean.

    Ho et al. (2020), equation 7, for any schedule; Song et al. (2021, DDIM), equation 16.

    Attributes:
        eta: Share of the noise drawn anew; 1 is DDPM's, 0 the `ExponentialIntegrator`.
    """

    eta: float = 1.0

    def __post_init__(self) -> None:
        require_at_least("eta", self.eta, 0)
        require_at_most("eta", self.eta, 1)

    def step(
        self, key: PRNGKey, denoiser: Denoiser, x: Trajectory, t: Time, s: Time, memory: tuple
    ) -> tuple[Array, tuple]:
        """From time t to s < t."""
        z = jax.random.normal(key, x.shape, x.dtype)
        return renewed_step(denoiser.schedule, x, denoiser(x, t), t, s, self.eta, z), memory
