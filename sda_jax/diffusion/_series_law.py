"""The stationary Gaussian distribution of series, over windows whose covariance is decomposed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from sda_jax.core._arrays import PRNGKey
from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError
from sda_jax.diffusion._composition import ComposedDenoiser
from sda_jax.diffusion._denoising_errors import linear_error

Series = Float[Array, "*batch length channel"]
Ratio = Float[Array, "*batch #length #channel"]
Gain = Callable[[Array, Array], Array]
RIDGE = 1e-3  # of a mean's regression, in units of its predictors' variances
FLOOR = 1e-6  # of the smallest to the largest variance
LARGEST = 2048  # numbers of a window at most
HORIZON = 97  # states of it at most


def odd_states(length: int, channels: int) -> int:
    """The most states that a window of series of so many channels may have, and lags: odd, as
    windows that are composed are."""
    most = min(length, HORIZON, max(LARGEST // channels, 1))
    return most - (most % 2 == 0)


@component
class GaussianLaw(ABC):
    """What laws of windows of mean zero and covariance C have in common.

    Attributes:
        variances: Eigenvalues of the covariance.
        shares: Of each eigenvalue in the variance along each axis of a state, the mean over the
            states.
    """

    variances: Float[Array, " n"]
    shares: Float[Array, "axis n"]

    def seen_std(self, ratio: Ratio) -> Array:
        """Standard deviations by axis of series with noise."""
        return self._std(lambda v, r: v + r**2, ratio)

    def estimate_std(self, ratio: Ratio) -> Array:
        """Of the estimate."""
        return self._std(lambda v, r: v**2 / (v + r**2), ratio)

    def error_std(self, ratio: Ratio) -> Array:
        """Of its error."""
        return self._std(linear_error, ratio)

    def estimate(self, x: Array, ratio: Ratio) -> Array:
        """`C (C + r^2)^-1 x`."""
        return self._filtered(x, lambda v, r: v / (v + r**2), ratio)

    def missing(self, x: Array, ratio: Ratio) -> Array:
        """`r^2 (C + r^2)^-1 x`."""
        return self._filtered(x, lambda v, r: r**2 / (v + r**2), ratio)

    def covariance_times(self, w: Array, ratio: Array) -> Array:
        """The covariance of the estimate's error times `w`."""
        return self._filtered(w, linear_error, ratio)

    def draw_error(self, key: PRNGKey, shape: tuple[int, ...], ratio: Array) -> Array:
        """A draw of that error."""
        white = jax.random.normal(key, shape)
        return self._filtered(white, lambda v, r: jnp.sqrt(linear_error(v, r)), ratio)

    @abstractmethod
    def _filtered(self, x: Array, gain: Gain, ratio: Ratio) -> Array:
        """`x` with each mode multiplied by a function of its variance and sigma/mu."""

    def _std(self, variance: Gain, ratio: Ratio) -> Array:
        ratio = jnp.asarray(ratio)
        found = jnp.sqrt(variance(self.variances, ratio.reshape(-1, 1)) @ self.shares.T)
        return found.reshape(*ratio.shape[:-1], -1) if ratio.ndim else found[0]


@component
class SeriesLaw(GaussianLaw):
    """A Gaussian distribution of windows, of mean zero, that stands for that of series.

    Series of as many states have this distribution. Longer ones are taken in windows: estimates
    blended, covariances averaged over the windows that hold both states (`ComposedDenoiser`).

    Attributes:
        basis: Eigenvectors of the covariance over states and channels in the columns.
    """

    basis: Float[Array, "n n"]

    @classmethod
    def of(
        cls,
        lags: Float[Array, "lags channel channel"] | None,
        length: int,
        axes: Float[Array, "channel axis"] | None = None,
    ) -> SeriesLaw:
        """Of series of `length` states with these autocovariances, with standard deviations along
        these axes, or by channel; computed on the host.

        Raises:
            ConfigError: See `decomposed`.
        """
        variances, basis = decomposed(lags, length)
        channels = jnp.asarray(lags).shape[-1]
        modes = basis.reshape(-1, channels, len(variances))
        if axes is not None:
            modes = np.asarray(axes, np.float64).T @ modes
        shares = (modes**2).mean(axis=0)
        return cls(*(jnp.asarray(a, jnp.float32) for a in (variances, shares, basis)))

    @property
    def states(self) -> int:
        """Of a window."""
        return len(self.variances) // len(self.shares)

    def require_fit(self, shape: tuple[int, ...]) -> None:
        """Raises `ConfigError` unless it is the law of series of this shape."""
        length, channels = shape[-2:]
        if channels != len(self.shares) or length < self.states:
            raise ConfigError(
                "parameterisation",
                f"a covariance of {self.states} states of {len(self.shares)} channels",
                f"one of at most {length} states, of {channels} channels",
                "Take it for that many (of_length), fitted to such series.",
            )

    def estimate(self, x: Series, ratio: Ratio) -> Series:
        """`C (C + r^2)^-1 x`."""
        if x.shape[-2] == self.states:
            return super().estimate(x, ratio)
        windows = self._composed()
        flat = x.reshape(-1, *x.shape[-2:])
        ratios = jnp.broadcast_to(ratio, (*x.shape[:-2], 1, 1)).reshape(-1)
        return jax.vmap(windows)(flat, ratios).reshape(x.shape)

    def _composed(self) -> ComposedDenoiser:
        return ComposedDenoiser(_Window(self), self.states, None, max(self.states // 4, 1))

    def missing(self, x: Series, ratio: Ratio) -> Series:
        """`r^2 (C + r^2)^-1 x`."""
        if x.shape[-2] == self.states:
            return super().missing(x, ratio)
        return x - self.estimate(x, ratio)

    def covariance_times(self, w: Series, ratio: Array) -> Series:
        """The covariance of the estimate's error times `w`."""
        if w.shape[-2] == self.states:
            return super().covariance_times(w, ratio)
        return self._composed().covariance_times(w, ratio)

    def draw_error(self, key: PRNGKey, shape: tuple[int, ...], ratio: Array) -> Series:
        """A draw of that error."""
        if shape[-2] == self.states:
            return super().draw_error(key, shape, ratio)
        return self._composed().draw_error(key, shape, ratio)

    def _filtered(self, x: Series, gain: Gain, ratio: Ratio) -> Series:
        gains = gain(self.variances, jnp.asarray(ratio).reshape(-1, 1))
        with jax.default_matmul_precision("highest"):
            amplitudes = x.reshape(-1, len(self.variances)) @ self.basis
            return ((gains * amplitudes) @ self.basis.T).reshape(x.shape)


@component
class _Window:
    """The linear estimate as a denoiser of windows that is told sigma/mu in place of the time."""

    law: SeriesLaw
    schedule: None = None

    def __call__(self, x: Series, ratio: Array) -> Series:
        return self.law.estimate(x, ratio)

    def covariance_times(self, w: Series, ratio: Array) -> Series:
        return self.law.covariance_times(w, ratio)

    def draw_error(self, key: PRNGKey, shape: tuple[int, ...], ratio: Array) -> Series:
        return self.law.draw_error(key, shape, ratio)


def decomposed(
    lags: Float[Array, "lags c c"] | Float[np.ndarray, "lags c c"] | None, length: int
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n n"]]:
    """Eigenvalues and eigenvectors of the covariance of `length` states with these
    autocovariances, or of as many as there are lags; computed on the host.

    Raises:
        ConfigError: There are none, or they are arguments of a function that is compiled.
    """
    if lags is None or isinstance(lags, Tracer):
        raise ConfigError(
            "parameterisation",
            "one without lags" if lags is None else "an argument of a compiled function",
            "autocovariances measured from segments, as arrays on the host",
            "Fit it first; use a prior inside a compiled function without passing it.",
        )
    known = np.asarray(lags, np.float64)
    states, channels = min(length, len(known)), known.shape[1]
    apart = np.arange(states)[None] - np.arange(states)[:, None]
    blocks = known[np.abs(apart)]
    blocks = np.where((apart < 0)[..., None, None], np.swapaxes(blocks, -1, -2), blocks)
    whole = blocks.transpose(0, 2, 1, 3).reshape(states * channels, -1)
    variances, basis = np.linalg.eigh((whole + whole.T) / 2)
    return np.maximum(variances, FLOOR * variances.max()), basis


def regressed(
    x: Float[np.ndarray, "n d"], rows: Float[np.ndarray, "n p"]
) -> Float[np.ndarray, "p d"]:
    """Slopes of a mean on predictors, the first of which is 1."""
    penalty = RIDGE * len(rows) * np.diag(np.maximum(rows.var(axis=0), RIDGE))
    penalty[:1, :1] = 0.0
    return np.linalg.solve(rows.T @ rows + penalty, rows.T @ x)
