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
from sda_jax.diffusion._series_lags import Stretches, tapered_lags
from sda_jax.diffusion._series_law import SeriesLaw, odd_states, regressed


@component
class SeriesPreconditioned(LinearPreconditioned):
    """`LinearPreconditioned` for series: stationary and Gaussian around a mean that the context
    tells (the hour of the day, the season). Trajectories longer than the lags reach are composed of
    windows.

    Attributes:
        lags: Autocovariance `E e_i e_{i+l}^T` of the anomalies, in standardised units; None before
            `fitted`.
        axes: Principal axes of a state's anomalies, in the columns, along which the network is
            scaled and let through: where channels nearly agree, what they share and how they differ
            are known to quite different errors. None for the channels.
        slopes: Of the mean, on 1, the context's channels and their products; None without context.
    """

    lags: Float[Array, "lags channel channel"] | None = None
    slopes: Float[Array, "predictors channel"] | None = None
    axes: Float[Array, "channel axis"] | None = None

    def fitted(
        self, stretches: Stretches, context: Stretches | None = None
    ) -> SeriesPreconditioned:
        """With mean and lags measured, an odd number of lags that the longest stretch has the
        states for; see `tapered_lags`.

        Args:
            stretches: Of the record, in the order of time, in standardised units.
            context: Of each.
        """
        x, slopes = [np.asarray(part, np.float64) for part in stretches], None
        rows = [np.zeros((len(part), 0)) for part in x]
        if context is not None:
            rows = [np.asarray(predictors(jnp.asarray(c)), np.float64) for c in context]
            slopes = jnp.asarray(regressed(np.concatenate(x), np.concatenate(rows)), jnp.float32)
        count = odd_states(max(map(len, x)), x[0].shape[-1])
        lags = tapered_lags(x, rows, count)
        axes = np.linalg.eigh((lags[0] + lags[0].T) / 2)[1]
        largest = axes[np.abs(axes).argmax(axis=0), np.arange(len(axes))]
        axes *= np.sign(largest)  # so that a training that goes on finds the same
        lags, axes = (jnp.asarray(a, jnp.float32) for a in (lags, axes))
        return dataclasses.replace(self, lags=lags, slopes=slopes, axes=axes)

    def unfitted(self) -> SeriesPreconditioned:
        """Without what was measured: as in a configuration."""
        return SeriesPreconditioned()

    def measured(self) -> dict[str, Any]:
        """Lags and slopes; the axes stay those that the network was trained along."""
        return {"lags": self.lags, "slopes": self.slopes}

    @property
    def channels(self) -> int:
        """Of a state."""
        return jnp.asarray(self.lags).shape[-1]

    def of_law(self, length: int) -> SeriesLaw:
        """See `SeriesLaw.of`."""
        return SeriesLaw.of(self.lags, length, self.axes)

    def along(self, x: Float[Array, "*batch channel"]) -> Float[Array, "*batch axis"]:
        """By principal axes."""
        return x if self.axes is None else jnp.matmul(x, self.axes, precision="highest")

    def back(self, x: Float[Array, "*batch axis"]) -> Float[Array, "*batch channel"]:
        """Undoes `along`."""
        return x if self.axes is None else jnp.matmul(x, self.axes.T, precision="highest")

    def conditioned(
        self, context: Float[Array, "*batch length known"] | None
    ) -> SeriesPreconditioned:
        """That of trajectories with this context."""
        if self.slopes is None or context is None:
            return dataclasses.replace(self, mean=None)
        return dataclasses.replace(self, mean=predictors(context) @ self.slopes)
