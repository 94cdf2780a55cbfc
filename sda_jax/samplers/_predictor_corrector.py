"""The sampler: predictor steps down the noise levels, corrector steps at each."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sda_jax.core._arrays import PRNGKey, Time, Trajectory
from sda_jax.core._component import component
from sda_jax.core._errors import require_at_least, require_at_most, require_whole
from sda_jax.core._protocols import Corrector, Denoiser, Grid, Predictor, SamplerState
from sda_jax.core._record import static
from sda_jax.core._requirements import require_protocol
from sda_jax.diffusion._grids import EvenTime
from sda_jax.diffusion._schedules import noise_ratio
from sda_jax.runtime._devices import TIME, constrain
from sda_jax.samplers._evaluated import Evaluated, evaluated_once
from sda_jax.samplers._exponential import ExponentialIntegrator
from sda_jax.samplers._langevin import Langevin

_Carry = tuple[Trajectory, Any, Any]


@component
class PredictorCorrector:
    """Rozet & Louppe (2023), algorithm 4, for any predictor, corrector and time grid.

    Attributes:
        steps: Predictor steps.
        grid: Time grid: `EvenTime`, `LogSNR`, `Karras` or `Concentrated`.
        predictor: A `Predictor`: `ExponentialIntegrator`, `DPMSolverPP2M`, `Heun` or `Ancestral`.
        corrector: A `Corrector`: `Langevin`, `LeimkuhlerMatthews`, `Gibbs` or several of them
            (`Correctors`); with 0 steps, none.
        denoise: How far the sample is from the last state, which still has noise of sigma/mu =
            0.001 or so, to the posterior mean there, which has lost as much more: 0 is the state, 1
            the mean; 0.5 ends the probability flow to second order.

    Raises:
        ConfigError: Impossible numbers, or a predictor or corrector that lacks a method.
    """

    steps: int = static(256)
    grid: Any = EvenTime()
    predictor: Any = ExponentialIntegrator()
    corrector: Any = Langevin()
    denoise: float = static(0.0)

    def __post_init__(self) -> None:
        require_whole("steps", self.steps)
        require_at_least("steps", self.steps, 1)
        require_protocol("grid", self.grid, Grid, "Use one such as LogSNR().")
        require_protocol("predictor", self.predictor, Predictor)
        require_protocol("corrector", self.corrector, Corrector)
        require_at_least("denoise", self.denoise, 0)
        require_at_most("denoise", self.denoise, 1)

    def init(self, key: PRNGKey, denoiser: Denoiser, shape: tuple[int, ...]) -> SamplerState:
        """Noise, and what the predictor remembers."""
        schedule = denoiser.schedule
        spread = jnp.sqrt(schedule.mu(1.0) ** 2 + schedule.sigma(1.0) ** 2)
        x = constrain(spread * jax.random.normal(jax.random.split(key)[0], shape), TIME)
        start = self.grid(schedule, self.steps)[0]
        return SamplerState(x, noise_ratio(schedule, start), self.predictor.init(x))

    def step(
        self, key: PRNGKey, denoiser: Denoiser, state: SamplerState, i: Array | int
    ) -> SamplerState:
        """A predictor step to the next noise level, and corrector steps there. With `i = steps`,
        where both evaluate the denoiser once, one that stays and makes none: a predictor that
        remembers posterior means then knows the last state's."""
        schedule, (x, _, memory) = denoiser.schedule, state
        times = self.grid(schedule, self.steps)
        t, s = times[i], times[jnp.minimum(i + 1, self.steps)]
        key_step = jax.random.fold_in(jax.random.split(key)[1], i)
        key_predictor, key_corrector = jax.random.split(key_step)
        moved = self.corrector.active(schedule, s)
        if evaluated_once(self.predictor, self.corrector):
            moved = moved & (i < self.steps)
            keys = key_predictor, key_corrector
            x, memory = self._in_one_loop(keys, denoiser, x, t, s, memory, moved)
        else:
            x, memory = self.predictor.step(key_predictor, denoiser, x, t, s, memory)
            x = self.corrector(key_corrector, denoiser, x, s)
        x = constrain(x, TIME)
        # what a predictor remembers is of the path that the corrector has left
        fresh = self.predictor.init(x)
        memory = jax.tree.map(lambda new, old: jnp.where(moved, new, old), fresh, memory)
        return SamplerState(x, noise_ratio(schedule, s), memory)

    def _in_one_loop(
        self,
        keys: tuple[PRNGKey, PRNGKey],
        denoiser: Denoiser,
        x: Trajectory,
        t: Time,
        s: Time,
        memory: Any,
        active: Array,
    ) -> tuple[Trajectory, Any]:
        """The prediction and, where it is active, what the corrector makes of it, with one
        evaluation of the denoiser in the compiled program for both: the denoiser is what takes long
        to compile. `keys` are the predictor's and the corrector's."""
        corrector, schedule = self.corrector, denoiser.schedule
        key_predictor, key_corrector = keys

        def evaluated(i: Array, carry: _Carry) -> _Carry:
            x, memory, moves = carry
            x_hat = denoiser(x, jnp.where(i == 0, t, s))

            def predicted() -> _Carry:
                there = Evaluated(schedule, x_hat, x, t)
                found, remembered = self.predictor.step(key_predictor, there, x, t, s, memory)
                return found, remembered, corrector.start(key_corrector, found)

            def corrected() -> _Carry:
                there = Evaluated(schedule, x_hat, x, s)
                found, left = corrector.moved(key_corrector, i - 1, there, x, s, moves)
                return found, memory, left

            return jax.lax.cond(i == 0, predicted, corrected)

        def step(carry: _Carry, i: Array) -> tuple[_Carry, None]:
            made = (i == 0) | active
            return jax.lax.cond(made, lambda: evaluated(i, carry), lambda: carry), None

        moves = jax.tree.map(jnp.zeros_like, jax.eval_shape(corrector.start, key_corrector, x))
        # of a length that is known, as reverse mode asks for
        numbers = jnp.arange(1 + corrector.steps)
        return jax.lax.scan(step, (x, memory, moves), numbers)[0][:2]

    def finish(self, denoiser: Denoiser, state: SamplerState) -> Trajectory:
        """The last state in the data's units, `denoise` of the way to its posterior mean."""
        time = self.grid(denoiser.schedule, self.steps)[-1]
        x = state.x / denoiser.schedule.mu(time)
        return x + self.denoise * (denoiser(state.x, time) - x) if self.denoise else x
