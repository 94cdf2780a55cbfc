"""The smoothers against brute-force conditioning and against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import condition, standard_error

import sda_jax as sda
from sda_jax.classical import (
    bootstrap_filter,
    kalman_smoother,
    particle_smoother,
    trajectory_distribution,
)
from sda_jax.classical._particle import _choose
from sda_jax.core._errors import ConfigError, ObservationError
from sda_jax.core._resampling import systematic_resampling
from sda_jax.evaluation._distances import wasserstein1
from sda_jax.evaluation._metrics import log_prior

CHAIN = sda.VectorAutoregression()


def observe(system, length, every, indices, std, seed=0):
    k1, k2 = jax.random.split(jax.random.key(seed))
    truth = sda.simulate(k1, system, length)
    return sda.observe(k2, truth, sda.Every(every, sda.Channels(indices)), std=std)


def test_trajectory_law_against_simulation():
    distribution = trajectory_distribution(sda.DampedSpring(), 5)
    x = np.asarray(sda.simulate(jax.random.key(0), sda.DampedSpring(), 5, batch=20000), float)
    flat = x.reshape(20000, -1)
    assert (np.abs(flat.mean(0) - distribution.mean.reshape(-1)) < 5 * standard_error(flat)).all()
    assert np.abs(np.cov(flat.T) - distribution.covariance).max() < 5 * 2 / np.sqrt(20000)


@pytest.mark.parametrize("system", [sda.DampedSpring(), CHAIN], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("missing", [False, True])
def test_kalman_smoother_is_conditioning(system, missing):
    observation = observe(system, 9, 2, (0, 1), 0.3)
    y = np.array(observation.y)
    if missing:
        y[1, 0] = y[3] = np.nan
    observation = sda.Observation(y, observation.operator, std=0.3)
    seen = ~np.isnan(y.reshape(-1))
    d = system.state_shape[0]
    matrix = np.kron(np.eye(9)[::2], np.eye(d)[:2])[seen]
    exact = condition(
        trajectory_distribution(system, 9), matrix, y.reshape(-1)[seen], 0.09 * np.eye(seen.sum())
    )
    smoothed = kalman_smoother(system, observation, 9)
    np.testing.assert_allclose(smoothed.mean, exact.mean, atol=1e-6)
    np.testing.assert_allclose(smoothed.covariance, exact.covariance, atol=1e-6)


def test_particle_smoother_meets_the_kalman_smoother():
    observation = observe(CHAIN, 12, 3, (0,), 0.4)
    exact = kalman_smoother(CHAIN, observation, 12)
    x = np.asarray(particle_smoother(jax.random.key(5), CHAIN, observation, 12, 20000, 4000), float)
    flat = x.reshape(4000, -1)
    # the filter's own error counts too: 20000 particles, some 5000 effective
    tolerance = 4 * np.sqrt(1 + 4000 / 5000) * standard_error(flat)
    assert (np.abs(flat.mean(0) - exact.mean.reshape(-1)) < tolerance).all()
    factor = np.linalg.cholesky(exact.covariance)
    white = np.linalg.solve(factor, (flat - exact.mean.reshape(-1)).T)
    eigenvalues = np.linalg.eigvalsh(np.cov(white))
    edge = (1 + np.array([-1, 1]) * np.sqrt(24 / 4000)) ** 2
    assert eigenvalues[0] > 0.93 * edge[0] and eigenvalues[-1] < 1.07 * edge[1]


@pytest.mark.slow
def test_the_block_size_changes_no_law_and_members_differ():
    observation = observe(sda.Lorenz63(), 17, 4, (0,), 0.5)
    a, b = (
        particle_smoother(jax.random.key(1), sda.Lorenz63(), observation, 17, 4096, 64, block)
        for block in (8, 64)
    )
    assert a.shape == b.shape == (64, 17, 3)
    assert len(np.unique(np.asarray(a)[:, -1, 0])) > 20
    floor = wasserstein1(a[:32], a[32:])
    assert wasserstein1(a, b) < 1.3 * floor


@pytest.mark.slow
def test_path_keeping_filter_is_degenerate_and_the_smoother_is_not():
    observation = observe(sda.Lorenz63(), 65, 8, (0,), 0.4)
    arguments = (sda.Lorenz63(), observation, 65, 8192, 200)
    paths = np.asarray(bootstrap_filter(jax.random.key(2), *arguments))
    smooth = np.asarray(particle_smoother(jax.random.key(2), *arguments))
    distinct = [len(np.unique(x[:, 0, 0])) for x in (paths, smooth)]
    assert 2 * distinct[0] < distinct[1], distinct
    transitions = sda.Lorenz63()
    residual = paths[:, 1:] - jax.vmap(jax.vmap(transitions.forecast))(jnp.asarray(paths[:, :-1]))
    assert float(residual.std()) == pytest.approx(np.sqrt(0.025), rel=0.05)


def test_systematic_resampling_counts_are_within_one_of_their_mean():
    weights = jax.random.uniform(jax.random.key(0), (50,))
    chosen = systematic_resampling(jax.random.key(1), weights, len(weights))
    counts = np.bincount(np.asarray(chosen), minlength=50)
    expected = 50 * np.asarray(weights / weights.sum())
    assert (np.abs(counts - expected) < 1 + 1e-3).all()


def test_choice_among_many_has_its_weights():
    log_weights = jnp.log(jnp.arange(1.0, 701.0))
    rows = jnp.tile(log_weights, (40000, 1))
    chosen = np.asarray(_choose(jax.random.key(3), rows))
    counts = np.bincount(chosen, minlength=700)
    expected = 40000 * np.arange(1, 701) / (700 * 701 / 2)
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi2 - 699) < 5 * np.sqrt(2 * 699)


def test_systems_without_noise_and_wrong_lengths_are_refused():
    system = sda.Lorenz96(dim=4, spinup=2)
    observation = observe(system, 4, 2, (0,), 1.0)
    with pytest.raises(ConfigError, match="noise"):
        particle_smoother(jax.random.key(0), system, observation, 4, 16, 4)
    with pytest.raises(ConfigError, match="noise"):
        log_prior(system, jnp.zeros((2, 4, 4, 1)))
    observation = observe(CHAIN, 9, 2, (0,), 0.3)
    for smoother in (
        lambda: kalman_smoother(CHAIN, observation, 12),
        lambda: particle_smoother(jax.random.key(0), CHAIN, observation, 12, 16, 4),
    ):
        with pytest.raises(ObservationError, match="5 observed states"):
            smoother()


def test_operators_that_are_not_local_in_time_are_refused():
    observation = sda.Observation(np.zeros(()), lambda x: x.mean(), std=1.0)
    for smoother in (
        lambda: kalman_smoother(CHAIN, observation, 4),
        lambda: particle_smoother(jax.random.key(0), CHAIN, observation, 4, 16, 4),
    ):
        with pytest.raises(ObservationError, match="Every"):
            smoother()
    nonlinear = sda.Observation(np.zeros((2, 2)), sda.Every(2, jnp.tanh), std=1.0)
    with pytest.raises(ObservationError, match="affine"):
        kalman_smoother(CHAIN, nonlinear, 4)
