"""A parameterisation whose networks learn the departure of series from a stationary Gaussian
distribution around a mean that the context tells."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sda_jax.core._component import component
from sda_jax.diffusion._linear_base import LinearPreconditioned, predictors
from sda_jax.diffusion._series_law import SeriesLaw, odd_states, regressed, unbiased_lags


@component
class SeriesPreconditioned(LinearPreconditioned):
    """`LinearPreconditioned` for series: stationary and Gaussian around a mean that the context
    tells (the hour of the day, the season). Trajectories longer than the lags reach are composed of
    windows.

    Attributes:
        lags: Autocovariance `E e_i e_{i+l}^T` of the anomalies, in standardised units; None before
            `fitted`.
        slopes: Of the mean, on 1, the context's channels and their products; None without context.
    """

    lags: Float[Array, "lags channel channel"] | None = None
    slopes: Float[Array, "predictors channel"] | None = None

    def fitted(
        self,
        segments: Float[np.ndarray, "m length channel"],
        context: Float[np.ndarray, "m length known"] | None = None,
    ) -> SeriesPreconditioned:
        """With mean and lags measured from segments in standardised units, an odd number of lags
        that segments have the states for."""
        x, slopes = np.asarray(segments, np.float64), None
        if context is not None:
            known = np.asarray(predictors(jnp.asarray(context)), np.float64)
            rows = known.reshape(-1, known.shape[-1])
            slopes = regressed(x.reshape(len(rows), -1), rows)
            x = x - known @ slopes
            slopes = jnp.asarray(slopes, jnp.float32)
        lags = unbiased_lags(x, odd_states(x.shape[1], x.shape[2]))
        return dataclasses.replace(self, lags=jnp.asarray(lags, jnp.float32), slopes=slopes)

    def unfitted(self) -> SeriesPreconditioned:
        """Without what was measured: as in a configuration."""
        return SeriesPreconditioned()

    def measured(self) -> dict[str, Any]:
        """Lags and slopes."""
        return {"lags": self.lags, "slopes": self.slopes}

    @property
    def channels(self) -> int:
        """Of a state."""
        return jnp.asarray(self.lags).shape[-1]

    def of_law(self, length: int) -> SeriesLaw:
        """See `SeriesLaw.of`."""
        return SeriesLaw.of(self.lags, length)

    def conditioned(
        self, context: Float[Array, "*batch length known"] | None
    ) -> SeriesPreconditioned:
        """That of trajectories with this context."""
        if self.slopes is None or context is None:
            return dataclasses.replace(self, mean=None)
        return dataclasses.replace(self, mean=predictors(context) @ self.slopes)
