"""Metropolis-adjusted steps with the system: they keep and find the exact posterior."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sda_jax as sda
from sda_jax import evaluation as metrics
from sda_jax.core._errors import ConfigError
from sda_jax.posterior._refinement import refine

LENGTH, N = 6, 2048
CHAIN = sda.VectorAutoregression()


@pytest.fixture(scope="module")
def posterior():
    """Observation, mean and covariance given it, the first state's distribution being flat."""
    operator = sda.Every(1, sda.Channels((0, 1)))
    truth = sda.simulate(jax.random.key(1), CHAIN, LENGTH)
    observation = sda.observe(jax.random.key(2), truth, operator, std=0.4)

    def misfits(flat):
        x = flat.reshape(LENGTH, 2)
        jumps = (x[1:] - jax.vmap(CHAIN.forecast)(x[:-1])) / CHAIN.transition_std
        return jnp.concatenate([jumps.reshape(-1), ((observation.y - x) / 0.4).reshape(-1)])

    zero = jnp.zeros(2 * LENGTH)
    jacobian = np.asarray(jax.jacobian(misfits)(zero), float)
    covariance = np.linalg.inv(jacobian.T @ jacobian)
    mean = -covariance @ jacobian.T @ np.asarray(misfits(zero), float)
    return observation, mean, covariance


def test_a_wrong_ensemble_becomes_the_posterior(posterior):
    """Started twice as wide and shifted: mean and covariance within their standard errors."""
    observation, mean, covariance = posterior
    root = np.linalg.cholesky(covariance)
    white = np.random.default_rng(0).standard_normal((N, len(mean)))
    start = (mean + 0.5 + 2 * white @ root.T).reshape(N, LENGTH, 2)
    found = refine(jax.random.key(3), CHAIN, observation, start, steps=96, size=0.8, chunk=N)
    flat = np.asarray(found.ensemble, float).reshape(N, -1)
    z = (flat.mean(0) - mean) / np.sqrt(np.diag(covariance) / N)
    assert np.abs(z).max() < 4.5
    values = np.linalg.eigvalsh(np.cov(np.linalg.solve(root, (flat - mean).T)))
    low, high = (1 + np.array([-1, 1]) * np.sqrt(2 * LENGTH / N)) ** 2
    assert values[0] > low - 0.06 and values[-1] < high + 0.06
    assert 0.5 < found.acceptance.mean() < 0.99 and found.distance.min() > 0


@pytest.mark.slow
def test_the_posterior_stays_the_posterior(posterior):
    """Of Lorenz 1963: a handful of steps on truths with their own observations leaves the log
    prior's mean and spread."""
    system, n = sda.Lorenz63(), 256
    operator = sda.Every(1, sda.Channels((0, 1, 2)))
    truths = sda.simulate(jax.random.key(5), system, 9, n)
    one = sda.observe(jax.random.key(6), truths[0], operator, std=1.0)
    start = jnp.tile(truths[0], (n, 1, 1))
    found = refine(jax.random.key(7), system, one, start, steps=200, size=0.6, chunk=n)
    again = refine(jax.random.key(8), system, one, found.ensemble, steps=50, size=0.6, chunk=n)
    before, after = (metrics.log_prior(system, e.ensemble) for e in (found, again))
    error = np.std(before) * np.sqrt(2 / n)
    assert abs(float(before.mean() - after.mean())) < 4 * error
    np.testing.assert_allclose(again.log_posterior[0], found.log_posterior[1], rtol=1e-3, atol=1e-2)


def test_impossible_settings_are_refused(posterior):
    observation, mean, _ = posterior
    start = np.tile(mean.reshape(LENGTH, 2), (4, 1, 1))
    with pytest.raises(ConfigError, match="size"):
        refine(jax.random.key(0), CHAIN, observation, start, size=0.0)
    with pytest.raises(ConfigError, match="system"):
        refine(jax.random.key(0), sda.KolmogorovFlow(), observation, start)
    with pytest.raises(ConfigError, match="ensemble: got 1 of 4 members"):
        bad = start.copy()
        bad[2] = np.nan
        refine(jax.random.key(0), CHAIN, observation, bad)
