"""The stationary Gaussian distribution of short trajectories on a periodic plane, and a
parameterisation whose networks learn the departure from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Complex, Float, Int

from sda_jax.core._arrays import PRNGKey, Scalar, Time
from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError
from sda_jax.core._protocols import Schedule
from sda_jax.diffusion._denoising_errors import by_level, linear_error
from sda_jax.diffusion._schedules import noise_level, noise_ratio

Fields = Float[Array, "*batch window x y channel"]
Gain = Callable[[Array, Array], Array]
FLOOR = 1e-8  # of the smallest to the largest variance; incompressible modes have none
USABLE = 1e-6  # of the largest variance at a wavevector: modes that the next state depends on
FITTED_AT_ONCE = 64  # trajectories


@component
class SpectralPreconditioned:
    """The network predicts what is missing from the best linear estimate, in units of its error.

    For data that are a stationary Gaussian field of mean zero and covariance C on a periodic plane
    (one matrix over the window's states and channels for each wavevector), with `r = sigma/mu`:

        x_hat = C (C + r^2)^-1 x_t/mu + (r^2 C (C + r^2)^-1)^(1/2) F(inputs)

    The first term is the Wiener filter and the factor of F the square root of its error's
    covariance, so that each scale is precise at the noise levels where it is decided. With C the
    identity this is `Preconditioned`, Karras et al. (2022), table 1. The network sees x_t and the
    filter's estimate side by side as channels, each of unit variance, and outputs the state's
    channels (`outputs` of `UNet`).

    Attributes:
        variances: Eigenvalues of C for each wavevector of a real Fourier transform, standardised
            units squared; None before `fitted`.
        modes: Its eigenvectors in the columns, real and imaginary parts on the last axis.
        gains: Factor of F's term by noise level and wavenumber, as found after training
            (`sharpened`); None for 1.
        errors: Variance that guidance takes the network's errors to have, by noise level and
            wavenumber, in units of the linear estimate's; None for 1.
    """

    variances: Float[Array, "kx ky n"] | None = None
    modes: Float[Array, "kx ky n n 2"] | None = None
    gains: Float[Array, "levels wavenumbers"] | None = None
    errors: Float[Array, "levels wavenumbers"] | None = None

    def fitted(
        self, trajectories: Float[np.ndarray, "m length x y channel"], window: int
    ) -> SpectralPreconditioned:
        """With C measured from trajectories in standardised units, cut into windows."""
        m, length, nx, ny, channels = trajectories.shape
        n, total, count = window * channels, 0, 0
        for first in range(0, m, FITTED_AT_ONCE):
            part = np.asarray(trajectories[first : first + FITTED_AT_ONCE])
            part = part[:, : length // window * window]
            part = part.reshape(-1, window, nx, ny, channels)
            waves = np.fft.rfft2(part, axes=(2, 3), norm="ortho").astype(np.complex64)
            waves = np.moveaxis(waves, (2, 3), (0, 1)).reshape(nx, ny // 2 + 1, -1, n)
            total = total + np.swapaxes(waves, -1, -2) @ np.conj(waves)
            count += len(part)
        return self._of(np.asarray(total, np.complex128) / count)

    def _of(self, covariance: Complex[np.ndarray, "kx ky n n"]) -> SpectralPreconditioned:
        """With this covariance over states and channels at each wavevector."""
        values, vectors = np.linalg.eigh(covariance)
        values = np.maximum(values, FLOOR * values.max())
        modes = np.stack([vectors.real, vectors.imag], axis=-1)
        return dataclasses.replace(
            self, variances=jnp.asarray(values, jnp.float32), modes=jnp.asarray(modes, jnp.float32)
        )

    def extended(self, window: int, length: int) -> SpectralPreconditioned:
        """The distribution of trajectories of `length` states whose windows have this one's
        covariance and whose states depend on the past through the `window - 1` states before alone:
        of all distributions with these windows the one of largest entropy (Burg, 1975). Of a
        covariance that is measured later windows have it approximately. Computed on the host, in
        double precision.

        Args:
            window: States of this distribution's windows.
            length: At least `window`.

        Raises:
            ConfigError: This distribution has not been measured yet, or is an argument of a
                function that is being compiled.
        """
        variances, modes = self._measured()
        if isinstance(variances, Tracer):
            raise ConfigError(
                "prior",
                "an argument of a function under jax.jit",
                "arrays: the distribution of whole trajectories is made of them on the host",
                "Use the prior inside the function without passing it.",
            )
        values, parts = np.asarray(variances, np.float64), np.asarray(modes, np.float64)
        vectors = parts[..., 0] + 1j * parts[..., 1]
        known = np.einsum("xyij,xyj,xykj->xyik", vectors, values, np.conj(vectors))
        channels = known.shape[-1] // window
        past = (window - 1) * channels
        # of modes without variance, as incompressible ones, the past says nothing
        scale, basis = np.linalg.eigh(known[..., :past, :past])
        kept = scale > USABLE * values.max(axis=-1, keepdims=True)
        inverse = np.where(kept, 1 / np.where(kept, scale, 1.0), 0.0)
        inverse = np.einsum("xyij,xyj,xykj->xyik", basis, inverse, np.conj(basis))
        forward = known[..., past:, :past] @ inverse
        innovation = known[..., past:, past:] - forward @ known[..., :past, past:]
        whole = np.zeros((*known.shape[:2], length * channels, length * channels), complex)
        whole[..., :past, :past] = known[..., :past, :past]
        for end in range(past, length * channels, channels):
            new = slice(end, end + channels)
            cross = forward @ whole[..., end - past : end, :end]
            whole[..., new, :end] = cross
            whole[..., :end, new] = np.conj(np.swapaxes(cross, -1, -2))
            recent = np.conj(np.swapaxes(cross[..., end - past :], -1, -2))
            whole[..., new, new] = innovation + forward @ recent
        return self._of(whole)

    def unfitted(self) -> SpectralPreconditioned:
        """Without the covariance: as in a configuration."""
        return SpectralPreconditioned()

    def level(self, schedule: Schedule, t: Time) -> Scalar:
        """What the network takes as the noise level: log(sigma/mu), mapped to [0, 1]."""
        return noise_level(schedule, t)

    def inputs(self, x: Fields, t: Time, schedule: Schedule) -> Fields:
        """What the network sees of `x = x_t`: itself and the linear estimate, as channels."""
        ratio, data = noise_ratio(schedule, t), x / schedule.mu(t)
        estimate = self._filtered(data, lambda v, r: v / (v + r**2), ratio)
        whole = data / self._std(lambda v, r: v + r**2, ratio, x)
        return jnp.concatenate(
            [whole, estimate / self._std(lambda v, r: v**2 / (v + r**2), ratio, x)], axis=-1
        )

    def outputs(self, output: Fields, t: Time, schedule: Schedule) -> Fields:
        """The network's output coloured like the linear estimate's error, of unit variance."""
        ratio = noise_ratio(schedule, t)
        coloured = self._filtered(output, lambda v, r: jnp.sqrt(linear_error(v, r)), ratio)
        return coloured / self._std(linear_error, ratio, output)

    def denoise(self, output: Fields, x: Fields, t: Time, schedule: Schedule) -> Fields:
        """`E[x | x_t]` from what `outputs` gives at `x = x_t`."""
        scale = self._std(linear_error, noise_ratio(schedule, t), output)
        if self.gains is not None:
            nx, ny = output.shape[-3:-1]
            gains = _by_wavevector(by_level(self.gains, t, schedule), nx, ny)
            gains = gains.reshape(*jnp.shape(t)[:-4], 1, nx, ny // 2 + 1, 1)
            waves = jnp.fft.rfft2(output, axes=(-3, -2)) * gains
            output = jnp.fft.irfft2(waves, s=(nx, ny), axes=(-3, -2))
        return self.estimate(x, t, schedule) + scale * output

    def estimate(self, x: Fields, t: Time, schedule: Schedule) -> Fields:
        """The best linear estimate of the data from `x = x_t`."""
        ratio, data = noise_ratio(schedule, t), x / schedule.mu(t)
        return data - self._filtered(data, lambda v, r: r**2 / (v + r**2), ratio)

    def target(self, x: Fields, noise: Fields, t: Time, schedule: Schedule) -> Fields:
        """What `outputs` is to give for data `x` perturbed by `noise`."""
        ratio = noise_ratio(schedule, t)
        # (x - filtered (x + ratio noise)) without the cancellation at small ratios
        missing = self._filtered(x, lambda v, r: r**2 / (v + r**2), ratio)
        passed = self._filtered(noise, lambda v, r: v * r / (v + r**2), ratio)
        return (missing - passed) / self._std(linear_error, ratio, x)

    def weighted(self, missing: Fields, t: Time, schedule: Schedule) -> Fields:
        """What the loss takes the mean square of: the difference between output and target with
        each mode's share of its variance made that of the linear error's standard deviation.

        Small scales hold a thousandth of the error at most levels. Counted by their share of it, a
        network adds unpredictable ones at high noise and withholds predictable ones at low noise;
        counted alike, those that nothing can be said of drown the rest. Of the linear estimate the
        mean square is 1 either way.
        """
        ratio = noise_ratio(schedule, t)
        white = self._filtered(missing, lambda v, r: linear_error(v, r) ** -0.25, ratio)
        scale = self._std(linear_error, ratio, missing)
        return white * scale / self._std(lambda v, r: jnp.sqrt(linear_error(v, r)), ratio, missing)

    def covariance_times(self, w: Fields, t: Time, schedule: Schedule) -> Fields:
        """The covariance of x given x_t times `w`: that of Gaussian data of covariance C, at each
        wavenumber as many times as large as `errors` say."""
        share = self._share(w.shape, t, schedule)
        return self._filtered(w, lambda v, r: share * linear_error(v, r), noise_ratio(schedule, t))

    def draw_error(
        self, key: PRNGKey, shape: tuple[int, ...], t: Time, schedule: Schedule
    ) -> Fields:
        """A draw from the normal distribution of mean zero and the covariance that
        `covariance_times` applies."""
        white, share = jax.random.normal(key, shape), self._share(shape, t, schedule)
        ratio = noise_ratio(schedule, t)
        return self._filtered(white, lambda v, r: jnp.sqrt(share * linear_error(v, r)), ratio)

    def _share(self, shape: tuple[int, ...], t: Time, schedule: Schedule) -> Array:
        """Of the linear estimate's error variance that the network leaves, for each wavevector, to
        multiply `(kx, ky, 1, n)`; t is a scalar."""
        if self.errors is None:
            return jnp.ones(())
        share = jnp.exp(by_level(jnp.log(self.errors), t, schedule))
        return _by_wavevector(share, *shape[-3:-1])[:, :, None, None]

    def _std(self, variance: Gain, ratio: Array, x: Fields) -> Array:
        """Root mean square over all elements of a field whose modes have these variances."""
        ny, variances = x.shape[-2], jnp.asarray(self.variances)
        twice = np.where(np.arange(ny // 2 + 1) % (ny / 2) == 0, 1.0, 2.0)  # conjugate pairs
        share = jnp.asarray(twice / twice.sum(), jnp.float32)[:, None]

        def one(r: Array) -> Array:
            return jnp.sqrt(jnp.mean(jnp.sum(variance(variances, r) * share, axis=1)))

        return jax.vmap(one)(ratio.reshape(-1)).reshape(ratio.shape)

    def _measured(self) -> tuple[Array, Array]:
        """Variances and modes."""
        if self.variances is None or self.modes is None:
            raise ConfigError(
                "parameterisation",
                "SpectralPreconditioned without a covariance",
                "one measured from trajectories",
                "Call its fitted(trajectories, window) first.",
            )
        return self.variances, self.modes

    def _filtered(self, x: Fields, gain: Gain, ratio: Array) -> Fields:
        """`x` with each mode multiplied by a function of its variance and sigma/mu."""
        variances, modes = self._measured()
        window, nx, ny, channels = x.shape[-4:]
        n = window * channels
        if variances.shape != (nx, ny // 2 + 1, n):
            raise ConfigError(
                "parameterisation",
                f"a covariance of shape {variances.shape} (kx, ky, states x channels)",
                f"{(nx, ny // 2 + 1, n)}, for windows of shape {x.shape[-4:]}",
                "Fit it to trajectories of this system.",
            )
        gains = gain(variances[:, :, None, :], ratio.reshape(-1)[:, None])
        modes = jax.lax.complex(modes[..., 0], modes[..., 1])
        waves = jnp.fft.rfft2(x.reshape(-1, *x.shape[-4:]), axes=(2, 3), norm="ortho")
        waves = jnp.transpose(waves, (2, 3, 0, 1, 4)).reshape(nx, ny // 2 + 1, -1, n)
        with jax.default_matmul_precision("highest"):
            amplitudes = gains * (waves @ jnp.conj(modes))
            waves = amplitudes @ jnp.swapaxes(modes, -1, -2)
        waves = jnp.transpose(waves.reshape(*waves.shape[:3], window, channels), (2, 3, 0, 1, 4))
        return jnp.fft.irfft2(waves, s=(nx, ny), axes=(2, 3), norm="ortho").reshape(x.shape)


@component
class LinearDenoiser:
    """The best linear denoiser of fields, exact if they are Gaussian.

    Attributes:
        distribution: Their covariance, a `SpectralPreconditioned`.
        schedule: Noise schedule.
    """

    distribution: Any
    schedule: Any

    def __call__(self, x: Fields, t: Time) -> Fields:
        return self.distribution.estimate(x, jnp.asarray(t, jnp.float32), self.schedule)


def shells(nx: int, ny: int) -> Int[np.ndarray, "kx ky"]:
    """Wavenumber of each wavevector of a real Fourier transform, to the nearest integer; those
    beyond half the points along the shorter axis count with the last."""
    kx, ky = nx * np.fft.fftfreq(nx), np.arange(ny // 2 + 1)
    return np.rint(np.hypot(kx[:, None], ky)).astype(int).clip(max=min(nx, ny) // 2)


def _by_wavevector(
    known: Float[Array, "*batch wavenumbers"], nx: int, ny: int
) -> Float[Array, "*batch kx ky"]:
    """What is known by wavenumber at each wavevector."""
    index = shells(nx, ny)
    if known.shape[-1] != index.max() + 1:
        raise ConfigError(
            "parameterisation",
            f"gains or errors of {known.shape[-1]} wavenumbers",
            f"{index.max() + 1}, for {nx} x {ny} points",
            "Measure them on fields of this grid.",
        )
    return known[..., index]
