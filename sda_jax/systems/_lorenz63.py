"""Lorenz 1963: three-variable convection, the standard small chaotic system."""

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
class Lorenz63(GaussianTransition):
    """Noisy Lorenz 1963 system, state `(3,)`.

    `x' = sigma (y - x)`, `y' = x (rho - z) - y`, `z' = x y - beta z`; one transition is a
    Runge-Kutta step of `dt` plus noise of standard deviation `noise * sqrt(dt)`.
    Lorenz (1963), "Deterministic nonperiodic flow"; settings of Rozet & Louppe (2023), section 4.1.

    Attributes:
        dt: Time units between states.
        noise: Noise per square root of a time unit; 0 for a deterministic system.
        sigma, rho, beta: Parameters of the flow.
        spinup: Transitions before the first kept state.
    """

    dt: float = 0.025
    noise: float = 1.0
    sigma: float = 10.0
    rho: float = 28.0
    beta: float = 8.0 / 3.0
    spinup: int = static(1024)

    def __post_init__(self) -> None:
        require_positive("dt", self.dt)
        require_at_least("noise", self.noise, 0)
        require_at_least("spinup", self.spinup, 0)

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (3,)

    @property
    def standardisation(self) -> Standardisation:
        return Standardisation(mean=(0.0, 0.0, 25.0), std=(8.0, 9.0, 8.6))

    @property
    def transition_std(self) -> Array:
        return self.noise * jnp.sqrt(jnp.asarray(self.dt))

    def init(self, key: PRNGKey) -> State:
        """Normal around the attractor's centre; spin-up brings it to the attractor."""
        covariance = jnp.array([[64.0, 50.0, 0.0], [50.0, 81.0, 0.0], [0.0, 0.0, 75.0]])
        return jax.random.multivariate_normal(key, jnp.array([0.0, 0.0, 25.0]), covariance)

    def forecast(self, x: State) -> State:
        def flow(s: Array) -> Array:
            x, y, z = s[..., 0], s[..., 1], s[..., 2]
            dx = self.sigma * (y - x)
            dy = x * (self.rho - z) - y
            dz = x * y - self.beta * z
            return jnp.stack([dx, dy, dz], axis=-1)

        return runge_kutta_4(flow, x, self.dt)
