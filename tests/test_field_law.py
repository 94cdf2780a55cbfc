"""Fields around a Gaussian distribution of orthogonal functions and a remainder."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sda_jax as sda
from sda_jax.classical import climate_of, optimal_interpolation
from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError
from sda_jax.diffusion._calibration import gated
from sda_jax.diffusion._denoisers import NetworkDenoiser
from sda_jax.diffusion._field_lags import amplitude_lags, model_lags
from sda_jax.diffusion._field_law import leading, orthogonal_functions
from sda_jax.diffusion._fields import FieldPreconditioned, temporal_channels
from sda_jax.diffusion._gaussian import GaussianDenoiser
from sda_jax.experiment import Experiment
from sda_jax.experiment._data import require_form
from sda_jax.experiment._defaults import completed
from sda_jax.networks import UNet
from sda_jax.observations._interpolation import Interpolate
from sda_jax.prior._loading import load_prior
from sda_jax.prior._saving import save_prior
from sda_jax.prior._trajectory_denoiser import trajectory_denoiser

SPACE, CHANNELS, K, LAGS, WINDOW = (4, 3), 2, 3, 7, 3
SCHEDULE = sda.Cosine()
STATE = (*SPACE, CHANNELS)
POINTS = int(np.prod(STATE))
RHO, REST = 0.7, 0.3
DRIFT = 0.9 * np.array([[0.9, 0.3, 0.0], [-0.3, 0.9, 0.0], [0.0, 0.0, 0.8]])  # two of them turn


def pieces():
    """Functions, lags of `a' = DRIFT a + e` with unit stationary covariance, and of the rest."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((POINTS, K)))[0]
    scale = np.diag(np.sqrt([9.0, 5.0, 2.0]))
    lags = np.stack([scale @ np.linalg.matrix_power(DRIFT, n).T @ scale for n in range(LAGS)])
    return basis, lags, REST * RHO ** np.arange(LAGS)


def covariance(length):
    basis, lags, left = pieces()
    beyond = np.eye(POINTS) - basis @ basis.T
    rows = [
        [
            basis @ (lags[j - i] if j >= i else lags[i - j].T) @ basis.T + left[abs(i - j)] * beyond
            for j in range(length)
        ]
        for i in range(length)
    ]
    return np.block(rows)


@pytest.fixture(scope="module")
def law():
    basis, lags, left = (jnp.asarray(a, jnp.float32) for a in pieces())
    functions = basis.reshape(*STATE, K)
    slopes = jnp.asarray(np.random.default_rng(1).standard_normal((1, *STATE)), jnp.float32)
    return FieldPreconditioned(functions=functions, lags=lags, left=left, slopes=slopes)


def exact(law, length):
    mean = jnp.broadcast_to(law.slopes[0], (length, *STATE))
    return GaussianDenoiser.of(mean, jnp.asarray(covariance(length), jnp.float32), SCHEDULE)


def prior_of(law, window=WINDOW):
    network = UNet((4,), (1,), forcing=None, outputs=CHANNELS, periodic=(False, False))
    shut = jnp.zeros((2, CHANNELS)), jnp.ones((2, CHANNELS))
    law = dataclasses.replace(law, gate=shut[0], widths=shut[1])
    denoiser = NetworkDenoiser(network, None, SCHEDULE, law)
    blank = denoiser.of_length(window)
    variables = jax.jit(lambda key: blank.init(key, (window, *STATE)))(jax.random.key(0))
    denoiser = dataclasses.replace(denoiser, variables=variables)
    return sda.Prior(denoiser, sda.Standardisation((1.0, -1.0), (2.0, 0.5)), STATE, window)


@pytest.mark.parametrize("t", [0.05, 0.5, 0.95])
def test_without_a_network_it_is_the_gaussian_denoiser(law, t):
    x = jax.random.normal(jax.random.key(0), (WINDOW, *STATE))
    own, whole, t = law.of_length(WINDOW), exact(law, WINDOW), jnp.asarray(t)
    np.testing.assert_allclose(
        own.denoise(jnp.zeros_like(x), x, t, SCHEDULE), whole(x, t), atol=1e-4
    )
    found = own.covariance_times(x, t, SCHEDULE)
    np.testing.assert_allclose(found, whole.covariance_times(x, t), atol=1e-4)
    keys = jax.random.split(jax.random.key(1), 8192)
    drawn = jax.jit(jax.vmap(lambda k: own.draw_error(k, x.shape, t, SCHEDULE)))(keys)
    draws = drawn.reshape(8192, -1)
    probe = np.asarray(x).ravel()
    foreseen = probe @ np.asarray(found).ravel()
    assert np.var(draws @ probe) == pytest.approx(foreseen, rel=5 * np.sqrt(2 / 8192))


def test_errors_are_told_by_channel(law):
    own, t, r = law.of_length(WINDOW), jnp.asarray(0.5), None
    r = float(SCHEDULE.sigma(t) / SCHEDULE.mu(t))
    c = covariance(WINDOW)
    left = np.diag(r**2 * c @ np.linalg.inv(c + r**2 * np.eye(len(c)))).reshape(-1, CHANNELS)
    np.testing.assert_allclose(own.law.error_std(r), np.sqrt(left.mean(axis=0)), rtol=1e-4)


def test_target_is_what_denoise_adds(law):
    keys = jax.random.split(jax.random.key(0))
    x, noise = (jax.random.normal(k, (3, WINDOW, *STATE)) for k in keys)
    t = jnp.array([0.1, 0.5, 0.9]).reshape(3, 1, 1, 1, 1)
    own = law.of_length(WINDOW)
    noisy = SCHEDULE.mu(t) * x + SCHEDULE.sigma(t) * noise
    target = own.target(x, noise, t, SCHEDULE)
    np.testing.assert_allclose(own.denoise(target, noisy, t, SCHEDULE), x, atol=2e-4)
    assert own.inputs(noisy, t, SCHEDULE).shape == (3, WINDOW, *SPACE, 2 * CHANNELS)


@jax.jit
def both(denoiser, x, t):
    """What it makes of x, and the covariance times x."""
    return denoiser(x, t), denoiser.covariance_times(x, t)


def test_whole_trajectories_take_all_lags(law):
    """Longer than the network's window, as long as lags reach: the exact denoiser still."""
    denoiser = trajectory_denoiser(prior_of(law), LAGS)
    x = jax.random.normal(jax.random.key(3), (LAGS, *STATE))
    whole = exact(law, LAGS)
    for t in (0.2, 0.6):
        for found, expected in zip(*(both(d, x, t) for d in (denoiser, whole)), strict=True):
            np.testing.assert_allclose(found, expected, atol=2e-4)


def simulated(states, seed=5):
    """A long record of the very distribution, with a cycle of 12 states in its mean."""
    rng = np.random.default_rng(seed)
    basis, lags, _ = pieces()
    scale = np.sqrt(np.diag(lags[0]))
    noise = np.linalg.cholesky(np.eye(K) - DRIFT @ DRIFT.T)
    a, e = np.zeros((states, K)), np.zeros((states, POINTS))
    a[0] = rng.standard_normal(K)
    for i in range(1, states):
        a[i] = DRIFT @ a[i - 1] + noise @ rng.standard_normal(K)
        e[i] = RHO * e[i - 1] + np.sqrt(1 - RHO**2) * rng.standard_normal(POINTS)
    e = np.sqrt(REST) * (e - e @ basis @ basis.T)
    phase = 2 * np.pi * np.arange(states) / 12
    cycle = np.outer(np.cos(phase), np.linspace(-1, 1, POINTS))
    context = np.stack([np.sin(phase), np.cos(phase)], axis=-1)
    return (a * scale) @ basis.T + e + cycle, cycle, context


def test_everything_is_measured():
    states, length = 4200, 42
    x, cycle, context = simulated(states)
    cut = (-1, length, *STATE)
    found = FieldPreconditioned().fitted(x.reshape(cut), context.reshape(-1, length, 2))
    assert found.functions.shape == (*STATE, K) and len(found.slopes) == 6
    told = found.conditioned(jnp.asarray(context[:12, None, None] + np.zeros((1, *SPACE, 1))))
    assert np.max(np.abs(told.mean.reshape(12, -1) - cycle[:12])) < 0.5
    _, lags, left = pieces()
    basis = np.asarray(found.functions).reshape(-1, K)
    true = covariance(1)
    assert np.trace(basis.T @ true @ basis) > 0.99 * 16.0
    # invariants: the functions' signs are free
    np.testing.assert_allclose(np.diag(found.lags[0]), np.diag(lags[0]), rtol=0.15)
    for lag in (1, 3):
        one, other = (np.linalg.norm(np.asarray(a)[lag]) for a in (found.lags, lags))
        assert one == pytest.approx(other, rel=0.1)
    np.testing.assert_allclose(found.left[:4], left[:4], rtol=0.1)
    assert [temporal_channels(n) for n in (1, 3, 6, 10, 15)] == [0, 1, 2, 3, 4]


def test_functions_of_few_states_keep_the_variance_that_others_have():
    """Of 30 states of 200 points: sample variances are half too large, these are not."""
    rng = np.random.default_rng(2)
    root = np.linalg.qr(rng.standard_normal((200, 200)))[0] * np.sqrt(
        np.r_[40.0, 25.0, 15.0, np.full(197, 0.4)]
    )
    ours, theirs, true = [], [], []
    for _ in range(20):
        x = rng.standard_normal((30, 200)) @ root.T
        found = orthogonal_functions(x, np.zeros((30, 0)))
        basis = found.basis
        ours.append(found.variances.sum() + found.rest * (200 - basis.shape[1]))
        theirs.append(found.variances.sum() / ((x @ basis) ** 2).mean(axis=0).sum())
        real = np.einsum("pk,pq,qk->k", basis, root @ root.T, basis)
        true.append(found.variances.sum() / real.sum())
    error = np.std(true, ddof=1) / np.sqrt(20)
    assert np.mean(true) == pytest.approx(1.0, abs=0.05 + 3 * error)
    assert np.mean(theirs) < 0.9
    assert np.mean(ours) == pytest.approx(80 + 0.4 * 197, rel=0.1)


def test_chance_correlations_are_shrunk():
    rng = np.random.default_rng(4)
    lags = amplitude_lags(rng.standard_normal((1, 60, 8)), np.ones(8), 3)
    apart = ~np.eye(8, dtype=bool)
    for lag in (0, 1):
        assert np.sqrt(np.mean(lags[lag][apart] ** 2)) < 0.5 / np.sqrt(60)
    np.testing.assert_allclose(np.diag(lags[0]), 1.0, atol=1e-12)


def test_a_long_memory_is_kept():
    """Of functions that vary slowly and, as much, at random: a model from state to state forgets
    what the record remembers."""
    k, states, count = 4, 4000, 33
    rng = np.random.default_rng(7)
    slow = np.zeros((states, k))
    for i in range(1, states):
        slow[i] = 0.97 * slow[i - 1] + np.sqrt(1 - 0.97**2) * rng.standard_normal(k)
    x = (slow + rng.standard_normal((states, k))) / np.sqrt(2)
    true = (
        np.eye(k) * (0.5 * 0.97 ** np.arange(count) + 0.5 * (np.arange(count) == 0))[:, None, None]
    )
    z = (x / x.std(axis=0))[None]
    found, model = amplitude_lags(z, np.ones(k), count), model_lags(z, count)
    assert np.linalg.norm(found[8:] - true[8:]) < 0.5 * np.linalg.norm(model[8:] - true[8:])


def test_lags_are_those_of_a_process():
    """Whose windows have the covariance that others of the record have in every direction, the
    smallest too: a linear estimate from data with little noise errs by no more than the noise."""
    k, states = 12, 3000
    rng = np.random.default_rng(6)
    drift = 0.97 * np.linalg.qr(rng.standard_normal((k, k)))[0]
    x = np.zeros((2 * states, k))
    for i in range(1, 2 * states):
        x[i] = drift @ x[i - 1] + np.sqrt(1 - 0.97**2) * rng.standard_normal(k)
    lags = amplitude_lags(x[None, :states], np.ones(k), 9)

    def law(n):
        rows = [[lags[j - i] if j >= i else lags[i - j].T for j in range(n)] for i in range(n)]
        return np.block(rows)

    for length in (2, 5, 9):
        assert np.linalg.eigvalsh(law(length))[0] > 0.01
    windows = x[states:].reshape(-1, 5 * k)[:600]
    seen = windows + 0.03 * rng.standard_normal(windows.shape)
    gain = law(5) @ np.linalg.inv(law(5) + 0.03**2 * np.eye(5 * k))
    assert np.mean((seen @ gain.T - windows) ** 2) < 0.03**2


def test_leading_functions_are_the_same_either_way():
    x = np.random.default_rng(0).standard_normal((12, 30)) * np.linspace(3, 0.1, 30)
    wide, values = leading(x, 4), np.linalg.svd(x)[2][:4].T
    np.testing.assert_allclose(np.abs(np.sum(wide * values, axis=0)), 1.0, atol=1e-6)
    tall = leading(x.T, 4)
    np.testing.assert_allclose(np.abs(np.linalg.svd(x.T)[2][:4] @ tall), np.eye(4), atol=1e-6)


@pytest.mark.slow
def test_with_the_gate_shut_the_posterior_is_optimal_interpolation(law):
    prior, length, count = prior_of(law), 5, 1024
    index = [(0, 0, 1, 0), (2, 3, 2, 1), (2, 1, 0, 0), (4, 2, 2, 0)]
    flat = np.ravel_multi_index(np.transpose(index), (length, *STATE))
    operator = Interpolate(flat[:, None], np.ones((4, 1)), (length, *STATE))
    observation = sda.Observation(np.array([3.0, -0.5, -1.0, 4.0]), operator, std=0.4)
    sampler = sda.PredictorCorrector(
        32, sda.LogSNR(), sda.DPMSolverPP2M(), sda.LeimkuhlerMatthews(7, 0.5, above=0.005)
    )
    members = sda.assimilate(
        jax.random.key(1), prior, observation, length, count, sda.GaussianCovariance(), sampler
    )
    expected = optimal_interpolation(climate_of(prior, length), observation)
    flat = np.asarray(members, np.float64)
    error = (flat.mean(axis=0) - expected.mean) / expected.std
    assert np.max(np.abs(error)) < 4.5 / np.sqrt(count) + 0.02
    ratio = flat.var(axis=0, ddof=1) / expected.std**2
    assert np.max(np.abs(ratio - 1)) < 5 * np.sqrt(2 / count) + 0.03  # 3 % for 32 steps


def test_optimal_interpolation_of_fields_is_the_gaussian_posterior(law):
    prior, length = prior_of(law), 5
    rows = np.zeros((3, length * POINTS))
    rows[[0, 1, 2], [7, 60, 110]] = 1.0
    y = np.array([2.0, -1.0, 0.5])
    operator = Interpolate(np.array([[7], [60], [110]]), np.ones((3, 1)), (length, *STATE))
    found = optimal_interpolation(
        climate_of(prior, length), sda.Observation(y, operator, std=np.array([0.3, 0.4, 0.5]))
    )
    scale = np.tile([2.0, 0.5], length * POINTS // 2)
    mean = np.tile(np.asarray(law.slopes[0]).ravel(), length) * scale
    mean = mean + np.tile([1.0, -1.0], length * POINTS // 2)
    whole = covariance(length) * np.outer(scale, scale)
    gain = whole @ rows.T @ np.linalg.inv(rows @ whole @ rows.T + np.diag([0.09, 0.16, 0.25]))
    np.testing.assert_allclose(found.mean.ravel(), mean + gain @ (y - rows @ mean), atol=1e-4)
    left = np.diag(whole - gain @ rows @ whole)
    np.testing.assert_allclose(found.std.ravel(), np.sqrt(left), atol=1e-4)


VALID = np.ones(STATE, bool)
VALID[0, 0] = False


@component
class Oracle(NetworkDenoiser):
    """In the network's place what the linear estimate lacks for data of zero; under the mask,
    nonsense."""

    def output(self, x, t):
        level = t.reshape(-1, 1, 1, 1, 1)
        clean = self.parameterisation.target(0 * x, x / SCHEDULE.sigma(level), level, SCHEDULE)
        return jnp.where(VALID, clean, 1e3)


def test_the_gate_leaves_out_what_is_masked(law):
    """A network that is right where there are values, and wild under the mask, is let through."""
    denoiser = Oracle(None, None, SCHEDULE, law.of_length(WINDOW))
    found = gated(jax.random.key(0), denoiser, jnp.zeros((2, 8, WINDOW, *STATE)), None, VALID)
    np.testing.assert_allclose(found.parameterisation.gate, 1.0, atol=1e-3)


def test_it_is_saved_and_loaded(law, tmp_path):
    prior = prior_of(law)
    loaded = load_prior(save_prior(tmp_path / "prior", prior))
    x = jax.random.normal(jax.random.key(0), (5, *STATE))
    found, expected = (both(trajectory_denoiser(p, 5), x, 0.4)[0] for p in (loaded, prior))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_forms_that_do_not_fit_are_refused(law):
    with pytest.raises(ConfigError, match="SeriesPreconditioned"):
        require_form(FieldPreconditioned(), ())
    with pytest.raises(ConfigError, match="FieldPreconditioned"):
        require_form(sda.diffusion.SeriesPreconditioned(), (4, 3))
    with pytest.raises(ConfigError, match="windows of shape"):
        law.of_length(WINDOW).inputs(jnp.zeros((WINDOW, 5, 3, 2)), jnp.asarray(0.5), SCHEDULE)
    with pytest.raises(ConfigError, match="without lags"):
        FieldPreconditioned().of_length(3)


def test_short_records_have_short_segments():
    assert completed(Experiment(), [], 2, 0, 21).training.segment == 21
    assert completed(Experiment(), [], 2, 0, 500).training.segment == 64
    field = completed(Experiment(), [(6, False), (8, True)], 1, 0, 4)
    assert field.window == field.training.segment == 3
    assert isinstance(field.parameterisation, FieldPreconditioned) and field.network.outputs == 1
    theirs = dataclasses.replace(Experiment(), training=sda.Training(segment=9))
    assert completed(theirs, [], 2, 0, 4).training.segment == 9
