"""A parameterisation whose networks learn the departure of fields on any grid from a Gaussian
distribution around a mean that the time tells."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sda_jax.core._component import component
from sda_jax.diffusion._field_lags import amplitude_lags
from sda_jax.diffusion._field_law import FieldLaw, orthogonal_functions
from sda_jax.diffusion._linear_base import LinearPreconditioned, predictors
from sda_jax.diffusion._series_law import odd_states, regressed

NUMBERS = 2**26  # of segments that are measured at most, evenly over the record
LEAST = 17  # lags that are measured if segments have them; else half of a segment's states


@component
class FieldPreconditioned(LinearPreconditioned):
    """`LinearPreconditioned` for fields on a grid with ends or a mask: Gaussian around a mean at
    each point that the time tells (season, hour, trend), with the covariance of empirical
    orthogonal functions, whose amplitudes are correlated in time, and of a remainder that is
    independent from point to point (reduced-space optimal interpolation: Kaplan et al. 1997, J.
    Geophys. Res. 102).

    Attributes:
        functions: `(*S, k)`, orthonormal; None before `fitted`.
        lags: Autocovariance of their amplitudes.
        left: Autocovariance of the remainder at a point, falling from state to state by one factor.
        slopes: Of the mean at each point, on 1, the context's last channels, which are the same
            everywhere, and their products, `(predictors, *S)`.
    """

    functions: Float[Array, "*state k"] | None = None
    lags: Float[Array, "lags k k"] | None = None
    left: Float[Array, " lags"] | None = None
    slopes: Float[Array, " known *state"] | None = None

    def fitted(
        self,
        segments: Float[np.ndarray, "m length *state"],
        context: Float[np.ndarray, "m length known"] | None = None,
    ) -> FieldPreconditioned:
        """Measured from segments in standardised units that do not overlap and follow each other
        in time.

        Args:
            segments: The data.
            context: Their context as far as it is the same everywhere in space.
        """
        most = max(1, NUMBERS // segments[0].size)
        chosen = np.unique(np.linspace(0, len(segments) - 1, most, dtype=int))
        x = np.asarray(segments[chosen], np.float64)
        m, length, *state = x.shape
        flat = x.reshape(m * length, -1)
        known = np.zeros((m, length, 0)) if context is None else np.asarray(context)[chosen]
        rows = np.asarray(predictors(jnp.asarray(known.reshape(len(flat), -1))), np.float64)
        found, slopes = orthogonal_functions(flat, rows), regressed(flat, rows)
        flat = flat - rows @ slopes
        k = found.basis.shape[1]
        count = odd_states(max((length + 1) // 2, min(length, LEAST)), k)
        amplitudes = flat @ found.basis
        lags = amplitude_lags(amplitudes.reshape(m, length, k), found.variances, count)
        values = {
            "functions": found.basis.reshape(*state, k),
            "lags": lags,
            # those of the fitted states' own remainder would be too small and alternate
            "left": found.rest * found.persistence ** np.arange(count),
            "slopes": slopes.reshape(-1, *state),
        }
        return dataclasses.replace(
            self, **{name: jnp.asarray(value, jnp.float32) for name, value in values.items()}
        )

    def unfitted(self) -> FieldPreconditioned:
        """Without what was measured: as in a configuration."""
        return FieldPreconditioned()

    def measured(self) -> dict[str, Any]:
        """Functions, lags and slopes."""
        return {name: getattr(self, name) for name in ("functions", "lags", "left", "slopes")}

    @property
    def channels(self) -> int:
        """Of a state."""
        return jnp.asarray(self.functions).shape[-2]

    @property
    def space_axes(self) -> int:
        """Axes of space of a state."""
        return jnp.asarray(self.functions).ndim - 2

    def of_law(self, length: int) -> FieldLaw:
        """See `FieldLaw.of`."""
        return FieldLaw.of(self.lags, self.left, self.functions, length)

    def of_length(self, length: int | None) -> FieldPreconditioned:
        """See `LinearPreconditioned`; with the mean, where no context tells it."""
        law = None if length is None else self.of_law(length)
        found = dataclasses.replace(self, law=law)
        still = self.slopes is not None and not temporal_channels(len(self.slopes))
        return found.conditioned(None) if still else found

    def conditioned(self, context: Float[Array, ...] | None) -> FieldPreconditioned:
        """That of trajectories with this context."""
        if self.slopes is None:
            return dataclasses.replace(self, mean=None)
        count = temporal_channels(len(self.slopes))
        if context is None or not count:
            return dataclasses.replace(self, mean=None if count else jnp.asarray(self.slopes)[0])
        here = context[..., -count:]
        for _ in range(self.space_axes):
            here = here[..., 0, :]
        mean = jnp.tensordot(predictors(here), jnp.asarray(self.slopes), axes=1)
        return dataclasses.replace(self, mean=mean)


def temporal_channels(count: int) -> int:
    """The channels of context that make so many `predictors`: n make (n + 1) (n + 2) / 2."""
    return round((np.sqrt(8 * count + 1) - 3) / 2)
