"""Metrics against known values; and together they tell truth from what is not."""

import jax
import numpy as np
import pytest
import scipy.stats

import sda_jax as sda
from sda_jax import evaluation as metrics
from sda_jax.core._errors import ConfigError


def normal(seed, n=400, shift=0.0, scale=1.0):
    return shift + scale * np.random.default_rng(seed).standard_normal((n, 3, 1))


def test_wasserstein_of_a_shift_and_in_one_dimension():
    x = normal(0)
    assert metrics.wasserstein1(x, x + 2) == pytest.approx(2 * np.sqrt(3), rel=1e-6)
    a, b = normal(1)[:, :1], normal(2, shift=0.5)[:, :1]
    known = scipy.stats.wasserstein_distance(a.ravel(), b.ravel())
    assert metrics.wasserstein1(a, b) == pytest.approx(known)
    with pytest.raises(ConfigError, match="same size"):
        metrics.wasserstein1(x, x[:5])


def test_energy_distance_in_one_dimension():
    a, b = normal(1)[:, :1], normal(2, shift=0.8)[:, :1]
    known = scipy.stats.energy_distance(a.ravel(), b.ravel()) ** 2
    assert metrics.energy_distance(a, b) == pytest.approx(known, abs=0.01)


@pytest.mark.slow
def test_energy_test_has_its_level_and_power():
    p = [metrics.energy_test(normal(2 * i, 60), normal(2 * i + 1, 60), 99) for i in range(200)]
    assert scipy.stats.kstest(p, "uniform").pvalue > 1e-3
    assert metrics.energy_test(normal(0), normal(1, shift=0.3)) == 1 / 200
    assert metrics.energy_test(normal(0), normal(1, scale=1.3)) < 0.02


def test_mmd_is_zero_on_average_for_one_law():
    same = [metrics.mmd(normal(2 * i, 50), normal(2 * i + 1, 50)) for i in range(100)]
    assert abs(np.mean(same)) < 4 * np.std(same) / 10
    assert metrics.mmd(normal(0), normal(1, shift=1.0)) > 5 * np.std(same)


def test_crps_is_its_double_sum_and_known_for_a_normal_law():
    x, truth = normal(0, 50), normal(1, 1)[0]
    pairs = np.abs(x[:, None] - x[None]).sum((0, 1)) / (50 * 49)
    known = (np.abs(x - truth).mean(0) - pairs / 2).mean()
    assert metrics.crps(x, truth) == pytest.approx(known)
    exact = 2 * scipy.stats.norm.pdf(0) - 1 / np.sqrt(np.pi)
    assert metrics.crps(normal(3, 20000), np.zeros((3, 1))) == pytest.approx(exact, abs=0.01)


def test_rmse_and_spread():
    x = normal(0, 20000, shift=0.5, scale=2.0)
    assert metrics.rmse(x, np.zeros((3, 1))) == pytest.approx(0.5, abs=0.04)
    assert metrics.spread(x) == pytest.approx(2.0, rel=0.02)


def test_log_prior_and_likelihood_of_simulations(key):
    system = sda.Lorenz63()
    x = sda.simulate(key, system, 65, batch=400)
    values = np.asarray(metrics.log_prior(system, x))
    expected = 64 * 3 * (-0.5 * np.log(2 * np.pi * np.e * 0.025))
    assert abs(values.mean() - expected) < 4 * values.std() / 20
    observation = sda.observe(key, x[0], lambda x: x[::8, :1], std=0.4)
    one = float(metrics.log_likelihood(observation, x[:1])[0])
    assert one == pytest.approx(float(observation.log_likelihood(x[0])))


@pytest.fixture(scope="module")
def posterior():
    """A Lorenz posterior by three independent runs of the particle smoother."""
    system = sda.Lorenz63()
    truth = sda.simulate(jax.random.key(10), system, 65)
    operator = sda.Every(8, sda.Channels((0,)))
    observation = sda.observe(jax.random.key(11), truth, operator, std=0.4)
    runs = [
        np.asarray(sda.particle_smoother(jax.random.key(k), system, observation, 65, 16384))
        for k in (12, 13, 14)
    ]
    return system, observation, runs


def judged_different(posterior, ensemble):
    """Whether log prior, log likelihood, spread and W1 find a difference.

    Bounds: four standard errors for the means over the members, 10 % for the spread (six standard
    errors), 8 % for W1 (its scatter over pairs of runs is 3 %).
    """
    system, observation, (a, b, _) = posterior
    found = metrics.compare(ensemble, a, b, system, observation)
    prior = np.asarray(metrics.log_prior(system, a)).std() * np.sqrt(1.5 / len(a))
    likelihood = np.asarray(metrics.log_likelihood(observation, a)).std() * np.sqrt(1.5 / len(a))
    return {
        "log prior": abs(found.log_prior - found.log_prior_truth) > 4 * prior,
        "log likelihood": abs(found.log_likelihood - found.log_likelihood_truth) > 4 * likelihood,
        "spread": abs(found.spread_ratio - 1) > 0.1,
        "w1": found.w1 > 1.08 * found.w1_floor,
    }


def smoothed(x):
    inner = (x[:, :-2] + x[:, 1:-1] + x[:, 2:]) / 3
    return np.concatenate([x[:, :1], inner, x[:, -1:]], axis=1)


SPOILT = {
    "shrunk": lambda x: x.mean(0) + 0.8 * (x - x.mean(0)),
    "widened": lambda x: x.mean(0) + 1.2 * (x - x.mean(0)),
    "smoothed": smoothed,
    "noised": lambda x: x + 0.05 * np.random.default_rng(0).standard_normal(x.shape),
    "shifted": lambda x: x + 0.3,
}


@pytest.mark.slow
def test_truth_passes_all_metrics(posterior):
    assert not any(judged_different(posterior, posterior[2][2]).values())


@pytest.mark.slow
@pytest.mark.parametrize("how", SPOILT)
def test_spoilt_truth_is_rejected(posterior, how):
    verdict = judged_different(posterior, SPOILT[how](posterior[2][2]))
    assert any(verdict.values()), verdict


def test_ranks_and_spread_skill_of_a_calibrated_ensemble():
    rng = np.random.default_rng(0)
    truth, ensemble = rng.standard_normal((200, 5, 2)), rng.standard_normal((9, 200, 5, 2))
    counts = np.bincount(metrics.ranks(ensemble, truth).ravel(), minlength=10)
    assert counts.sum() == 2000 and len(counts) == 10
    assert scipy.stats.chisquare(counts).pvalue > 1e-3
    wide = np.bincount(metrics.ranks(1.5 * ensemble, truth).ravel(), minlength=10)
    assert scipy.stats.chisquare(wide).pvalue < 1e-6
    # relative standard error of a standard deviation of 2000 numbers: 1.6 %
    assert abs(metrics.spread_skill(ensemble, truth) - 1) < 0.07
    assert metrics.spread_skill(0.8 * ensemble, truth) < 0.87


def test_residual_std_skips_what_is_missing():
    y = np.array([[1.0, np.nan], [3.0, 4.0]])
    observation = sda.Observation(y, lambda x: 2 * x, std=1.0)
    ensemble = np.stack([np.ones((2, 2)), np.zeros((2, 2))])
    expected = np.sqrt(np.mean(np.square([1, -1, -2, -1, -3, -4])))
    np.testing.assert_allclose(metrics.residual_std(observation, ensemble), expected, rtol=1e-6)


def test_spectrum_distance():
    x = np.random.default_rng(0).standard_normal((3, 4, 16, 16, 2))
    assert metrics.spectrum_distance(x, x) == 0
    assert metrics.spectrum_distance(x, 10 * x) == pytest.approx(2, rel=1e-4)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_coverage_is_the_share_for_one_law_and_not_for_others(share):
    x = [normal(i, 255) for i in range(40)]
    found = [metrics.coverage(a, b, share) for a, b in zip(x[::2], x[1::2], strict=True)]
    assert abs(np.mean(found) - share) < 4 * np.std(found) / np.sqrt(20)
    assert metrics.coverage(x[0], 1.3 * x[1], share) < share - 0.05
    assert metrics.coverage(x[0], 0.7 * x[1], share) > share + 0.04
    with pytest.raises(ConfigError, match="share: got 1"):
        metrics.coverage(x[0], x[1], 1)


def test_rank_flatness_is_one_for_truths_of_the_ensembles_law():
    """And 1 + n / (m + 1) for n truths among m members, whose own scatter adds."""
    x = [normal(i, 399) for i in range(60)]
    found = [metrics.rank_flatness(a, b[:80]) for a, b in zip(x[::2], x[1::2], strict=True)]
    assert abs(np.mean(found) - 1.2) < 4 * np.std(found) / np.sqrt(30)
    assert metrics.rank_flatness(0.7 * x[0], x[1]) > 3
    assert metrics.rank_flatness(x[0] + 0.3, x[1]) > 3
    with pytest.raises(ConfigError, match="samples: got 400.*multiple of 16"):
        metrics.rank_flatness(normal(0), normal(1))
