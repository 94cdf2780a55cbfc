"""The spectral parameterisation against dense linear algebra on a small periodic plane."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sda_jax as sda
from sda_jax.core._errors import ConfigError, StorageError
from sda_jax.diffusion._composition import SHARED, ComposedDenoiser
from sda_jax.diffusion._denoisers import NetworkDenoiser
from sda_jax.diffusion._gaussian import GaussianDenoiser, covariance_times, draw_error
from sda_jax.diffusion._parameterisations import Preconditioned
from sda_jax.diffusion._schedules import Cosine
from sda_jax.diffusion._spectral import LinearDenoiser, SpectralPreconditioned
from sda_jax.networks import UNet
from sda_jax.prior._loading import load_prior
from sda_jax.prior._prior import Prior
from sda_jax.prior._saving import save_prior
from sda_jax.prior._trajectory_denoiser import trajectory_denoiser

SHAPE = (3, 4, 6, 2)  # window, x, y, channels
SIZE = int(np.prod(SHAPE))
SCHEDULE = Cosine()
NETWORK = UNet(channels=(8, 8), blocks=(1, 1), outputs=2)


@jax.jit
def at(denoiser, x, t):
    return denoiser(x, t)


@pytest.fixture(scope="module")
def trajectories():
    """White noise smoothed along every axis and mixed between channels, 8 x 12 states."""
    white = np.random.default_rng(0).normal(size=(8, 14, *SHAPE[1:])).astype(np.float32)
    smooth = white + np.roll(white, 1, axis=2) + 0.5 * np.roll(white, 1, axis=3)
    smooth = smooth[:, 2:] + 0.7 * smooth[:, 1:-1] + 0.4 * smooth[:, :-2]
    return smooth @ np.array([[1.0, 0.3], [0.0, 0.5]], np.float32)


@pytest.fixture(scope="module")
def spectral(trajectories):
    return SpectralPreconditioned().fitted(trajectories, SHAPE[0])


@pytest.fixture(scope="module")
def network(spectral):
    """A denoiser with random weights."""
    blank = NetworkDenoiser(NETWORK, None, SCHEDULE, spectral)
    variables = jax.jit(lambda key: blank.init(key, SHAPE))(jax.random.key(0))
    return dataclasses.replace(blank, variables=variables)


@pytest.fixture(scope="module")
def covariance(trajectories):
    """Of flattened windows, averaged over all shifts of the plane."""
    windows = trajectories.reshape(-1, *SHAPE)
    shifts = [np.roll(windows, (i, j), (2, 3)) for i in range(SHAPE[1]) for j in range(SHAPE[2])]
    flat = np.concatenate(shifts).reshape(-1, SIZE).astype(np.float64)
    return flat.T @ flat / len(flat)


@pytest.mark.parametrize("ratio", [0.01, 0.3, 3.0, 100.0])
def test_without_a_network_it_is_the_exact_gaussian_denoiser(spectral, covariance, key, ratio):
    exact = GaussianDenoiser.of(jnp.zeros(SHAPE), jnp.asarray(covariance, jnp.float32), SCHEDULE)
    t = SCHEDULE.time(ratio)
    x = jax.random.normal(key, SHAPE) * jnp.sqrt(SCHEDULE.mu(t) ** 2 + SCHEDULE.sigma(t) ** 2)
    ours = spectral.denoise(jnp.zeros(SHAPE), x, t, SCHEDULE)
    np.testing.assert_allclose(ours, exact(x, t), atol=2e-5 * max(1, ratio))


@pytest.mark.parametrize("ratio", [0.01, 0.3, 3.0])
def test_outputs_have_the_covariance_of_the_linear_error(spectral, covariance, ratio):
    t = SCHEDULE.time(ratio)
    basis = jnp.eye(SIZE).reshape(-1, *SHAPE)
    root = np.asarray(jax.vmap(lambda e: spectral.outputs(e, t, SCHEDULE))(basis)).reshape(-1, SIZE)
    error = ratio**2 * covariance @ np.linalg.inv(covariance + ratio**2 * np.eye(SIZE))
    error *= SIZE / np.trace(error)
    np.testing.assert_allclose(root @ root.T, error, atol=1e-4)


@pytest.mark.parametrize("ratio", [0.01, 0.3, 3.0])
def test_the_loss_counts_modes_by_the_root_of_their_error(spectral, covariance, ratio):
    """What it squares has the root of the linear error's covariance, of unit variance as before."""
    t = SCHEDULE.time(ratio)

    def seen(e):
        return spectral.weighted(spectral.outputs(e, t, SCHEDULE), t, SCHEDULE)

    root = np.asarray(jax.vmap(seen)(jnp.eye(SIZE).reshape(-1, *SHAPE))).reshape(-1, SIZE)
    error = ratio**2 * covariance @ np.linalg.inv(covariance + ratio**2 * np.eye(SIZE))
    values, vectors = np.linalg.eigh(error)
    weights = np.sqrt(np.maximum(values, 0))
    expected = (vectors * weights) @ vectors.T * SIZE / weights.sum()
    np.testing.assert_allclose(root @ root.T, expected, atol=2e-3)


def test_gains_multiply_what_the_network_adds_by_wavenumber(network, spectral, key):
    """Between measured levels they are interpolated; wavevectors count with the nearest integer."""
    gains = jnp.linspace(0.5, 1.5, 25)[:, None] * jnp.array([0.3, 1.0, 2.0])
    changed = dataclasses.replace(spectral, gains=gains)
    x, t = jax.random.normal(key, SHAPE), SCHEDULE.time(1.0)  # the level in the middle
    linear = jax.jit(spectral.estimate)(x, t, SCHEDULE)
    added, before = (
        np.fft.fft2(
            at(dataclasses.replace(network, parameterisation=p), x, t) - linear, axes=(1, 2)
        )
        for p in (changed, spectral)
    )
    wavenumber = np.hypot(np.fft.fftfreq(4, 1 / 4)[:, None], np.fft.fftfreq(6, 1 / 6))
    factors = np.array([0.3, 1.0, 2.0, 2.0, 2.0])[np.rint(wavenumber).astype(int)]
    np.testing.assert_allclose(added, factors[:, :, None] * before, atol=1e-4)
    both = jnp.stack([x, 2 * x])
    times = jnp.array([t, SCHEDULE.time(0.1)])[:, None, None, None, None]
    together = changed.denoise(both, both, times, SCHEDULE)
    for i in range(2):
        alone = changed.denoise(both[i], both[i], times[i, 0, 0, 0, 0], SCHEDULE)
        np.testing.assert_allclose(together[i], alone, atol=1e-5)


@pytest.mark.parametrize("field", ["gains", "errors"])
def test_what_is_of_another_grid_is_refused_when_loaded(network, spectral, field, tmp_path):
    law = dataclasses.replace(spectral, **{field: jnp.ones((25, 7))})
    denoiser = dataclasses.replace(network, parameterisation=law)
    path = save_prior(tmp_path, Prior(denoiser, sda.Standardisation(), SHAPE[1:], 3))
    with pytest.raises(StorageError, match="prior"):
        load_prior(path)


def test_measured_errors_scale_the_covariance_by_wavenumber(spectral, key):
    ones = jnp.ones((25, 3))
    known = dataclasses.replace(spectral, errors=ones * jnp.array([0.25, 1.0, 0.5]))
    w, t = jax.random.normal(key, SHAPE), SCHEDULE.time(0.5)
    whole = np.fft.rfft2(spectral.covariance_times(w, t, SCHEDULE), axes=(1, 2))
    scaled = np.fft.rfft2(known.covariance_times(w, t, SCHEDULE), axes=(1, 2))
    wavenumber = np.hypot(np.fft.fftfreq(4, 1 / 4)[:, None], np.arange(4))
    factors = np.array([0.25, 1.0, 0.5, 0.5, 0.5])[np.rint(wavenumber).astype(int)]
    np.testing.assert_allclose(scaled, factors[:, :, None] * whole, atol=1e-4)
    drawn = [p.draw_error(key, SHAPE, t, SCHEDULE) for p in (spectral, known)]
    waves = [np.fft.rfft2(e, axes=(1, 2)) for e in drawn]
    np.testing.assert_allclose(waves[1], np.sqrt(factors)[:, :, None] * waves[0], atol=1e-4)


def test_the_target_denoises_exactly(spectral, key):
    x, noise = jax.random.normal(key, (2, 5, *SHAPE))
    for ratio in (0.003, 1.0, 30.0):
        t = jnp.full((5, 1, 1, 1, 1), SCHEDULE.time(ratio))
        x_t = SCHEDULE.mu(t) * x + SCHEDULE.sigma(t) * noise
        target = spectral.target(x, noise, t, SCHEDULE)
        recovered = spectral.denoise(target, x_t, t, SCHEDULE)
        np.testing.assert_allclose(recovered, x, atol=2e-5 * max(1, ratio))


def test_target_and_inputs_have_unit_variance(spectral, trajectories, key):
    """Over the data that it was fitted to, to sampling error of the noise."""
    windows = jnp.asarray(trajectories.reshape(-1, *SHAPE))
    noise = jax.random.normal(key, windows.shape)
    error = 5 * np.sqrt(2 / SHAPE[1] / SHAPE[2] / len(windows))  # as if one mode in each held all
    for ratio in (0.01, 0.5, 5.0):
        t = SCHEDULE.time(ratio)
        x_t = SCHEDULE.mu(t) * windows + SCHEDULE.sigma(t) * noise
        target = spectral.target(windows, noise, t, SCHEDULE)
        seen = spectral.inputs(x_t, t, SCHEDULE)
        for values in (target, seen[..., :2], seen[..., 2:]):
            np.testing.assert_allclose(jnp.mean(values**2), 1, atol=error)


def test_with_the_identity_it_is_preconditioned(key):
    waves = (SHAPE[1], SHAPE[2] // 2 + 1)
    n = SHAPE[0] * SHAPE[3]
    modes = np.zeros((*waves, n, n, 2), np.float32)
    modes[..., 0] = np.eye(n)
    white = SpectralPreconditioned(jnp.ones((*waves, n)), jnp.asarray(modes))
    output, x, noise = jax.random.normal(key, (3, *SHAPE))
    for ratio in (0.01, 1.0, 10.0):
        t = SCHEDULE.time(ratio)
        shaped = white.outputs(output, t, SCHEDULE)
        np.testing.assert_allclose(shaped, output, atol=1e-5)
        np.testing.assert_allclose(
            white.denoise(shaped, x, t, SCHEDULE),
            Preconditioned().denoise(output, x, t, SCHEDULE),
            rtol=1e-4,
            atol=1e-5,
        )
        np.testing.assert_allclose(
            white.target(x, noise, t, SCHEDULE),
            Preconditioned().target(x, noise, t, SCHEDULE),
            atol=1e-5,
        )


@pytest.mark.slow
def test_batched_times_equal_one_at_a_time(network, key):
    x, times = jax.random.normal(key, (2, *SHAPE)), jnp.array([0.2, 0.8])
    both = network.output(x, times)
    for i in range(2):
        np.testing.assert_allclose(network.output(x[i], times[i]), both[i], atol=1e-5)


def test_saved_with_the_prior(network, key, tmp_path):
    saved = Prior(network, sda.Standardisation(), SHAPE[1:], SHAPE[0])
    save_prior(tmp_path / "prior", saved)
    assert "modes" in (text := (tmp_path / "prior" / "prior.json").read_text())
    assert len(text) < 5000  # the arrays are with the weights
    loaded = load_prior(tmp_path / "prior")
    x = jax.random.normal(key, SHAPE)
    np.testing.assert_array_equal(at(loaded.denoiser, x, 0.4), at(network, x, 0.4))


def test_without_a_covariance_or_with_anothers(spectral, key):
    with pytest.raises(ConfigError, match=r"without a covariance.*fitted\(trajectories, window\)"):
        SpectralPreconditioned().inputs(jnp.zeros(SHAPE), 0.5, SCHEDULE)
    with pytest.raises(ConfigError, match=r"shape \(4, 4, 6\).*\(8, 4, 6\).*Fit it"):
        spectral.inputs(jnp.zeros((3, 8, 6, 2)), 0.5, SCHEDULE)


def flow_prior(denoiser) -> Prior:
    return Prior(denoiser, sda.Standardisation(), SHAPE[1:], SHAPE[0])


def autoregressive(length):
    """The distribution of a field whose waves are autoregressive of second order in time: for each
    wavevector the Toeplitz matrix of its autocorrelation times a matrix over channels."""
    correlation = [1.0, 0.9 / 1.3]
    while len(correlation) < length:  # x_i = 0.9 x_{i-1} - 0.3 x_{i-2} + noise
        correlation.append(0.9 * correlation[-1] - 0.3 * correlation[-2])
    lags = np.abs(np.subtract.outer(np.arange(length), np.arange(length)))
    draws = np.random.default_rng(1).normal(size=(2, SHAPE[1], SHAPE[2] // 2 + 1, 2, 2))
    root = draws[0] + 1j * draws[1]
    channels = root @ np.conj(np.swapaxes(root, -1, -2))
    channels[0] = channels[0].real  # kx = 0 is real for the ky that stand for themselves
    time = np.array(correlation)[lags]
    whole = np.einsum("ij,xyab->xyiajb", time, channels)
    n = 2 * length
    return SpectralPreconditioned()._of(whole.reshape(*whole.shape[:2], n, n))


def test_the_extension_of_a_markov_law_is_its_own():
    """Windows of three states know all of an autoregression of second order."""
    found, exact = autoregressive(3).extended(3, 8), autoregressive(8)
    for ratio in (0.1, 1.0, 10.0):
        w = jax.random.normal(jax.random.key(0), (8, *SHAPE[1:]))
        t = SCHEDULE.time(ratio)
        np.testing.assert_allclose(
            found.estimate(w, t, SCHEDULE), exact.estimate(w, t, SCHEDULE), atol=1e-4
        )


@pytest.mark.slow
@pytest.mark.parametrize("length, tolerance", [(5, 2e-4), (40, 2e-3)])
def test_windows_are_told_what_the_states_beyond_them_say(key, length, tolerance):
    """A network that adds nothing, in windows of three states, against the distribution of all
    states; of long trajectories each state is estimated from 17, far more than the correlation
    reaches."""
    blank = NetworkDenoiser(NETWORK, None, SCHEDULE, autoregressive(3))
    blanks = jax.eval_shape(lambda key: blank.init(key, SHAPE), key)
    silent = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), blanks)
    prior = flow_prior(dataclasses.replace(blank, variables=silent))
    composed, exact = (
        trajectory_denoiser(prior, length, memory=sda.Memory(window_chunk=4)),
        autoregressive(length),
    )
    x = jax.random.normal(key, (length, *SHAPE[1:]))
    for ratio in (1.0, 3.0, 30.0):
        t = SCHEDULE.time(ratio)
        mu = SCHEDULE.mu(t)
        windows = at(ComposedDenoiser(prior.denoiser, 3), x, t)
        missing = exact.estimate(x, t, SCHEDULE) - windows
        expected = ratio**2 / (ratio**2 + SHARED**2) * missing
        assert np.abs(mu * expected).max() > 3 * tolerance
        np.testing.assert_allclose(
            mu * (at(composed, x, t) - windows), mu * expected, atol=tolerance
        )


def test_what_the_network_adds_is_composed_of_windows(network, spectral, key):
    x = jax.random.normal(key, (6, *SHAPE[1:]))
    whole = trajectory_denoiser(flow_prior(network), 6)
    for ratio in (0.5, 3.0, 30.0):
        t = SCHEDULE.time(ratio)
        mu = SCHEDULE.mu(t)
        linear = at(ComposedDenoiser(LinearDenoiser(spectral, SCHEDULE), 3), x, t)
        added = at(whole, x, t) - at(ComposedDenoiser(network, 3), x, t)
        estimate = LinearDenoiser(spectral.extended(3, 6), SCHEDULE)(x, t)
        expected = mu * ratio**2 / (ratio**2 + SHARED**2) * (estimate - linear)
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(mu * added, expected, atol=1e-5)


def test_the_law_of_whole_trajectories_is_made_on_the_host(network):
    prior = flow_prior(network)
    x = jnp.zeros((6, *SHAPE[1:]))
    inside = jax.jit(lambda x: trajectory_denoiser(prior, 6)(x, 0.4))(x)
    np.testing.assert_allclose(inside, at(trajectory_denoiser(prior, 6), x, 0.4), atol=1e-4)
    with pytest.raises(ConfigError, match=r"prior: got an argument of a function under jax.jit"):
        jax.jit(lambda prior, x: trajectory_denoiser(prior, 6)(x, 0.4))(prior, x)


@pytest.mark.slow
def test_errors_have_the_covariance_of_spread(spectral, key):
    """Of every parameterisation, and of windows of a longer trajectory: the variance along random
    directions w is `w V w`."""
    network = NetworkDenoiser(NETWORK, None, SCHEDULE, spectral)
    plain = NetworkDenoiser(NETWORK, None, SCHEDULE, Preconditioned())
    exact = GaussianDenoiser.of(jnp.zeros(SHAPE), 0.3 * jnp.eye(SIZE), SCHEDULE)
    longer = (6, *SHAPE[1:])
    cases = (
        (network, SHAPE),
        (plain, SHAPE),
        (exact, SHAPE),
        (ComposedDenoiser(network, SHAPE[0]), longer),
        (ComposedDenoiser(network, SHAPE[0], chunk=2, stride=2), longer),
        (trajectory_denoiser(flow_prior(network), 6), longer),
    )
    n, t = 20_000, SCHEDULE.time(0.8)
    keys = jax.random.split(key, n)
    for denoiser, shape in cases:
        errors = jax.lax.map(
            lambda k: draw_error(k, denoiser, shape, t),  # noqa: B023
            keys,
            batch_size=1000,
        )
        for w in jax.random.normal(key, (3, *shape)):
            along = np.asarray(jnp.tensordot(errors, w, len(shape)))
            expected = float(jnp.vdot(w, covariance_times(denoiser, w, t)))
            assert np.mean(along**2) == pytest.approx(expected, rel=5 * np.sqrt(2 / n))


def test_spread_is_the_dense_covariance(spectral, covariance, key):
    """What the Gaussian distribution says of x given x_t; in windows of a longer trajectory too."""
    blank = NetworkDenoiser(NETWORK, None, SCHEDULE, spectral)
    w = jax.random.normal(key, SHAPE)
    for ratio in (0.1, 3.0):
        t = SCHEDULE.time(ratio)
        dense = ratio**2 * covariance @ np.linalg.inv(covariance + ratio**2 * np.eye(SIZE))
        found = covariance_times(blank, w, t)
        np.testing.assert_allclose(found.reshape(-1), dense @ w.reshape(-1), atol=1e-4)
    w = jax.random.normal(key, (6, *SHAPE[1:]))
    found = covariance_times(ComposedDenoiser(blank, SHAPE[0]), w, 0.5)
    share = jnp.sqrt(jnp.array([1, 2, 3, 3, 2, 1.0]))[:, None, None, None]  # windows of a state
    expected = jnp.zeros_like(w)
    for i in range(4):
        part = covariance_times(blank, (w / share)[i : i + 3], 0.5)
        expected = expected.at[i : i + 3].add(part / share[i : i + 3])
    np.testing.assert_allclose(found, expected, atol=1e-5)
