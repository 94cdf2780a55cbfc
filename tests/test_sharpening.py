"""Gains and errors found after training, with a network that exaggerates what it adds to a linear
estimate: Gaussian fields, of which the estimate knows the variance alone."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sda_jax.core._component import component
from sda_jax.diffusion._measured_errors import error_ratios
from sda_jax.diffusion._schedules import Cosine
from sda_jax.diffusion._spectral import SpectralPreconditioned, shells
from sda_jax.experiment._sharpening import moments, sharpened

SCHEDULE, N, SHAPE = Cosine(), 512, (3, 6, 6, 2)
EXAGGERATED = 1.25


@component
class Exaggerating:
    """What the whole covariance says beyond the variance, too much of it."""

    parameterisation: Any
    exact: Any
    schedule: Any = SCHEDULE

    def __call__(self, x, t):
        ours = self.parameterisation
        nothing = ours.denoise(jnp.zeros_like(x), x, t, SCHEDULE)
        plain = dataclasses.replace(ours, gains=None)
        scale = plain.denoise(jnp.ones_like(x), x, t, SCHEDULE) - nothing
        missing = self.exact.estimate(x, t, SCHEDULE) - nothing
        return ours.denoise(EXAGGERATED * missing / scale, x, t, SCHEDULE)


@pytest.fixture(scope="module")
def law():
    white = np.random.default_rng(0).normal(size=(256, *SHAPE)).astype(np.float32)
    smooth = white + np.roll(white, 1, axis=2) + 0.5 * np.roll(white, 1, axis=3)
    return SpectralPreconditioned().fitted(smooth + 0.7 * smooth[:, [1, 2, 0]], 3)


@pytest.fixture(scope="module")
def windows(law):
    keys = jax.random.split(jax.random.key(1), N)
    # nothing is known of x at the highest noise, so that errors have its covariance
    return jax.jit(jax.vmap(lambda k: law.draw_error(k, SHAPE, 1.0, SCHEDULE)))(keys)


@pytest.fixture(scope="module")
def denoiser(law):
    flat = dataclasses.replace(law, variances=jnp.full_like(law.variances, law.variances.mean()))
    return Exaggerating(flat, law)


def error_shares(law, variance, ratio):
    """Of the exact error in the linear estimate's, by wavenumber."""
    v, index = np.asarray(law.variances, np.float64), shells(6, 6)
    twice = np.where(np.arange(4) % 3 == 0, 1.0, 2.0)[:, None]
    linear = (ratio**4 * v + ratio**2 * variance**2) / (variance + ratio**2) ** 2
    both = [(e * twice).sum(axis=-1) for e in (ratio**2 * v / (v + ratio**2), linear)]
    found = [np.bincount(index.ravel(), e.ravel()) for e in both]
    return found[0] / found[1]


def test_gates_and_errors_are_the_exact_ones(denoiser, law, windows):
    found = moments(jax.random.key(2), denoiser, windows)
    modes = 5 * np.sqrt(2 / (6 * N))  # six at wavenumber 0, more at the others
    ratios, variance = np.asarray(error_ratios(SCHEDULE)), float(law.variances.mean())
    for i in (10, 12, 14):  # sigma/mu of 0.3, 1 and 3
        error = 5 * np.sqrt(found.scatter[i])
        assert error[1:].max() < 0.25  # few modes have wavenumber 0
        assert (np.abs(found.gates()[i] - 1 / EXAGGERATED) < error).all()
        errors = found.errors(np.full_like(found.own, 1 / EXAGGERATED))[i]
        np.testing.assert_allclose(errors, error_shares(law, variance, ratios[i]), rtol=modes)


@pytest.mark.slow
def test_what_keeps_the_spectrum_needs_no_more(denoiser, windows):
    """The exact denoiser's draws lose nothing, so that the gates are all that is left of the
    gains; found again from gains that were there before."""
    windows = windows[:128]
    once = sharpened(jax.random.key(3), denoiser, windows)
    gains = np.asarray(once.parameterisation.gains)
    np.testing.assert_allclose(gains[10:15, 1:], 1 / EXAGGERATED, rtol=0.2)
    again = sharpened(jax.random.key(3), once, windows)
    np.testing.assert_array_equal(again.parameterisation.gains, gains)
    assert (np.asarray(once.parameterisation.errors) <= 1).all()
