"""Diagnostics without a truth, on a linear-Gaussian chain whose posterior is exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import condition
from scipy.stats import chi2

import sda_jax as sda
from sda_jax.classical import exact_prior, trajectory_distribution
from sda_jax.core._errors import ConfigError, ObservationError
from sda_jax.evaluation import _diagnostics as diagnostics

CHAIN, LENGTH, STD = sda.DampedSpring(), 12, 0.2
OPERATOR = sda.Every(2, sda.Channels((0, 3)))
DISTRIBUTION = trajectory_distribution(CHAIN, LENGTH)
DIM = DISTRIBUTION.covariance.shape[0]
MATRIX = (
    np.asarray(jax.vmap(OPERATOR)(jnp.eye(DIM).reshape(DIM, LENGTH, -1)), float).reshape(DIM, -1).T
)
ODE = sda.PredictorCorrector(32, sda.LogSNR(), sda.DPMSolverPP2M(), sda.Langevin(0))


def exact_draws(observation, n, seed=0, factor=1.0):
    """Of the posterior, spread `factor` times as wide as it is."""
    m = MATRIX.shape[0]
    distribution = condition(
        DISTRIBUTION, MATRIX, np.asarray(observation.y, float).reshape(-1), STD**2 * np.eye(m)
    )
    white = np.random.default_rng(seed).standard_normal((n, DIM))
    draws = (
        distribution.mean.reshape(-1)
        + factor * white @ np.linalg.cholesky(distribution.covariance).T
    )
    return draws.reshape(n, LENGTH, -1)


def test_chi_square_of_exact_draws_has_its_law():
    truths = sda.simulate(jax.random.key(0), CHAIN, LENGTH, 200)
    keys = jax.random.split(jax.random.key(1), 200)
    observations = [sda.observe(k, x, OPERATOR, std=STD) for k, x in zip(keys, truths, strict=True)]
    found = [
        diagnostics.innovation_chi_square(o, exact_draws(o, 1, i))
        for i, o in enumerate(observations)
    ]
    m = MATRIX.shape[0]
    values = np.array([f.members[0] for f in found])
    assert found[0].std == pytest.approx(np.sqrt(2 / m))
    assert abs(values.mean() - 1) < 4 * found[0].std / np.sqrt(200)
    shares = chi2(m).cdf(m * values)
    assert np.abs(np.sort(shares) - (np.arange(200) + 0.5) / 200).max() < 1.63 / np.sqrt(200)


def test_chi_square_with_correlated_noise_and_missing_values():
    y = np.array([0.5, np.nan, 1.0], np.float32)
    covariance = np.array([[0.5, 0.1, 0.2], [0.1, 1.0, 0.3], [0.2, 0.3, 2.0]], np.float32)
    observation = sda.Observation(y, lambda x: x[:3, 0], covariance=covariance)
    x = jnp.ones((1, 4, 2))
    residual = np.array([-0.5, 0.0])
    expected = residual @ np.linalg.solve(covariance[np.ix_([0, 2], [0, 2])], residual) / 2
    found = diagnostics.innovation_chi_square(observation, x)
    assert found.members[0] == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ObservationError, match="only missing values"):
        diagnostics.innovation_chi_square(
            sda.Observation(np.full(3, np.nan), lambda x: x[:3, 0], std=1.0), x
        )


@pytest.mark.parametrize(("factor", "calibrated"), [(1.0, True), (0.5, False)])
def test_ranks_of_held_out_values(factor, calibrated):
    """Uniform for exact draws, and not for draws half as wide."""
    members, found = 9, []
    key = jax.random.key(7)
    truths = sda.simulate(key, CHAIN, LENGTH, 150)
    for i, truth in enumerate(truths):
        k2, k3, k4 = jax.random.split(jax.random.fold_in(key, i), 3)
        observation = sda.observe(k2, truth, OPERATOR, std=STD)
        held_out = sda.observe(k3, truth, sda.At(5, sda.Channels((1,))), std=0.01)
        draws = exact_draws(observation, members, i, factor)
        found.append(diagnostics.held_out_ranks(k4, held_out, draws))
    counts = np.bincount(np.concatenate(found), minlength=members + 1)
    statistic = ((counts - 15) ** 2 / 15).sum()
    assert (statistic < chi2(members).ppf(0.9999)) == calibrated, counts


@pytest.mark.slow
def test_simulation_based_calibration_is_flat_where_all_is_exact():
    """One component of each truth, since components of one trajectory are not independent."""
    prior = exact_prior(CHAIN, LENGTH)
    run = {"truths": 100, "samples": 9, "truth_sampler": ODE, "sampler": ODE}

    def statistic(guidance, std):
        ranks = diagnostics.simulation_based_calibration(
            jax.random.key(3), prior, OPERATOR, std, LENGTH, guidance=guidance, **run
        )
        assert ranks.shape == (100, LENGTH, 4) and ranks.min() >= 0 and ranks.max() <= 9
        counts = np.bincount(ranks[:, 5, 0], minlength=10)
        return ((counts - 10) ** 2 / 10).sum()

    limit = chi2(9).ppf(0.9999)
    assert statistic(sda.GaussianCovariance(12, through_network=False), STD) < limit
    assert statistic(sda.DPS(), STD) > limit  # hardly any spread


def test_no_truths():
    with pytest.raises(ConfigError, match="truths"):
        diagnostics.simulation_based_calibration(
            jax.random.key(0), exact_prior(CHAIN, LENGTH), OPERATOR, STD, LENGTH, 0, 4
        )
