"""Lotka-Volterra: predator and prey, in logarithms of the populations."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sda_jax.core._arrays import PRNGKey, State
from sda_jax.core._component import component
from sda_jax.core._errors import require_at_least, require_positive
from sda_jax.core._record import static
from sda_jax.core._units import Standardisation
from sda_jax.systems._base import GaussianTransition, runge_kutta_4


@component
class LotkaVolterra(GaussianTransition):
    """Lotka-Volterra system in log coordinates, state `(2,)` = (log prey, log predators).

    `u' = alpha - beta exp(v)`, `v' = delta exp(u) - gamma`. The noiseless flow conserves
    `delta e^u - gamma u + beta e^v - alpha v`, so there is no attractor to spin up to.
    Lotka (1925), Volterra (1926).

    Attributes:
        alpha, beta, delta, gamma: Prey growth, predation, predator growth, predator death.
        dt: Time units between states (one Runge-Kutta step).
        noise: Noise per square root of a time unit; 0 for a deterministic system.
        spinup: Transitions before the first kept state.
    """

    alpha: float = 1.0
    beta: float = 1.0
    delta: float = 1.0
    gamma: float = 1.0
    dt: float = 0.01
    noise: float = 0.0
    spinup: int = static(0)

    def __post_init__(self) -> None:
        require_positive("dt", self.dt)
        require_at_least("noise", self.noise, 0)
        require_at_least("spinup", self.spinup, 0)

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (2,)

    @property
    def standardisation(self) -> Standardisation:
        """Statistics of noiseless orbits from `init` with the default coefficients."""
        return Standardisation(mean=-0.14, std=0.55)

    @property
    def transition_std(self) -> Array:
        return self.noise * jnp.sqrt(jnp.asarray(self.dt))

    def init(self, key: PRNGKey) -> State:
        """Normal around the fixed point of the default coefficients, standard deviation 0.5."""
        return 0.5 * jax.random.normal(key, (2,))

    def forecast(self, x: State) -> State:
        def flow(s: Array) -> Array:
            u, v = s[..., 0], s[..., 1]
            du = self.alpha - self.beta * jnp.exp(v)
            dv = self.delta * jnp.exp(u) - self.gamma
            return jnp.stack([du, dv], axis=-1)

        return runge_kutta_4(flow, x, self.dt)
