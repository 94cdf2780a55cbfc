"""Populations and statistical linearisation, where the answer is known."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from counting import evaluations

import sda_jax as sda
from sda_jax.classical import exact_prior, kalman_smoother, trajectory_distribution
from sda_jax.core._errors import ConfigError
from sda_jax.guidance._base import Guided
from sda_jax.observations._noise_models import Normal
from sda_jax.prior._trajectory_denoiser import trajectory_denoiser
from sda_jax.samplers._driver import advance, begin
from sda_jax.samplers._gathering import distance, none_gathered, separation, squared_error, union

pytestmark = pytest.mark.compiles
CHAIN, LENGTH = sda.DampedSpring(), 16
EVERY = sda.Every(2, sda.Channels((0,)))
SMALL = sda.Population(island=4, particles=4, search=6, refinement=3, corrections=1, at_once=60)
TWICE = dataclasses.replace(SMALL, searches=2, excess=-1.0, alone=sda.PredictorCorrector(4))
LINEAR = sda.StatisticalLinearization()


def squares(x):
    return x[::2, :1] ** 2


@pytest.fixture(scope="module")
def prior():
    return exact_prior(CHAIN, LENGTH)


@pytest.fixture(scope="module")
def observation():
    truth = sda.simulate(jax.random.key(1), CHAIN, LENGTH)
    return sda.observe(jax.random.key(2), truth, EVERY, std=0.2)


def standardised(prior, observation):
    return observation.standardised(prior.standardisation)


@pytest.mark.parametrize(
    "ratio", [1.0, *(pytest.param(r, marks=pytest.mark.slow) for r in (20.0, 0.05))]
)
def test_linear_operators_have_the_twist_of_the_gaussian_covariance(prior, observation, ratio):
    """And so has a noise model that is Gaussian, whatever stands for it; of values that are missing
    nothing is known."""
    t = prior.denoiser.schedule.time(ratio)
    x = prior.denoiser.schedule.mu(t) * jax.random.normal(jax.random.key(3), (LENGTH, 4))
    y = observation.y.at[1].set(jnp.nan)
    steps = np.abs(np.subtract.outer(np.arange(y.size), np.arange(y.size)))
    gaussian, model, correlated = (
        standardised(prior, sda.Observation(y, EVERY, **noise))
        for noise in (
            {"std": 0.2},
            {"noise": Normal(0.2)},
            {"covariance": 0.04 * 0.5**steps},
        )
    )
    expected_twist = sda.GaussianCovariance(40)
    for one, same in ((gaussian, gaussian), (model, gaussian), (correlated, correlated)):
        x_hat, gradient = jax.jit(expected_twist.twist)(prior.denoiser, same, x, t)
        expected = jax.jit(expected_twist.log_twist)(prior.denoiser, same, x_hat, t)
        found = jax.jit(LINEAR.log_twist)(prior.denoiser, one, x_hat, t)
        assert abs(found - expected) < 1e-3 * abs(expected) + 2e-3
        _, slope = jax.jit(LINEAR.twist)(prior.denoiser, one, x, t)
        np.testing.assert_allclose(slope, gradient, rtol=1e-2, atol=1e-2 * np.abs(gradient).max())


def test_a_square_is_seen_with_its_mean_and_covariance(prior):
    """Of `u = x + e`, `E u^2 = x^2 + V` and `Cov(u_i^2, u_j^2) = 4 x_i x_j V_ij + 2 V_ij^2`; the
    second to the error of so many draws."""
    draws, t = 4096, prior.denoiser.schedule.time(2.0)
    method = sda.StatisticalLinearization(draws=draws)
    y = jnp.ones((8, 1))
    seen = standardised(prior, sda.Observation(y, squares, std=0.1))
    level = method.level(prior.denoiser, (LENGTH, 4), t)
    x_hat = jax.random.normal(jax.random.key(5), (LENGTH, 4))
    near = method.linearised(seen, x_hat, level)
    errors = np.asarray(level.errors, np.float64)[:, ::2, 0]
    v = errors.T @ errors / draws  # as drawn
    scale = np.asarray(prior.standardisation.std, np.float64).reshape(-1)
    scale = scale[0] if scale.size else 1.0
    u = np.asarray(prior.standardisation.inverse(x_hat), np.float64)[::2, 0]
    v = v * scale**2
    np.testing.assert_allclose(near.residual, 1 - (u**2 + np.diag(v)), rtol=1e-3, atol=1e-3)
    exact = np.diag(np.full(8, 0.01)) + 4 * np.outer(u, u) * v + 2 * v**2
    found = np.asarray(near.covariance(level), np.float64)
    shrunk = found.copy()
    np.fill_diagonal(shrunk, 0)
    error = 4 * np.sqrt(np.outer(np.diag(exact), np.diag(exact)) * 4 / draws)
    assert (np.abs(np.diag(found - exact)) < 2 * np.diag(error)).all()
    # of what is not linear, a fifth of what is off the diagonal is taken away
    apart = exact - 0.2 * 2 * v**2
    np.fill_diagonal(apart, 0)
    assert (np.abs(shrunk - apart) < 2 * error).all()


@jax.custom_vjp
def bent(x):
    return jnp.sin(x)


bent.defvjp(lambda x: (jnp.sin(x), x), lambda x, w: (w * jnp.cos(x),))


def test_the_jacobian_is_the_same_by_either_mode(prior):
    """Of all that is seen, of a part of it, and of an operator that only reverse mode knows; the
    mean slope over the first draws."""
    t, x_hat = prior.denoiser.schedule.time(2.0), jax.random.normal(jax.random.key(5), (LENGTH, 4))
    units = prior.standardisation.std
    found = []
    for operator in (jnp.sin, bent, lambda x: jnp.sin(x)[:2]):
        y = jnp.zeros_like(operator(x_hat))
        seen = standardised(prior, sda.Observation(y, operator, std=0.1))
        level = LINEAR.level(prior.denoiser, (LENGTH, 4), t)
        near = LINEAR.linearised(seen, x_hat, level)
        found.append(near.jacobian @ level.basis.T)
    few = level.errors[: LINEAR.jacobians]
    slope = jnp.mean(jnp.cos(prior.standardisation.inverse(x_hat + few)), axis=0) * units
    for jacobian in found:
        rows = len(jacobian)
        exact = np.diag(np.asarray(slope).reshape(-1))[:rows]
        np.testing.assert_allclose(jacobian, exact, atol=1e-5 * np.abs(exact).max() + 1e-5)


@pytest.mark.parametrize("x_hat", [0.0, 0.7])
def test_of_what_is_bent_the_draws_agree_on_the_exact_likelihood(x_hat):
    """The density of `tanh(2 u)`, u normal, seen with noise, by quadrature: the stand-in's error is
    more than halved."""
    prior = exact_prior(sda.VectorAutoregression(), 8)
    t = prior.denoiser.schedule.time(1.0)
    seen = sda.Observation(jnp.array([0.5]), lambda x: jnp.tanh(2 * x[0, :1]), std=0.2)
    mean = jnp.full((8, *prior.state_shape), x_hat)
    method = sda.StatisticalLinearization(draws=8192, jacobians=64)
    found = jax.jit(method.log_twist)(prior.denoiser, seen, mean, t)
    level = method.level(prior.denoiser, mean.shape, t)
    e = jnp.zeros(mean.size).at[0].set(1.0) @ level.basis
    std = float(jnp.sqrt(e**2 @ level.variances))
    u = np.linspace(-8, 8, 8001)
    density = scipy.stats.norm.pdf(u) * scipy.stats.norm.pdf(
        0.5, np.tanh(2 * (x_hat + std * u)), 0.2
    )
    exact = np.log(density.sum() * (u[1] - u[0]))
    near = method.linearised(seen, mean, level)
    normal = scipy.stats.norm.logpdf(
        float(near.residual[0]), 0, np.sqrt(near.covariance(level)[0, 0])
    )
    assert 2 * abs(found - exact) < abs(normal - exact) > 0.02, (found, exact, normal)


@jax.jit
def weighted(x, log_weights=None, roots=None):
    count = len(x)
    given = jnp.zeros(count) if log_weights is None else log_weights
    own = jnp.arange(count) if roots is None else roots
    return union(none_gathered(x, given, own), x, x, given, own, jnp.arange(count))


def test_families_tell_how_many_independent_draws_there_are():
    """n draws are worth n, however often each was copied and moved a little, and what is no number
    has no weight; of one family nothing is known."""
    x = jax.random.normal(jax.random.key(0), (256, 5, 3))
    roots = jnp.repeat(jnp.arange(256), 4)
    copies = x[roots] + 0.01 * jax.random.normal(jax.random.key(1), (1024, 5, 3))
    dead = jnp.zeros(257).at[256].set(-jnp.inf)
    with_dead = jnp.concatenate([x, jnp.full((1, 5, 3), jnp.nan)])
    error = jax.jit(squared_error)
    for found in (weighted(x), weighted(copies, roots=roots), weighted(with_dead, dead)):
        # of 15 components; those of a family's sum vary as chi-square does
        assert abs(float(error(found)) * 256 - 1) < 4 * np.sqrt(2 / 256 / 15) + 0.01
    for count in (256, 768):
        one = jax.random.normal(jax.random.key(2), (count, 5, 3))
        assert error(weighted(one, roots=jnp.zeros(count, int))) == jnp.inf


def test_unequal_families_are_worth_what_their_mean_says():
    """Of families of 1, 2, 4 and 9 copies of independent draws: the error of their mean over many
    populations, 102 / 256 of the draws' variance."""
    roots = jnp.repeat(jnp.arange(4), jnp.array([1, 2, 4, 9]), total_repeat_length=16)

    def of(key):
        drawn = jax.random.normal(key, (4, 200))
        found = weighted(drawn[roots], roots=roots)
        flat = found.x_hat - found.weights @ found.x_hat
        return squared_error(found) * jnp.sum(found.weights[:, None] * flat**2) / 200

    squared = jax.vmap(of)(jax.random.split(jax.random.key(3), 64))
    # 12,800 squares of normal numbers
    assert abs(squared.mean() - 102 / 256) < 4 * 102 / 256 * np.sqrt(2 / 12800) + 0.005


@pytest.mark.parametrize(("dimensions", "gap"), [(60, 0.0), (6, 200.0), (2, 0.0)])
def test_distance_is_foreseen(dimensions, gap):
    """Of ensembles of 256 members that are copies of n draws: Wasserstein distance to 256 draws,
    over that between two such sets; to a fifth, in one cloud of many dimensions or two, and where
    two modes lie far apart."""
    rng, size = np.random.default_rng(0), 256

    def draws(n):
        mode = rng.integers(2, size=(n, 1)) - 0.5
        return rng.normal(size=(n, dimensions)) + gap * mode / dimensions**0.5

    def apart(one, other):
        return sda.evaluation.wasserstein1(one[:, None], other[:, None])

    floor = np.mean([apart(draws(size), draws(size)) for _ in range(40)])
    for n in (40, 80, 160):
        found = np.mean([apart(draws(n)[np.arange(size) % n], draws(size)) for _ in range(40)])
        x, names = jnp.asarray(draws(size)), jnp.arange(size)
        foreseen = float(distance(separation(x[:, None], names, 0.0), 1 / n, size))
        assert abs(foreseen / (found / floor) - 1) < 0.2, (n, foreseen, found / floor)
    assert distance(1.0, 1 / size, size) == distance(1e6, 1 / size, size) == 1


def test_copies_are_no_neighbours():
    """Separation of members is what it is without their copies; what is left of variance counts
    for it and for both of two neighbours."""
    x = jax.random.normal(jax.random.key(0), (32, 3, 2))
    once = float(separation(x, jnp.arange(32), 0.0))
    twice = jnp.concatenate([x, x])
    assert float(separation(twice, jnp.tile(jnp.arange(32), 2), 0.0)) == pytest.approx(once)
    squares = np.sum((x[:, None] - x[None]) ** 2, axis=(2, 3)) + np.diag(np.full(32, np.inf))
    variance, nearest = float(x.var(axis=0).sum()), float(squares.min(axis=1).mean())
    assert once == pytest.approx(variance / nearest, rel=1e-4)
    left = float(separation(x, jnp.arange(32), 2.0))
    assert left == pytest.approx((variance + 2) / (nearest + 4), rel=1e-4)
    assert separation(x, jnp.zeros(32, int), 0.0) == 0


def test_searches_meet_by_their_evidence():
    """Three quarters of what is gathered is of the search that has three times the evidence; a
    third one that has as much as both together is half of it."""
    n = 1024
    gathered = none_gathered(jnp.zeros((n, 2, 1)), jnp.zeros(n), jnp.arange(n))
    for number, share in ((1, 1.0), (3, 0.75), (4, 0.5)):
        key_draw, key_resample = jax.random.split(jax.random.key(number))
        x = jax.random.normal(key_draw, (n, 2, 1))
        own = jnp.full(n, number)
        found = union(gathered, x, x, jnp.full(n, jnp.log(number)), own, own)
        gathered = found.resampled(key_resample, n)
        error = 4 * np.sqrt(share * (1 - share) / n)
        assert abs(np.mean(gathered.roots == number) - share) <= error


@pytest.mark.slow
def test_a_search_is_repeated_until_there_is_variety(tmp_path, prior, observation):
    """Once, if any distance is near enough; as often as allowed, if none is; to a file the same,
    where steps that are not needed are left out."""
    for excess, expected in ((1e3, 1), (-1.0, 2)):
        sampler = dataclasses.replace(TWICE, excess=excess)
        key, *given = jax.random.key(4), prior, observation, LENGTH, 10, LINEAR, sampler
        found = sda.draw_posterior(key, *given)
        assert found.diagnosis.searches == expected
        path = tmp_path / f"{expected}.h5"
        sda.assimilate_to_file(key, path, *given, memory=sda.Memory(4), save_every=4)
        size = float(jnp.abs(found.ensemble).max())
        written = sda.load_posterior(path)["ensemble"]
        np.testing.assert_allclose(written, found.ensemble, rtol=0, atol=1e-4 * size)
        assert sda.load_diagnosis(path).searches == expected


def test_searches_cost_what_is_said(prior, observation):
    """Of two searches, what is counted when they are made."""
    small = dataclasses.replace(SMALL, at_once=64)  # fills batches
    once = sda.count_evaluations(prior, observation, LENGTH, LINEAR, small, samples=4)
    sampler = dataclasses.replace(small, searches=2, excess=-1.0)
    seen = partial(Guided, observation=standardised(prior, observation), method=LINEAR)
    made = evaluations(
        sampler, trajectory_denoiser(prior, LENGTH), (LENGTH, *prior.state_shape), seen
    )
    assert once.searched(2).forwards == made.forwards // 4 > once.forwards
    assert once.searched(float("nan")) == once.searched(1) == once
    assert once.vjps == made.vjps // 4


@pytest.mark.parametrize("searches", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_a_population_is_the_kalman_smoothers(prior, observation, searches):
    """However often it is searched: mean within 4 standard errors in every component, covariance
    along each of its axes within 4 standard errors and 3 %, and groups that agree on the
    evidence."""
    n = 1024
    sampler = sda.Population(n, particles=1, searches=searches, excess=-1.0)
    found = sda.draw_posterior(jax.random.key(3), prior, observation, LENGTH, n, LINEAR, sampler)
    exact = kalman_smoother(CHAIN, observation, LENGTH)
    flat = np.asarray(found.ensemble, np.float64).reshape(n, -1)
    mean = exact.mean.reshape(-1)
    z = (flat.mean(0) - mean) / np.sqrt(np.diag(exact.covariance) / n)
    assert np.abs(z).max() < 4, z
    variances, axes = np.linalg.eigh(exact.covariance)
    along = ((flat - mean) @ axes).var(axis=0, ddof=1) / variances
    assert np.abs(along - 1).max() < 0.03 + 4 * np.sqrt(2 / n), along
    assert found.diagnosis.trusted and found.diagnosis.disagreement < 0.2
    assert found.diagnosis.searches == searches
    assert 0.5 < found.diagnosis.error * (searches * n) ** 0.5 < 4


@pytest.mark.slow
def test_modes_have_their_shares():
    """A coordinate seen up to its sign at one place, and a weak hint of the sign: the share of the
    positive mode is that of the hint."""
    prior = exact_prior(sda.VectorAutoregression(), 8)
    distribution = trajectory_distribution(sda.VectorAutoregression(), 8)
    std = np.sqrt(distribution.covariance[0, 0])

    def both(x):
        return jnp.stack([jnp.abs(x[0, 0]) / std, x[0, 0] / std])

    seen = sda.Observation(jnp.array([1.5, 0.5]), both, std=jnp.array([0.1, 1.5]))
    x = sda.assimilate(jax.random.key(0), prior, seen, 8, 512, LINEAR, sda.Population(512))
    grid = np.linspace(-6, 6, 4001)
    log_p = scipy.stats.norm.logpdf(grid, float(distribution.mean[0, 0]) / std)
    log_p += scipy.stats.norm.logpdf(1.5, np.abs(grid), 0.1)
    log_p += scipy.stats.norm.logpdf(0.5, grid, 1.5)
    p = np.exp(log_p)
    share = p[grid > 0].sum() / p.sum()
    found = float(np.mean(np.asarray(x)[:, 0, 0] > 0))
    # resampling from fewer particles than there are levels costs more than independent draws
    assert abs(found - share) < 6 * np.sqrt(share * (1 - share) / 512), (found, share)


@pytest.fixture(scope="module")
def whole(prior, observation):
    """Islands of 4, of which 10 members are two and a half; particles moved 60 at once. They search
    twice."""
    given = jax.random.key(3), prior, observation, LENGTH, 10, LINEAR, TWICE
    return given, sda.draw_posterior(*given)


@pytest.mark.parametrize(
    "chunk,at_once,rounding",
    [
        (None, 100, 1e-3),
        pytest.param(4, 60, 1e-4, marks=pytest.mark.slow),
        pytest.param(12, 60, 1e-4, marks=pytest.mark.slow),
    ],
)
def test_chunk_and_devices_leave_members_alone(whole, chunk, at_once, rounding):
    given, expected = whole
    other = dataclasses.replace(given[-1], at_once=at_once)
    part = sda.assimilate(*given[:-1], other, memory=sda.Memory(chunk))
    size = float(jnp.abs(expected.ensemble).max())
    np.testing.assert_allclose(part, expected.ensemble, rtol=0, atol=rounding * size)


def test_interruption_leaves_members_alone(tmp_path, whole):
    given, whole = whole
    size, path = float(jnp.abs(whole.ensemble).max()), tmp_path / "p.h5"
    key, *rest = given
    sda.assimilate_to_file(key, path, *rest, memory=sda.Memory(4), save_every=4)
    found = sda.load_posterior(path)["ensemble"]
    np.testing.assert_allclose(found, whole.ensemble, rtol=0, atol=1e-4 * size)
    known = sda.load_diagnosis(path)
    np.testing.assert_allclose(known.fit, whole.diagnosis.fit, atol=1e-3)
    assert known[3:8] == pytest.approx(whole.diagnosis[3:8], abs=1e-2)
    assert known.warnings == whole.diagnosis.warnings


def test_what_is_no_populations_is_drawn_independently(prior, observation):
    """Other guidance, and trajectories beyond matrices of their size."""
    alone = sda.PredictorCorrector(4, sda.LogSNR(), sda.DPMSolverPP2M(), sda.Langevin(0))
    sampler = dataclasses.replace(SMALL, alone=alone)
    given = jax.random.key(0), prior, observation, LENGTH, 3
    expected = sda.assimilate(*given, sda.GaussianCovariance(), alone)
    found = sda.assimilate(*given, sda.GaussianCovariance(), sampler)
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(ConfigError, match="StatisticalLinearization"):
        sampler.init(jax.random.key(0), prior.denoiser, (LENGTH, 4))


def test_draws_of_the_posterior_are_trusted_and_others_are_not(observation):
    """Fits of exact draws have no tail; members moved off y, and an ensemble of copies, do."""
    exact = kalman_smoother(CHAIN, observation, LENGTH)
    root = np.linalg.cholesky(exact.covariance)
    white = np.random.default_rng(0).normal(size=(256, len(root)))
    x = (exact.mean.reshape(-1) + white @ root.T).reshape(256, LENGTH, 4).astype(np.float32)
    assert sda.diagnose(observation, x).trusted
    away = x.copy()
    away[:8, ::2, 0] += 1.5
    found = sda.diagnose(observation, away)
    assert found.astray == 8 / 256 and "members cannot have made" in found.warnings[0]
    assert "check std" in sda.diagnose(observation, x + 100.0).warnings[0]
    report = {"log_evidence": [[0.0, 8.0]], "effective": [0.2], "distinct": [0.1], "error": [0.5]}
    found = sda.diagnose(observation, x, report)
    assert len(found.warnings) == 3 and not found.trusted and found.worth == 4
    assert found.disagreement == pytest.approx(8 / np.sqrt(2))
    near = {"error": [70**-0.5], "separation": [1.0]}
    assert sda.diagnose(observation, x, near).trusted
    far = sda.diagnose(observation, x, {**near, "separation": [100.0]})
    assert far.worth == pytest.approx(70) and far.distance > 1.25
    assert [w.split(",")[0] for w in far.warnings] == [
        "The particles are worth 70 independent draws"
    ]
    lost = {**report, "log_evidence": [[[0.0, -np.inf], [np.nan, np.nan]]], "error": [np.nan]}
    found = sda.diagnose(observation, x, lost)
    assert found.disagreement == np.inf and len(found.warnings) == 3 and found.searches == 1
    t = sda.Observation(observation.y, EVERY, noise=sda.StudentT(0.2, 30.0))
    assert sda.diagnose(t, x).trusted and not sda.diagnose(t, away + 1.0).trusted


@pytest.mark.slow
def test_an_island_is_left_alone_by_others_that_search_again(prior):
    """On several devices islands are drawn under `vmap`, where one may search again and another
    not."""
    truth = sda.simulate(jax.random.key(1), CHAIN, LENGTH)
    observation = sda.observe(jax.random.key(2), truth, squares, std=0.2)
    posterior = LINEAR(prior.denoiser, standardised(prior, observation))

    def drawn(sampler, key):
        progress = begin(key, posterior, sampler, (LENGTH, 4))
        progress = advance(key, posterior, sampler, progress, 0)
        made = ~jnp.isnan(sampler.report(progress.state)["log_evidence"][:, 0])
        return sampler.finish(posterior, progress.state), jnp.sum(made)

    sampler = dataclasses.replace(SMALL, searches=2, excess=-0.24)
    many = jax.jit(jax.vmap(partial(drawn, sampler)))
    keys = jax.random.split(jax.random.key(8), 6)
    found, searches = many(keys)
    assert {1, 2} == set(map(int, searches))
    once = searches == 1
    beside, again = many(keys[jnp.where(once, jnp.arange(6), jnp.argmax(once))])
    assert set(map(int, again)) == {1}
    np.testing.assert_array_equal(beside[once], found[once])


@pytest.mark.parametrize("eta", [pytest.param(1e-3, marks=pytest.mark.slow), 2e-2])
def test_members_end_halfway_to_the_mean_of_their_last_state(observation, eta):
    """And so where corrections are made down to the last level."""
    prior = exact_prior(CHAIN, LENGTH, sda.Cosine(eta=eta))
    posterior = LINEAR(prior.denoiser, standardised(prior, observation))

    @jax.jit
    def drawn(key):
        progress = begin(key, posterior, SMALL, (LENGTH, 4))
        state = advance(key, posterior, SMALL, progress, 0).state
        return state.x[: SMALL.island], SMALL.finish(posterior, state)

    x, found = drawn(jax.random.key(5))
    mean = jax.jit(jax.vmap(lambda x: posterior(x, 0.0)))(x)
    expected = (x / prior.denoiser.schedule.mu(0.0) + mean) / 2
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * jnp.abs(expected).max())
