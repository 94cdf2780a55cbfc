"""The same numbers on a GPU as on a CPU, within single precision; skipped where there is none."""

import jax
import numpy as np
import pytest

import sda_jax as sda
from sda_jax.classical import exact_prior

GPUS = [d for d in jax.devices() if d.platform == "gpu"]
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not GPUS, reason="no GPU")]


def on_both(compute, precision="highest"):
    """What a function gives on a GPU and on a CPU."""
    found = []
    for device in (GPUS[0], jax.devices("cpu")[0]):
        with jax.default_device(device), jax.default_matmul_precision(precision):
            found.append(np.asarray(compute()))
    return found


def observed(system, length):
    """Every other state, with noise; drawn on the CPU."""
    with jax.default_device(jax.devices("cpu")[0]):
        truth = sda.simulate(jax.random.key(0), system, length)
        return sda.observe(jax.random.key(1), truth, sda.Every(2, sda.Channels((0,))), std=0.5)


@pytest.mark.parametrize("guidance", [sda.SDA(), sda.GaussianCovariance(8)], ids=repr)
def test_posteriors_are_the_same(guidance):
    """Few steps: rounding grows along a draw."""
    observation, steps = observed(sda.Lorenz63(), 33), sda.PredictorCorrector(4, sda.LogSNR())

    def members():
        prior = sda.load_prior("lorenz63")
        given = jax.random.key(2), prior, observation, 33, 4
        return sda.draw_posterior(*given, guidance, steps).ensemble

    gpu, cpu = on_both(members)
    np.testing.assert_allclose(gpu, cpu, rtol=0, atol=1e-3 * np.abs(cpu).max())


def test_exact_denoisers_ask_for_full_precision_themselves():
    """Products of float32 matrices have 10 binary digits on tensor cores unless asked otherwise."""
    denoiser = exact_prior(sda.DampedSpring(), 16).denoiser
    x = np.asarray(jax.random.normal(jax.random.key(0), (16, 4)))
    gpu, cpu = on_both(lambda: denoiser(jax.numpy.asarray(x), 0.3), precision=None)
    np.testing.assert_allclose(gpu, cpu, rtol=1e-4, atol=1e-4)
