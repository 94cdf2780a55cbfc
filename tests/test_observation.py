"""Likelihoods against scipy's, missing values, combination, and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import sda_jax as sda
from sda_jax.core._errors import ObservationError

Y = np.array([[1.0, np.nan], [0.5, -2.0], [np.nan, 0.3]], np.float32)
PREDICTION = np.linspace(-1, 1, 6, dtype=np.float32).reshape(3, 2)
SEEN = ~np.isnan(Y.reshape(-1))


def covariance():
    root = np.random.default_rng(0).standard_normal((6, 6))
    return (root @ root.T / 6 + 0.3 * np.eye(6)).astype(np.float32)


def expected(cov):
    sub = np.asarray(cov, float)[np.ix_(SEEN, SEEN)]
    return scipy.stats.multivariate_normal.logpdf(
        Y.reshape(-1)[SEEN], PREDICTION.reshape(-1)[SEEN], sub
    )


def test_likelihood_with_every_kind_of_noise_and_missing_values():
    per_element = np.linspace(0.5, 1, 6, dtype=np.float32).reshape(3, 2)
    scalar = sda.Observation(Y, lambda x: x, std=0.7)
    each = sda.Observation(Y, lambda x: x, std=per_element)
    full = sda.Observation(Y, lambda x: x, covariance=covariance())
    diag = np.diag(per_element.reshape(-1) ** 2)
    close = dict(rtol=1e-4)
    np.testing.assert_allclose(scalar.log_prob(PREDICTION), expected(0.49 * np.eye(6)), **close)
    np.testing.assert_allclose(each.log_prob(PREDICTION), expected(diag), **close)
    np.testing.assert_allclose(full.log_prob(PREDICTION), expected(covariance()), **close)
    np.testing.assert_allclose(
        full.log_prob(PREDICTION, 0.2), expected(covariance() + 0.2 * np.eye(6)), **close
    )
    np.testing.assert_allclose(each.log_prob(PREDICTION, per_element), expected(diag + np.diag(
        per_element.reshape(-1))), **close)  # fmt: skip
    np.testing.assert_allclose(each.log_prob(PREDICTION, covariance()), expected(
        diag + covariance()), **close)  # fmt: skip


def test_gradient_ignores_missing_values():
    for noise in (dict(std=0.5), dict(covariance=covariance())):
        observation = sda.Observation(Y, lambda x: x, **noise)
        gradient = jax.grad(observation.log_likelihood)(jnp.asarray(PREDICTION))
        assert jnp.isfinite(gradient).all()
        np.testing.assert_array_equal((gradient != 0).reshape(-1), SEEN)


def test_combined_observations_add_their_log_likelihoods(key):
    x = jax.random.normal(key, (5, 3))
    a = sda.observe(key, x, lambda x: x[::2], std=0.5)
    b = sda.observe(key, x, lambda x: jnp.tanh(x[:, 0]), std=jnp.linspace(0.1, 0.5, 5))
    c = sda.observe(key, x, lambda x: x[0, :2], covariance=jnp.array([[1.0, 0.5], [0.5, 2.0]]))
    for parts in ((a, b), (a, b, c)):
        total = sum(o.log_likelihood(x) for o in parts)
        np.testing.assert_allclose(sda.combine(*parts).log_likelihood(x), total, rtol=1e-5)


def test_observe_has_the_law_it_states(key):
    x = jnp.ones((4, 2))
    cov = jnp.array([[1.0, 0.6], [0.6, 0.5]])
    ys = jax.vmap(lambda k: sda.observe(k, x, lambda x: x[0], covariance=cov).y)(
        jax.random.split(key, 20000)
    )
    np.testing.assert_allclose(ys.mean(0), 1, atol=0.04)
    np.testing.assert_allclose(np.cov(ys.T), cov, atol=0.05)


def test_every():
    x = jnp.arange(24.0).reshape(8, 3)
    np.testing.assert_array_equal(sda.Every(3, sda.Channels((2, 0)))(x), x[::3][:, [2, 0]])
    squares = sda.Every(2, lambda s: s**2)(x)
    np.testing.assert_array_equal(squares, x[::2] ** 2)


def test_standardised_operator_sees_physical_states():
    standardisation = sda.Standardisation(mean=(1.0, 2.0), std=(3.0, 4.0))
    z = jnp.array([[0.5, -0.5]])
    observation = sda.Observation(jnp.zeros((1, 2)), lambda x: x, std=1.0)
    inner = observation.standardised(standardisation)
    np.testing.assert_allclose(inner.operator(z), [[2.5, 0.0]])


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (dict(std=0.0), "std: got 0"),
        (dict(std=-1.0), "std: got -1"),
        (dict(std=np.nan), "std: got nan"),
        (dict(std=np.ones(3)), r"std: got shape \(3,\)"),
        (dict(covariance=np.eye(5)), r"covariance: got shape \(5, 5\).*\(6, 6\)"),
        (dict(covariance=-np.eye(6)), "symmetric positive definite"),
        (dict(), "exactly one"),
        (dict(std=1.0, covariance=np.eye(6)), "exactly one"),
    ],
)
def test_impossible_noise_is_refused(noise, message):
    with pytest.raises(ObservationError, match=message):
        sda.Observation(Y, lambda x: x, **noise)


def test_infinite_values_are_refused():
    with pytest.raises(ObservationError, match="infinite"):
        sda.Observation(np.array([np.inf]), lambda x: x, std=1.0)


def test_a_prediction_of_another_shape_is_refused():
    """Which would otherwise broadcast: x alone against observations of all three coordinates."""
    seen = sda.Observation(jnp.zeros((4, 3)), sda.Every(1), std=1.0)
    with pytest.raises(ObservationError, match=r"y: got shape \(4, 3\).*shape \(4, 1\)"):
        seen.log_likelihood(jnp.zeros((4, 3)))
    with pytest.raises(ObservationError, match=r"y: got shape \(3,\).*shape \(1,\)"):
        sda.particle_smoother(jax.random.key(0), sda.Lorenz63(), seen, 4, 8, 2)
