"""Periodic two-dimensional velocity fields: change of resolution, vorticity, divergence, spectra.

Arrays are `(*batch, x, y, channel)`; for velocities the channels are the components along x and y.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sda_jax.core._errors import ConfigError

Field = Float[Array, "*batch x y channel"]


def coarsen(field: Field, factor: int) -> Field:
    """Averages blocks of `factor` by `factor` grid points.

    Raises:
        ConfigError: The factor does not divide the grid.
    """
    *batch, nx, ny, channels = field.shape
    if factor < 1 or nx % factor or ny % factor:
        raise ConfigError(
            "factor", factor, f"a divisor of the grid, {nx} x {ny}", "Choose another factor."
        )
    blocks = field.reshape(*batch, nx // factor, factor, ny // factor, factor, channels)
    return blocks.mean(axis=(-4, -2))


def upsample(field: Field, factor: int) -> Field:
    """The trigonometric polynomial whose averages over blocks are `field`: `coarsen` undoes it.

    Fourier interpolation on a grid `factor` times as fine, with every mode divided by what the
    average over a block leaves of it.
    """
    if factor < 1:
        raise ConfigError("factor", factor, "at least 1", "Choose another factor.")
    for axis in (-3, -2):
        field = _upsample_axis(field, factor, axis)
    return field


def _upsample_axis(field: Field, factor: int, axis: int) -> Field:
    n = field.shape[axis]
    k = np.arange(n // 2 + 1)
    # the mean of exp(i k x) over the factor fine points of a block around the block's centre
    offsets = (np.arange(factor) - (factor - 1) / 2) / factor
    kept = np.cos(2 * np.pi * np.outer(k, offsets) / n).mean(axis=1)
    # coarse point j stands at j + 1/2, fine point i at (i + 1/2) / factor
    shift = np.exp(1j * np.pi * k / n * (1 / factor - 1))
    gain = shift / kept
    if n % 2 == 0 and factor > 1:
        # the highest mode has one phase on the coarse grid and its mirror image folds onto it
        gain[-1] = 0.5 * gain[-1]
    shape = [1] * field.ndim
    shape[axis] = len(k)
    modes = (
        jnp.fft.rfft(field, axis=axis) * factor * jnp.asarray(gain, jnp.complex64).reshape(shape)
    )
    return jnp.fft.irfft(modes, n * factor, axis=axis).astype(field.dtype)


def _central(field: Array, axis: int) -> Array:
    return (jnp.roll(field, -1, axis) - jnp.roll(field, 1, axis)) / 2


def vorticity(velocity: Field) -> Float[Array, "*batch x y"]:
    """`du/dy - dv/dx` by periodic central differences with unit spacing.

    Grid units and this sign are those of Rozet & Louppe (2023); divide by the grid's spacing for
    physical units.
    """
    u, v = velocity[..., 0], velocity[..., 1]
    return _central(u, -1) - _central(v, -2)


def divergence(velocity: Field) -> Float[Array, "*batch x y"]:
    """`du/dx + dv/dy` by periodic central differences with unit spacing."""
    u, v = velocity[..., 0], velocity[..., 1]
    return _central(u, -2) + _central(v, -1)


def staggered_divergence(velocity: Field) -> Float[Array, "*batch x y"]:
    """`du/dx + dv/dy` with unit spacing where each component stands on its cells' upper faces, as
    in the simulator's state; it is at rounding level there."""
    u, v = velocity[..., 0], velocity[..., 1]
    return (u - jnp.roll(u, 1, -2)) + (v - jnp.roll(v, 1, -1))


def energy_spectrum(velocity: Field) -> Float[Array, "*batch wavenumber"]:
    """Kinetic energy per unit mass in shells of wavenumber 0, 1, ..., n/2 of a square grid.

    Shell k holds the modes with `k - 1/2 <= |wavevector| < k + 1/2`; the sum over all shells is
    `mean(u^2 + v^2) / 2` less what lies beyond the last.
    """
    n = velocity.shape[-2]
    if velocity.shape[-3] != n:
        raise ConfigError(
            "velocity", f"a grid of {velocity.shape[-3:-1]}", "a square grid", "Crop it."
        )
    modes = jnp.fft.fft2(velocity, axes=(-3, -2)) / n**2
    density = 0.5 * jnp.sum(jnp.abs(modes) ** 2, axis=-1)
    k = np.fft.fftfreq(n, 1 / n)
    shell = np.rint(np.hypot(k[:, None], k[None, :])).astype(int)
    member = np.eye(n // 2 + 1)[np.minimum(shell, n // 2)] * (shell <= n // 2)[..., None]
    return jnp.einsum("...xy,xyk->...k", density, jnp.asarray(member, jnp.float32))
