"""Parameterisations invert themselves; the exact Gaussian denoiser is Tweedie's formula."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import gaussian_denoiser, standardised

import sda_jax as sda
from sda_jax.classical import exact_prior, trajectory_distribution
from sda_jax.core._component import component
from sda_jax.diffusion._denoisers import NetworkDenoiser, predicted_noise
from sda_jax.diffusion._gaussian import GaussianDenoiser
from sda_jax.diffusion._loss import LogNormalRatio, UniformTime, denoising_loss
from sda_jax.diffusion._measured_errors import with_measured_errors
from sda_jax.diffusion._parameterisations import NoisePrediction, Parameterisation, Preconditioned
from sda_jax.diffusion._schedules import Cosine, RectifiedFlow, VarianceExploding, noise_ratio
from sda_jax.diffusion._stationary import times_covariance
from sda_jax.networks import TemporalConv


@component
class DataPrediction(Parameterisation):
    """The network predicts the data: a parameterisation of a user's, of three methods."""

    def level(self, schedule, t):
        return t

    def denoise(self, output, x, t, schedule):
        return output

    def target(self, x, noise, t, schedule):
        return x


PARAMETERISATIONS = [
    NoisePrediction(),
    Preconditioned(),
    Preconditioned(data_std=0.5),
    DataPrediction(),
]


@pytest.mark.parametrize("schedule", [Cosine(), VarianceExploding(), RectifiedFlow()], ids=str)
@pytest.mark.parametrize("parameterisation", PARAMETERISATIONS, ids=str)
def test_the_target_denoises_exactly(parameterisation, schedule, key):
    x, noise = jax.random.normal(key, (2, 50))
    for ratio in (0.01, 1.0, 30.0):
        t = schedule.time(ratio)
        x_t = schedule.mu(t) * x + schedule.sigma(t) * noise
        output = parameterisation.target(x, noise, t, schedule)
        recovered = parameterisation.denoise(output, x_t, t, schedule)
        np.testing.assert_allclose(recovered, x, atol=2e-5 * max(1, ratio))


def test_preconditioned_target_has_unit_variance(key):
    x, noise = jax.random.normal(key, (2, 20000)) * jnp.array([[0.5], [1.0]])
    for ratio in (0.01, 0.5, 30.0):
        t = Cosine().time(ratio)
        target = Preconditioned(data_std=0.5).target(x, noise, t, Cosine())
        np.testing.assert_allclose(target.std(), 1, atol=5 / np.sqrt(2 * 20000))


def test_gaussian_denoiser_is_tweedies_formula(key):
    chain, schedule = sda.DampedSpring(), Cosine()
    distribution = trajectory_distribution(chain, 6)
    denoiser = gaussian_denoiser(distribution, sda.Standardisation(), schedule)
    x = jax.random.normal(key, (6, 4))
    for t in (0.05, 0.4, 0.9):
        mu, sigma = float(schedule.mu(t)), float(schedule.sigma(t))
        cov = mu**2 * distribution.covariance + sigma**2 * np.eye(24)
        score = -np.linalg.solve(
            cov, np.asarray(x, float).reshape(-1) - mu * distribution.mean.reshape(-1)
        )
        np.testing.assert_allclose(
            predicted_noise(denoiser, x, t).reshape(-1), -sigma * score, rtol=2e-3, atol=2e-3
        )


def test_loss_at_the_optimum_is_the_conditional_variance(key):
    """For x ~ N(0, 1) the best noise prediction errs by mu^2 / (mu^2 + sigma^2) on average."""

    class Linear:
        """eps = sigma x_t / (mu^2 + sigma^2) of the input scaled to unit variance."""

        def apply(self, variables, x, level, context):
            mu, sigma = Cosine().mu(level), Cosine().sigma(level)
            return (sigma / jnp.sqrt(mu**2 + sigma**2))[:, None, None] * x

    denoiser = NetworkDenoiser(Linear(), None, Cosine(), NoisePrediction())
    x = jax.random.normal(key, (4000, 5, 1))
    loss = denoising_loss(jax.random.key(1), denoiser, UniformTime(), x)
    t = np.linspace(0, 1, 100001)
    mu2 = np.asarray(Cosine().mu(t)) ** 2
    expected = np.mean(mu2 / (mu2 + np.asarray(Cosine().sigma(t)) ** 2))
    np.testing.assert_allclose(loss, expected, atol=5 * 1.0 / np.sqrt(4000 * 5))


@pytest.mark.parametrize("parameterisation", [Preconditioned(), DataPrediction()], ids=str)
def test_gradient_of_the_loss_reaches_every_weight(parameterisation, key):
    network = TemporalConv(width=8, dilations=(1, 2))
    variables = jax.jit(network.init)(key, jnp.zeros((9, 3)), jnp.zeros(()))
    blank = NetworkDenoiser(network, None, Cosine(), parameterisation)
    x = jax.random.normal(key, (4, 9, 3))

    def loss(variables):
        trained = dataclasses.replace(blank, variables=variables)
        return denoising_loss(key, trained, LogNormalRatio(), x)

    for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(variables)):
        assert jnp.isfinite(leaf).all() and (leaf != 0).any()


def test_training_times_have_their_law():
    u = (jnp.arange(4096) + 0.5) / 4096
    log_ratio = jnp.log(noise_ratio(Cosine(), LogNormalRatio(-1.0, 1.0)(Cosine(), u)))
    np.testing.assert_allclose(log_ratio.mean(), -1, atol=0.01)
    np.testing.assert_allclose(log_ratio.std(), 1, atol=0.02)
    np.testing.assert_array_equal(UniformTime()(Cosine(), u), u)


def test_singular_covariances_are_fine():
    denoiser = GaussianDenoiser.of(jnp.zeros((2, 1)), jnp.ones((2, 2)), Cosine())
    np.testing.assert_allclose(denoiser(jnp.array([[2.0], [0.0]]), 0.0), 1.0, rtol=1e-4)


@pytest.mark.parametrize("parameterisation", [Preconditioned(), DataPrediction()], ids=str)
def test_measured_errors_are_the_exact_denoisers(parameterisation, key):
    """Of a Gaussian whose elements have two variances: `v r^2 / (v + r^2)` at every level."""
    variances = jnp.array([1.0, 0.04])

    @component
    class Exact(NetworkDenoiser):
        def __call__(self, x, t):
            r2 = noise_ratio(self.schedule, t) ** 2
            return variances / (variances + r2) * x / self.schedule.mu(t)

    denoiser = Exact(None, None, Cosine(), parameterisation)
    x = jnp.sqrt(variances) * jax.random.normal(key, (8, 64, 4, 8, 2))
    measured = with_measured_errors(key, denoiser, x).parameterisation
    n = x.size / 2
    for ratio in (0.003, 0.1, 0.5, 30.0):
        exact = variances * ratio**2 / (variances + ratio**2)
        t = Cosine().time(ratio)
        found = measured.covariance_times(jnp.ones((5, 2)), t, Cosine())
        assert measured.correlations is None
        # interpolated between four levels a decade: up to 4 per cent where the curve bends most
        np.testing.assert_allclose(found / exact, 1, atol=0.04 + 4 * np.sqrt(2 / n))
        drawn = measured.draw_error(key, (40000, 2), t, Cosine())
        np.testing.assert_allclose(drawn.var(axis=0) / found[0], 1, atol=4 * np.sqrt(2 / 40000))
    assert measured.unfitted() == parameterisation


def test_a_parameterisation_without_a_method_is_refused():
    @component
    class Untrained(Parameterisation):
        level = DataPrediction.level
        denoise = DataPrediction.denoise

    with pytest.raises(TypeError, match="Untrained.*target"):
        Untrained()


def test_measured_errors_are_correlated_in_time(key):
    """Of a stationary chain's exact denoiser: the distribution of x given x_t away from the
    ends."""
    chain, length, ratio = sda.VectorAutoregression(), 48, 0.7
    distribution = trajectory_distribution(chain, length)
    _, covariance = standardised(distribution, chain.standardisation)
    root = jnp.asarray(np.linalg.cholesky(covariance), jnp.float32)
    known = exact_prior(chain, length).denoiser

    @component
    class Exact(NetworkDenoiser):
        def __call__(self, x, t):
            return known(x, t)

    denoiser = Exact(None, None, Cosine(), Preconditioned())
    x = (jax.random.normal(key, (16 * 64, 2 * length)) @ root.T).reshape(16, 64, length, 2)
    measured = with_measured_errors(key, denoiser, x).parameterisation
    t = Cosine().time(ratio)
    exact = np.linalg.inv(np.linalg.inv(covariance) + np.eye(2 * length) / ratio**2)
    w = jnp.zeros((length, 2)).at[24].set(jnp.array([1.0, -0.5]))
    found = measured.covariance_times(w, t, Cosine())[18:31]
    expected = (exact @ np.asarray(w).reshape(-1)).reshape(length, 2)[18:31]
    np.testing.assert_allclose(found, expected, atol=0.06 * np.abs(expected).max())
    keys = jax.random.split(key, 20000)
    e = jax.vmap(lambda k: measured.draw_error(k, (length, 2), t, Cosine()))(keys)
    pairs = e[:, 18:31].reshape(20000, -1).T @ (e[:, 24] @ jnp.array([1.0, -0.5])) / 20000
    np.testing.assert_allclose(
        pairs.reshape(13, 2), found, atol=5 * np.abs(expected).max() * np.sqrt(2 / 20000)
    )


@pytest.mark.parametrize("length", [4, 20, 22, 50])
def test_a_stationary_covariance_is_the_dense_one(length):
    """Short series by Fourier transforms, those of over three times the lags in blocks."""
    lags = 0.5 ** np.arange(7)[:, None, None] * np.random.default_rng(0).normal(size=(7, 3, 3))
    w = np.random.default_rng(1).normal(size=(length, 3))
    expected = np.zeros_like(w)
    for i, j in itertools.product(range(length), repeat=2):
        if abs(i - j) < 7:
            k = lags[abs(i - j)]
            expected[i] += (k if j >= i else k.T) @ w[j]
    np.testing.assert_allclose(times_covariance(jnp.asarray(lags), w), expected, atol=1e-5)
