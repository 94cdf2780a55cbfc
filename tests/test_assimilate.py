"""The public way from a prior and an observation to an ensemble."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sda_jax as sda
from sda_jax.classical import exact_prior, kalman_smoother
from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError, DivergenceError, ObservationError, ResourceError
from sda_jax.diffusion._denoisers import NetworkDenoiser
from sda_jax.diffusion._gaussian import GaussianDenoiser
from sda_jax.diffusion._parameterisations import Preconditioned
from sda_jax.diffusion._schedules import noise_ratio
from sda_jax.networks import ResidualMLP, TemporalConv

pytestmark = pytest.mark.compiles
EXACT = sda.PredictorCorrector(256, sda.LogSNR(), sda.DPMSolverPP2M(), sda.Langevin(0))
GIBBS = sda.PredictorCorrector(
    64, sda.LogSNR(), sda.ExponentialIntegrator(), sda.Gibbs(2, above=0.0)
)
QUICK = sda.PredictorCorrector(8, sda.LogSNR(), sda.DPMSolverPP2M(), sda.Langevin(1, 0.2))
OPERATORS = {
    "positions of every other state": sda.Every(2, sda.Channels((0,))),
    "position and force of every fifth state": sda.Every(5, sda.Channels((0, 3))),
}
ONE_QUICK = [
    pytest.param(name, marks=[pytest.mark.slow] if i else []) for i, name in enumerate(OPERATORS)
]


@pytest.fixture(scope="module")
def prior():
    """An untrained convolutional prior of Lorenz 1963."""
    network = TemporalConv(width=8, dilations=(1,))
    variables = jax.jit(network.init)(jax.random.key(0), jnp.zeros((9, 3)), jnp.zeros(()))
    denoiser = NetworkDenoiser(network, variables, sda.Cosine(), Preconditioned())
    return sda.Prior(denoiser, sda.Lorenz63().standardisation, (3,))


@pytest.fixture(scope="module")
def observation():
    y = np.linspace(-5, 5, 2).reshape(2, 1).astype(np.float32)
    return sda.Observation(y, sda.Every(8, sda.Channels((0,))), std=0.4)


def draw(prior, observation, seed=0, length=9, samples=4, **kwargs):
    kwargs = {"sampler": QUICK} | kwargs
    return sda.assimilate(
        jax.random.key(seed), prior, observation, length=length, samples=samples, **kwargs
    )


def spring(name):
    """Prior, observation and the exact posterior."""
    chain, length = sda.DampedSpring(), 16
    truth = sda.simulate(jax.random.key(1), chain, length)
    observation = sda.observe(jax.random.key(2), truth, OPERATORS[name], std=0.2)
    return exact_prior(chain, length), observation, kalman_smoother(chain, observation, length)


def white_eigenvalues(exact, covariance):
    root = np.linalg.cholesky(exact.covariance)
    return np.linalg.eigvalsh(np.linalg.solve(root, np.linalg.solve(root, covariance).T))


@pytest.mark.parametrize(
    "guidance",
    [
        sda.TweedieCovariance(),
        pytest.param(sda.MMPS(8, limit=1e6, solver="gmres"), marks=pytest.mark.slow),
    ],
    ids=["Tweedie", "MMPS"],
)
@pytest.mark.parametrize("name", ONE_QUICK)
def test_the_ode_is_exact_on_the_damped_spring(name, guidance):
    """Exact denoiser, exact covariance: members are an affine function of their first noise, which
    a regression finds, and with it the mean and covariance of infinitely many."""
    n, key = 256, jax.random.key(3)
    prior, observation, exact = spring(name)
    x = sda.assimilate(key, prior, observation, 16, n, guidance, EXACT, sda.Memory(n))
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(n))
    start = jax.vmap(lambda k: EXACT.init(k, prior.denoiser, (16, 4)).x)(keys)
    schedule = prior.denoiser.schedule
    start = start / np.sqrt(schedule.mu(1.0) ** 2 + schedule.sigma(1.0) ** 2)
    known = np.column_stack([np.ones(n), np.asarray(start, np.float64).reshape(n, -1)])
    flat, std = np.asarray(x, np.float64).reshape(n, -1), np.sqrt(np.diag(exact.covariance))
    (mean, *slopes), *_ = np.linalg.lstsq(known, flat)
    assert (np.abs(known @ np.array([mean, *slopes]) - flat) / std).max() < 1e-3
    # four standard errors of 16384 members
    assert (np.abs(mean - exact.mean.reshape(-1)) / std).max() < 4 / 128
    eigenvalues = white_eigenvalues(exact, np.transpose(slopes) @ np.array(slopes))
    # 4.5 % is what 32 bits leave of an ill-conditioned covariance, however many the steps
    assert np.abs(eigenvalues - 1).max() < 0.05, eigenvalues[[0, -1]]
    assert abs(eigenvalues.mean() - 1) < 0.01


@pytest.mark.compiles(False)
@pytest.mark.parametrize("name", ONE_QUICK)
def test_gibbs_steps_are_exact_on_the_damped_spring(name):
    """Exact denoiser, exact covariance: mean within 4 standard errors of the Kalman smoother's in
    every component, covariance within 3 % beyond the Marchenko-Pastur edges, beyond 4 standard
    errors along each of its axes, and 1 % beyond them in the mean over these."""
    n, guidance = 8192, sda.GaussianCovariance(10, through_network=False)
    prior, observation, exact = spring(name)
    x = sda.assimilate(
        jax.random.key(3), prior, observation, 16, n, guidance, GIBBS, sda.Memory(1024)
    )
    flat = np.asarray(x, np.float64).reshape(n, -1)
    mean = exact.mean.reshape(-1)
    z = (flat.mean(0) - mean) / np.sqrt(np.diag(exact.covariance) / n)
    assert np.abs(z).max() < 4, z
    eigenvalues = white_eigenvalues(exact, np.cov(flat.T))
    low, high = (1 + np.array([-1, 1]) * np.sqrt(mean.size / n)) ** 2
    assert low * 0.97 < eigenvalues[0] and eigenvalues[-1] < high * 1.03, eigenvalues[[0, -1]]
    variances, axes = np.linalg.eigh(exact.covariance)
    along = ((flat - mean) @ axes).var(axis=0, ddof=1) / variances
    assert np.abs(along - 1).max() < 0.03 + 4 * np.sqrt(2 / n), along
    assert abs(along.mean() - 1) < 0.01 + 4 * np.sqrt(2 / (n * along.size)), along.mean()


def test_chunk_and_ensemble_size_leave_members_alone(prior, observation):
    whole = draw(prior, observation, samples=5, memory=sda.Memory(5))
    for samples, chunk in ((5, 2), (3, 3), (3, 64)):
        part = draw(prior, observation, samples=samples, memory=sda.Memory(chunk))
        np.testing.assert_allclose(part, whole[:samples], rtol=1e-3, atol=1e-3)


def test_rescaling_y_operator_and_std_changes_nothing(prior, observation):
    scaled = sda.Observation(
        1000 * observation.y, lambda x: 1000 * observation.operator(x), std=400.0
    )
    np.testing.assert_allclose(draw(prior, scaled), draw(prior, observation), rtol=1e-3, atol=1e-3)


def test_other_numbers_compile_nothing(prior, observation):
    """y, std, limit, inflation, tau, key and the set of missing values are traced."""
    y = np.array(observation.y)
    usual = sda.MMPS(above=sda.GaussianCovariance(10))
    draw(prior, observation, guidance=usual)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: compiled.append(name) if "backend_compile" in name else None
    )
    draw(prior, observation, samples=7, guidance=usual)
    assert compiled  # another shape does compile, and is seen to
    compiled.clear()
    y[0, 0] = np.nan
    other = sda.Observation(y, observation.operator, std=0.9)
    sampler = dataclasses.replace(QUICK, corrector=sda.Langevin(1, 0.4))
    guidance = sda.MMPS(2, 0.7, above=sda.GaussianCovariance(10, 2.0))
    draw(prior, other, seed=3, guidance=guidance, sampler=sampler)
    assert not compiled


def test_a_function_and_the_same_component_agree(prior, observation):
    function = sda.Observation(observation.y, lambda x: x[::8, :1], std=0.4)
    np.testing.assert_allclose(
        draw(prior, function), draw(prior, observation), rtol=1e-3, atol=1e-3
    )


def test_all_missing_is_the_prior_and_said(prior, observation):
    nothing = dataclasses.replace(observation, y=np.full((2, 1), np.nan, np.float32))
    with pytest.warns(UserWarning, match="samples of the prior"):
        ensemble = draw(prior, nothing)
    free = sda.sample(jax.random.key(0), prior, 9, 4, sampler=QUICK)
    np.testing.assert_allclose(ensemble, free, rtol=1e-3, atol=1e-3)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*samples of the prior")
        draw(prior, observation)


def test_local_priors_and_windows_in_chunks(observation):
    network = ResidualMLP(width=16, blocks=1)
    variables = jax.jit(network.init)(jax.random.key(0), jnp.zeros((5, 3)), jnp.zeros(()))
    denoiser = NetworkDenoiser(network, variables, sda.Cosine(), Preconditioned())
    local = sda.Prior(denoiser, sda.Standardisation(), (3,), window=5)
    whole = draw(local, observation)
    np.testing.assert_allclose(
        draw(local, observation, memory=sda.Memory(window_chunk=2)), whole, rtol=1e-2, atol=1e-2
    )
    with pytest.raises(ConfigError, match="length: got 4.*window of 5"):
        draw(local, observation, length=4)
    with pytest.raises(ConfigError, match="length: got 4.*window of 5"):
        sda.sample(jax.random.key(0), local, 4, 2)


def halved(x):
    """Until it is small: a loop that cannot be differentiated backwards."""
    return jax.lax.while_loop(lambda y: jnp.abs(y).max() > 1, lambda y: y / 2, x[:, 0])


def bad(y, operator, message, length=9):
    return pytest.param(y, operator, length, message, id=message)


@pytest.mark.parametrize(
    ("y", "operator", "length", "message"),
    [
        bad(np.zeros((3, 1)), lambda x: x[::8, :1], r"y: got shape \(3, 1\).*\(2, 1\)"),
        bad(np.zeros((2, 1)), lambda x: x[::8, :1], r"y: got shape.*24 states of shape", 24),
        bad(np.zeros((9,)), lambda x: x[:, 0] > 0, "smooth one"),
        bad(np.zeros((9,)), lambda x: jnp.round(x[:, 0]), "gradient of zero"),
        bad(np.zeros(()), lambda x: 3.0, "a gradient of zero everywhere"),
        bad(np.zeros((9,)), lambda x: np.asarray(x)[:, 0], "use jax.numpy"),
        bad(np.zeros((9,)), lambda x: jnp.log(x[:, 0]), "not finite"),
        bad(np.zeros((9, 3)), lambda x: x @ jnp.ones((5, 3)), "state shape"),
        bad(np.zeros((9,)), lambda x: (x[:, 0], x[:, 1]), "one array"),
        bad(np.zeros((9,)), halved, "jax.vjp can differentiate"),
    ],
)
def test_operators_that_do_not_fit_are_refused(prior, y, operator, length, message):
    with pytest.raises(ObservationError, match=message):
        draw(prior, sda.Observation(y.astype(np.float32), operator, std=1.0), length=length)


def test_impossible_numbers_are_refused(prior, observation):
    for kwargs in ({"samples": 0}, {"length": 0}):
        (name,) = kwargs
        with pytest.raises(ConfigError, match=f"{name}: got 0"):
            draw(prior, observation, **kwargs)
    for name in ("chunk", "window_chunk", "window_stride", "tile_chunk"):
        with pytest.raises(ConfigError, match=f"^{name}: got 0"):
            sda.Memory(**{name: 0})


def test_a_diverging_sampler_is_reported(prior, observation):
    broken = GaussianDenoiser.of(jnp.full((9, 3), jnp.nan), jnp.eye(27), sda.Cosine())
    with pytest.raises(DivergenceError, match=r"4 of 4 members.*sigma/mu = 1e\+03"):
        draw(dataclasses.replace(prior, denoiser=broken), observation)


def test_a_diverging_sampler_says_where(observation):
    @component
    class Breaking:
        schedule = sda.Cosine()

        def __call__(self, x, t):
            return jnp.where(noise_ratio(self.schedule, t) < 2.0, jnp.nan, 0.0 * x)

    ratios = noise_ratio(sda.Cosine(), QUICK.grid(sda.Cosine(), QUICK.steps))
    # the corrector evaluates at the end of a step
    first = float(ratios[np.argmax(np.asarray(ratios) < 2.0) - 1])
    assert first > 2.0
    broken = sda.Prior(Breaking(), sda.Standardisation(), (3,))
    with pytest.raises(DivergenceError, match=f"sigma/mu = {first:.3g}".replace("+", r"\+")):
        draw(broken, observation)


def test_the_simulator_is_not_touched(prior, observation):
    @component
    class Untouchable:
        def __getattr__(self, name):
            raise AssertionError(name)

    assert prior.system is None
    with_system = dataclasses.replace(prior, system=Untouchable())
    np.testing.assert_array_equal(draw(with_system, observation), draw(prior, observation))


@pytest.mark.parametrize(
    "operator, wrong",
    [
        (sda.Every(1, sda.Mask(jnp.ones((8, 8)))), r"^mask: got shape \(8, 8\).*\(32, 32\)"),
        (sda.Every(1, sda.Coarsen(5)), r"^factor: got 5; .*32"),
    ],
    ids=["mask", "coarsening"],
)
def test_operators_of_ours_say_themselves_what_is_wrong(key, operator, wrong):
    prior = sda.load_prior("kolmogorov")
    observation = sda.Observation(jnp.zeros((8, 8, 8, 2)), operator, std=1.0)
    with pytest.raises(sda.SDAError, match=wrong):
        sda.assimilate(key, prior, observation, length=8, samples=1)


def test_memory_that_is_not_there_is_foreseen(monkeypatch, key):
    from sda_jax.runtime import _memory as memory

    prior = exact_prior(sda.VectorAutoregression(), 8)
    observation = sda.Observation(jnp.zeros((8, 2)), lambda x: x, std=1.0)
    monkeypatch.setattr(memory, "free_bytes", lambda: 3000)
    with pytest.raises(ResourceError, match=r"needs .* GiB.*Lower memory.chunk.*\(5\)"):
        draw(prior, observation, length=8, samples=5, memory=sda.Memory(5))
    with pytest.raises(ResourceError, match=r"needs .* GiB.*Lower chunk, the trajectories"):
        sda.simulate(key, sda.VectorAutoregression(), length=8, batch=4, chunk=2)
    with pytest.raises(ResourceError, match=r"needs .* GiB.*Lower chunk, the members that climb"):
        sda.find_modes(prior, observation, jnp.zeros((4, 8, 2)))
