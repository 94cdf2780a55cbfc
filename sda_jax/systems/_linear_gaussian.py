"""Linear-Gaussian chains: every posterior is Gaussian and a Kalman smoother gives it exactly."""

from __future__ import annotations

from abc import abstractmethod

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sda_jax.core._arrays import PRNGKey, State
from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError, require_positive
from sda_jax.core._units import Standardisation
from sda_jax.systems._base import GaussianTransition


class LinearGaussian(GaussianTransition):
    """`x_1 ~ N(initial_mean, initial_covariance)`, `x_{i+1} = transition x_i + noise`."""

    @property
    @abstractmethod
    def transition(self) -> Float[Array, "d d"]: ...

    @property
    @abstractmethod
    def initial_mean(self) -> Float[Array, " d"]: ...

    @property
    @abstractmethod
    def initial_covariance(self) -> Float[Array, "d d"]: ...

    @property
    @abstractmethod
    def standardisation(self) -> Standardisation: ...

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (self.transition.shape[0],)

    @property
    def spinup(self) -> int:
        """None: the initial distribution is part of the chain's definition."""
        return 0

    def init(self, key: PRNGKey) -> State:
        """Draws the first state."""
        mean, cov = self.initial_mean, self.initial_covariance
        return jax.random.multivariate_normal(key, mean, cov)

    def forecast(self, x: State) -> State:
        return jnp.matmul(self.transition, x, precision=jax.lax.Precision.HIGHEST)


@component
class DampedSpring(LinearGaussian):
    """Damped spring driven by a slowly decaying force, state `(4,)`: position, velocity,
    acceleration, force.

    Transition noise has variance `dt * (0.1, 0.1, 0.1, 1)`; the first state is
    `N((1, 0, 0, 0), I)`.

    Attributes:
        dt: Seconds between states.
    """

    dt: float = 0.01

    def __post_init__(self) -> None:
        require_positive("dt", self.dt)

    @property
    def transition(self) -> Float[Array, "4 4"]:
        dt = jnp.asarray(self.dt, jnp.float32)
        zero, one = jnp.zeros(()), jnp.ones(())
        rows = [
            [one, dt, dt**2 / 2, zero],
            [zero, one, dt, zero],
            [-0.5 * one, -0.1 * one, zero, 0.2 * one],
            [zero, zero, zero, 0.99 * one],
        ]
        return jnp.stack([jnp.stack(row) for row in rows])

    @property
    def transition_std(self) -> Float[Array, 4]:
        return jnp.sqrt(self.dt * jnp.array([0.1, 0.1, 0.1, 1.0]))

    @property
    def initial_mean(self) -> Float[Array, 4]:
        return jnp.array([1.0, 0.0, 0.0, 0.0])

    @property
    def initial_covariance(self) -> Float[Array, "4 4"]:
        return jnp.eye(4)

    @property
    def standardisation(self) -> Standardisation:
        """That of the first state: trajectories of a few seconds stay near it."""
        return Standardisation(mean=(1.0, 0.0, 0.0, 0.0), std=1.0)


@component
class VectorAutoregression(LinearGaussian):
    """Stationary vector autoregression of order one, state `(d,)`.

    `x_{i+1} = coefficients x_i + noise_std N(0, I)`, started in its stationary distribution, whose
    covariance solves `P = A P A^T + Q`.

    Attributes:
        coefficients: `d` rows of `d` numbers; spectral radius below one.
        noise_std: Standard deviation of the transition noise.

    Raises:
        ConfigError: The coefficients are not a square, stable matrix.
    """

    coefficients: tuple[tuple[float, ...], ...] = ((0.8, 0.3), (-0.3, 0.8))
    noise_std: float = 0.5

    def __post_init__(self) -> None:
        require_positive("noise_std", self.noise_std)
        if not all(isinstance(c, (int, float)) for row in self.coefficients for c in row):
            return  # traced: checked when it was made
        matrix = np.array(self.coefficients, dtype=float)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ConfigError("coefficients", matrix.shape, "a square matrix", "Give d rows of d.")
        radius = float(np.abs(np.linalg.eigvals(matrix)).max())
        if radius >= 1:
            raise ConfigError(
                "coefficients", f"spectral radius {radius:.3f}", "below 1", "Scale them down."
            )

    @property
    def transition(self) -> Float[Array, "d d"]:
        return jnp.array(self.coefficients, jnp.float32)

    @property
    def transition_std(self) -> Array:
        return jnp.asarray(self.noise_std)

    @property
    def initial_mean(self) -> Float[Array, " d"]:
        return jnp.zeros(len(self.coefficients))

    @property
    def initial_covariance(self) -> Float[Array, "d d"]:
        a, d = self.transition, len(self.coefficients)
        noise = self.noise_std**2 * jnp.eye(d)
        flat = jnp.linalg.solve(jnp.eye(d * d) - jnp.kron(a, a), noise.reshape(-1))
        covariance = flat.reshape(d, d)
        return (covariance + covariance.T) / 2

    @property
    def standardisation(self) -> Standardisation:
        std = jnp.sqrt(jnp.diagonal(self.initial_covariance))
        return Standardisation(mean=0.0, std=tuple(std))
