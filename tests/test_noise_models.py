"""Laws that are not Gaussian: against scipy, their Gaussian neighbours, and exact posteriors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from oracles import condition, standardised

import sda_jax as sda
from sda_jax.classical import exact_prior, trajectory_distribution
from sda_jax.core._component import component
from sda_jax.core._errors import ObservationError
from sda_jax.observations._files import load_observation, save_observation
from sda_jax.observations._laplace import gaussian_neighbour
from sda_jax.observations._noise_models import Normal

pytestmark = pytest.mark.compiles
Y = np.array([[1.0, np.nan], [0.0, 2.0], [np.nan, 3.0]], np.float32)
PREDICTION = np.linspace(-1, 1, 6, dtype=np.float32).reshape(3, 2)
SEEN = ~np.isnan(Y)
CHAIN, LENGTH = sda.VectorAutoregression(), 4


def test_log_prob_is_scipys_without_the_missing():
    y, p = Y[SEEN], PREDICTION[SEEN]
    student = sda.Observation(Y, lambda x: x, noise=sda.StudentT(0.3, 5.0))
    expected = scipy.stats.t.logpdf(y, 5.0, p, 0.3).sum()
    np.testing.assert_allclose(student.log_likelihood(PREDICTION), expected, rtol=1e-5)
    counts = sda.Observation(Y, lambda x: x, noise=sda.Poisson())
    expected = scipy.stats.poisson.logpmf(y, np.exp(p)).sum()
    np.testing.assert_allclose(counts.log_likelihood(PREDICTION), expected, rtol=1e-5)
    gradient = jax.grad(counts.log_likelihood)(jnp.asarray(PREDICTION))
    np.testing.assert_allclose(gradient, np.where(SEEN, Y - np.exp(PREDICTION), 0), atol=1e-5)


def test_samples_have_the_distribution(key):
    prediction = jnp.full((20000,), 0.7)
    drawn = np.asarray(sda.StudentT(0.3, 5.0).sample(key, prediction))
    assert scipy.stats.kstest(drawn, scipy.stats.t(5.0, 0.7, 0.3).cdf).pvalue > 1e-3
    mean, n = np.exp(0.7), len(prediction)
    drawn = np.asarray(sda.Poisson().sample(key, prediction))
    assert abs(drawn.mean() - mean) < 4 * np.sqrt(mean / n)
    assert abs(drawn.var() / mean - 1) < 4 * np.sqrt((2 + 1 / mean) / n)


@pytest.mark.parametrize("std", [1e-2, 1.0, 30.0])
@pytest.mark.parametrize("far", [0.1, 3.0, 300.0])
def test_the_neighbour_of_a_normal_noise_is_itself(std, far):
    y, prediction, variance = jnp.array([far, -far]), jnp.zeros(2), jnp.array([1.0, 0.04])
    found = gaussian_neighbour(Normal(std), y, prediction, variance)
    np.testing.assert_allclose(found.std, std, rtol=1e-4)
    np.testing.assert_allclose(found.y, y, rtol=1e-3)


def test_the_neighbour_finds_the_most_probable_prediction():
    """Where the noise is concave there: the Kalman update with the neighbour gives the mode of
    noise times Gaussian, and an outlier pulls by the noise's slope."""
    grid = np.linspace(-20, 20, 400001)
    for noise, y in ((sda.Poisson(), 4.0), (sda.StudentT(0.1, 3.0), 1.5), (sda.Poisson(), 0.0)):
        for mean, variance in ((0.3, 0.5), (-1.0, 2.0)):
            found = gaussian_neighbour(noise, *(jnp.array(v) for v in (y, mean, variance)))
            gain = variance / (variance + found.std**2)
            log = np.asarray(noise.log_prob(y, grid)) - (grid - mean) ** 2 / (2 * variance)
            np.testing.assert_allclose(
                mean + gain * (found.y - mean), grid[log.argmax()], atol=5e-3
            )
    noise, y, mean, variance = sda.StudentT(0.1, 3.0), 5.0, 0.0, 0.01
    found = gaussian_neighbour(noise, *(jnp.array(v) for v in (y, mean, variance)))
    slope = jax.grad(lambda p: noise.log_prob(y, p))(0.0)
    pull = (found.y - mean) / (variance + found.std**2)
    np.testing.assert_allclose(pull, slope, rtol=0.02)


@component
class Logistic:
    """A noise of a user's own: `log_prob` is all that it has."""

    scale: float

    def log_prob(self, y, prediction):
        z = (y - prediction) / self.scale
        return -z - 2 * jax.nn.softplus(-z) - jnp.log(self.scale)


NOISE_MODELS = [sda.StudentT(0.3, 4.0), sda.Poisson(), Logistic(1.0)]
ONE_QUICK = [NOISE_MODELS[0], *(pytest.param(m, marks=pytest.mark.slow) for m in NOISE_MODELS[1:])]


@pytest.mark.compiles(False)
@pytest.mark.parametrize("noise", ONE_QUICK, ids=str)
def test_posterior_near_the_exact_one(noise, key):
    """Against importance sampling from the exact prior; the approximation at high noise shifts
    and widens by no more than a fifth of the posterior's spread."""
    chain_distribution = trajectory_distribution(CHAIN, LENGTH)
    y = jnp.array([[1.0], [4.0]]) if isinstance(noise, sda.Poisson) else jnp.array([[-0.5], [6.0]])
    operator = sda.Every(2, sda.Channels((0,)))
    observation = sda.Observation(y, operator, noise=noise)
    root = np.linalg.cholesky(chain_distribution.covariance)
    draws = chain_distribution.mean.reshape(-1) + np.random.default_rng(0).standard_normal(
        (400000, root.shape[0])
    ) @ root.T.astype(np.float64)
    paths = jnp.asarray(draws.reshape(-1, LENGTH, 2), jnp.float32)
    logs = np.asarray(jax.vmap(observation.log_likelihood)(paths), np.float64)
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    assert 1 / (weights**2).sum() > 2000
    mean = weights @ draws
    std = np.sqrt(weights @ (draws - mean) ** 2)
    sampler = sda.PredictorCorrector(64, sda.LogSNR(), corrector=sda.Langevin(8, 0.05))
    found = sda.assimilate(
        key, exact_prior(CHAIN, LENGTH), observation, LENGTH, 1024,
        guidance=sda.TweedieCovariance(), sampler=sampler, memory=sda.Memory(1024),
    )  # fmt: skip
    found = np.asarray(found).reshape(1024, -1)
    assert (np.abs(found.mean(0) - mean) / std).max() < 0.2
    assert np.abs(found.std(0) / std - 1).max() < 0.2


def test_an_outlier_moves_students_posterior_less(key):
    y = jnp.array([[0.1], [8.0]])
    operator = sda.Every(2, sda.Channels((0,)))
    means = []
    for how in ({"std": 0.3}, {"noise": sda.StudentT(0.3, 3.0)}):
        drawn = sda.assimilate(
            key, exact_prior(CHAIN, LENGTH), sda.Observation(y, operator, **how), LENGTH, 64,
            guidance=sda.TweedieCovariance(),
            sampler=sda.PredictorCorrector(32, sda.LogSNR(), corrector=sda.Langevin(0)),
        )  # fmt: skip
        means.append(float(drawn[:, 2, 0].mean()))
    prior_std = standardised(trajectory_distribution(CHAIN, LENGTH), CHAIN.standardisation)
    assert prior_std is not None and means[1] < 0.5 * means[0]


def test_the_particle_smoother_knows_noise_models(key):
    """With normal noise models it meets the exact posterior as with noise."""
    distribution = trajectory_distribution(CHAIN, LENGTH)
    y = np.array([[0.5, -0.2], [1.0, 0.4]], np.float32)
    std = np.array([[0.3, 0.5], [0.2, 0.4]], np.float32)
    operator = sda.Every(2, sda.Channels((0, 1)))
    observation = sda.Observation(y, operator, noise=Normal(std))
    drawn = np.asarray(sda.particle_smoother(key, CHAIN, observation, LENGTH, 16384, 2048))
    matrix = np.kron(np.eye(LENGTH)[::2], np.eye(2))
    exact = condition(distribution, matrix, y.reshape(-1), np.diag(std.reshape(-1) ** 2))
    spread = np.sqrt(np.diag(exact.covariance))
    z = (drawn.reshape(2048, -1).mean(0) - exact.mean.reshape(-1)) / spread * np.sqrt(2048)
    assert np.abs(z).max() < 5


def test_sources_with_different_noise_models_are_one_likelihood(key):
    x = jax.random.normal(key, (4, 2))
    parts = [
        sda.observe(key, x, lambda x: x[:, 0], std=0.5),
        sda.observe(key, x, lambda x: x[::2], noise=sda.StudentT(jnp.array([0.1, 0.2]), 3.0)),
        sda.observe(key, x, lambda x: x[:, 1], noise=sda.Poisson()),
    ]
    together = sda.combine(sda.combine(*parts[:2]), parts[2])
    expected = sum(float(o.log_likelihood(x)) for o in parts)
    np.testing.assert_allclose(together.log_likelihood(x), expected, rtol=1e-5)
    assert together.draw(key, together.operator(x)).shape == (12,)


def test_files_keep_the_noise_model(tmp_path):
    parts = [
        sda.Observation(np.ones((3, 1), np.float32), sda.Every(2), noise=sda.StudentT(0.3, 5.0)),
        sda.Observation(np.ones((3, 1), np.float32), sda.Every(2), std=0.5),
    ]
    for observation in (parts[0], sda.combine(*parts)):
        save_observation(tmp_path / "o.h5", observation, 5)
        again, _ = load_observation(tmp_path / "o.h5")
        x = jnp.arange(5.0)[:, None]
        np.testing.assert_allclose(again.log_likelihood(x), observation.log_likelihood(x))


def test_impossible_noise_models_are_refused():
    with pytest.raises(ObservationError, match="noise.*log_prob"):
        sda.Observation(np.ones(3), lambda x: x, noise=0.3)
    with pytest.raises(ObservationError, match="std and noise.*exactly one"):
        sda.Observation(np.ones(3), lambda x: x, std=1.0, noise=sda.Poisson())
    with pytest.raises(ObservationError, match="y: got 0.5.*counts"):
        sda.Observation(np.array([1, 0.5]), lambda x: x, noise=sda.Poisson())
    with pytest.raises(ObservationError, match="covariance.*independent"):
        both = (
            sda.Observation(np.ones(2), lambda x: x, covariance=np.eye(2)),
            sda.Observation(np.ones(2), lambda x: x, noise=sda.Poisson()),
        )
        sda.combine(*both)
    with pytest.raises(ObservationError, match="scale: got -1.0"):
        sda.StudentT((0.4, -1.0))
    with pytest.raises(ObservationError, match=r"noise: got a parameter of shape \(9,\)"):
        sda.Observation(np.ones((9, 1)), lambda x: x, noise=sda.StudentT(np.ones(9)))
    with pytest.raises(ObservationError, match="noise.*particle smoother"):
        counts = sda.Observation(np.ones((2, 1)), sda.Every(2), noise=sda.Poisson())
        sda.kalman_smoother(CHAIN, counts, 4)
