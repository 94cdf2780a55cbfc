"""Twisted sequential Monte Carlo against the Kalman smoother."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import sda_jax as sda
from sda_jax.classical import exact_prior, kalman_smoother, trajectory_distribution
from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError, DivergenceError
from sda_jax.core._resampling import ordered_resampling
from sda_jax.diffusion._schedules import noise_ratio
from sda_jax.posterior._smc import Particles

LENGTH, N = 16, 2048
CHAIN = sda.DampedSpring()
OPERATOR = sda.Every(2, sda.Channels((0,)))


@pytest.fixture(scope="module")
def observation():
    truth = sda.simulate(jax.random.key(1), CHAIN, LENGTH)
    return sda.observe(jax.random.key(2), truth, OPERATOR, std=0.2)


def evidence(observation):
    distribution = trajectory_distribution(CHAIN, LENGTH)
    matrix = np.asarray(jax.jacobian(OPERATOR)(jnp.zeros((LENGTH, 4)))).reshape(8, -1)
    covariance = matrix @ distribution.covariance @ matrix.T + 0.04 * np.eye(8)
    mean = matrix @ distribution.mean.reshape(-1)
    y = np.asarray(observation.y, float).reshape(-1)
    return scipy.stats.multivariate_normal.logpdf(y, mean, covariance)


@pytest.mark.parametrize("n", [1024, pytest.param(4096, marks=pytest.mark.slow)])
def test_exact_twists_give_the_posterior_with_equal_weights(observation, n):
    """Exact denoiser and twist: nothing to correct but what the steps leave, the smoother's
    evidence, its mean within 4 standard errors in every component; its covariance within 3 % beyond
    the Marchenko-Pastur edges, beyond 4 standard errors along each of its axes, and 1 % beyond them
    in the mean over these."""
    found = sda.twisted_smc(
        jax.random.key(3), exact_prior(CHAIN, LENGTH), observation, LENGTH, n, chunk=1024
    )
    assert found.effective.min() > 0.5 and not found.resampled.any() and found.diverged == 0
    assert abs(found.log_evidence - evidence(observation)) < 0.1
    weights = np.exp(np.asarray(found.log_weights, np.float64))
    exact = kalman_smoother(CHAIN, observation, LENGTH)
    flat = np.asarray(found.particles, np.float64).reshape(n, -1)
    mean = weights @ flat
    effective = 1 / (weights**2).sum()
    assert abs(found.effective[-1] * n - effective) < 0.01 * effective
    z = (mean - exact.mean.reshape(-1)) / np.sqrt(np.diag(exact.covariance) / effective)
    assert np.abs(z).max() < 4, z
    variances, axes = np.linalg.eigh(exact.covariance)
    white = axes.T @ (flat - mean).T / np.sqrt(variances)[:, None]
    covariance = white * weights @ white.T
    values, along = np.linalg.eigvalsh(covariance), np.diag(covariance)
    low, high = (1 + np.array([-1, 1]) * np.sqrt(4 * LENGTH / effective)) ** 2
    assert low * 0.97 < values[0] and values[-1] < high * 1.03, values[[0, -1]]
    assert np.abs(along - 1).max() < 0.03 + 4 * np.sqrt(2 / effective), along
    assert abs(along.mean() - 1) < 0.01 + 4 * np.sqrt(2 / (effective * along.size)), along.mean()


@pytest.mark.slow
def test_weights_correct_a_wrong_twist(observation):
    """With a covariance three times too large, guidance alone is off; weights and resampling bring
    back the smoother's mean, spread and evidence."""
    guidance = sda.GaussianCovariance(inflation=3.0)
    prior, exact = exact_prior(CHAIN, LENGTH), kalman_smoother(CHAIN, observation, LENGTH)
    found = sda.twisted_smc(jax.random.key(4), prior, observation, LENGTH, N, guidance, chunk=N)
    assert found.resampled.any()
    assert abs(found.log_evidence - evidence(observation)) < 0.3
    drawn = np.asarray(found.ensemble(jax.random.key(5), N)).reshape(N, -1)
    std = np.sqrt(np.diag(exact.covariance))
    assert np.abs((drawn.mean(0) - exact.mean.reshape(-1)) / std).max() < 0.15
    assert np.abs(drawn.std(0) / std - 1).max() < 0.12


@pytest.mark.compiles
def test_particles_do_not_depend_on_the_chunk(observation):
    prior = exact_prior(CHAIN, LENGTH)
    a, b = (
        sda.twisted_smc(jax.random.key(0), prior, observation, LENGTH, 8, steps=8, chunk=chunk)
        for chunk in (3, 8)
    )
    np.testing.assert_allclose(a.particles, b.particles, rtol=2e-3, atol=2e-3)


def test_modes_keep_their_shares_when_resampled():
    """Of two far modes, however the particles are mixed and weighted, each has as many
    descendants as its weight says, within one; an ensemble has them in random order."""
    rng = np.random.default_rng(0)
    side = rng.choice([-1.0, 1.0], 200)
    x = (3 * side[:, None, None] + rng.normal(size=(200, 5, 3))).astype(np.float32)
    weights = rng.exponential(size=200).astype(np.float32)
    weights /= weights.sum()
    expected = 200 * weights[side > 0].sum()
    for key in jax.random.split(jax.random.key(0), 20):
        index = ordered_resampling(key, jnp.asarray(x), jnp.asarray(weights), 200)
        assert abs((side[index] > 0).sum() - expected) < 1
        times = np.bincount(index, minlength=200)
        assert times[weights * 200 > 2].min() > 0 and times.max() <= np.ceil(200 * weights.max())
    nothing = jnp.zeros(0)
    found = Particles(jnp.asarray(x), jnp.log(weights), nothing, nothing, nothing, nothing)
    signs = np.sign(np.asarray(found.ensemble(jax.random.key(1), 200)).mean((1, 2)))
    assert abs((signs > 0).sum() - expected) < 1
    assert 60 < (signs[1:] != signs[:-1]).sum() < 140


@pytest.mark.compiles
def test_sda_guidance_twists_too(observation):
    found = sda.twisted_smc(
        jax.random.key(0), exact_prior(CHAIN, LENGTH), observation, LENGTH, 256, sda.SDA(0.1), 64
    )
    assert jnp.isfinite(found.log_evidence) and found.particles.shape == (256, LENGTH, 4)


@component
class Broken:
    """A denoiser that is not finite on trajectories that begin above a value, at low noise."""

    of: Any
    highest: float = 0.0

    @property
    def schedule(self):
        return self.of.schedule

    def __call__(self, x, t):
        wrong = (x[0, 0] > self.highest) & (noise_ratio(self.schedule, t) < 1.2)
        return self.of(x, t) + jnp.where(wrong, jnp.nan, 0.0)


@pytest.mark.compiles
def test_particles_that_diverge_are_counted_and_weigh_nothing(observation):
    prior = exact_prior(CHAIN, LENGTH)
    broken = dataclasses.replace(prior, denoiser=Broken(prior.denoiser))
    found = sda.twisted_smc(jax.random.key(0), broken, observation, LENGTH, 256, steps=32)
    assert found.diverged > 0 and jnp.isfinite(found.particles).all()
    assert abs(jax.scipy.special.logsumexp(found.log_weights)) < 1e-4
    none = dataclasses.replace(prior, denoiser=Broken(prior.denoiser, -np.inf))
    with pytest.raises(
        DivergenceError, match=r"none with a finite weight after .* sigma/mu = 1\.54;"
    ):
        sda.twisted_smc(jax.random.key(0), none, observation, LENGTH, 16, steps=32)


@pytest.mark.compiles
@pytest.mark.parametrize(
    "guidance",
    [
        pytest.param(sda.GaussianCovariance(), marks=pytest.mark.slow),
        sda.StatisticalLinearization(),
    ],
)
def test_counts_have_their_evidence(guidance):
    """Of one count, whose logarithm of the mean is a coordinate, by quadrature."""
    prior, distribution = exact_prior(CHAIN, LENGTH), trajectory_distribution(CHAIN, LENGTH)
    counts = sda.Observation(jnp.array([7.0]), last_coordinate, noise=sda.Poisson())
    found = sda.twisted_smc(jax.random.key(0), prior, counts, LENGTH, 512, guidance, steps=64)
    place = (LENGTH - 1) * 4
    mean, std = distribution.mean.reshape(-1)[place], distribution.covariance[place, place] ** 0.5
    u = mean + std * np.linspace(-8, 8, 4001)
    p = scipy.stats.norm.pdf(u, mean, std) * scipy.stats.poisson.pmf(7, np.exp(u))
    assert abs(found.log_evidence - np.log(p.sum() * (u[1] - u[0]))) < 0.1


def last_coordinate(x):
    return x[-1, :1]


def test_impossible_settings_are_refused(observation):
    prior = exact_prior(CHAIN, LENGTH)
    with pytest.raises(ConfigError, match="guidance: got DPS.*log_twist"):
        sda.twisted_smc(jax.random.key(0), prior, observation, LENGTH, 8, sda.DPS())
    with pytest.raises(ConfigError, match="threshold"):
        sda.twisted_smc(jax.random.key(0), prior, observation, LENGTH, 8, threshold=2.0)
    with pytest.raises(ConfigError, match="particles"):
        sda.twisted_smc(jax.random.key(0), prior, observation, LENGTH, 0)
