"""From a denoiser of crops to a denoiser of larger grids: windows in space."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from sda_jax.core._arrays import PRNGKey, Time, Trajectory
from sda_jax.core._batches import map_batches
from sda_jax.core._component import component
from sda_jax.core._errors import require_at_least
from sda_jax.core._protocols import Conditional, Denoiser, Schedule
from sda_jax.core._record import static
from sda_jax.data._tiling import Tiling
from sda_jax.diffusion._gaussian import covariance_times, draw_error
from sda_jax.runtime._devices import summed_over_space

Tile = tuple[Array, tuple[Array, ...]]  # its first points, and the weights along each axis


@component
class TiledDenoiser:
    """Composes a denoiser of crops `(L, h, w, channels)` into one of grids `(L, H, W, channels)`.

    Each tile is denoised as if it were alone; a point takes the mean of what the tiles say that
    hold it, by weights that vary smoothly and leave the tiles' margins out (`Tiling`). Bar-Tal et
    al. (2023), MultiDiffusion, average overlapping crops so. Grids may have any number of axes.
    `ComposedDenoiser` composes windows of tiles.

    What a tile cannot know is what lies beyond it: at high noise, where only large scales are told
    from noise, those that exceed a crop are known less well than from the whole grid.

    Attributes:
        denoiser: Denoiser of crops; its context, if it takes one, is the whole grid's.
        tiling: Crops, and how they cover the grid.
        chunk: Tiles evaluated at once; None for all. With a number, the activations of one chunk
            are recomputed in the gradient, so that the peak memory is one chunk's.

    Raises:
        ConfigError: When called: a grid with fewer points than a crop.
    """

    denoiser: Any
    tiling: Tiling = static()
    chunk: int | None = static(None)

    def __post_init__(self) -> None:
        if self.chunk is not None:
            require_at_least("chunk", self.chunk, 1)

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    @property
    def context(self) -> Float[Array, "length *space known"] | None:
        """That of the denoiser of crops, of the whole grid."""
        return self.denoiser.context if isinstance(self.denoiser, Conditional) else None

    def conditioned(self, context: Float[Array, "length *space known"] | None) -> TiledDenoiser:
        """The denoiser conditioned on the context of a whole grid."""
        return dataclasses.replace(self, denoiser=self.denoiser.conditioned(context))

    def __call__(self, x: Trajectory, t: Time) -> Trajectory:
        def summed(given: tuple[TiledDenoiser, Trajectory, Time], tiles: Tile) -> Array:
            tiled, x, t = given
            context, cut = tiled.context, self._cutting(x)
            known = None if context is None else self._cutting(context)

            def one(tile: Tile) -> Array:
                denoiser: Denoiser = tiled.denoiser
                if known is not None:
                    denoiser = tiled.denoiser.conditioned(known(tile))
                return _share(tile) * denoiser(cut(tile), t)

            return self._sum(self._mapped(one, tiles), tiles, x.shape)

        return summed_over_space(summed, (self, x, t), self._tiles(x.shape))

    def covariance_times(self, w: Trajectory, t: Time) -> Trajectory:
        """`covariance_times` of the tiles, the mean over those that hold both points of a
        covariance, tapered by the roots of their weights: symmetric and positive, with variances
        that are weighted means of the tiles'."""

        def summed(given: tuple[TiledDenoiser, Trajectory, Time], tiles: Tile) -> Array:
            tiled, w, t = given
            cut = self._cutting(w)

            def one(tile: Tile) -> Array:
                root = jnp.sqrt(_share(tile))
                return root * covariance_times(tiled.denoiser, root * cut(tile), t)

            return self._sum(self._mapped(one, tiles), tiles, w.shape)

        return summed_over_space(summed, (self, w, t), self._tiles(w.shape))

    def draw_error(self, key: PRNGKey, shape: tuple[int, ...], t: Time) -> Trajectory:
        """A draw from the normal distribution of mean zero and the covariance that
        `covariance_times` applies: independent ones of the tiles, tapered and added."""
        crop = (shape[0], *self.tiling.shape(shape[1:-1]), shape[-1])

        def summed(
            given: tuple[TiledDenoiser, PRNGKey, Time], numbered: tuple[Array, Tile]
        ) -> Array:
            tiled, key, t = given

            def one(numbered: tuple[Array, Tile]) -> Array:
                i, tile = numbered
                drawn = draw_error(jax.random.fold_in(key, i), tiled.denoiser, crop, t)
                return jnp.sqrt(_share(tile)) * drawn

            return self._sum(self._mapped(one, numbered), numbered[1], shape)

        tiles = self._tiles(shape)
        return summed_over_space(summed, (self, key, t), (jnp.arange(len(tiles[0])), tiles))

    def _tiles(self, shape: tuple[int, ...]) -> Tile:
        """All of them, along the leading axis."""
        tiles = self.tiling.tiles(shape[1:-1])
        return jnp.asarray(tiles.origins), tuple(map(jnp.asarray, tiles.weights))

    def _cutting(self, x: Array) -> Callable[[Tile], Array]:
        """What gives a tile's part of a field; the field is not copied for each of them."""
        wrapped = self.tiling.wrapped(x)
        return lambda tile: self.tiling.cut_wrapped(wrapped, x.shape, tile[0])

    def _sum(
        self, out: Float[Array, "tiles length *crop"], tiles: Tile, shape: tuple[int, ...]
    ) -> Trajectory:
        """What tiles give, added where they lie: the transpose of cutting."""
        origins, _ = tiles
        like = jax.ShapeDtypeStruct(shape, out.dtype)

        def cut(x: Array) -> Array:
            return jax.vmap(lambda origin: self.tiling.cut(x, origin))(origins)

        return jax.linear_transpose(cut, like)(out)[0]

    def _mapped(self, one: Callable[[Any], Array], tiles: PyTree[Array]) -> Array:
        if self.chunk is None:
            return jax.vmap(one)(tiles)
        return map_batches(jax.checkpoint(one), tiles, self.chunk)


def _share(tile: Tile) -> Float[Array, "*space 1"]:
    """The weights of a tile's points, to multiply states channels last."""
    weights = tile[1]
    axes = len(weights)
    along = [w.reshape(-1, *(1,) * (axes - i)) for i, w in enumerate(weights)]
    return math.prod(along[1:], start=along[0])
