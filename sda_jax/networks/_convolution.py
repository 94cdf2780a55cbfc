"""Convolution on a plane that is periodic, or has ends."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Features = Float[Array, "batch x y channel"]


def _padded(x: Features, kernel: tuple[int, int], periodic: tuple[bool, bool]) -> Features:
    """Padded by what a kernel sees beyond the edges: periodically, or with zeros."""
    for axis, points, wraps in zip((1, 2), kernel, periodic, strict=True):
        width = [(0, 0)] * 4
        width[axis] = (points // 2, points // 2)
        x = jnp.pad(x, width, mode="wrap" if wraps else "constant")
    return x


def _by_matmul(
    x: Features, kernel: Float[Array, "kx ky i o"], stride: tuple[int, int], shape: tuple[int, int]
) -> Features:
    """Neighbours along y side by side, one product of matrices for each row of the kernel; `x` is
    padded, `shape` its grid before."""
    kx, ky, _, out = kernel.shape
    (nx, ny), (sx, sy) = shape, stride
    rows = jnp.concatenate([x[:, :, j : j + ny : sy] for j in range(ky)], axis=-1)
    total = sum(
        rows[:, i : i + nx : sx].reshape(-1, rows.shape[-1]) @ kernel[i].reshape(-1, out)
        for i in range(kx)
    )
    return jnp.asarray(total).reshape(len(x), -(-nx // sx), -(-ny // sy), out)


def _by_convolution(
    x: Features, kernel: Float[Array, "kx ky i o"], stride: tuple[int, int]
) -> Features:
    return jax.lax.conv_general_dilated(
        x, kernel, stride, "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


class CircularConvolution(nn.Module):
    """Convolution over `(batch, x, y, channel)`, padded periodically, or with zeros along axes with
    two ends.

    On CPU as products of matrices: the weights' gradient of XLA's own convolution is 30 times
    slower inside a compiled loop there. Elsewhere XLA's own.

    Attributes:
        width: Output channels.
        kernel: Points that an output sees along each axis, odd; just the one along an axis of size
            one.
        stride: Distance between outputs along the other axes.
        dtype: Of the arithmetic.
        periodic: Whether each axis is periodic.
    """

    width: int
    kernel: int = 3
    stride: int = 1
    dtype: str = "float32"
    periodic: tuple[bool, bool] = (True, True)

    @nn.compact
    def __call__(self, x: Features) -> Features:
        nx, ny = x.shape[1:3]
        size = (self.kernel, self.kernel if ny > 1 else 1)
        stride = (self.stride, self.stride if ny > 1 else 1)
        shape = (*size, x.shape[-1], self.width)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        out = jax.lax.platform_dependent(
            _padded(x.astype(self.dtype), size, self.periodic),
            jnp.asarray(kernel, self.dtype),
            cpu=lambda x, kernel: _by_matmul(x, kernel, stride, (nx, ny)),
            default=lambda x, kernel: _by_convolution(x, kernel, stride),
        )
        return out + bias.astype(self.dtype)
