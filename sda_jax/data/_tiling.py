"""Crops of a grid that networks are trained on, and the tiles of their size that cover a larger
grid."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sda_jax.core._arrays import PRNGKey
from sda_jax.core._errors import ConfigError, require_at_least, whole_number
from sda_jax.core._record import record, static


class Tiles(NamedTuple):
    """The tiles of a grid.

    Attributes:
        origins: First points of each along the axes of space, `(tiles, axes)`.
        weights: For each axis, of the points of each tile, `(tiles, points)`; their products over
            the axes sum to 1 at every point of the grid.
    """

    origins: Int[np.ndarray, "tiles axes"]
    weights: tuple[Float[np.ndarray, "tiles points"], ...]


@record
class Tiling:
    """How a grid is cut into crops, and covered by tiles of the same size.

    Along each axis neighbouring tiles share at least `overlap` points, over which the weight of one
    falls as the other's rises, as a squared sine. The outermost `margin` points of a tile, which
    know the least of what lies beyond it, have no weight, except at an end of the grid.

    Attributes:
        crop: Points of a crop along each axis of space; None for an axis that is not cut.
        periodic: Whether each axis of the grid is periodic, so that crops and tiles wrap around;
            the others have two ends.
        overlap: See above: at least twice the margin, and less than a crop has points.
        margin: See above.

    Raises:
        ConfigError: Sizes that do not go together.
    """

    crop: tuple[int | None, ...] = static()
    periodic: tuple[bool, ...] = static()
    overlap: int = static()
    margin: int = static()

    def __post_init__(self) -> None:
        sizes = tuple(n if n is None else whole_number("crop", n) for n in self.crop)
        object.__setattr__(self, "crop", sizes)
        object.__setattr__(self, "periodic", tuple(map(bool, self.periodic)))
        if len(self.periodic) != len(sizes) or not any(sizes):
            raise ConfigError(
                "crop",
                sizes,
                f"a number of points for some of the {len(self.periodic)} axes of space, None for "
                "the others",
                "Match them.",
            )
        require_at_least("margin", self.margin, 0)
        smallest = min(n for n in sizes if n is not None)
        if not 2 * self.margin <= self.overlap < smallest:
            raise ConfigError(
                "overlap",
                self.overlap,
                f"from {2 * self.margin}, twice the margin, to {smallest - 1} for crops of "
                f"{written(sizes)}",
                "Tiles must cover the grid without their margins: change overlap, margin or crop.",
            )

    @classmethod
    def of(cls, crop: Sequence[int | None], periodic: Sequence[bool]) -> Tiling:
        """With an overlap of half and a margin of an eighth of the shortest side of a crop."""
        shortest = min((n for n in crop if n is not None), default=1)
        return cls(tuple(crop), tuple(periodic), shortest // 2, shortest // 8)

    def shape(self, space: Sequence[int]) -> tuple[int, ...]:
        """Of a crop, of a grid of so many points along each axis.

        Raises:
            ConfigError: The grid has other axes, or fewer points than a crop.
        """
        fits = len(space) == len(self.crop)
        if not fits or any(n is not None and n > m for n, m in zip(self.crop, space, strict=True)):
            raise ConfigError(
                "crop",
                written(self.crop),
                f"at most the {written(space) or 'no'} points of the grid along each axis of space",
                "Take smaller crops, or a larger grid.",
            )
        return tuple(m if n is None else n for n, m in zip(self.crop, space, strict=True))

    def origins(self, key: PRNGKey, count: int, space: Sequence[int]) -> Int[Array, "count axes"]:
        """First points of random crops, uniform over all that there are of a grid."""
        shape = self.shape(space)
        keys = jax.random.split(key, len(space))
        along = [
            jax.random.randint(k, (count,), 0, points)
            for k, points in zip(keys, self._places(shape, space), strict=True)
        ]
        return jnp.stack(along, axis=1)

    def random_origins(
        self, rng: np.random.Generator, count: int, space: Sequence[int]
    ) -> Int[np.ndarray, "count axes"]:
        """The same on the host."""
        places = self._places(self.shape(space), space)
        return rng.integers(np.array(places), size=(count, len(space)))

    def _places(self, shape: Sequence[int], space: Sequence[int]) -> list[int]:
        """Along each axis, how many crops there are."""
        return [
            1 if n is None else points if wraps else points - size + 1
            for n, size, points, wraps in zip(self.crop, shape, space, self.periodic, strict=True)
        ]

    def cut(
        self, x: Float[Array, "*batch channel"], origin: Int[Array, " axes"]
    ) -> Float[Array, "*batch channel"]:
        """The crop of fields, channels last, that begins at `origin`."""
        return self.cut_wrapped(self.wrapped(x), x.shape, origin)

    def wrapped(self, x: Float[Array, "*batch channel"]) -> Float[Array, "*batch channel"]:
        """Fields with as many points again beyond the end of each periodic axis as a crop may
        reach."""
        width = [(0, 0)] * x.ndim
        for i, (n, wraps) in enumerate(zip(self.crop, self.periodic, strict=True)):
            if n is not None and wraps:
                width[i - len(self.crop) - 1] = (0, n - 1)
        return jnp.pad(x, width, mode="wrap")

    def cut_wrapped(self, x: Array, shape: tuple[int, ...], origin: Int[Array, " axes"]) -> Array:
        """`cut` of what `wrapped` made of fields of this shape."""
        axes = len(self.crop)
        *batch, channels = shape[: -1 - axes] + shape[-1:]
        zeros = (0,) * len(batch)
        size = (*batch, *self.shape(shape[-1 - axes : -1]), channels)
        return jax.lax.dynamic_slice(x, (*zeros, *(origin[i] for i in range(axes)), 0), size)

    def cut_on_host(self, x: np.ndarray, origin: Int[np.ndarray, " axes"]) -> np.ndarray:
        """`cut` of an array of NumPy."""
        axes = len(self.crop)
        space = x.shape[-1 - axes : -1]
        for i, (first, size) in enumerate(zip(origin, self.shape(space), strict=True)):
            rows = (first + np.arange(size)) % space[i]
            x = np.take(x, rows, axis=i - axes - 1)
        return x

    def tiles(self, space: Sequence[int]) -> Tiles:
        """The tiles that cover a grid.

        Raises:
            ConfigError: See `shape`.
        """
        shape = self.shape(space)
        starts = [self._starts(i, points) for i, points in enumerate(space)]
        weights = [
            self._weights(i, s, width, points)
            for i, (s, width, points) in enumerate(zip(starts, shape, space, strict=True))
        ]
        index = np.array(list(itertools.product(*(range(len(s)) for s in starts))))
        origins = np.stack([s[index[:, i]] for i, s in enumerate(starts)], axis=1)
        return Tiles(origins, tuple(w[index[:, i]] for i, w in enumerate(weights)))

    def _starts(self, axis: int, points: int) -> Int[np.ndarray, " tiles"]:
        """First points of the tiles along an axis, as even as whole points allow."""
        width = self.crop[axis]
        if width is None:
            return np.zeros(1, int)
        stride = width - self.overlap
        if self.periodic[axis]:
            count = -(-points // stride)
            return np.arange(count) * points // count
        last = points - width
        count = -(-last // stride) + 1
        return np.arange(count) * last // max(count - 1, 1)

    def _weights(
        self, axis: int, starts: Int[np.ndarray, " tiles"], width: int, points: int
    ) -> Float[np.ndarray, "tiles width"]:
        """Of the points of each tile along an axis, which sum to 1 over the tiles."""
        if self.crop[axis] is None:
            return np.ones((1, width), np.float32)
        place = np.arange(width) - self.margin
        core = width - 2 * self.margin
        inside = (place >= 0) & (place < core)
        rise = np.where(inside, np.sin(np.pi * (place + 0.5) / core) ** 2, 0.0)
        weights = np.tile(rise, (len(starts), 1))
        if not self.periodic[axis]:  # beyond an end there is nothing to know of
            weights[0, : width // 2] = 1.0
            weights[-1, width // 2 :] = 1.0
        rows = (starts[:, None] + np.arange(width)) % points
        total = np.bincount(rows.ravel(), weights.ravel(), points)
        return np.asarray(weights / total[rows], np.float32)


def written(sizes: Sequence[int | None]) -> str:
    """Such as `64 x 64`."""
    return " x ".join("all" if n is None else str(n) for n in sizes)


def cropped(
    key: PRNGKey, tiling: Tiling, x: Float[Array, "batch length *state"]
) -> Float[Array, "batch length *state"]:
    """Segments, each cut to a crop in a random place of its grid."""
    origins = tiling.origins(key, len(x), x.shape[2:-1])
    return jax.vmap(tiling.cut)(x, origins)


def require_crop(argument: str, crop: Any) -> None:
    """Raises `ConfigError` unless `crop` is a tuple of points along each axis, or None for some."""
    if not isinstance(crop, tuple | list):
        raise ConfigError(
            argument, crop, "points along each axis of space", "Give a tuple such as (64, 64)."
        )
    for n in crop:
        if n is not None:
            require_at_least(argument, whole_number(argument, n), 1)
