"""What systems with additive Gaussian transition noise have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from sda_jax.core._arrays import PRNGKey, Scalar, State
from sda_jax.core._errors import ConfigError
from sda_jax.core._protocols import GaussianSystem
from sda_jax.core._requirements import require_protocol


def runge_kutta_4(f: Callable[[Array], Array], x: Array, dt: Scalar) -> Array:
    """One step of length `dt` of the classical fourth-order Runge-Kutta method for `x' = f(x)`."""
    k1 = f(x)
    k2 = f(x + dt / 2 * k1)
    k3 = f(x + dt / 2 * k2)
    k4 = f(x + dt * k3)
    return x + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def require_noise(system: GaussianSystem | GaussianTransition) -> None:
    """Raises `ConfigError` if the system's transition has no density; traced noise passes."""
    require_protocol(
        "system",
        system,
        GaussianSystem,
        "Without them its transition has no density, so there is no log prior and no smoother.",
    )
    std = system.transition_std
    if not isinstance(std, Tracer) and not (np.asarray(std) > 0).all():
        raise ConfigError(
            "noise", std, "positive", "A transition without noise has no density: set noise."
        )


class GaussianTransition(ABC):
    """`x_{i+1} = forecast(x_i) + transition_std * N(0, I)`; simulator and observed state coincide.

    A subclass gives `init(key)`, a first state; `forecast(x)`, the next one's mean; and four
    attributes: `state_shape`, `standardisation`, `spinup`, the transitions before a trajectory
    begins, and `transition_std`, a number or an array that broadcasts against the state.
    """

    @abstractmethod
    def forecast(self, x: State) -> State:
        """The mean of the next state."""

    @property
    @abstractmethod
    def transition_std(self) -> Array:
        """Standard deviation of the transition noise, in physical units."""

    def step(self, key: PRNGKey, s: State) -> State:
        """Draws the next state."""
        mean = self.forecast(s)
        return mean + self.transition_std * jax.random.normal(key, mean.shape, mean.dtype)

    def state(self, s: State) -> State:
        """The observed state: the simulator's."""
        return s

    def lift(self, x: State) -> State:
        """The simulator's state: the observed one."""
        return x

    def log_prob(self, x: State, x_next: State) -> Array:
        """`log p(x_next | x)`, a scalar.

        Raises:
            ConfigError: The transition has no noise and so no density.
        """
        require_noise(self)
        logpdf = jax.scipy.stats.norm.logpdf(x_next, self.forecast(x), self.transition_std)
        return jnp.sum(logpdf)
