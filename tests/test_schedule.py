"""Noise schedules against their formulas in double precision, and the time grids' distributions."""

import jax.numpy as jnp
import numpy as np
import pytest

from sda_jax.core._errors import ConfigError
from sda_jax.diffusion._grids import Concentrated, EvenTime, Karras, LogSNR, Piecewise
from sda_jax.diffusion._schedules import (
    VARIANCES,
    Cosine,
    Exponential,
    Linear,
    RectifiedFlow,
    VarianceExploding,
    noise_level,
    noise_ratio,
)

ALPHAS = {
    Cosine: lambda t, eta: np.cos(np.arccos(np.sqrt(eta)) * t) ** 2,
    Linear: lambda t, eta: 1 - (1 - eta) * t,
    Exponential: lambda t, eta: np.exp(np.log(eta) * t**2),
}
SIGMAS = {
    "vp": lambda a, eta: np.sqrt(1 - a**2 + eta**2),
    "sub-vp": lambda a, eta: 1 - a**2 + eta,
    "sub-sub-vp": lambda a, eta: 1 - a + eta,
}
SCHEDULES = [cls(variance=v) for cls in ALPHAS for v in VARIANCES]
SCHEDULES += [VarianceExploding(), RectifiedFlow()]
INFINITE = float("inf")
GRIDS = [
    EvenTime(),
    LogSNR(),
    Karras(),
    Concentrated(),
    Piecewise((INFINITE, 1.0, 0.0), (0, 0.5, 1)),
]


@pytest.mark.parametrize("cls", ALPHAS)
@pytest.mark.parametrize("variance", VARIANCES)
def test_formulas(cls, variance):
    schedule, t = cls(eta=1e-3, variance=variance), np.linspace(0, 1, 1001)
    alpha = ALPHAS[cls](t, 1e-3)
    np.testing.assert_allclose(schedule.mu(jnp.asarray(t)), alpha, rtol=1e-3, atol=1e-7)
    sigma = SIGMAS[variance](alpha, 1e-3)
    np.testing.assert_allclose(schedule.sigma(jnp.asarray(t)), sigma, rtol=2e-5)


def test_formulas_of_the_other_schedules():
    t = jnp.linspace(0, 1, 11)
    ve, flow = VarianceExploding(1e-2, 1e2), RectifiedFlow(1e-3)
    np.testing.assert_allclose(ve.mu(t), 1.0)
    np.testing.assert_allclose(ve.sigma(t), 10 ** np.linspace(-2, 2, 11), rtol=1e-5)
    np.testing.assert_allclose(flow.mu(t) + flow.sigma(t), 1.001, rtol=1e-5)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_whole_range_and_inverse(schedule):
    np.testing.assert_allclose(noise_ratio(schedule, 0.0), 1e-3, rtol=2e-3)
    np.testing.assert_allclose(noise_ratio(schedule, 1.0), 1e3, rtol=2e-3)
    ratios = jnp.logspace(-2.9, 2.3, 200)
    np.testing.assert_allclose(noise_ratio(schedule, schedule.time(ratios)), ratios, rtol=4e-3)
    level = noise_level(schedule, schedule.time(jnp.array([1e-3, 1.0, 1e3])))
    np.testing.assert_allclose(level, [0, 0.5, 1], atol=2e-3)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_grids_fall_from_one_to_exactly_zero(grid, schedule):
    times = grid(schedule, 64)
    assert times.shape == (65,)
    assert times[0] == 1 and times[-1] == 0
    assert (jnp.diff(times) < 0).all()


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_spacing(schedule):
    log_ratio = jnp.log(noise_ratio(schedule, LogSNR()(schedule, 64)))
    np.testing.assert_allclose(jnp.diff(log_ratio), -np.log(1e6) / 64, rtol=0.04)
    root = noise_ratio(schedule, Karras(7.0)(schedule, 64)) ** (1 / 7)
    np.testing.assert_allclose(jnp.diff(root), (1e-3 ** (1 / 7) - 1e3 ** (1 / 7)) / 64, rtol=0.02)


def test_impossible_settings_are_refused():
    with pytest.raises(ConfigError, match="eta: got 0"):
        Cosine(eta=0)
    with pytest.raises(ConfigError, match="variance.*'vq'.*sub-vp"):
        Linear(variance="vq")
    with pytest.raises(ConfigError, match="rho"):
        Karras(rho=-1.0)


def test_a_share_of_the_steps_lies_between_two_levels():
    schedule = Cosine()
    ratios = np.asarray(noise_ratio(schedule, Concentrated(0.1, 3.0, 0.75)(schedule, 400)))
    inside = (ratios >= 0.0999) & (ratios <= 3.001)
    assert abs(inside.sum() - 301) <= 1
    steps = -np.diff(np.log(ratios))
    within = steps[inside[:-1] & inside[1:]]
    np.testing.assert_allclose(within, np.log(30) / 300, rtol=0.02)
    outside = steps[~inside[:-1] & ~inside[1:]]
    np.testing.assert_allclose(outside, outside.mean(), rtol=0.05)
    whole = Concentrated(1e-9, 1e9)(schedule, 40)
    np.testing.assert_allclose(whole, LogSNR()(schedule, 40), atol=1e-5)
    with pytest.raises(ConfigError, match="low: got 3.0; expected below 1.0"):
        Concentrated(3.0, 1.0)


@pytest.mark.parametrize("schedule", [Cosine(), VarianceExploding()], ids=str)
def test_a_piecewise_grid_keeps_its_levels_and_shares(schedule):
    """Part of the way, even in the logarithm on either side of a level; the whole way is LogSNR."""
    grid = Piecewise((8.0, 0.5, 0.1), (0.0, 0.75, 1.0))
    ratios = np.asarray(noise_ratio(schedule, grid(schedule, 8)))
    expected = np.concatenate([np.geomspace(8, 0.5, 7), np.geomspace(0.5, 0.1, 3)[1:]])
    np.testing.assert_allclose(ratios, expected, rtol=1e-3)
    whole = Piecewise((INFINITE, 0.0))(schedule, 16)
    np.testing.assert_allclose(whole, LogSNR()(schedule, 16), atol=1e-6)
    for levels, shares in (((1.0, 2.0), (0, 1)), ((2.0, 1.0), (0, 0.9)), ((2.0,), (0, 1))):
        with pytest.raises(ConfigError, match="levels, shares"):
            Piecewise(levels, shares)
