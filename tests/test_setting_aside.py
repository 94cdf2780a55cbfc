"""Values that are withheld to judge an ensemble, and what is said of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sda_jax as sda
from sda_jax.core._errors import ConfigError, ObservationError
from sda_jax.experiment._early_warning import early_warning, verdict
from sda_jax.observations._setting_aside import set_aside
from sda_jax.posterior._diagnosis import judged

MEMBERS = 63


def diagnosis(fit=0.5, misfits=0.0):
    return judged(np.full(MEMBERS, fit), np.full(MEMBERS, misfits))


def test_values_are_divided(key):
    y = np.arange(40.0).reshape(8, 5)
    y[2] = np.nan
    whole = sda.Observation(y, lambda x: x, std=0.1)
    kept, aside = set_aside(key, whole, 0.2)
    ours, theirs = np.asarray(kept.y), np.asarray(aside.y)
    assert np.sum(~np.isnan(theirs)) == 7 and np.sum(~np.isnan(ours)) == 28
    np.testing.assert_array_equal(np.where(np.isnan(ours), theirs, ours), y.astype("f4"))
    again = set_aside(key, whole, 0.2)[1]
    np.testing.assert_array_equal(theirs, again.y)
    other = set_aside(jax.random.key(5), whole, 0.2)[1]
    assert not np.array_equal(theirs, other.y, equal_nan=True)
    assert set_aside(key, whole, 0.0)[0] is whole and set_aside(key, whole, 0.0)[1] is None


@pytest.mark.parametrize("share", [-0.1, 1.0, 2])
def test_shares_that_are_none_are_refused(key, share):
    with pytest.raises(ConfigError, match="--set-aside"):
        set_aside(key, sda.Observation(np.ones(9), lambda x: x, std=0.1), share)


def test_too_few_values_or_correlated_noise_are_refused(key):
    with pytest.raises(ObservationError, match="of 3 observed values"):
        set_aside(key, sda.Observation(np.ones(3), lambda x: x, std=0.1), 0.1)
    correlated = sda.Observation(np.ones(3), lambda x: x, covariance=np.eye(3) + 0.1)
    with pytest.raises(ObservationError, match="correlated"):
        set_aside(key, correlated, 0.5)


@pytest.mark.parametrize(
    "width, said",
    [(1.0, "looks trustworthy"), (0.5, "too sure of itself: only"), (3.0, "wider than need be")],
)
def test_the_verdict_hangs_on_values_set_aside(width, said):
    rng = np.random.default_rng(0)
    ranks = (width * rng.standard_normal((MEMBERS, 300)) < rng.standard_normal(300)).sum(axis=0)
    found = verdict(diagnosis(), ranks)
    assert said in found and "of the 300 values set aside" in found


def test_the_verdict_without_values_and_of_what_failed():
    assert "--set-aside 0.1" in verdict(diagnosis(), None)
    said = verdict(diagnosis(fit=1e-9, misfits=9.0), np.arange(MEMBERS))
    assert said.startswith("Do not trust the ensemble")


def test_the_innovation_chi_square_is_that_of_the_members():
    rng = np.random.default_rng(3)
    y = rng.standard_normal(50)
    observation = sda.Observation(y, lambda x: x[:, 0], std=1.0)
    members = jnp.asarray(y + 1.3 * rng.standard_normal((MEMBERS, 50)))[..., None]
    found = sda.evaluation.innovation_chi_square(observation, members).members.mean()
    said = early_warning(sda.diagnose(observation, members), 50, {}, None)
    assert said.startswith(f"innovation chi-square: {found:.2f}; 1 give or take 0.20")
