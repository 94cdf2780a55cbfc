"""The sampler: predictor steps down the noise levels, corrector steps at each."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from sda_jax.core._arrays import PRNGKey, Trajectory
from sda_jax.core._component import component, static
from sda_jax.core._errors import require_at_least, require_at_most
from sda_jax.core._protocols import Denoiser, Levels, Schedule
from sda_jax.diffusion._grids import EvenTime
from sda_jax.diffusion._schedules import noise_ratio
from sda_jax.runtime._devices import TIME, constrain
from sda_jax.samplers._corrector import Correctors
from sda_jax.samplers._draws import Draws
from sda_jax.samplers._exponential import ExponentialIntegrator
from sda_jax.samplers._gibbs import Gibbs
from sda_jax.samplers._langevin import Langevin
from sda_jax.samplers._leimkuhler import LeimkuhlerMatthews


@component
class PredictorCorrector(Draws):
    """Rozet & Louppe (2023), algorithm 4, for any predictor, corrector and time grid.

    Attributes:
        steps: Predictor steps.
        grid: Time grid: `EvenTime`, `LogSNR`, `Karras` or `Concentrated`.
        predictor: `ExponentialIntegrator`, `DPMSolverPP2M`, `Heun` or `Ancestral`.
        corrector: `Langevin`, `LeimkuhlerMatthews`, `Gibbs` or several of them (`Correctors`); with
            0 steps, none.
        denoise: How far the sample is from the last state, which still has noise of sigma/mu =
            0.001 or so, to the posterior mean there, which has lost as much more: 0 is the state, 1
            the mean; 0.5 ends the probability flow to second order.

    Raises:
        ConfigError: Impossible numbers.
    """

    steps: int = static(256)
    grid: Any = EvenTime()
    predictor: Any = ExponentialIntegrator()
    corrector: Langevin | LeimkuhlerMatthews | Gibbs | Correctors = Langevin()
    denoise: float = static(0.0)

    def __post_init__(self) -> None:
        require_at_least("steps", self.steps, 1)
        require_at_least("denoise", self.denoise, 0)
        require_at_most("denoise", self.denoise, 1)

    def levels(self, schedule: Schedule) -> Levels:
        """The sigma/mu of each evaluation of the denoiser for one sample."""
        last = np.asarray(noise_ratio(schedule, self.grid(schedule, self.steps)[-1:]))
        denoised = Levels(last[: int(self.denoise > 0)])
        return self.levels_of(schedule, self.steps).also(denoised)

    def levels_of(self, schedule: Schedule, steps: int) -> Levels:
        """Those of the first `steps` steps."""
        times = self.grid(schedule, self.steps)[: steps + 1]
        ratios = np.asarray(noise_ratio(schedule, times))
        # a second evaluation is at the end of a predictor's step; none has a third
        predicted = [ratios[i : i + steps] for i in range(self.predictor.evaluations)]
        corrected = self.corrector.levels(schedule, times[1:])
        return Levels(np.concatenate(predicted)).also(corrected)

    def level(self, denoiser: Denoiser, step: Array | int) -> Float[Array, ""]:
        """The sigma/mu that a step starts from."""
        return noise_ratio(denoiser.schedule, self.grid(denoiser.schedule, self.steps)[step])

    def begin(
        self, key: PRNGKey, denoiser: Denoiser, shape: tuple[int, ...]
    ) -> tuple[Trajectory, Any]:
        """The draw before its first step: noise, and what the predictor remembers."""
        schedule = denoiser.schedule
        spread = jnp.sqrt(schedule.mu(1.0) ** 2 + schedule.sigma(1.0) ** 2)
        x = constrain(spread * jax.random.normal(jax.random.split(key)[0], shape), TIME)
        return x, self.predictor.init(x)

    def advance(
        self,
        key: PRNGKey,
        denoiser: Denoiser,
        state: tuple[Trajectory, Any],
        first: Array | int,
        steps: int,
    ) -> tuple[tuple[Trajectory, Any], Bool[Array, " steps"]]:
        """The draw `steps` steps after step `first`, and whether it was finite after each."""
        schedule = denoiser.schedule
        times = self.grid(schedule, self.steps)
        key_steps = jax.random.split(key)[1]

        def step(carry: tuple[Array, Any], i: Array) -> tuple[tuple, Array]:
            (x, memory), t, s = carry, times[i], times[i + 1]
            key_predictor, key_corrector = jax.random.split(jax.random.fold_in(key_steps, i))
            x, memory = self.predictor.step(key_predictor, denoiser, x, t, s, memory)
            x = constrain(self.corrector(key_corrector, denoiser, x, s), TIME)
            # what a predictor remembers is of the path that the corrector has left
            moved, fresh = self.corrector.active(schedule, s), self.predictor.init(x)
            memory = jax.tree.map(lambda new, old: jnp.where(moved, new, old), fresh, memory)
            return (x, memory), jnp.all(jnp.isfinite(x))

        return jax.lax.scan(step, state, first + jnp.arange(steps))

    def end(self, denoiser: Denoiser, state: tuple[Trajectory, Any]) -> Trajectory:
        """The sample that a draw has become after its last step."""
        last, _ = state
        time = self.grid(denoiser.schedule, self.steps)[-1]
        x = last / denoiser.schedule.mu(time)
        return x + self.denoise * (denoiser(last, time) - x) if self.denoise else x
