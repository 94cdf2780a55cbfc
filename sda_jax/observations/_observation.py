"""Observations: operator, noise, missing values and the likelihood."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from sda_jax.core._arrays import Operator, PRNGKey, Scalar, Trajectory
from sda_jax.core._component import component
from sda_jax.core._errors import ObservationError
from sda_jax.core._keys import require_key
from sda_jax.core._linalg import cholesky, solve_lower
from sda_jax.core._loaded import is_open
from sda_jax.core._numbers import real_array
from sda_jax.core._requirements import require_protocol
from sda_jax.core._units import Standardisation
from sda_jax.observations._checks import prediction_of
from sda_jax.observations._gaussian_noise import check_covariance, check_std
from sda_jax.observations._laplace import gaussian_neighbour
from sda_jax.observations._linear import row_norms_squared
from sda_jax.observations._noise_models import (
    DrawsNoise,
    broadcast_parameters,
    check_noise_model,
    with_numbers,
)
from sda_jax.observations._operators import as_pytree

NOISES = ("std", "covariance", "noise")


@component
class Observation:
    """`y ~ N(A(x), noise)`, or of another noise model, of a whole trajectory in physical units.

    Attributes:
        y: What was observed, any shape: an array of NumPy, JAX, pandas or xarray, or lists; NaN or
            masked where nothing was.
        operator: `A`, any differentiable function of a trajectory `(L, *S)` that gives an array
            like y. A component is traced; any other function is part of what is compiled, so
            use the same function object again to avoid compiling anew.
        std: Standard deviation of independent noise, one number or an array that broadcasts
            against y.
        covariance: Instead of std, the `(m, m)` covariance of the flattened y.
        noise: Instead of both, a noise model that is not Gaussian: `StudentT`, `Poisson`, or a
            component of your own with `log_prob(y, prediction)`; see `NoiseModel`.

    Raises:
        ObservationError: y or noise that are no real numbers, std not positive or of the wrong
            shape, not exactly one of std, covariance and noise given, a covariance that is not
            symmetric positive definite in single precision, or y that the noise does not allow.
    """

    y: Any
    operator: Any
    std: Any = None
    covariance: Any = None
    noise: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "operator", as_pytree(self.operator))
        given = [name for name in NOISES if getattr(self, name) is not None]
        for name in ("y", *given):
            value = getattr(self, name)
            numbers = (
                with_numbers(value)
                if name == "noise"
                else real_array(name, value, ObservationError)
            )
            object.__setattr__(self, name, numbers)
        if is_open(self.y):
            return
        y = np.asarray(self.y)
        if np.isinf(y).any():
            raise ObservationError(
                "y", "infinite values", "finite or NaN (missing)", "Remove them."
            )
        if len(given) != 1:
            raise ObservationError(
                ", ".join(NOISES),
                " and ".join(given) or "none",
                "exactly one of them",
                "Give std=, covariance= or noise=.",
            )
        if self.noise is not None:
            check_noise_model(self.noise, y)
        elif not is_open(getattr(self, given[0])):
            check = check_std if self.std is not None else check_covariance
            check(np.asarray(getattr(self, given[0])), y.shape)

    def require_gaussian(self, why: str, remedy: str) -> None:
        """Raises `ObservationError` if the noise is of another kind."""
        if self.noise is not None:
            expected = f"Gaussian noise: {why}"
            raise ObservationError("noise", type(self.noise).__name__, expected, remedy)

    @property
    def observed(self) -> Bool[Array, ...]:
        """True where y was observed."""
        return ~jnp.isnan(jnp.asarray(self.y, jnp.float32))

    def residual(self, prediction: Float[Array, ...]) -> Float[Array, ...]:
        """`y - prediction`, zero where nothing was observed.

        Raises:
            ObservationError: They have different shapes.
        """
        if jnp.shape(prediction) != jnp.shape(self.y):
            raise ObservationError(
                "y",
                f"shape {jnp.shape(self.y)}",
                f"the operator's shape {jnp.shape(prediction)}",
                "Reshape y or correct the operator.",
            )
        y = jnp.asarray(self.y, jnp.float32)
        return jnp.where(self.observed, jnp.where(self.observed, y, 0.0) - prediction, 0.0)

    def draw(self, key: PRNGKey, prediction: Float[Array, ...]) -> Float[Array, ...]:
        """A draw of y given the prediction.

        Raises:
            ObservationError: The noise cannot be drawn from.
        """
        if self.noise is None:
            return prediction + self.draw_noise(key)
        require_protocol("noise", self.noise, DrawsNoise, error=ObservationError)
        return self.noise.sample(key, prediction)

    def near(self, x_hat: Trajectory, ratio: Scalar) -> Observation:
        """A Gaussian observation that stands for this one where the trajectory is close to `x_hat`
        (`gaussian_neighbour`); itself if it is Gaussian.

        Args:
            x_hat: Standardised trajectory, which the operator takes.
            ratio: sigma/mu of the noise level; the variance of the prediction is that of
                standard normal states.
        """
        return self.near_scaled(x_hat, ratio)[0]

    def near_scaled(self, x_hat: Trajectory, ratio: Scalar) -> tuple[Observation, Scalar]:
        """The same, and the logarithm of the factor that its likelihood lacks."""
        if self.noise is None:
            return self, jnp.zeros(())
        x_hat = jax.lax.stop_gradient(x_hat)
        prediction = self.operator(x_hat)
        variance = ratio**2 / (1 + ratio**2) * row_norms_squared(self.operator, x_hat)
        y = jnp.where(self.observed, jnp.asarray(self.y, jnp.float32), 1.0)
        tiny = jnp.finfo(jnp.float32).tiny
        found = gaussian_neighbour(self.noise, y, prediction, jnp.maximum(variance, tiny))
        seen = jnp.where(self.observed, found.y, jnp.nan)
        near = Observation(seen, self.operator, std=jnp.where(self.observed, found.std, 1.0))
        return near, jnp.sum(jnp.where(self.observed, found.log_scale, 0.0))

    def draw_noise(self, key: PRNGKey) -> Float[Array, ...]:
        """A draw of Gaussian noise, an array like y."""
        white = jax.random.normal(key, jnp.shape(self.y))
        if self.covariance is None:
            return jnp.asarray(self.std) * white
        factor = cholesky(jnp.asarray(self.covariance))
        return (factor @ white.reshape(-1)).reshape(white.shape)

    def noise_covariance(self) -> Float[Array, "m m"]:
        """Covariance of the flattened y, also where the noise is independent."""
        if self.covariance is not None:
            return jnp.asarray(self.covariance, jnp.float32)
        std = jnp.broadcast_to(jnp.asarray(self.std, jnp.float32), jnp.shape(self.y))
        return jnp.diag(std.reshape(-1) ** 2)

    def noise_times(self, v: Float[Array, ...]) -> Float[Array, ...]:
        """The noise's covariance times `v`, an array like y that is zero where nothing was seen."""
        if self.covariance is None:
            return jnp.asarray(self.std) ** 2 * v
        product = (jnp.asarray(self.covariance) @ v.reshape(-1)).reshape(v.shape)
        return jnp.where(self.observed, product, 0.0)

    def whitened(self, v: Float[Array, ...]) -> Float[Array, ...]:
        """`v`, an array like y that is zero where nothing was seen, in units of the noise."""
        if self.covariance is None:
            return v / jnp.asarray(self.std)
        factor = self.cholesky(self.noise_covariance())
        white = solve_lower(factor, v.reshape(-1))
        return white.reshape(v.shape)

    def log_prob(
        self, prediction: Float[Array, ...], extra: Float[Array, ...] | Scalar = 0.0
    ) -> Float[Array, ""]:
        """`log N(y; prediction, noise + extra)`, or that of the noise, over what was observed.

        Args:
            prediction: An array like y.
            extra: Variance added to that of Gaussian noise: independent (a number or an array like
                y), or an `(m, m)` covariance, `m = y.size`.
        """
        residual, observed = self.residual(prediction), self.observed
        if self.noise is not None:
            y = jnp.where(observed, jnp.asarray(self.y, jnp.float32), 1.0)
            return jnp.sum(jnp.where(observed, self.noise.log_prob(y, prediction), 0.0))
        extra = jnp.asarray(extra)
        full = extra.ndim == 2 and extra.shape == (residual.size,) * 2 != residual.shape
        if self.covariance is None and not full:
            variance = jnp.asarray(self.std) ** 2 + extra
            terms = residual**2 / variance + jnp.log(2 * jnp.pi * variance)
            return -0.5 * jnp.sum(jnp.where(observed, terms, 0.0))
        if not full:
            extra = jnp.diag(jnp.broadcast_to(extra, residual.shape).reshape(-1))
        factor = self.cholesky(self.noise_covariance() + extra)
        white = solve_lower(factor, residual.reshape(-1))
        log_det = 2 * jnp.sum(jnp.log(jnp.diagonal(factor)))
        return -0.5 * (white @ white + log_det + jnp.sum(observed) * jnp.log(2 * jnp.pi))

    def cholesky(self, covariance: Float[Array, "m m"]) -> Float[Array, "m m"]:
        """Lower Cholesky factor of `covariance` restricted to what was observed (else identity)."""
        seen = self.observed.reshape(-1)
        both = seen[:, None] & seen[None, :]
        restricted = jnp.where(both, covariance, 0.0) + jnp.diag(jnp.where(seen, 0.0, 1.0))
        return cholesky(restricted)

    def log_likelihood(self, x: Trajectory) -> Float[Array, ""]:
        """`log p(y | x)` of a physical trajectory."""
        return self.log_prob(self.operator(x))

    def row(self, i: Int[Array, ""], of: Operator) -> Observation:
        """What `of` saw of the i-th observed state, where `operator` is `Every(n, of)`."""
        shape, y = jnp.shape(self.y), jnp.asarray(self.y, jnp.float32)[i]
        if self.noise is not None:
            noise = jax.tree.map(lambda a: a[i], broadcast_parameters(self.noise, shape))
            return Observation(y, of, noise=noise)
        return Observation(y, of, std=jnp.broadcast_to(jnp.asarray(self.std), shape)[i])

    def standardised(self, standardisation: Standardisation) -> Observation:
        """The same observation of a trajectory in standardised units."""
        return dataclasses.replace(self, operator=OfPhysical(self.operator, standardisation))


@component
class OfPhysical:
    """An operator on standardised trajectories, from one on physical ones."""

    operator: Any
    standardisation: Standardisation

    def __call__(self, z: Trajectory) -> Float[Array, ...]:
        return self.operator(self.standardisation.inverse(z))


def observe(
    key: PRNGKey,
    truth: Trajectory,
    operator: Operator,
    std: Any = None,
    covariance: Any = None,
    noise: Any = None,
) -> Observation:
    """Draws y of a true trajectory and keeps the operator and the noise.

    Args:
        key: Random key.
        truth: Trajectory `(L, *S)` in physical units.
        operator: See `Observation`.
        std, covariance, noise: Exactly one of them; see `Observation`.

    Raises:
        ConfigError: The key is none.
        ObservationError: The operator or the noise does not fit; see `Observation`.
    """
    require_key(key)
    truth = jnp.asarray(real_array("truth", truth, ObservationError))
    prediction_of(operator, truth.shape)
    clean = operator(truth)
    # of no y yet, which a noise model of counts would look at; of NumPy, for JAX_DEBUG_NANS
    missing = np.full(jnp.shape(clean), np.nan, np.float32)
    unseen = Observation(missing, operator, std, covariance, noise)
    y = unseen.draw(key, clean)
    if not is_open(y) and not np.isfinite(y).all() and np.isfinite(truth).all():
        bad = "operator" if not np.isfinite(clean).all() else "noise"
        raise ObservationError(
            bad,
            "values that are not finite, of a truth that is",
            "finite values",
            "Guard logarithms, roots and divisions inside it.",
        )
    return dataclasses.replace(unseen, y=y)


def require_observation(observation: Any) -> None:
    """Raises `ObservationError` unless `observation` is one."""
    if not isinstance(observation, Observation):
        raise ObservationError(
            "observation",
            f"a {type(observation).__name__}",
            "an Observation",
            "Make one: sda_jax.Observation(y, operator, std=...).",
        )


@jax.jit
def log_likelihood(
    observation: Observation, x: Float[Array, "samples length *state"]
) -> Float[Array, " samples"]:
    """`log p(y | x)` of every member, in physical units."""
    return jax.vmap(observation.log_likelihood)(jnp.asarray(x))
