"""Noise models of observations that are not Gaussian, element by element.

A noise model is a component with `log_prob(y, prediction)`, an array like y, and, where
observations are to be drawn, `sample(key, prediction)`. Elements are independent given the
trajectory."""

from __future__ import annotations

import itertools
import math
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sda_jax.core._arrays import PRNGKey
from sda_jax.core._component import component
from sda_jax.core._errors import ObservationError, require_positive
from sda_jax.core._loaded import is_open
from sda_jax.core._numbers import real_array
from sda_jax.core._record import static
from sda_jax.core._requirements import require_protocol


@runtime_checkable
class NoiseModel(Protocol):
    """`p(y | prediction)` of independent elements."""

    def log_prob(self, y: Float[Array, ...], prediction: Float[Array, ...]) -> Float[Array, ...]:
        """Of every element."""
        ...


@runtime_checkable
class DrawsNoise(Protocol):
    """A noise model that observations can be drawn from."""

    def sample(self, key: PRNGKey, prediction: Float[Array, ...]) -> Float[Array, ...]:
        """A draw of y."""
        ...


@runtime_checkable
class ChecksObservations(Protocol):
    """A noise model that not every y can be of."""

    def check(self, y: np.ndarray) -> None:
        """Raises `ObservationError` if `y` cannot be; missing values are NaN."""
        ...


def _check_parameters(noise: Any, *names: str) -> None:
    for name in names:
        value = real_array(name, getattr(noise, name), ObservationError)
        object.__setattr__(noise, name, value)
        require_positive(name, value)
        if not is_open(value):
            numbers = np.atleast_1d(np.asarray(value))
            wrong = ~(np.isfinite(numbers) & (numbers > 0))
            if wrong.any():
                expected = "positive finite numbers"
                raise ObservationError(name, numbers[wrong][0], expected, "Correct it.")


def with_numbers(noise: Any) -> Any:
    """The noise with its parameters as numbers and arrays that compiled functions take.

    Raises:
        ObservationError: It is no noise model, or one of them is no real number or missing.
    """
    require_protocol(
        "noise", noise, NoiseModel, "Use StudentT or Poisson, or write one.", ObservationError
    )

    def converted(leaf: Any) -> Any:
        if leaf is noise:
            raise ObservationError(
                "noise",
                f"a {type(noise).__name__}, whose parameters compiled functions cannot see",
                "a component",
                "Decorate its class with sda_jax.component.",
            )
        value = real_array("noise", leaf, ObservationError)
        if not is_open(value) and np.isnan(value).any():
            raise ObservationError(
                "noise", "parameters that are missing", "numbers", "Give those of every element."
            )
        return value

    return jax.tree.map(converted, noise)


@component
class StudentT:
    """`y = prediction + scale t`, t of Student's distribution: instruments with outliers.

    Attributes:
        scale: Of the noise, in physical units, a number or an array that broadcasts against y.
        df: Degrees of freedom; the fewer, the more outliers.
    """

    scale: Any = 1.0
    df: Any = 4.0

    def __post_init__(self) -> None:
        _check_parameters(self, "scale", "df")

    def log_prob(self, y: Float[Array, ...], prediction: Float[Array, ...]) -> Float[Array, ...]:
        """Of every element."""
        df, scale = jnp.asarray(self.df), jnp.asarray(self.scale)
        return jax.scipy.stats.t.logpdf(y, df, prediction, scale)

    def sample(self, key: PRNGKey, prediction: Float[Array, ...]) -> Float[Array, ...]:
        """A draw of y."""
        t = jax.random.t(key, self.df, prediction.shape, prediction.dtype)
        return prediction + jnp.asarray(self.scale) * t


@component
class Poisson:
    """Counts; the prediction is the logarithm of the expected count."""

    def check(self, y: np.ndarray) -> None:
        """Raises if `y` are no counts."""
        seen = y[~np.isnan(y)]
        if (seen < 0).any() or (seen != np.round(seen)).any():
            raise ObservationError(
                "y", seen[(seen < 0) | (seen != np.round(seen))][0], "counts", "Correct y."
            )

    def log_prob(self, y: Float[Array, ...], prediction: Float[Array, ...]) -> Float[Array, ...]:
        """Of every element."""
        return y * prediction - jnp.exp(prediction) - jax.scipy.special.gammaln(y + 1)

    def sample(self, key: PRNGKey, prediction: Float[Array, ...]) -> Float[Array, ...]:
        """A draw of y."""
        return jax.random.poisson(key, jnp.exp(prediction)).astype(prediction.dtype)


@component
class JoinedNoise:
    """The noise models of several observations whose flattened elements follow each other.

    Attributes:
        models: One a part.
        sizes: Elements of each.
    """

    models: tuple
    sizes: tuple[int, ...] = static()

    def _parts(self, *arrays: Array) -> list[tuple]:
        edges = np.cumsum((0, *self.sizes))
        spans = itertools.pairwise(edges)
        return [
            (noise, *(a[i:j] for a in arrays))
            for noise, (i, j) in zip(self.models, spans, strict=True)
        ]

    def log_prob(self, y: Float[Array, " m"], prediction: Float[Array, " m"]) -> Float[Array, " m"]:
        """Of every element."""
        return jnp.concatenate([noise.log_prob(a, p) for noise, a, p in self._parts(y, prediction)])

    def sample(self, key: PRNGKey, prediction: Float[Array, " m"]) -> Float[Array, " m"]:
        """A draw of y."""
        for noise in self.models:
            require_protocol("noise", noise, DrawsNoise, error=ObservationError)
        keys = jax.random.split(key, len(self.models))
        parts = self._parts(prediction)
        return jnp.concatenate(
            [noise.sample(k, p) for k, (noise, p) in zip(keys, parts, strict=True)]
        )


@component
class Normal:
    """`y ~ N(prediction, std^2)`: a part of a `JoinedNoise`."""

    std: Any = 1.0

    def __post_init__(self) -> None:
        _check_parameters(self, "std")

    def log_prob(self, y: Float[Array, ...], prediction: Float[Array, ...]) -> Float[Array, ...]:
        """Of every element."""
        return jax.scipy.stats.norm.logpdf(y, prediction, jnp.asarray(self.std))

    def sample(self, key: PRNGKey, prediction: Float[Array, ...]) -> Float[Array, ...]:
        """A draw of y."""
        z = jax.random.normal(key, prediction.shape, prediction.dtype)
        return prediction + jnp.asarray(self.std) * z


def broadcasts(shape: tuple[int, ...], against: tuple[int, ...]) -> bool:
    """Whether an array of that shape broadcasts against another without changing its shape."""
    pairs = zip(shape[::-1], against[::-1], strict=False)
    return len(shape) <= len(against) and all(a in (1, b) for a, b in pairs)


def check_noise_model(noise: Any, y: np.ndarray) -> None:
    """Raises `ObservationError` if `noise` cannot be that of `y`."""
    if isinstance(noise, ChecksObservations):
        noise.check(y)
    parameters = () if isinstance(noise, JoinedNoise) else jax.tree.leaves(noise)
    for shape in map(np.shape, parameters):
        if not broadcasts(shape, y.shape):
            raise ObservationError(
                "noise",
                f"a parameter of shape {shape}",
                f"() or the shape of y, {y.shape}",
                "Reshape it.",
            )
    unseen = jax.ShapeDtypeStruct(y.shape, jnp.float32)
    try:
        given = jax.eval_shape(noise.log_prob, unseen, unseen)
    except Exception as error:
        raise ObservationError(
            "noise",
            f"a log_prob that raises {type(error).__name__}: {str(error).partition(chr(10))[0]}",
            f"a JAX function of y and prediction, both of shape {y.shape}",
            "Use jax.numpy inside it.",
        ) from error
    if jnp.shape(given) != y.shape:
        raise ObservationError(
            "noise",
            f"a log_prob of shape {jnp.shape(given)}",
            f"that of every element of y, of shape {y.shape}",
            "Return the elements' log densities, not their sum.",
        )


def join(models: list[Any], shapes: list[tuple[int, ...]]) -> JoinedNoise:
    """The noise of several flattened observations that follow each other, of these shapes."""
    parts, sizes = [], []
    for noise, shape in zip(models, shapes, strict=True):
        if isinstance(noise, JoinedNoise):
            parts.extend(noise.models)
            sizes.extend(noise.sizes)
        else:
            parts.append(jax.tree.map(jnp.ravel, broadcast_parameters(noise, shape)))
            sizes.append(math.prod(shape))
    return JoinedNoise(tuple(parts), tuple(sizes))


def broadcast_parameters(noise: Any, shape: tuple[int, ...]) -> Any:
    """The noise with its parameters given for every element of a y of that shape."""
    return jax.tree.map(lambda a: jnp.broadcast_to(jnp.asarray(a, jnp.float32), shape), noise)
