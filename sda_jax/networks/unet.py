"""Two-dimensional U-Net on windows of states: the paper's Kolmogorov score network."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sda_jax.errors import ConfigError, require_choice
from sda_jax.networks.embedding import NoiseEmbedding

Features = Float[Array, "batch x y channel"]


def _wrapped(x: Features, kx: int, ky: int) -> Features:
    """Padded periodically by what a kernel of `kx` by `ky` points sees beyond the edges."""
    return jnp.pad(x, [(0, 0), (kx // 2, kx // 2), (ky // 2, ky // 2), (0, 0)], mode="wrap")


def _by_matmul(x: Features, kernel: Float[Array, "kx ky i o"], stride: int) -> Features:
    """Neighbours along y side by side, one product of matrices for each row of the kernel."""
    kx, ky, _, out = kernel.shape
    n, nx, ny, _ = x.shape
    p = _wrapped(x, kx, ky)
    rows = jnp.concatenate([p[:, :, j : j + ny : stride] for j in range(ky)], axis=-1)
    total = sum(
        rows[:, i : i + nx : stride].reshape(-1, rows.shape[-1]) @ kernel[i].reshape(-1, out)
        for i in range(kx)
    )
    return jnp.asarray(total).reshape(n, -(-nx // stride), -(-ny // stride), out)


def _by_convolution(x: Features, kernel: Float[Array, "kx ky i o"], stride: int) -> Features:
    kx, ky, _, _ = kernel.shape
    return jax.lax.conv_general_dilated(
        _wrapped(x, kx, ky),
        kernel,
        (stride, stride),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


class CircularConvolution(nn.Module):
    """Convolution with periodic padding over `(batch, x, y, channel)`.

    On CPU as products of matrices: the weights' gradient of XLA's own convolution is 30 times
    slower inside a compiled loop there. Elsewhere XLA's own.

    Attributes:
        width: Output channels.
        kernel: Points that an output sees along each axis, odd.
        stride: Distance between outputs.
        dtype: Of the arithmetic.
    """

    width: int
    kernel: int = 3
    stride: int = 1
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Features) -> Features:
        shape = (self.kernel, self.kernel, x.shape[-1], self.width)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        out = jax.lax.platform_dependent(
            x.astype(self.dtype),
            jnp.asarray(kernel, self.dtype),
            cpu=lambda x, kernel: _by_matmul(x, kernel, self.stride),
            default=lambda x, kernel: _by_convolution(x, kernel, self.stride),
        )
        return out + bias.astype(self.dtype)


class ResidualBlock(nn.Module):
    """`h + Conv(SiLU(Conv(LayerNorm(h + Dense(embedding)))))`, LayerNorm over channels without
    affine. Rozet & Louppe (2023), appendix D."""

    kernel: int
    dtype: str

    @nn.compact
    def __call__(self, h: Features, embedding: Float[Array, "batch e"]) -> Features:
        width = h.shape[-1]
        modulation = nn.Dense(width, dtype=self.dtype)(embedding)[:, None, None, :]
        r = nn.LayerNorm(use_bias=False, use_scale=False, dtype=self.dtype)(h + modulation)
        r = nn.silu(CircularConvolution(width, self.kernel, dtype=self.dtype)(r))
        return h + CircularConvolution(width, self.kernel, dtype=self.dtype)(r)


def _window_as_channels(x: Float[Array, "*batch window x y channel"], batch: int) -> Features:
    window, nx, ny, channels = x.shape[batch:]
    moved = jnp.moveaxis(x.reshape(-1, window, nx, ny, channels), 1, 3)
    return moved.reshape(-1, nx, ny, window * channels)


class UNet(nn.Module):
    """U-Net over a periodic plane; the states of a window are channels.

    Rozet & Louppe (2023), appendix D: at each level residual blocks on the way down and as many
    on the way up, strided convolutions down, nearest-neighbour upsampling and a convolution up,
    additive skips, circular padding; the field `sin(forcing y)` on `[0, 2 pi]` is one more input
    channel, by which the network can tell where in y it is.

    Attributes:
        channels: Of each level, the finest first.
        blocks: Residual blocks of each level, each way.
        kernel: Points that a convolution sees along each axis, odd.
        forcing: Wavenumber of the forcing's channel; None for a flow without a place of its own.
        outputs: Components of the output; None for as many as the input's.
        embedding: Size of the noise-level embedding.
        max_frequency: See `NoiseEmbedding`.
        dtype: Of the arithmetic, "float32" or "bfloat16"; weights and output are float32.
        remat: Whether to recompute the blocks' activations in the gradient instead of keeping them.
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

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.channels or len(self.channels) != len(self.blocks):
            raise ConfigError(
                "blocks",
                self.blocks,
                f"a number for each of channels {self.channels}",
                "Match them.",
            )
        if self.kernel % 2 == 0:
            raise ConfigError("kernel", self.kernel, "an odd number", "Use 3 or 5.")
        require_choice("dtype", self.dtype, ("float32", "bfloat16"))

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "*batch window x y channel"],
        level: Float[Array, "*batch"],
        context: Float[Array, "*batch window x y known"] | None = None,
    ) -> Float[Array, "*batch window x y output"]:
        window, nx, ny, components = x.shape[level.ndim :]
        unit = 2 ** (len(self.channels) - 1)
        if nx % unit or ny % unit:
            raise ConfigError(
                "grid",
                f"{nx} x {ny}",
                f"multiples of {unit}, for {len(self.channels)} levels",
                "Use fewer levels or another coarsening.",
            )
        embedding = NoiseEmbedding(self.embedding, max_frequency=self.max_frequency)(level)
        e = nn.silu(embedding).reshape(-1, self.embedding)
        h = _window_as_channels(x, level.ndim)
        if context is not None:
            h = jnp.concatenate([h, _window_as_channels(context, level.ndim)], axis=-1)
        if self.forcing is not None:
            y = 2 * jnp.pi * (jnp.arange(ny) + 0.5) / ny
            force = jnp.broadcast_to(jnp.sin(self.forcing * y)[:, None], (*h.shape[:-1], 1))
            h = jnp.concatenate([h, force], axis=-1)

        block = nn.remat(ResidualBlock) if self.remat else ResidualBlock

        def residual(level: int, way: str, blocks: int, h: Features) -> Features:
            for i in range(blocks):
                h = block(self.kernel, self.dtype, name=f"{way}_{level}_{i}")(h, e)
            return h

        skips: list[Features] = []
        for i, (width, blocks) in enumerate(zip(self.channels, self.blocks, strict=True)):
            h = CircularConvolution(width, self.kernel, 2 if i else 1, self.dtype)(h)
            h = residual(i, "down", blocks, h)
            skips.append(h)
        h = skips.pop()
        for i in reversed(range(len(self.channels))):
            h = residual(i, "up", self.blocks[i], h)
            if skips:
                h = jnp.repeat(jnp.repeat(h, 2, axis=1), 2, axis=2)
                width = self.channels[i - 1]
                h = CircularConvolution(width, self.kernel, 1, self.dtype)(h) + skips.pop()
        outputs = components if self.outputs is None else self.outputs
        h = CircularConvolution(window * outputs, self.kernel)(h)
        out = jnp.moveaxis(h.reshape(-1, nx, ny, window, outputs), 3, 1)
        return out.astype(jnp.float32).reshape(*x.shape[:-1], outputs)
