"""Changes of resolution, vorticity and spectra against plain numpy and known fields."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sda_jax.core._errors import ConfigError
from sda_jax.systems import _fields as fields


def wave(n, kx, ky, factor=1):
    """cos(kx x + ky y) in both components at the centres of n by n cells."""
    x = 2 * np.pi * (np.arange(n) + 0.5) / n
    phase = kx * x[:, None] + ky * x[None, :]
    return np.stack([np.cos(phase), np.sin(phase)], -1).astype(np.float32)


def test_coarsening_is_the_mean_of_blocks(key):
    x = np.asarray(jax.random.normal(key, (3, 12, 8, 2)))
    expected = np.array(
        [
            [x[:, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4].mean((1, 2)) for j in range(2)]
            for i in range(3)
        ]
    )
    np.testing.assert_allclose(fields.coarsen(x, 4), expected.transpose(2, 0, 1, 3), atol=1e-6)
    with pytest.raises(ConfigError, match="factor: got 5.*12 x 8"):
        fields.coarsen(x, 5)


@pytest.mark.parametrize("factor", [1, 2, 3, 8])
@pytest.mark.parametrize("n", [7, 8])
def test_coarsening_undoes_upsampling(n, factor, key):
    x = jax.random.normal(key, (2, n, n, 2))
    np.testing.assert_allclose(fields.coarsen(fields.upsample(x, factor), factor), x, atol=2e-5)


def test_upsampling_a_resolved_wave_gives_the_wave():
    fine = wave(32, 2, -3)
    np.testing.assert_allclose(fields.upsample(fields.coarsen(fine, 4), 4), fine, atol=1e-5)


def test_derivatives_against_numpy(key):
    v = np.asarray(jax.random.normal(key, (6, 8, 2)))
    u_y = (np.roll(v[..., 0], -1, 1) - np.roll(v[..., 0], 1, 1)) / 2
    v_x = (np.roll(v[..., 1], -1, 0) - np.roll(v[..., 1], 1, 0)) / 2
    u_x = (np.roll(v[..., 0], -1, 0) - np.roll(v[..., 0], 1, 0)) / 2
    v_y = (np.roll(v[..., 1], -1, 1) - np.roll(v[..., 1], 1, 1)) / 2
    np.testing.assert_allclose(fields.vorticity(v), u_y - v_x, atol=1e-6)
    np.testing.assert_allclose(fields.divergence(v), u_x + v_y, atol=1e-6)


@pytest.mark.parametrize("n", [15, 16])
def test_spectrum_holds_the_energy_and_finds_a_wave(n, key):
    energy = fields.energy_spectrum(wave(n, 3, 4))
    np.testing.assert_allclose(energy[5], 0.5, rtol=1e-5)
    assert jnp.delete(energy, 5).max() < 1e-6
    smooth = fields.upsample(jax.random.normal(key, (4, 5, 5, 2)), 3)
    total = (smooth**2).sum(-1).mean((-2, -1)) / 2
    np.testing.assert_allclose(fields.energy_spectrum(smooth).sum(-1), total, rtol=1e-4)
