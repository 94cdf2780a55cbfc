"""Kolmogorov flow by a pseudo-spectral solver in NumPy and SciPy, for `peers.py`: the vorticity's
equation, Adams-Bashforth in time with the linear terms exact, two thirds of the wavenumbers kept.
"""

from __future__ import annotations

import math
import os
from functools import partial

import numpy as np
import scipy.fft

import sda_jax as sda

# of this process
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
forward = partial(scipy.fft.rfft2, axes=(-2, -1), workers=CORES)
inverse = partial(scipy.fft.irfft2, axes=(-2, -1), workers=CORES)


class Spectral:
    """The flow of `sda_jax.KolmogorovFlow`, of arrays `(trajectories, x, y)` in single precision.

    Velocities `(trajectories, size, size, 2)` are on the staggered grid, as that simulator's.
    """

    def __init__(self, system: sda.KolmogorovFlow) -> None:
        n = system.size
        self.system, self.dt = system, system.dt / system.inner_steps
        kx = np.fft.fftfreq(n, 1 / n)[:, None]
        ky = np.fft.rfftfreq(n, 1 / n)[None, :]
        square = kx**2 + ky**2
        keep = (np.abs(kx) < n / 3) & (ky < n / 3)
        decay = np.exp(-self.dt * (square / system.reynolds + system.damping)).astype(np.float32)
        self.decay = decay
        self.slopes = np.stack([1j * kx + 0 * ky, 1j * ky + 0 * kx]).astype(np.complex64)
        inverted = np.where(square > 0, 1 / np.where(square > 0, square, 1), 0)
        # velocity = (d psi/dy, -d psi/dx) of the stream function, vorticity = -lap psi
        self.velocity = np.stack([1j * ky * inverted, -1j * kx * inverted]).astype(np.complex64)
        y = 2 * math.pi * np.arange(n) / n
        curl = -system.forcing * system.wavenumber * np.cos(system.wavenumber * y)
        self.force = np.fft.rfft2(np.broadcast_to(curl, (n, n))).astype(np.complex64)
        self.keep = keep.astype(np.float32)
        # x-velocities lie a cell on in x and half a cell in y, y-velocities the other way round
        h = 2 * math.pi / n
        offsets = np.stack([kx + ky / 2, kx / 2 + ky]) * h
        self.shift = np.exp(1j * offsets).astype(np.complex64)

    def vorticity(self, v: np.ndarray) -> np.ndarray:
        """Fourier coefficients of the vorticity of velocities on the staggered grid."""
        found = forward(np.moveaxis(v, -1, -3).astype(np.float32)) * self.shift.conj()
        return self.keep * (
            self.slopes[0] * found[..., 1, :, :] - self.slopes[1] * found[..., 0, :, :]
        )

    def faces(self, w: np.ndarray) -> np.ndarray:
        """Velocities on the staggered grid."""
        return np.moveaxis(inverse(self.velocity * self.shift * w[..., None, :, :]), -3, -1)

    def change(self, w: np.ndarray) -> np.ndarray:
        """Advection and force."""
        fields = np.concatenate([self.velocity, self.slopes]) * w[..., None, :, :]
        u, v, wx, wy = np.moveaxis(inverse(fields), -3, 0)
        return self.force - self.keep * forward(u * wx + v * wy)

    def step(self, w: np.ndarray) -> np.ndarray:
        """The vorticity's coefficients a state later, by the system's number of inner steps."""
        before = self.change(w)
        for _ in range(self.system.inner_steps):
            now = self.change(w)
            w = self.decay * (w + self.dt * (1.5 * now - 0.5 * self.decay * before))
            before = now
        return w
