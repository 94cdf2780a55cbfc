"""Fidelity of denoisers of fields, on Gaussian fields whose best denoiser is linear."""

import dataclasses

import jax
import numpy as np
import pytest

from sda_jax.diffusion._schedules import Cosine
from sda_jax.diffusion._spectral import LinearDenoiser, SpectralPreconditioned
from sda_jax.evaluation._fidelity import (
    Calibration,
    Fidelity,
    calibration,
    describe_fidelity,
    kept_spectrum,
    shell_products,
)
from sda_jax.systems._fields import energy_spectrum

SCHEDULE, N = Cosine(), 1024
RATIOS = (0.3, 3.0)


@pytest.fixture(scope="module")
def law():
    """Of a random field, of windows of three states of 6 x 6 points."""
    white = np.random.default_rng(0).normal(size=(256, 3, 6, 6, 2)).astype(np.float32)
    smooth = white + np.roll(white, 1, axis=2) + 0.5 * np.roll(white, 1, axis=3)
    return SpectralPreconditioned().fitted(smooth + 0.7 * smooth[:, [1, 2, 0]], 3)


@pytest.fixture(scope="module")
def fields(law):
    keys = jax.random.split(jax.random.key(1), N)
    # nothing is known of x at the highest noise, so that errors have its covariance
    return jax.jit(jax.vmap(lambda k: law.draw_error(k, (3, 6, 6, 2), 1.0, SCHEDULE)))(keys)


def test_products_by_wavenumber_are_twice_the_energy_spectrum():
    x = jax.random.normal(jax.random.key(0), (5, 8, 8, 2))
    ours = shell_products(x, x)
    np.testing.assert_allclose(ours[:, :4], 2 * energy_spectrum(x)[:, :4], rtol=1e-4)
    np.testing.assert_allclose(ours.sum(axis=1), (x**2).sum(axis=-1).mean(axis=(1, 2)), rtol=1e-4)


def test_the_exact_denoiser_keeps_the_spectrum_and_is_calibrated(law, fields):
    """To the sampling error of N windows with at least 12 independent modes each."""
    exact, error = LinearDenoiser(law, SCHEDULE), 5 * np.sqrt(2 / (12 * N))
    kept = kept_spectrum(jax.random.key(2), exact, fields, RATIOS)
    np.testing.assert_allclose(kept, 1, atol=2 * error)
    found = calibration(jax.random.key(3), exact, exact, fields, RATIOS)
    np.testing.assert_allclose(found.slope, 1, atol=2 * error)
    np.testing.assert_allclose(found.left, 0, atol=error)
    np.testing.assert_array_equal(found.error, 1)


def test_a_denoiser_of_too_little_variance_is_found_out(law, fields):
    """One that takes the fields for half as large says too little of them and loses energy."""
    half = dataclasses.replace(law, variances=law.variances / 4)
    denoiser, exact = (LinearDenoiser(p, SCHEDULE) for p in (half, law))
    kept = kept_spectrum(jax.random.key(2), denoiser, fields, RATIOS)
    assert (kept[1] < 0.6).all()
    assert (kept[1] < kept[0]).all()
    found = calibration(jax.random.key(3), denoiser, exact, fields, RATIOS)
    assert (found.slope > 1.02).all()
    assert (found.left > 0.02).all()
    assert (found.error > 1.02).all()


def test_tables_have_a_row_for_each_level_and_a_column_for_each_wavenumber():
    levels = np.arange(6.0)[:, None] + np.arange(17) / 100
    found = Fidelity(levels, np.full(6, 0.5), Calibration(levels, -levels, 2 * levels))
    lines = describe_fidelity(found, [1, 16]).splitlines()
    assert lines[2:6] == [
        "| from | energy | k = 1 | k = 16 |",
        "|---|---|---|---|",
        "| 0.1 | 0.50 | 0.01 | 0.16 |",
        "| 0.3 | 0.50 | 1.01 | 1.16 |",
    ]
    assert lines[-1] == "| 10 | 10.02 | 10.32 |"
    # from the largest scale to the smallest
    assert (
        "k = 1 | k = 3 | k = 5 | k = 7 | k = 10 | k = 12 | k = 14 | k = 16 |"
        in describe_fidelity(found)
    )
