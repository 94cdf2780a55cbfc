"""Gibbs corrector: the data given x_t, then x_t given the data."""

from __future__ import annotations

import jax
from jaxtyping import Array

from sda_jax.core._arrays import PRNGKey, Time, Trajectory
from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError
from sda_jax.core._protocols import Denoiser, DrawsPosterior, ExplainsObservation
from sda_jax.core._record import static
from sda_jax.diffusion._gaussian import draw_error
from sda_jax.guidance._base import Guided
from sda_jax.samplers._corrector import RepeatedMoves


@component
class Gibbs(RepeatedMoves):
    """`x ~ p(x | x_t, y)`, then `x_t = mu x + sigma z` with new noise z: two steps of a Gibbs
    sampler, which forgets x_t in one move where Langevin dynamics diffuses.

    The first distribution is the guidance's Gaussian (`GaussianCovariance.draw`), which is exact
    for Gaussian data without inflation, and the better the lower the noise. In the spirit of
    decoupled annealing, Zhang et al. (2024), algorithm 1.

    Attributes:
        steps: Steps after every predictor step, one evaluation each; 0 for none.
        above, below: Smallest and largest sigma/mu at which steps are made.
    """

    steps: int = static(3)
    above: float = 0.3
    below: float = float("inf")

    def move(
        self, key: PRNGKey, denoiser: Denoiser, x: Trajectory, t: Time, memory: tuple
    ) -> tuple[Array, tuple]:
        """One step at time t."""
        key_data, key_noise = jax.random.split(key)
        data = _draw(key_data, denoiser, x, t)
        schedule = denoiser.schedule
        noise = jax.random.normal(key_noise, x.shape, x.dtype)
        return schedule.mu(t) * data + schedule.sigma(t) * noise, memory


def _draw(key: PRNGKey, denoiser: Denoiser, x: Trajectory, t: Time) -> Array:
    """Of the data given x_t: as a posterior's denoiser does it, or around a prior's estimate.

    Raises:
        ConfigError: Guidance that knows the posterior's mean only.
    """
    if isinstance(denoiser, DrawsPosterior):
        return denoiser.draw(key, x, t)
    if isinstance(denoiser, ExplainsObservation):
        raise ConfigError(
            "guidance",
            type(denoiser.method if isinstance(denoiser, Guided) else denoiser).__name__,
            "guidance whose denoiser draws whole trajectories given x_t and y (DrawsPosterior)",
            "Use GaussianCovariance, or the Langevin corrector.",
        )
    return denoiser(x, t) + draw_error(key, denoiser, x.shape, t)
