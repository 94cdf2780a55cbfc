"""The same numbers on a GPU as on a CPU, within single precision; skipped where there is none."""

import jax
import numpy as np
import pytest

import sda_jax as sda

GPUS = [d for d in jax.devices() if d.platform == "gpu"]
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not GPUS, reason="no GPU")]


def on_both(compute):
    """What a function gives on a GPU and on a CPU, at the precision that exactness asks for."""
    found = []
    for device in (GPUS[0], jax.devices("cpu")[0]):
        with jax.default_device(device), jax.default_matmul_precision("highest"):
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


def test_the_kalman_smoother_does_without_short_products():
    """Where the package claims exactness it asks for full precision itself."""
    system = sda.DampedSpring()
    observation = observed(system, 16)
    gpu, cpu = on_both(lambda: sda.kalman_smoother(system, observation, 16).mean)
    np.testing.assert_allclose(gpu, cpu, rtol=1e-4, atol=1e-4)
