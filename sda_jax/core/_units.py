"""The map between physical and standardised units."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError
from sda_jax.core._loaded import is_open
from sda_jax.core._numbers import real_array


@component
class Standardisation:
    """`z = (T(x) - mean) / std`, with `mean` and `std` broadcast against a state `(*S,)`.

    Attributes:
        mean: Number, or nested tuples of numbers, in physical units, transformed where there is a
            transform.
        std: Likewise, positive.
        transforms: T of each channel, the last axis, None for the identity; None for none.
    """

    mean: Any = 0.0
    std: Any = 1.0
    transforms: tuple[Any, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            given = getattr(self, name)
            value = real_array(name, given)
            if not isinstance(given, (tuple, float, int)):  # tuples have their place in files
                object.__setattr__(self, name, value)
            if is_open(value):
                continue
            numbers = np.asarray(value)
            if not (np.isfinite(numbers).all() and (name == "mean" or (numbers > 0).all())):
                expected = "finite" if name == "mean" else "positive and finite"
                raise ConfigError(name, given, expected, "Correct the statistics.")

    def forward(self, x: Float[Array, ...]) -> Float[Array, ...]:
        """From physical to standardised units."""
        return (self._each("forward", x) - jnp.asarray(self.mean)) / jnp.asarray(self.std)

    def inverse(self, z: Float[Array, ...]) -> Float[Array, ...]:
        """From standardised to physical units."""
        return self._each("inverse", jnp.asarray(self.mean) + jnp.asarray(self.std) * z)

    def scale(self, x: Float[Array, ...]) -> Float[Array, ...]:
        """The derivative of physical with respect to standardised numbers, at physical ones."""
        std = jnp.broadcast_to(jnp.asarray(self.std, jnp.float32), jnp.shape(x))
        if self.transforms is None:
            return std
        slopes = [
            jnp.ones(x.shape[:-1]) if t is None else t.slope(x[..., c])
            for c, t in enumerate(self.transforms)
        ]
        return std / jnp.stack(slopes, axis=-1)

    def channels(self, first: int, last: int | None) -> Standardisation:
        """Of some of the channels, the last axis."""
        both = (np.asarray(a, float) for a in (self.mean, self.std))
        mean, std = (_tuples(a[..., first:last] if a.ndim else a) for a in both)
        kept = (self.transforms or ())[first:last]
        return Standardisation(mean, std, kept if any(t is not None for t in kept) else None)

    def _each(self, direction: str, x: Float[Array, ...]) -> Float[Array, ...]:
        """Every channel transformed, there or back."""
        if self.transforms is None:
            return x
        found = [
            x[..., c] if t is None else getattr(t, direction)(x[..., c])
            for c, t in enumerate(self.transforms)
        ]
        return jnp.stack(found, axis=-1)


def _tuples(a: np.ndarray) -> Any:
    return tuple(map(_tuples, a)) if a.ndim else float(a)
