"""Two-dimensional U-Net on windows of states: the paper's Kolmogorov score network."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from sda_jax.core._errors import ConfigError, require_choice
from sda_jax.networks._convolution import CircularConvolution, Features
from sda_jax.networks._embedding import NoiseEmbedding, require_kernel, require_sizes


class ResidualBlock(nn.Module):
    """`h + Conv(SiLU(Conv(LayerNorm(h + Dense(embedding)))))`, LayerNorm over channels without
    affine. Rozet & Louppe (2023), appendix D."""

    kernel: int
    dtype: str
    periodic: tuple[bool, bool]

    @nn.compact
    def __call__(self, h: Features, embedding: Float[Array, "batch e"]) -> Features:
        width = h.shape[-1]
        modulation = nn.Dense(width, dtype=self.dtype)(embedding)[:, None, None, :]
        r = nn.LayerNorm(use_bias=False, use_scale=False, dtype=self.dtype)(h + modulation)
        r = nn.silu(CircularConvolution(width, self.kernel, 1, self.dtype, self.periodic)(r))
        return h + CircularConvolution(width, self.kernel, 1, self.dtype, self.periodic)(r)


def _window_as_channels(x: Float[Array, "*batch window x y channel"]) -> Features:
    *_, window, nx, ny, channels = x.shape
    moved = jnp.moveaxis(x.reshape(-1, window, nx, ny, channels), 1, 3)
    return moved.reshape(-1, nx, ny, window * channels)


class UNet(nn.Module):
    """U-Net over a plane or a line; the states of a window are channels.

    Rozet & Louppe (2023), appendix D: at each level residual blocks on the way down and as many
    on the way up, strided convolutions down, nearest-neighbour upsampling and a convolution up,
    additive skips, circular padding; the field `sin(forcing y)` on `[0, 2 pi]` is one more input
    channel, by which the network can tell where in y it is.

    Attributes:
        channels: Of each level, the finest first.
        blocks: Residual blocks of each level, each way.
        kernel: Points that a convolution sees along each axis, odd.
        forcing: Wavenumber of the forcing's channel; None for a flow that is the same everywhere.
        outputs: Components of the output; None for as many as the input's.
        embedding: Size of the noise-level embedding.
        max_frequency: See `NoiseEmbedding`.
        dtype: Of the arithmetic, "float32" or "bfloat16"; weights and output are float32.
        remat: Whether to recompute the blocks' activations in the gradient instead of keeping them.
        periodic: Whether each axis of the grid is periodic; the others have two ends, beyond which
            there are zeros. None for all.
    """

    channels: tuple[int, ...] = (96, 192, 384)
    blocks: tuple[int, ...] = (3, 3, 3)
    kernel: int = 3
    forcing: int | None = 4
    outputs: int | None = None
    embedding: int = 64
    max_frequency: float = 1e3
    dtype: str = "float32"
    remat: bool = False
    periodic: tuple[bool, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.channels or len(self.channels) != len(self.blocks):
            raise ConfigError(
                "blocks",
                self.blocks,
                f"a number for each of channels {self.channels}",
                "Match them.",
            )
        require_kernel(self.kernel)
        require_sizes(min(self.channels), self.blocks, self.embedding, self.max_frequency)
        require_choice("dtype", self.dtype, ("float32", "bfloat16"))

    def _grid(self, shape: tuple[int, ...]) -> tuple[tuple[bool, bool], tuple[int, int]]:
        """Whether each axis is periodic, and the points that are added to those that are not."""
        if len(shape) not in (1, 2):
            raise ConfigError(
                "state", f"{len(shape)} axes of space", "one or two", "Use another network."
            )
        wraps = (True,) * len(shape) if self.periodic is None else self.periodic
        if len(wraps) != len(shape):
            raise ConfigError(
                "periodic", self.periodic, f"a value for each of {len(shape)} axes", "Match them."
            )
        unit = 2 ** (len(self.channels) - 1)
        if any(n % unit for n, wrap in zip(shape, wraps, strict=True) if wrap):
            raise ConfigError(
                "grid",
                " x ".join(map(str, shape)),
                f"multiples of {unit}, for {len(self.channels)} levels",
                "Use fewer levels or another coarsening.",
            )
        wrap_x, wrap_y = (*wraps, True)[:2]
        nx, ny = (*shape, unit)[:2]
        return (wrap_x, wrap_y), (-nx % unit, -ny % unit)

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "*batch window *space channel"],
        level: Float[Array, "*batch"],
        context: Float[Array, "*batch window *space known"] | None = None,
    ) -> Float[Array, "*batch window *space output"]:
        window, *space, components = x.shape[level.ndim :]
        periodic, added = self._grid(tuple(space))
        nx, ny = (*space, 1)[:2]

        def flat(a: Array) -> Features:
            return _window_as_channels(a.reshape(*a.shape[: level.ndim + 1], nx, ny, a.shape[-1]))

        embedding = NoiseEmbedding(self.embedding, max_frequency=self.max_frequency)(level)
        e = nn.silu(embedding).reshape(-1, self.embedding)
        h = flat(x)
        if context is not None:
            h = jnp.concatenate([h, flat(context)], axis=-1)
        if self.forcing is not None:
            y = 2 * jnp.pi * (jnp.arange(ny) + 0.5) / ny
            force = jnp.broadcast_to(jnp.sin(self.forcing * y)[:, None], (*h.shape[:-1], 1))
            h = jnp.concatenate([h, force], axis=-1)
        h = jnp.pad(h, [(0, 0), (0, added[0]), (0, added[1]), (0, 0)])

        block = nn.remat(ResidualBlock) if self.remat else ResidualBlock

        def residual(level: int, way: str, blocks: int, h: Features) -> Features:
            for i in range(blocks):
                h = block(self.kernel, self.dtype, periodic, name=f"{way}_{level}_{i}")(h, e)
            return h

        def convolution(h: Features, width: int, stride: int = 1) -> Features:
            return CircularConvolution(width, self.kernel, stride, self.dtype, periodic)(h)

        skips: list[Features] = []
        for i, (width, blocks) in enumerate(zip(self.channels, self.blocks, strict=True)):
            h = residual(i, "down", blocks, convolution(h, width, 2 if i else 1))
            skips.append(h)
        h = skips.pop()
        for i in reversed(range(len(self.channels))):
            h = residual(i, "up", self.blocks[i], h)
            if skips:
                h = jnp.repeat(h, 2, axis=1)
                h = jnp.repeat(h, 2, axis=2) if ny > 1 else h
                h = convolution(h, self.channels[i - 1]) + skips.pop()
        outputs = components if self.outputs is None else self.outputs
        h = CircularConvolution(window * outputs, self.kernel, periodic=periodic)(h)[:, :nx, :ny]
        out = jnp.moveaxis(h.reshape(-1, nx, ny, window, outputs), 3, 1)
        return out.astype(jnp.float32).reshape(*x.shape[:-1], outputs)
