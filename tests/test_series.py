"""Series around a Gaussian distribution: the linear estimate, its errors, the network's gate."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sda_jax as sda
from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError
from sda_jax.diffusion._calibration import describe_gate, gated
from sda_jax.diffusion._denoisers import NetworkDenoiser
from sda_jax.diffusion._gaussian import GaussianDenoiser
from sda_jax.diffusion._schedules import noise_ratio
from sda_jax.diffusion._series import SeriesPreconditioned
from sda_jax.diffusion._series_lags import tapered_lags, unbiased_lags
from sda_jax.experiment._train import _with_law
from sda_jax.networks import TemporalConv
from sda_jax.posterior._assimilate import posterior_denoiser
from sda_jax.posterior._presets import INDEPENDENT_SAMPLER, LINEAR_PRESETS, PRESETS

LENGTH, CHANNELS = 7, 2
PERSISTENCE = np.array([[0.8, 0.3], [-0.2, 0.6]])
SCHEDULE = sda.Cosine()


def lags(count):
    """Of `x_i+1 = A x_i + e`, whose stationary covariance solves `S = A S A^T + I`."""
    a = PERSISTENCE
    s = np.linalg.solve(np.eye(4) - np.kron(a, a), np.eye(2).ravel()).reshape(2, 2)
    return np.stack([s @ np.linalg.matrix_power(a, k).T for k in range(count)])


def covariance(length):
    known = lags(length)
    rows = [
        [known[j - i] if j >= i else known[i - j].T for j in range(length)] for i in range(length)
    ]
    return np.block(rows)


AXES = np.linalg.eigh(lags(1)[0])[1]


@pytest.fixture(scope="module")
def law():
    known = {"lags": lags(LENGTH), "axes": AXES}
    return dataclasses.replace(
        SeriesPreconditioned(), **{k: jnp.asarray(v, jnp.float32) for k, v in known.items()}
    )


@pytest.fixture(scope="module")
def exact():
    mean = jnp.zeros((LENGTH, CHANNELS))
    return GaussianDenoiser.of(mean, jnp.asarray(covariance(LENGTH), jnp.float32), SCHEDULE)


@pytest.mark.parametrize("t", [0.05, 0.5, 0.95])
def test_without_a_network_it_is_the_gaussian_denoiser(law, exact, t):
    x = jax.random.normal(jax.random.key(0), (LENGTH, CHANNELS))
    own = law.of_length(LENGTH)
    t = jnp.asarray(t)
    np.testing.assert_allclose(
        own.denoise(jnp.zeros_like(x), x, t, SCHEDULE), exact(x, t), atol=2e-5
    )
    np.testing.assert_allclose(
        own.covariance_times(x, t, SCHEDULE), exact.covariance_times(x, t), atol=2e-5
    )
    draws = jax.vmap(lambda k: own.draw_error(k, x.shape, t, SCHEDULE))(
        jax.random.split(jax.random.key(1), 20_000)
    ).reshape(20_000, -1)
    expected = jax.vmap(lambda w: exact.covariance_times(w.reshape(x.shape), t).ravel())(
        jnp.eye(x.size)
    )
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    # five standard errors of a covariance
    assert np.max(np.abs(np.cov(draws.T) - expected) / scale) < 5 * np.sqrt(2 / 20_000)


def test_the_mean_and_the_lags_are_measured():
    rng = np.random.default_rng(0)
    x = np.zeros((400, 40, 2))
    x[:, 0] = rng.multivariate_normal(np.zeros(2), lags(1)[0], 400)
    for i in range(1, 40):
        x[:, i] = x[:, i - 1] @ PERSISTENCE.T + rng.normal(size=(400, 2))
    phase = 2 * np.pi * (np.arange(40) + rng.integers(24, size=(400, 1))) / 24
    context = np.stack([np.cos(phase), np.sin(phase)], axis=-1)
    cycle = np.stack([2 + np.cos(phase), np.sin(2 * phase)], axis=-1)
    found = SeriesPreconditioned().fitted(x + cycle, context)
    told = found.conditioned(jnp.asarray(context, jnp.float32))
    assert np.max(np.abs(told.mean - cycle)) < 0.1
    assert len(found.lags) == 39
    own = found.axes.T @ found.lags[0] @ found.axes
    np.testing.assert_allclose(own, np.diag(np.diag(own)), atol=1e-5)
    np.testing.assert_allclose(found.axes.T @ found.axes, np.eye(2), atol=1e-6)
    scale = np.sqrt(np.outer(*[np.diag(lags(1)[0])] * 2))
    assert np.max(np.abs(found.lags[:10] - lags(10)) / scale) < 0.08


def chain(states, seed=0):
    """A record of `x_i+1 = A x_i + e`."""
    rng = np.random.default_rng(seed)
    x = np.zeros((states, CHANNELS))
    x[0] = rng.multivariate_normal(np.zeros(CHANNELS), lags(1)[0])
    for i in range(1, states):
        x[i] = x[i - 1] @ PERSISTENCE.T + rng.normal(size=CHANNELS)
    return x


def test_lags_of_stretches_are_means_over_their_pairs():
    x = [chain(30), chain(4, 1)]
    found = unbiased_lags(x, 7)
    for lag in (0, 3, 6):
        pairs = [np.outer(p[i], p[i + lag]) for p in x for i in range(len(p) - lag)]
        np.testing.assert_allclose(found[lag], np.mean(pairs, axis=0), atol=1e-12)
    rows = [np.zeros((len(p), 0)) for p in x]
    assert tapered_lags(x, rows, 3).shape == (3, CHANNELS, CHANNELS)


def test_lags_are_tapered_as_far_as_the_record_is_short():
    """Of a chain with a short memory, a record of 120 states says nothing of lags of 60; one of
    40,000 says all. What is left is nearer the exact covariance."""
    tapered, plain = [], []
    for seed in range(4):
        x, rows = [chain(120, seed)], [np.zeros((120, 0))]
        found, usual = tapered_lags(x, rows, 59), unbiased_lags(x, 59)
        assert np.all(found[-20:] == 0)
        tapered.append(np.mean((found - lags(59)) ** 2))
        plain.append(np.mean((usual - lags(59)) ** 2))
    assert np.mean(tapered) < 0.5 * np.mean(plain)
    x = [chain(40_000)]
    found, usual = tapered_lags(x, [np.zeros((40_000, 0))], 5), unbiased_lags(x, 5)
    kept = found[1:4] / usual[1:4]
    assert np.all(kept > 0.7)


def test_longer_trajectories_are_composed_of_windows(law):
    x = jax.random.normal(jax.random.key(0), (40, CHANNELS))
    t = jnp.asarray(0.3)
    own, whole = (
        law.of_length(40),
        GaussianDenoiser.of(
            jnp.zeros((40, CHANNELS)), jnp.asarray(covariance(40), jnp.float32), SCHEDULE
        ),
    )
    assert own.law.states == LENGTH
    found = own.denoise(jnp.zeros_like(x), x, t, SCHEDULE)
    ratio = float(SCHEDULE.sigma(t) / SCHEDULE.mu(t))
    # windows of seven states know nearly as much at this noise level
    assert np.sqrt(np.mean((found - whole(x, t)) ** 2)) < 0.05 * ratio
    moved = own.covariance_times(x, t, SCHEDULE)
    expected = whole.covariance_times(x, t)
    assert np.sqrt(np.mean((moved - expected) ** 2) / np.mean(expected**2)) < 0.15


def test_axes_of_channels_are_the_channels(law):
    """And what a network adds is added whatever the axes are, in units of the errors along them."""
    x, added = jax.random.normal(jax.random.key(0), (2, 3, LENGTH, CHANNELS))
    t = jnp.asarray(0.5)
    plain, same = (
        dataclasses.replace(law, axes=a, widths=jnp.array([[0.5, 0.8]] * 2)).of_length(LENGTH)
        for a in (None, jnp.eye(CHANNELS))
    )
    for name in ("inputs", "covariance_times"):
        one, other = (getattr(p, name)(x, t, SCHEDULE) for p in (plain, same))
        np.testing.assert_allclose(one, other, atol=1e-6)
    own, ratio = law.of_length(LENGTH), noise_ratio(SCHEDULE, t)
    one, other = (
        p.denoise(p.along(added) / p.law.error_std(ratio), x, t, SCHEDULE) for p in (own, plain)
    )
    np.testing.assert_allclose(one, other, atol=1e-5)
    assert not np.allclose(own.inputs(x, t, SCHEDULE), plain.inputs(x, t, SCHEDULE), atol=0.1)


def test_a_longer_record_leaves_the_axes_of_the_network(law):
    denoiser = NetworkDenoiser(None, None, SCHEDULE, law)
    longer = dataclasses.replace(law, lags=2 * law.lags, axes=law.axes[:, ::-1])
    found = _with_law(denoiser, longer).parameterisation
    np.testing.assert_array_equal(found.axes, law.axes)
    np.testing.assert_array_equal(found.lags, longer.lags)


def test_channels_that_nearly_agree_are_let_through_by_what_they_share():
    """Two stations of one value, which differ by a hundredth of it. The network knows that what
    they share varies twice as much as the lags say, and nothing of how they differ: there the
    linear estimate stands, and with it how surely one station tells the other."""
    ones, apart = np.array([1.0, 1.0]) / np.sqrt(2), np.array([1.0, -1.0]) / np.sqrt(2)
    shared, differing = np.outer(ones, ones), 1e-4 * np.outer(apart, apart)
    known = {"lags": (shared + differing)[None], "axes": np.stack([apart, ones], axis=1)}
    law = dataclasses.replace(
        SeriesPreconditioned(), **{k: jnp.asarray(v, jnp.float32) for k, v in known.items()}
    ).of_length(1)

    @component
    class KnowsWhatIsShared(NetworkDenoiser):
        def output(self, x, t):
            def one(x, t):
                law, ratio = self.parameterisation, noise_ratio(SCHEDULE, t)
                data = law.along(x / SCHEDULE.mu(t))[..., 1:]
                lacking = data * (4 / (4 + ratio**2) - 1 / (1 + ratio**2))
                return jnp.pad(lacking, ((0, 0), (1, 0))) / law.law.error_std(ratio)

            return jax.vmap(one)(x, t)

    denoiser = KnowsWhatIsShared(None, None, SCHEDULE, law)
    x = 2 * jax.random.normal(jax.random.key(0), (1, 4096, 1, 1)) * ones
    x += 1e-2 * jax.random.normal(jax.random.key(1), (1, 4096, 1, 1)) * apart
    found = gated(jax.random.key(2), denoiser, x).parameterisation
    assert not np.any(found.gate[:, 0])
    np.testing.assert_allclose(found.gate[12:15, 1], 1.0, atol=0.1)
    w, t = jnp.asarray(apart, jnp.float32)[None], SCHEDULE.time(jnp.asarray(2.0))
    foreseen = 1e-4 * 4 / (4 + 1e-4)
    np.testing.assert_allclose(
        found.covariance_times(w, t, SCHEDULE), foreseen * w, atol=0.05 * foreseen
    )


def test_target_is_what_denoise_adds(law):
    keys = jax.random.split(jax.random.key(0))
    x, noise = (jax.random.normal(k, (3, LENGTH, CHANNELS)) for k in keys)
    t = jnp.array([0.1, 0.5, 0.9])[:, None, None]
    own = law.of_length(LENGTH)
    noisy = SCHEDULE.mu(t) * x + SCHEDULE.sigma(t) * noise
    target = own.target(x, noise, t, SCHEDULE)
    np.testing.assert_allclose(own.denoise(target, noisy, t, SCHEDULE), x, atol=1e-4)
    assert own.inputs(noisy, t, SCHEDULE).shape == (3, LENGTH, 2 * CHANNELS)


def test_the_loss_of_the_linear_estimate_is_one(law):
    draws = jax.random.multivariate_normal(
        jax.random.key(0), jnp.zeros(14), jnp.asarray(covariance(LENGTH), jnp.float32), (4000,)
    ).reshape(-1, LENGTH, CHANNELS)
    noise = jax.random.normal(jax.random.key(1), draws.shape)
    for t in (0.2, 0.8):
        target = law.of_length(LENGTH).target(draws, noise, jnp.full((4000, 1, 1), t), SCHEDULE)
        assert np.mean(target**2) == pytest.approx(1, abs=0.04)


@component
class Oracle(NetworkDenoiser):
    """In the network's place what the linear estimate lacks for data of four times the lags'
    covariance, times a factor."""

    factor: float = 1.0

    def output(self, x, t):
        def one(x, t):
            whole = GaussianDenoiser.of(
                jnp.zeros(x.shape), 4 * jnp.asarray(covariance(LENGTH), jnp.float32), SCHEDULE
            )
            law, ratio = self.parameterisation, noise_ratio(SCHEDULE, t)
            lacking = whole(x, t) - law.denoise(jnp.zeros_like(x), x, t, SCHEDULE)
            return self.factor * law.along(lacking) / law.law.error_std(ratio)

        return jax.vmap(one)(x, t)


@pytest.mark.parametrize("factor, expected", [(1.0, 1.0), (2.0, 0.5), (0.5, 1.0), (-1.0, 0.0)])
def test_the_gate_is_how_far_the_network_is_right(law, factor, expected):
    denoiser = Oracle(None, None, SCHEDULE, law.of_length(LENGTH), factor=factor)
    root = 2 * np.linalg.cholesky(covariance(LENGTH))
    white = jax.random.normal(jax.random.key(0), (8, 256, LENGTH * CHANNELS))
    x = (white @ root.T).reshape(8, 256, LENGTH, CHANNELS)
    found = gated(jax.random.key(1), denoiser, x).parameterisation
    differ = slice(11, 15)  # noise levels, sigma/mu from 0.6 to 3, at which the estimates do
    np.testing.assert_allclose(found.gate[differ], expected, atol=0.12)
    if factor == 1.0:  # the errors left are those of the exact denoiser
        ratios = np.geomspace(*[float(noise_ratio(SCHEDULE, e)) for e in (0.0, 1.0)], 25)
        values, vectors = np.linalg.eigh(covariance(LENGTH))
        modes = AXES.T @ vectors.reshape(LENGTH, CHANNELS, -1)
        shares = (modes**2).mean(axis=0)
        left = [shares @ (r**2 * 4 * values / (r**2 + 4 * values)) for r in ratios]
        foreseen = [shares @ (r**2 * values / (r**2 + values)) for r in ratios]
        known = np.sqrt(np.divide(left, foreseen))
        np.testing.assert_allclose(found.widths[differ], known[differ], rtol=0.05)
    if factor == -1.0:  # that of the linear estimate, though these data vary twice as much
        np.testing.assert_allclose(found.widths[found.gate == 0], 1.0, atol=1e-5)
        assert np.mean(found.gate == 0) > 0.5


def test_few_segments_open_no_gate_or_widen_the_errors(law):
    """None for two; the variance of Student's distribution of n degrees of freedom for more, and
    where the gate is shut the linear estimate's own."""
    denoiser = Oracle(None, None, SCHEDULE, law.of_length(LENGTH))
    x = 2 * jax.random.normal(jax.random.key(0), (1, 4096, LENGTH, CHANNELS))
    two, six, all_ = (
        gated(jax.random.key(1), denoiser, x, count).parameterisation for count in (2, 6, None)
    )
    assert not np.any(two.gate)
    np.testing.assert_allclose(two.widths, 1.0, atol=1e-5)
    open_ = six.gate > 0.97
    assert np.any(open_)
    wider = (six.widths / all_.widths)[open_]
    np.testing.assert_allclose(wider, np.sqrt(6 / 4), rtol=0.02)


@pytest.mark.parametrize("gate, count, said", [(0.0, 40, "too short for one"), (0.5, 8, "25%")])
def test_a_record_that_is_too_short_is_told_so(law, gate, count, said):
    known = dataclasses.replace(law, gate=jnp.full((25, 2), gate), widths=jnp.ones((25, 2)))
    text = describe_gate(NetworkDenoiser(None, None, SCHEDULE, known), count)
    assert said in text and ("a short record" in text) == (count < 30)
    assert ("too short" in text) == (gate == 0.0)


def test_a_network_of_too_many_outputs_is_refused(law):
    network = TemporalConv(width=4, dilations=(1,))
    denoiser = NetworkDenoiser(network, None, SCHEDULE, law.of_length(LENGTH))
    variables = denoiser.init(jax.random.key(0), (LENGTH, CHANNELS))
    with pytest.raises(ConfigError, match="outputs to 2"):
        dataclasses.replace(denoiser, variables=variables)(jnp.zeros((LENGTH, CHANNELS)), 0.5)


def test_without_lags_it_says_so():
    with pytest.raises(ConfigError, match="without lags"):
        SeriesPreconditioned().of_length(5)


def shut_prior(law):
    network = TemporalConv(width=4, dilations=(1,), outputs=CHANNELS)
    shut = dataclasses.replace(law, gate=jnp.zeros((2, CHANNELS)), widths=jnp.ones((2, CHANNELS)))
    denoiser = NetworkDenoiser(network, None, SCHEDULE, shut)
    blank = denoiser.of_length(5)
    variables = jax.jit(lambda key: blank.init(key, (5, CHANNELS)))(jax.random.key(0))
    denoiser = dataclasses.replace(denoiser, variables=variables)
    return sda.Prior(denoiser, sda.Standardisation(1.0, 2.0), (CHANNELS,))


LANGEVIN = sda.PredictorCorrector(
    32, sda.LogSNR(), sda.DPMSolverPP2M(), sda.LeimkuhlerMatthews(7, 0.5, above=0.005)
)


@pytest.mark.parametrize(
    "method",
    [pytest.param((sda.GaussianCovariance(), LANGEVIN), marks=pytest.mark.slow), (None, None)],
)
def test_with_the_gate_shut_the_posterior_is_optimal_interpolation(law, method):
    prior = shut_prior(law)
    y = np.array([3.0, -1.0, 2.0, 0.5], np.float32)
    observation = sda.Observation(y, lambda x: x[:8:2, 0], std=0.6)
    count = 2048
    members = sda.assimilate(jax.random.key(1), prior, observation, LENGTH, count, *method)
    whole, seen = 4 * covariance(LENGTH), np.zeros((4, LENGTH * CHANNELS))
    seen[np.arange(4), 2 * CHANNELS * np.arange(4)] = 1
    gain = whole @ seen.T @ np.linalg.inv(seen @ whole @ seen.T + 0.36 * np.eye(4))
    mean, left = 1 + gain @ (y - 1), whole - gain @ seen @ whole
    flat = np.asarray(members).reshape(count, -1)
    std = np.sqrt(np.diag(left))
    assert np.max(np.abs(flat.mean(axis=0) - mean) / std) < 4.5 / np.sqrt(count)
    apart = np.abs(np.cov(flat.T) - left) / np.outer(std, std)
    assert np.max(apart) < 5 * np.sqrt(2 / count) + 0.02  # 2 % for 32 steps


def test_a_network_behind_a_shut_gate_is_not_asked(law):
    """Weights that are not numbers change nothing there, and are seen where the gate is open."""
    gate = jnp.zeros((25, CHANNELS)).at[20:, 0].set(0.5)
    denoiser = shut_prior(law).denoiser.of_length(LENGTH)
    wrong = jax.tree.map(lambda w: w * jnp.nan, denoiser.variables)
    known = dataclasses.replace(denoiser.parameterisation, gate=gate)
    denoiser = dataclasses.replace(denoiser, variables=wrong, parameterisation=known)
    x = jax.random.normal(jax.random.key(0), (3, LENGTH, CHANNELS))
    many = jax.jit(jax.vmap(denoiser, (0, None)))
    low, high = jnp.asarray(0.1), jnp.asarray(0.95)
    np.testing.assert_allclose(
        many(x, low), jax.vmap(lambda x: known.estimate(x, low, SCHEDULE))(x), atol=1e-5
    )
    assert np.isnan(many(x, high)).any()


@pytest.mark.slow
def test_files_and_counts_are_of_the_members_in_memory(law, tmp_path):
    prior, key = shut_prior(law), jax.random.key(1)
    seen = sda.Observation(np.zeros(4), lambda x: x[:8:2, 0], std=0.6)
    expected = sda.assimilate(key, prior, seen, LENGTH, 4)
    path = sda.assimilate_to_file(key, tmp_path / "p.h5", prior, seen, LENGTH, 4)
    found = sda.load_posterior(path)["ensemble"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    counted = sda.count_evaluations(prior, seen, LENGTH)
    assert counted == sda.count_evaluations(prior, seen, LENGTH, *LINEAR_PRESETS["default"])
    assert counted.vjps == 0


def test_gaussian_observations_are_drawn_given_the_errors(law):
    """Presets by what is observed: others take settings for any operator."""
    prior = shut_prior(law)
    y, some = np.zeros(4), lambda x: x[:8:2, 0]
    linear = sda.Observation(y, some, std=0.6)
    squared = sda.Observation(y, lambda x: some(x) ** 2, std=0.6)
    heavy = sda.Observation(y, some, noise=sda.StudentT(0.6))
    assert sda.presets(prior, linear, LENGTH)["default"] == LINEAR_PRESETS["default"]
    for other in (squared, heavy):
        assert sda.presets(prior, other, LENGTH) == PRESETS
    assert sda.presets(prior) == PRESETS
    guidance, own = sda.PiGDM(), LINEAR_PRESETS["fast"][1]
    for given, expected in (
        ((None, None), LINEAR_PRESETS["default"]),
        ((guidance, None), (guidance, INDEPENDENT_SAMPLER)),
        ((LINEAR_PRESETS["fast"][0], own), LINEAR_PRESETS["fast"]),
    ):
        posterior, sampler = posterior_denoiser(prior, linear, LENGTH, 8, *given)
        assert (posterior.method, sampler) == expected
