"""The sampler: predictor steps down the noise levels, corrector steps at each."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from sda_jax.errors import require_at_least
from sda_jax.mesh import TIME, split
from sda_jax.samplers.corrector import Correctors
from sda_jax.samplers.exponential import ExponentialIntegrator
from sda_jax.samplers.gibbs import Gibbs
from sda_jax.samplers.langevin import Langevin
from sda_jax.schedule import EvenTime, noise_ratio
from sda_jax.types import Denoiser, PRNGKey, Schedule, Trajectory, component, static


@component
class PredictorCorrector:
    """Rozet & Louppe (2023), algorithm 4, for any predictor, corrector and time grid.

    Attributes:
        steps: Predictor steps.
        grid: Time grid: `EvenTime`, `EvenLogRatio`, `Karras` or `Concentrated`.
        predictor: `ExponentialIntegrator`, `DPMSolverPP2M`, `Heun` or `Ancestral`.
        corrector: `Langevin`, `Gibbs` or several of them (`Correctors`); with 0 steps, none.
        denoise: Whether the sample is the posterior mean at the last level instead of the state
            there, whose noise of sigma/mu = 0.001 or so it still has.
    """

    steps: int = static(256)
    grid: Any = EvenTime()
    predictor: Any = ExponentialIntegrator()
    corrector: Langevin | Gibbs | Correctors = Langevin()
    denoise: bool = static(False)

    def __post_init__(self) -> None:
        require_at_least("steps", self.steps, 1)

    def evaluations(self, schedule: Schedule) -> int:
        """Evaluations of the denoiser for one sample."""
        times = self.grid(schedule, self.steps)[1:]
        predicted = self.steps * self.predictor.evaluations + self.denoise
        return predicted + self.corrector.evaluations(schedule, times)

    def __call__(self, key: PRNGKey, denoiser: Denoiser, shape: tuple[int, ...]) -> Trajectory:
        """Draws one trajectory of `shape`, in the denoiser's units."""
        return self._path(key, denoiser, shape)[0]

    def diverged_at(
        self, key: PRNGKey, denoiser: Denoiser, shape: tuple[int, ...]
    ) -> Float[Array, ""]:
        """The sigma/mu after whose step the draw of this key is no longer finite; NaN if it is."""
        _, finite = self._path(key, denoiser, shape)
        ratios = noise_ratio(denoiser.schedule, self.grid(denoiser.schedule, self.steps)[:-1])
        return jnp.where(jnp.all(finite), jnp.nan, ratios[jnp.argmin(finite)])

    def _path(
        self, key: PRNGKey, denoiser: Denoiser, shape: tuple[int, ...]
    ) -> tuple[Trajectory, Bool[Array, " steps"]]:
        """The draw, and whether it was finite after each step."""
        schedule = denoiser.schedule
        times = self.grid(schedule, self.steps)
        key_start, key_steps = jax.random.split(key)
        spread = jnp.sqrt(schedule.mu(1.0) ** 2 + schedule.sigma(1.0) ** 2)
        x = split(spread * jax.random.normal(key_start, shape), TIME)

        def step(carry: tuple[Array, Any], now: tuple[Array, ...]) -> tuple[tuple, Array]:
            (x, memory), (i, t, s) = carry, now
            key_i = jax.random.fold_in(key_steps, i)
            key_predictor, key_corrector = jax.random.split(key_i)
            x, memory = self.predictor.step(key_predictor, denoiser, x, t, s, memory)
            x = split(self.corrector(key_corrector, denoiser, x, s), TIME)
            # what a predictor remembers is of the path that the corrector has left
            moved, fresh = self.corrector.active(schedule, s), self.predictor.init(x)
            memory = jax.tree.map(lambda new, old: jnp.where(moved, new, old), fresh, memory)
            return (x, memory), jnp.all(jnp.isfinite(x))

        steps = (jnp.arange(self.steps), times[:-1], times[1:])
        (x, _), finite = jax.lax.scan(step, (x, self.predictor.init(x)), steps)
        return denoiser(x, times[-1]) if self.denoise else x, finite
