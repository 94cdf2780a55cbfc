"""Densities by the probability-flow ODE, against those of Gaussian distributions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import condition, standardised
from scipy.stats import multivariate_normal

import sda_jax as sda
from sda_jax.classical import exact_prior, trajectory_distribution
from sda_jax.core._errors import ConfigError
from sda_jax.diffusion._schedules import Cosine, VarianceExploding, noise_ratio
from sda_jax.prior._log_density import flow_log_prob

CHAIN, LENGTH = sda.DampedSpring(), 4
DISTRIBUTION = trajectory_distribution(CHAIN, LENGTH)


def exact(distribution, x, standardisation, schedule):
    """Of the distribution with the schedule's smallest noise, in physical units."""
    scale = np.broadcast_to(
        np.asarray(standardisation.std, float), distribution.mean.shape
    ).reshape(-1)
    noise = float(noise_ratio(schedule, 0.0)) ** 2 * np.diag(scale**2)
    return multivariate_normal(
        distribution.mean.reshape(-1), distribution.covariance + noise
    ).logpdf(x.reshape(-1))


@pytest.mark.parametrize("schedule", [Cosine(), VarianceExploding()], ids=str)
def test_exact_on_a_chain(schedule):
    prior = exact_prior(CHAIN, LENGTH, schedule)
    run = jax.jit(lambda x: sda.log_prob(None, prior, x, steps=256))
    for seed in range(3):
        x = sda.simulate(jax.random.key(seed), CHAIN, LENGTH)
        expected = exact(DISTRIBUTION, np.asarray(x, float), CHAIN.standardisation, schedule)
        assert float(run(x)) == pytest.approx(expected, abs=0.1)


@pytest.mark.slow
def test_converges_at_fourth_order():
    """Until float32 stops it."""
    prior = exact_prior(CHAIN, LENGTH)
    x = sda.simulate(jax.random.key(0), CHAIN, LENGTH)
    expected = exact(DISTRIBUTION, np.asarray(x, float), CHAIN.standardisation, Cosine())
    errors = [abs(float(sda.log_prob(None, prior, x, steps=n)) - expected) for n in (12, 24, 48)]
    assert errors[0] / errors[1] > 8 and errors[2] < errors[1], errors


def test_probes_are_unbiased():
    prior = exact_prior(CHAIN, LENGTH)
    x = sda.simulate(jax.random.key(0), CHAIN, LENGTH)
    run = jax.jit(lambda k: sda.log_prob(k, prior, x, steps=48, probes=4))
    draws = np.asarray(jax.vmap(run)(jax.random.split(jax.random.key(1), 256)))
    error = draws.std(ddof=1) / 16
    assert abs(draws.mean() - float(sda.log_prob(None, prior, x, steps=48))) < 4 * error
    assert 0 < error < 2


def test_of_a_posterior(key):
    """A guided denoiser's density is the posterior's in closed form."""
    y, std, schedule = np.array([0.4, -0.2]), 0.5, Cosine()
    prior = exact_prior(CHAIN, LENGTH, schedule)
    observation = sda.Observation(y, lambda x: x[::2, 0], std=std)
    dim = DISTRIBUTION.covariance.shape[0]
    matrix = np.eye(dim).reshape(LENGTH, -1, dim)[::2, 0]
    posterior = condition(DISTRIBUTION, matrix, y, std**2 * np.eye(2))
    inside = observation.standardised(CHAIN.standardisation)
    guided = sda.TweedieCovariance()(prior.denoiser, inside)
    mean, covariance = standardised(posterior, CHAIN.standardisation)
    noise = float(noise_ratio(schedule, 0.0)) ** 2 * np.eye(dim)
    draw = np.linalg.cholesky(covariance) @ np.asarray(jax.random.normal(key, (dim,)))
    z = mean + draw.reshape(mean.shape)
    expected = multivariate_normal(mean.reshape(-1), covariance + noise).logpdf(z.reshape(-1))
    found = float(flow_log_prob(None, guided, jnp.asarray(z, jnp.float32), steps=256))
    assert found == pytest.approx(expected, abs=0.1)


def test_impossible_settings_are_refused():
    prior = exact_prior(CHAIN, LENGTH)
    x = jnp.zeros(DISTRIBUTION.mean.shape)
    with pytest.raises(ConfigError, match="steps"):
        sda.log_prob(None, prior, x, steps=0)
    with pytest.raises(ConfigError, match="probes"):
        sda.log_prob(None, prior, x, probes=0)
