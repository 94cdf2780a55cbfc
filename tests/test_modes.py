"""Modes of posteriors whose modes are known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sda_jax as sda
from sda_jax.classical import exact_prior, kalman_smoother, trajectory_distribution
from sda_jax.core._errors import ConfigError, DivergenceError

CHAIN, LENGTH = sda.VectorAutoregression(), 8
GUIDANCE = sda.GaussianCovariance(through_network=False)


@pytest.mark.parametrize("inflation", [1.0, None])
def test_a_gaussian_posterior_has_its_mean_as_only_mode(inflation, key):
    observation = sda.Observation(
        np.array([[0.5], [-1.0]], np.float32), sda.Every(4, sda.Channels((0,))), std=0.3
    )
    exact = kalman_smoother(CHAIN, observation, LENGTH)
    start = 2 * jax.random.normal(key, (16, LENGTH, 2))
    prior = exact_prior(CHAIN, LENGTH)
    guidance = dataclasses.replace(GUIDANCE, inflation=inflation)
    found = sda.find_modes(prior, observation, start, guidance, level=1.0, steps=16)
    assert list(found.members) == [16] and not found.of_member.any()
    np.testing.assert_allclose(found.trajectories[0], exact.mean, atol=0.02)


def test_two_modes_are_found_once_each(key):
    """A squared observation cannot tell x from -x; with a correlated chain the modes are the two
    maxima of the exact log posterior, which gradient ascent confirms."""
    operator = sda.Every(LENGTH, lambda s: s[:1] ** 2)
    observation = sda.Observation(np.array([[4.0]], np.float32), operator, std=0.2)
    prior = exact_prior(CHAIN, LENGTH)
    start = (
        jax.random.normal(key, (32, LENGTH, 2))
        .at[:, 0, 0]
        .set(jnp.where(jnp.arange(32) < 20, 1.5, -1.5))
    )
    found = sda.find_modes(prior, observation, start, GUIDANCE, level=0.5, steps=16)
    assert list(found.members) == [20, 12]
    assert (found.of_member == (np.arange(32) >= 20)).all()
    a, b = found.trajectories
    np.testing.assert_allclose(a, -b, atol=0.02)
    precision = jnp.asarray(
        np.linalg.inv(trajectory_distribution(CHAIN, LENGTH).covariance), jnp.float32
    )

    def log_posterior(x):
        flat = x.reshape(-1)
        return observation.log_likelihood(x) - flat @ precision @ flat / 2

    slope = jax.grad(log_posterior)(jnp.asarray(a))
    curvature = jax.hessian(log_posterior)(jnp.asarray(a)).reshape(16, 16)
    newton = jnp.linalg.solve(curvature, slope.reshape(-1))
    assert jnp.abs(newton).max() < 0.05 and jnp.linalg.eigvalsh(curvature).max() < 0


def test_impossible_settings_are_refused(key):
    observation = sda.Observation(np.ones((2, 1)), sda.Every(4, sda.Channels((0,))), std=0.3)
    prior, start = exact_prior(CHAIN, LENGTH), jnp.zeros((2, LENGTH, 2))
    for name in ("level", "distance"):
        with pytest.raises(ConfigError, match=name):
            sda.find_modes(prior, observation, start, **{name: 0.0})
    with pytest.raises(ConfigError, match="steps"):
        sda.find_modes(prior, observation, start, steps=0)


def test_members_that_diverge_are_counted_with_the_level():
    observation = sda.Observation(np.ones((2, 1)), sda.Every(4, sda.Channels((0,))), std=0.3)
    start = jnp.zeros((3, LENGTH, 2)).at[1].set(3e38)
    with pytest.raises(DivergenceError, match=r"1 of 3 members .* at sigma/mu = 0.5[^0-9]"):
        sda.find_modes(exact_prior(CHAIN, LENGTH), observation, start, GUIDANCE, level=0.5)
