"""Optimal interpolation, interpolation in time, and their scores beside a posterior's."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sparse
from test_series import CHANNELS, LENGTH, covariance, lags

import sda_jax as sda
from sda_jax.classical import (
    GaussianClimate,
    climate_of,
    interpolation_in_time,
    optimal_interpolation,
)
from sda_jax.core._errors import ConfigError, ObservationError
from sda_jax.data._layout import Axis, Channel, Layout
from sda_jax.diffusion._denoisers import NetworkDenoiser
from sda_jax.diffusion._series import SeriesPreconditioned
from sda_jax.evaluation import baseline_scores, normal_crps
from sda_jax.evaluation._baselines import CLIMATE, IN_TIME, OPTIMAL, truth_as_points
from sda_jax.observations._interpolation import Interpolate

UNITS = sda.Standardisation((1.0, -3.0), (2.0, 0.5))
SCALE = np.tile([2.0, 0.5], LENGTH)


@pytest.fixture(scope="module")
def known():
    return dataclasses.replace(SeriesPreconditioned(), lags=jnp.asarray(lags(LENGTH), jnp.float32))


def points(indices, length):
    shape = (length, CHANNELS)
    flat = np.ravel_multi_index(np.transpose(indices), shape)
    return Interpolate(flat[:, None], np.ones((len(flat), 1)), shape)


def conditioned(whole, mean, rows, y, noise):
    gain = whole @ rows.T @ np.linalg.inv(rows @ whole @ rows.T + noise)
    left = whole - gain @ rows @ whole
    return mean + gain @ (y - rows @ mean), np.sqrt(np.diag(left))


@pytest.mark.parametrize("kind", ["points", "function", "combined"])
def test_optimal_interpolation_is_the_gaussian_posterior(known, kind):
    climate = GaussianClimate.of(known, UNITS, LENGTH)
    y = np.array([2.0, -2.5, 5.0, np.nan], np.float32)
    rows = np.eye(LENGTH * CHANNELS)[[0, 5, 8, 9]]
    if kind == "points":
        index = [(0, 0), (2, 1), (4, 0), (4, 1)]
        seen = sda.Observation(y, points(index, LENGTH), std=0.3)
    elif kind == "function":
        seen = sda.Observation(y, lambda x: x.reshape(-1)[jnp.array([0, 5, 8, 9])], std=0.3)
    else:
        seen = sda.combine(
            sda.Observation(y[:2], points([(0, 0), (2, 1)], LENGTH), std=0.3),
            sda.Observation(y[2:], lambda x: x[4], std=0.3),
        )
    mean = np.tile([1.0, -3.0], LENGTH)
    whole = covariance(LENGTH) * np.outer(SCALE, SCALE)
    expected, std = conditioned(whole, mean, rows[:3], y[:3], 0.09 * np.eye(3))
    found = optimal_interpolation(climate, seen)
    np.testing.assert_allclose(found.mean.ravel(), expected, atol=2e-5)
    np.testing.assert_allclose(found.std.ravel(), std, atol=2e-5)
    at = points([(3, 1), (6, 0)], LENGTH)
    elsewhere = optimal_interpolation(climate, seen, at)
    np.testing.assert_allclose(elsewhere.mean, found.mean[[3, 6], [1, 0]])
    np.testing.assert_allclose(elsewhere.std, found.std[[3, 6], [1, 0]])


def test_without_an_observation_it_is_the_climate(known):
    found = optimal_interpolation(GaussianClimate.of(known, UNITS, LENGTH), None)
    np.testing.assert_allclose(found.mean, np.tile([1.0, -3.0], (LENGTH, 1)))
    variances = np.tile(np.diag(lags(1)[0]), LENGTH) * SCALE**2
    np.testing.assert_allclose(found.std.ravel() ** 2, variances, rtol=1e-5)


def test_beyond_the_lags_the_covariance_is_tapered(known):
    length, taper = 20, 0.5 + 0.5 * np.cos(np.pi * np.arange(LENGTH) / LENGTH)
    tapered = lags(LENGTH) * taper[:, None, None]
    nothing = np.zeros((length - LENGTH, 2, 2))
    c = np.concatenate([tapered, nothing])
    rows = [[c[j - i] if j >= i else c[i - j].T for j in range(length)] for i in range(length)]
    climate = GaussianClimate.of(known, UNITS, length)
    each = sparse.eye_array(length * CHANNELS, format="csr")
    np.testing.assert_allclose(climate.between(each, each), np.block(rows), atol=1e-6)
    weights = np.random.default_rng(0).standard_normal(length * CHANNELS)
    expected = np.block(rows) @ weights
    np.testing.assert_allclose(climate.along(weights).ravel(), expected, atol=1e-5)


def test_a_bent_operator_ends_at_the_most_likely_trajectory(known):
    climate = GaussianClimate.of(known, UNITS, LENGTH)
    y, std = jnp.array([9.0, 1.0, 4.0]), 0.2
    seen = sda.Observation(y, lambda x: x[::3, 0] ** 2 + x[::3, 1], std=std)
    found = optimal_interpolation(climate, seen)
    inverse = np.linalg.inv(covariance(LENGTH) * np.outer(SCALE, SCALE))

    def cost(x):
        e = (x - jnp.array([1.0, -3.0])).reshape(-1)
        return 0.5 * e @ inverse @ e + 0.5 * jnp.sum((y - seen.operator(x)) ** 2) / std**2

    x = jnp.asarray(found.mean)
    step = np.linalg.solve(
        np.asarray(jax.hessian(cost)(x)).reshape(LENGTH * CHANNELS, -1),
        np.asarray(jax.grad(cost)(x)).ravel(),
    )
    # what a step of Newton would still change, against what is not known
    assert np.max(np.abs(step) / found.std.ravel()) < 0.02


def test_what_it_cannot_do_is_refused(known):
    climate = GaussianClimate.of(known, UNITS, LENGTH)
    counts = sda.Observation(np.ones(LENGTH), lambda x: x[:, 0] ** 2, noise=sda.Poisson())
    with pytest.raises(ObservationError, match="Gaussian"):
        optimal_interpolation(climate, counts)
    with pytest.raises(ConfigError, match="knows no covariance"):
        GaussianClimate.of(sda.Preconditioned(), UNITS, LENGTH)


def test_interpolation_in_time_takes_the_nearest_place():
    axis = Axis("lon", tuple(range(0, 360, 45)), period=360.0)
    layout = Layout((Channel("t"), Channel("q"), Channel("p")), (axis,))
    shape = (9, 8, 3)

    def at(rows):
        index = [np.ravel_multi_index(r, shape) for r in rows]
        return Interpolate(np.array(index)[:, None], np.ones((len(index), 1)), shape)

    seen = [(2, 7, 0), (6, 7, 0), (4, 3, 0), (4, 3, 1)]
    observation = sda.Observation(np.array([1.0, 3.0, 10.0, -5.0]), at(seen), std=0.1)
    wanted = [(4, 0, 0), (0, 6, 0), (8, 4, 0), (4, 5, 0), (3, 0, 1), (3, 0, 2)]
    usual = np.zeros(shape)
    usual[:, 7, 0], usual[..., 2], usual[:, 6, 0] = 0.5, 99.0, 7.0
    found = interpolation_in_time(observation, at(wanted), layout, usual)
    # around the circle, before the first, after the only one, halfway between two, not observed
    # departures of 0.5 and 2.5 from what is usual at the first place
    np.testing.assert_allclose(found, [1.5, 7.5, 10.0, (1.5 + 10.0) / 2, -5.0, 99.0])
    with pytest.raises(ObservationError, match="points"):
        interpolation_in_time(observation, lambda x: x, layout, usual)


def test_normal_crps_is_that_of_many_members():
    draws = 1.5 + 0.7 * np.random.default_rng(0).standard_normal((40_000, 1))
    for y in (0.0, 1.5, 4.0):
        assert normal_crps(1.5, 0.7, y) == pytest.approx(
            sda.evaluation.crps(draws, np.array([y])), abs=0.01
        )
    assert normal_crps(1.0, 0.0, 3.0) == 2.0


def test_baselines_rank_as_they_know(known):
    """Truths of the very distribution: optimal interpolation is calibrated, and best."""
    layout = Layout((Channel("t", at=(("station", "a"),)), Channel("t", at=(("station", "b"),))))
    denoiser = NetworkDenoiser(None, None, sda.Cosine(), known)
    units = sda.Standardisation((1.0, 1.0), (2.0, 2.0))
    prior = sda.Prior(denoiser, units, (2,), layout=layout)
    rng = np.random.default_rng(1)
    root = np.linalg.cholesky(covariance(LENGTH))
    shape, total = (LENGTH, 2), {}
    seen_at = points([(0, 0), (2, 0), (4, 0), (6, 0)], LENGTH)
    for _ in range(200):
        truth = 1 + 2 * (root @ rng.standard_normal(LENGTH * 2)).reshape(shape).astype("f4")
        y = np.asarray(seen_at(truth)) + 0.3 * rng.standard_normal(4)
        observation = sda.Observation(y, seen_at, std=0.3)
        found = baseline_scores(prior, observation, truth_as_points(truth, prior), LENGTH)
        assert not found.left_out
        for method, scores in found.scores["t (no unit)"].items():
            total.setdefault(method, []).append([scores["rmse"] ** 2, scores["crps"]])
    mse = {method: np.mean(s, axis=0)[0] for method, s in total.items()}
    estimate = optimal_interpolation(climate_of(prior, LENGTH), observation)
    expected = np.mean(estimate.std**2)  # the same for every truth
    each = np.array(total[OPTIMAL])[:, 0]
    assert abs(mse[OPTIMAL] - expected) < 4 * each.std() / np.sqrt(len(each))
    assert mse[OPTIMAL] < mse[IN_TIME] and mse[OPTIMAL] < mse[CLIMATE]
    crps = {method: np.mean(s, axis=0)[1] for method, s in total.items()}
    assert min(crps, key=lambda m: crps[m]) == OPTIMAL


def test_a_prior_without_covariance_leaves_optimal_interpolation_out():
    layout = Layout((Channel("t"), Channel("q")))
    prior = sda.Prior(None, UNITS, (2,), layout=layout)
    truth = np.ones((LENGTH, 2), np.float32)
    observation = sda.Observation(np.ones(2), points([(0, 0), (1, 1)], LENGTH), std=0.1)
    found = baseline_scores(prior, observation, truth_as_points(truth, prior), LENGTH)
    assert list(found.left_out) == [OPTIMAL] and "covariance" in found.left_out[OPTIMAL]
    scores = found.scores["t (no unit)"]
    assert scores[CLIMATE]["rmse"] == pytest.approx(0.0, abs=1e-6)
    assert found.scores["q (no unit)"][CLIMATE]["rmse"] == pytest.approx(4.0)
    assert set(scores[IN_TIME]) == {"rmse", "crps"}
