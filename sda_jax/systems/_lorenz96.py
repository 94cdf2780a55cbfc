"""Lorenz 1996: a ring of coupled variables, the standard test of data assimilation at size."""

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
class Lorenz96(GaussianTransition):
    """Lorenz 1996 system, state `(dim, 1)`: a ring of `dim` points with one channel.

    `x_i' = (x_{i+1} - x_{i-2}) x_{i-1} - x_i + forcing`. Lorenz (1996), "Predictability: a problem
    partly solved".

    Attributes:
        dim: Points on the ring, at least 4.
        forcing: Constant forcing F; chaotic from about 8.
        dt: Time units between states (one Runge-Kutta step).
        noise: Noise per square root of a time unit; 0 for a deterministic system.
        spinup: Transitions before the first kept state.
    """

    dim: int = static(32)
    forcing: float = 16.0
    dt: float = 0.01
    noise: float = 0.0
    spinup: int = static(1024)

    def __post_init__(self) -> None:
        require_at_least("dim", self.dim, 4)
        require_positive("dt", self.dt)
        require_at_least("noise", self.noise, 0)
        require_at_least("spinup", self.spinup, 0)

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (self.dim, 1)

    @property
    def standardisation(self) -> Standardisation:
        """Climatology of the default forcing: mean 3.1, standard deviation 6.3."""
        return Standardisation(mean=3.1, std=6.3)

    @property
    def transition_std(self) -> Array:
        return self.noise * jnp.sqrt(jnp.asarray(self.dt))

    def init(self, key: PRNGKey) -> State:
        """The unstable fixed point plus standard normal noise."""
        return self.forcing + jax.random.normal(key, self.state_shape)

    def forecast(self, x: State) -> State:
        def flow(s: Array) -> Array:
            ahead, behind, behind2 = jnp.roll(s, -1, 0), jnp.roll(s, 1, 0), jnp.roll(s, 2, 0)
            return (ahead - behind2) * behind - s + self.forcing

        return runge_kutta_4(flow, x, self.dt)
