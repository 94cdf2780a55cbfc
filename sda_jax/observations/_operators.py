"""Operators: what is seen of a trajectory or of a state, as components that can be saved.

Those of fields act on arrays `(*batch, x, y, channel)`, so on one state or on all at once.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sda_jax.core._arrays import Trajectory
from sda_jax.core._component import component
from sda_jax.core._errors import ObservationError, require_at_least
from sda_jax.core._record import is_component, static
from sda_jax.systems import _fields as fields
from sda_jax.systems._fields import Field


def as_pytree(operator: Any) -> Any:
    """A plain function as a pytree without leaves, which compiled functions take as argument."""
    plain = callable(operator) and not is_component(operator)
    if plain and not isinstance(operator, jax.tree_util.Partial):
        return jax.tree_util.Partial(operator)
    return operator


@component
class Channels:
    """Some channels of a state: the last axis at `indices`."""

    indices: tuple[int, ...] = static((0,))

    def __call__(self, x: Float[Array, "*state"]) -> Float[Array, ...]:
        last = x.shape[-1]
        for index in self.indices:
            if not -last <= index < last:
                raise ObservationError(
                    "indices", index, f"channels from 0 to {last - 1}", "Correct the indices."
                )
        return x[..., jnp.array(self.indices)]


@component
class Every:
    """`operator` applied to every n-th state, from the first on: an operator local in time.

    Attributes:
        n: Stride in states.
        operator: Operator on one state, a component or any function.
    """

    n: int = static(1)
    operator: Any = Channels()

    def __post_init__(self) -> None:
        require_at_least("n", self.n, 1)
        object.__setattr__(self, "operator", as_pytree(self.operator))

    def __call__(self, x: Trajectory) -> Float[Array, ...]:
        return jax.vmap(self.operator)(x[:: self.n])


@component
class Joined:
    """Several operators' outputs, flattened and concatenated."""

    operators: tuple[Any, ...]

    def __call__(self, x: Trajectory) -> Float[Array, " m"]:
        return jnp.concatenate([operator(x).reshape(-1) for operator in self.operators])


@component
class Chain:
    """Operators one after the other, the first applied first.

    Attributes:
        parts: Components or any functions.
    """

    parts: tuple[Any, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(as_pytree(part) for part in self.parts))

    def __call__(self, x: Array) -> Array:
        for part in self.parts:
            x = part(x)
        return x


@component
class At:
    """`operator` applied to the state at `index` alone; -1 is the last.

    Attributes:
        index: Of the state.
        operator: Operator on one state, a component or any function.
    """

    index: int = static(-1)
    operator: Any = Channels()

    def __post_init__(self) -> None:
        object.__setattr__(self, "operator", as_pytree(self.operator))

    def __call__(self, x: Trajectory) -> Float[Array, ...]:
        if not -len(x) <= self.index < len(x):
            raise ObservationError(
                "index", self.index, f"a state from 0 to {len(x) - 1}", "Correct the index."
            )
        return self.operator(x[self.index])


@component
class FirstMinusLast:
    """The first state less the last: zero for a trajectory that closes on itself."""

    def __call__(self, x: Trajectory) -> Float[Array, "*state"]:
        return x[0] - x[-1]


@component
class Coarsen:
    """Averages over blocks of `factor` by `factor` grid points."""

    factor: int = static(8)

    def __post_init__(self) -> None:
        require_at_least("factor", self.factor, 1)

    def __call__(self, x: Field) -> Field:
        return fields.coarsen(x, self.factor)


@component
class Subsample:
    """Every n-th grid point along both axes, from the first on."""

    n: int = static(2)

    def __post_init__(self) -> None:
        require_at_least("n", self.n, 1)

    def __call__(self, x: Field) -> Field:
        return x[..., :: self.n, :: self.n, :]


@component
class Crop:
    """The central `size` by `size` grid points."""

    size: int = static(8)

    def __call__(self, x: Field) -> Field:
        nx, ny = x.shape[-3:-1]
        if not 1 <= self.size <= min(nx, ny):
            raise ObservationError(
                "size", self.size, f"from 1 to the grid's {min(nx, ny)}", "Crop less."
            )
        i, j = (nx - self.size) // 2, (ny - self.size) // 2
        return x[..., i : i + self.size, j : j + self.size, :]


@component
class Mask:
    """The grid points where a mask is true, in row-major order: `(*batch, points, channel)`.

    Attributes:
        mask: `(x, y)` array or nested sequences of zeros and ones.
    """

    mask: Any = static()

    def __post_init__(self) -> None:
        mask = np.asarray(self.mask)
        if mask.dtype.kind not in "biuf" or np.ma.isMaskedArray(self.mask):
            got = f"a {type(self.mask).__name__}"
            raise ObservationError("mask", got, "an array of zeros and ones", "Make one.")
        if mask.ndim != 2 or not np.isin(mask, (0, 1)).all() or not mask.any():
            raise ObservationError(
                "mask",
                f"shape {mask.shape} with values from {mask.min(initial=1)} to "
                f"{mask.max(initial=0)}",
                "a two-dimensional array of zeros and ones, not all zero",
                "Make it of the grid's shape.",
            )
        object.__setattr__(self, "mask", tuple(map(tuple, mask.astype(int).tolist())))

    def __call__(self, x: Field) -> Float[Array, "*batch points channel"]:
        mask = np.asarray(self.mask, bool)
        if mask.shape != x.shape[-3:-1]:
            raise ObservationError(
                "mask", f"shape {mask.shape}", f"the grid's, {x.shape[-3:-1]}", "Reshape the mask."
            )
        return _select(x, mask)


@component
class Ring:
    """The grid points with `inner < r^2 < outer`, both coordinates of the grid's points running
    from -1 to 1: `(*batch, points, channel)`."""

    inner: float = static(0.4)
    outer: float = static(0.6)

    def __call__(self, x: Field) -> Float[Array, "*batch points channel"]:
        squares = [np.linspace(-1, 1, n) ** 2 for n in x.shape[-3:-1]]
        radius = squares[0][:, None] + squares[1][None, :]
        mask = (self.inner < radius) & (radius < self.outer)
        if not mask.any():
            raise ObservationError(
                "inner, outer",
                (self.inner, self.outer),
                f"bounds between which a point of the {mask.shape} grid lies",
                "Widen the ring.",
            )
        return _select(x, mask)


def _select(x: Field, mask: np.ndarray) -> Float[Array, "*batch points channel"]:
    flat = x.reshape(*x.shape[:-3], -1, x.shape[-1])
    return flat[..., np.flatnonzero(mask), :]


@component
class Vorticity:
    """`du/dy - dv/dx` in grid units, with one channel. See `fields.vorticity`."""

    def __call__(self, x: Field) -> Field:
        return fields.vorticity(x)[..., None]


@component
class Saturate:
    """`x / (1 + |x|)`: an instrument that saturates."""

    def __call__(self, x: Array) -> Array:
        return x / (1 + jnp.abs(x))
