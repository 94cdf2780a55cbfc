"""The training loss and the noise levels that it is averaged over."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sda_jax.core._arrays import PRNGKey
from sda_jax.core._component import component
from sda_jax.core._errors import require_positive
from sda_jax.core._protocols import Schedule
from sda_jax.diffusion._denoisers import NetworkDenoiser, append_axes, with_context


@component
class UniformTime:
    """Training times uniform in t, the paper's."""

    def __call__(self, schedule: Schedule, u: Array) -> Array:
        """Times for numbers `u` that are uniform in [0, 1]."""
        return u


@component
class LogNormalRatio:
    """Training times whose log(sigma/mu) is normal. Karras et al. (2022), section 5.

    The defaults reach from 0.004 to 12 at two standard deviations: below the transition noise of
    a standardised chaotic trajectory, and up to where nothing of it is left.
    """

    mean: float = -1.5
    std: float = 2.0

    def __post_init__(self) -> None:
        require_positive("std", self.std)

    def __call__(self, schedule: Schedule, u: Array) -> Array:
        """Times for numbers `u` that are uniform in [0, 1]."""
        return schedule.time(jnp.exp(self.mean + self.std * jax.scipy.special.ndtri(u)))


def denoising_loss(
    key: PRNGKey, denoiser: NetworkDenoiser, times: Any, x: Float[Array, "batch length *state"]
) -> Float[Array, ""]:
    """Denoising score matching, averaged over a batch of segments in standardised units, with the
    context as last channels.

    Rozet & Louppe (2023), equation 6. Each segment has its own time; the batch's times are
    stratified (one in each of `batch` equal parts), which leaves the expectation as it is and
    lowers its variance.
    """
    key_t, key_noise = jax.random.split(key)
    x, known = with_context(x, denoiser.channels)
    denoiser = denoiser.conditioned(known)
    batch = x.shape[0]
    u = (jnp.arange(batch) + jax.random.uniform(key_t, (batch,))) / batch
    t = times(denoiser.schedule, u)
    noise = jax.random.normal(key_noise, x.shape, x.dtype)

    schedule = denoiser.schedule
    mu, sigma, t_like = (append_axes(a, x) for a in (schedule.mu(t), schedule.sigma(t), t))
    target = denoiser.parameterisation.target(x, noise, t_like, schedule)
    missing = denoiser.output(mu * x + sigma * noise, t) - target
    return jnp.mean(denoiser.parameterisation.weighted(missing, t_like, schedule) ** 2)
