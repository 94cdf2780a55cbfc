"""Which settings a prior has where none are given."""

import numpy as np
import pytest
from conftest import ROOT

import sda_jax as sda
from sda_jax.core._errors import ConfigError, ObservationError
from sda_jax.experiment._config import load_config
from sda_jax.posterior._assimilate import posterior_denoiser
from sda_jax.posterior._presets import FIELD_PRESETS, INDEPENDENT_SAMPLER, PRESETS


@pytest.fixture(scope="module")
def flow():
    return sda.load_prior("kolmogorov")


def settings(prior, observation, guidance=None, sampler=None):
    """Guidance and sampler, given or chosen."""
    length = 9 if prior.window is None else prior.window
    posterior, sampler = posterior_denoiser(prior, observation, length, 256, guidance, sampler)
    return posterior.method, sampler


LORENZ = sda.Observation(np.zeros((3, 1)), sda.Every(4, sda.Channels((0,))), std=0.4)
OBSERVATION = sda.Observation(np.zeros((1, 4, 4, 2)), sda.Every(5, sda.Coarsen(8)), std=0.1)


def test_fields_take_no_gradient_through_their_windows(flow):
    for guidance, sampler in sda.presets(flow).values():
        assert not guidance.through_network and isinstance(sampler.corrector, sda.Gibbs)
    assert settings(flow, OBSERVATION) == FIELD_PRESETS["default"]


def test_the_flows_default_is_what_its_benchmarks_measured(flow):
    measured = load_config(ROOT / "configs" / "kolmogorov_assimilation.py")[0].assimilation
    assert settings(flow, OBSERVATION) == (measured.guidance, measured.sampler)


def test_what_is_given_is_kept_and_what_is_not_goes_with_it(flow):
    assert settings(flow, OBSERVATION, sda.SDA()) == (sda.SDA(), INDEPENDENT_SAMPLER)
    covariance = sda.GaussianCovariance(5)
    sampler = FIELD_PRESETS["default"][1]
    assert settings(flow, OBSERVATION, covariance) == (covariance, sampler)
    assert settings(flow, OBSERVATION, None, INDEPENDENT_SAMPLER) == (
        FIELD_PRESETS["default"][0],
        INDEPENDENT_SAMPLER,
    )
    lorenz = sda.load_prior("lorenz63")
    assert settings(lorenz, LORENZ) == PRESETS["default"]
    assert settings(lorenz, LORENZ, covariance) == (covariance, INDEPENDENT_SAMPLER)


def test_other_noise_models_have_a_constant_inflation(flow):
    """Inflation by the innovations is refused for them: without options it must not be asked."""
    observation = sda.Observation(OBSERVATION.y, OBSERVATION.operator, noise=sda.StudentT(0.1))
    guidance, _ = settings(flow, observation)
    assert guidance.inflation == 1.0


def test_an_observation_has_a_length():
    prior = sda.load_prior("lorenz63")
    for given in ((LORENZ,), (None, 9), (LORENZ, 0), (LORENZ, "9")):
        with pytest.raises(ConfigError, match="length: got"):
            sda.presets(prior, *given)
    with pytest.raises(ObservationError):
        sda.presets(prior, "obs", 9)
    assert sda.presets(prior, LORENZ, 9) == sda.presets(prior)


@pytest.mark.slow
def test_costs_rise_as_documented(flow):
    """Evaluations and gradients of a member."""
    lorenz = sda.load_prior("lorenz63")
    found = [
        sda.count_evaluations(lorenz, LORENZ, 9, *preset, samples=128)
        for preset in PRESETS.values()
    ]
    assert found == [(119, 29, 0, 90), (315, 45, 0, 270), (1053, 77, 0, 976), (391, 389, 0, 0)]
    fields = [sampler.steps for _, sampler in sda.presets(flow).values()]
    assert fields == sorted(set(fields))
