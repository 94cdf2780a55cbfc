"""Guidance: what every method promises, and exactness where it holds."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import condition, gaussian_denoiser, standardised

import sda_jax as sda
from sda_jax.classical import exact_prior, trajectory_distribution
from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError, ObservationError
from sda_jax.diffusion._schedules import Cosine, RectifiedFlow, VarianceExploding, noise_ratio
from sda_jax.guidance._base import SOLVED, conjugate_gradients, innovation_gradient
from sda_jax.observations._linear import WithRowNorms, is_linear, row_norms_squared
from sda_jax.observations._noise_models import Normal
from sda_jax.samplers._counting import Evaluations

pytestmark = pytest.mark.compiles
METHODS = [
    sda.SDA(),
    sda.SDA(through_network=False),
    sda.SDA(gamma_obs=0.5),
    sda.DPS(),
    sda.TweedieCovariance(),
    sda.PiGDM(),
    sda.TMPD(),
    sda.MMPS(),
    sda.MMPS(solver="gmres"),
    sda.GaussianCovariance(),
    sda.GaussianCovariance(through_network=False),
    sda.GaussianCovariance(inflation=None, through_network=False),
    sda.StatisticalLinearization(),
]
EXACT = [
    sda.TweedieCovariance(),
    sda.MMPS(6, limit=1e6),
    sda.MMPS(6, limit=1e-6),
    sda.MMPS(6, limit=1e6, solver="gmres"),
    sda.GaussianCovariance(6),
    sda.GaussianCovariance(6, through_network=False),
    sda.StatisticalLinearization(),
]
each_method = pytest.mark.parametrize("method", METHODS, ids=str)
CHAIN, LENGTH = sda.VectorAutoregression(), 6
PRIOR = exact_prior(CHAIN, LENGTH)


@component
class Alternate:
    """Every other state, times a factor."""

    factor: Any = 1.0

    def __call__(self, x):
        return self.factor * x[::2]


def observed(y=None, std=0.3, scale=1.0, **noise):
    """Of arrays of the same shapes whatever the numbers, so that one program serves all."""
    y = np.linspace(-1, 1, 6).reshape(3, 2) if y is None else y
    noise = noise or dict(std=np.broadcast_to(scale * std, y.shape))
    observation = sda.Observation(scale * y, Alternate(np.float32(scale)), **noise)
    return observation.standardised(CHAIN.standardisation)


@jax.jit
def guided(method, observation, x, t, denoiser=PRIOR.denoiser):
    return method(denoiser, observation)(x, t)


PLAIN = sda.Observation(np.linspace(-1, 1, 6).reshape(3, 2), Alternate(), std=0.3)


@each_method
def test_jit_vmap_dtype_and_one_trace(method, key):
    traces = []

    @jax.jit
    def run(method, observation, x, t):
        traces.append(1)
        return jax.vmap(lambda x: method(PRIOR.denoiser, observation)(x, t))(x)

    x = jax.random.normal(key, (3, LENGTH, 2))
    for y, std, t in ((0.1, 0.3, 0.2), (0.7, 0.9, 0.8)):
        observation = observed(np.full((3, 2), y), std)
        out = run(method, observation, x, t)
        assert out.shape == x.shape and out.dtype == jnp.float32
        assert jnp.isfinite(out).all()
        one = guided(method, observation, x[1], t)
        np.testing.assert_allclose(out[1], one, rtol=1e-3, atol=1e-4)
    assert len(traces) == 1


@each_method
def test_nothing_observed_is_no_guidance(method, key):
    x = jax.random.normal(key, (LENGTH, 2))
    observation = observed(y=np.full((3, 2), np.nan))
    x_hat = guided(method, observation, x, 0.5)
    np.testing.assert_allclose(x_hat, PRIOR.denoiser(x, 0.5), atol=1e-5)


@each_method
def test_rescaling_the_observation_changes_nothing(method, key):
    if isinstance(method, sda.SDA) and method.gamma_obs is not None:
        pytest.skip("gamma_obs is in units of y, on purpose")
    x = jax.random.normal(key, (LENGTH, 2))
    for t in (0.05, 0.5, 0.95):
        plain, scaled = (guided(method, observed(scale=s), x, t) for s in (1.0, 1000.0))
        np.testing.assert_allclose(plain, scaled, rtol=1e-3, atol=1e-4)


Y = np.array([[0.3, np.nan], [1.0, -0.5], [np.nan, 0.2]])
STD = np.array([[0.3, 0.3], [0.2, 0.5], [0.3, 0.3]])


def takes_gaussian_noise_only(method):
    return isinstance(method, sda.DPS) or getattr(method, "inflation", 1.0) is None


@pytest.mark.parametrize(
    "method", [m for m in METHODS if not takes_gaussian_noise_only(m)], ids=str
)
def test_a_normal_noise_model_is_gaussian_noise(method, key):
    x = jax.random.normal(key, (LENGTH, 2))
    plain, distribution = observed(Y, STD), observed(Y, noise=Normal(STD))
    for t in (0.05, 0.5, 0.95):
        noise, same = (guided(method, o, x, t) for o in (plain, distribution))
        np.testing.assert_allclose(noise, same, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("method", list(filter(takes_gaussian_noise_only, METHODS)), ids=str)
def test_methods_of_gaussian_noise_refuse_others(method, key):
    x = jax.random.normal(key, (LENGTH, 2))
    with pytest.raises(ObservationError, match="noise.*Gaussian noise"):
        method(PRIOR.denoiser, observed(Y, noise=Normal(STD)))(x, 0.5)


@each_method
def test_the_guided_mean_moves_towards_the_observation(method, key):
    x = jax.random.normal(key, (LENGTH, 2))
    observation, t = observed(), 0.4
    before = observation.operator(PRIOR.denoiser(x, t))
    after = observation.operator(guided(method, observation, x, t))
    assert jnp.sum((after - before) * observation.residual(before)) > 0


@pytest.mark.parametrize("schedule", [Cosine(), VarianceExploding(), RectifiedFlow()], ids=str)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("method", EXACT, ids=str)
def test_exact_covariance_gives_the_exact_posterior_denoiser(schedule, full, method, key):
    """On a linear-Gaussian chain, at every noise level, with missing values."""
    y = np.array([[0.3, np.nan], [1.0, -0.5], [np.nan, np.nan]])
    root = np.random.default_rng(0).standard_normal((6, 6))
    noise = root @ root.T / 12 + 0.1 * np.eye(6) if full else 0.09 * np.eye(6)
    observation = observed(y, **{"covariance": noise.astype(np.float32)} if full else {})
    prior = exact_prior(CHAIN, LENGTH, schedule)
    distribution = trajectory_distribution(CHAIN, LENGTH)
    seen = ~np.isnan(y.reshape(-1))
    matrix = np.kron(np.eye(6)[::2], np.eye(2))[seen]
    posterior = condition(distribution, matrix, y.reshape(-1)[seen], noise[np.ix_(seen, seen)])
    exact = gaussian_denoiser(posterior, CHAIN.standardisation, schedule)
    for ratio in (0.01, 0.3, 3.0, 100.0):
        t = schedule.time(ratio)
        x = schedule.mu(t) * jax.random.normal(key, (LENGTH, 2)) * np.sqrt(1 + ratio**2)
        found = guided(method, observation, x, t, prior.denoiser)
        np.testing.assert_allclose(found, exact(x, t), atol=2e-3)


def test_draws_have_the_exact_law(key):
    """Of the data given x_t and y on a linear-Gaussian chain, with correlated noise."""
    n, t = 65536, 0.5
    y = np.array([[0.3, np.nan], [1.0, -0.5], [np.nan, 0.2]])
    root = np.random.default_rng(0).standard_normal((6, 6))
    noise = root @ root.T / 12 + 0.1 * np.eye(6)
    observation = observed(y=y, covariance=noise.astype(np.float32))
    x = jax.random.normal(key, (LENGTH, 2))
    posterior = sda.GaussianCovariance(6)(PRIOR.denoiser, observation)
    draws = jax.jit(jax.vmap(lambda k: posterior.draw(k, x, t)))(jax.random.split(key, n))
    draws = np.asarray(draws).reshape(n, -1)
    _, covariance = standardised(trajectory_distribution(CHAIN, LENGTH), CHAIN.standardisation)
    ratio2 = float(noise_ratio(PRIOR.denoiser.schedule, t)) ** 2
    seen = ~np.isnan(y.reshape(-1))
    scale = np.tile(np.asarray(CHAIN.standardisation.std, float), LENGTH)
    matrix = np.kron(np.eye(6)[::2], np.eye(2))[seen] * scale
    precision = np.linalg.inv(covariance) + np.eye(12) / ratio2
    precision += matrix.T @ np.linalg.solve(noise[np.ix_(seen, seen)], matrix)
    exact = np.linalg.inv(precision)
    z = (draws.mean(0) - np.asarray(posterior(x, t)).reshape(-1)) / np.sqrt(np.diag(exact) / n)
    assert np.abs(z).max() < 4.5, z
    white = np.linalg.solve(np.linalg.cholesky(exact), (draws - draws.mean(0)).T)
    assert np.abs(np.linalg.eigvalsh(np.cov(white)) - 1).max() < 0.04


@pytest.mark.parametrize("error", [1.0, 2.0])
@pytest.mark.parametrize("correlated", [False, True])
def test_innovations_find_the_inflation(error, correlated, key):
    """Data, x_t and y of a long chain, where x_hat errs `error` times as much as its distribution
    says: the inflation found is the square of that in the mean, with missing values too."""
    length, t, std = 64, 0.5, 0.3
    denoiser = exact_prior(CHAIN, length).denoiser
    schedule = denoiser.schedule
    method = sda.GaussianCovariance(inflation=None)
    system_law = trajectory_distribution(CHAIN, length)
    root = np.linalg.cholesky(standardised(system_law, CHAIN.standardisation)[1])
    noise = std**2 * (np.eye(2 * length) + 0.5 * np.eye(2 * length, k=1) * correlated)
    noise = np.asarray((noise + noise.T) / 2, np.float32)
    white = np.linalg.cholesky(noise).astype(np.float32)

    def found(key):
        k1, k2, k3 = jax.random.split(key, 3)
        x = (jnp.asarray(root, jnp.float32) @ jax.random.normal(k1, (2 * length,))).reshape(-1, 2)
        x_t = schedule.mu(t) * x + schedule.sigma(t) * jax.random.normal(k3, x.shape)
        x_hat = denoiser(x_t, t)
        y = x_hat + error * (x - x_hat)
        y = y + (white @ jax.random.normal(k2, (2 * length,))).reshape(x.shape)
        y = y.at[3].set(jnp.nan)
        how = {"covariance": noise} if correlated else {"std": std}
        observation = sda.Observation(y, lambda z: z, **how)
        return method._inflation(denoiser, observation, x_hat, t)

    factors = np.asarray(jax.jit(jax.vmap(found))(jax.random.split(key, 400)))
    # four probes of 126 squares, the same for all: their mean errs by a share sqrt(2 / 504), and
    # by more where the squares are correlated
    assert abs(factors.mean() / error**2 - 1) < 4 * np.sqrt(2 / 504)


def test_without_observations_nothing_is_inflated(key):
    method = sda.GaussianCovariance(inflation=None)
    x = jax.random.normal(key, (LENGTH, 2))
    nothing = observed(y=np.full((3, 2), np.nan))
    assert method._inflation(PRIOR.denoiser, nothing, PRIOR.denoiser(x, 0.5), 0.5) == 1.0


def test_a_wild_jacobian_does_not_throw_members_away(key):
    """Where a network's output changes a thousandfold with its input, the predicted noise changes
    by what a mean of normal numbers can be, in the direction that the gradient has."""

    class Wild:
        schedule = Cosine()

        def __call__(self, x, t):
            return jnp.sin(1e3 * x)

    x, t = jax.random.normal(key, (6, 2)), 0.5
    observation = sda.Observation(np.ones((3, 2)), Alternate(), std=0.3)
    _, gradient = sda.GaussianCovariance().twist(Wild(), observation, x, t)
    change = np.abs(Cosine().sigma(t) * gradient)[::2]
    assert change.max() == pytest.approx(6, rel=1e-5) and np.median(change) == pytest.approx(6)


def test_drawing_asks_for_guidance_that_can(key):
    guided = sda.SDA()(PRIOR.denoiser, observed())
    with pytest.raises(ConfigError, match="guidance: got SDA.*GaussianCovariance"):
        sda.Gibbs(1)(key, guided, jnp.zeros((LENGTH, 2)), 0.5)


@component
class Plain:
    """The denoiser alone, without the distribution that it knows of."""

    denoiser: Any

    @property
    def schedule(self):
        return self.denoiser.schedule

    def __call__(self, x, t):
        return self.denoiser(x, t)


@pytest.mark.parametrize("t", [0.2, 0.5, 0.8])
def test_mmps_needs_no_known_law(t, key):
    """As many iterations as numbers observed solve the equations, however rough what
    preconditions them; a single one is only the line search along the rough step."""
    x = jax.random.normal(key, (LENGTH, 2))
    denoiser, observation = Plain(PRIOR.denoiser), observed(std=0.1)
    exact, solved, searched, rough = (
        guided(method, observation, x, t, denoiser)
        for method in (
            sda.TweedieCovariance(),
            sda.MMPS(6, 1e6),
            sda.MMPS(1, 1e6),
            sda.GaussianCovariance(),
        )
    )
    np.testing.assert_allclose(solved, exact, rtol=1e-3, atol=1e-3)
    assert jnp.abs(searched - exact).max() > 10 * jnp.abs(solved - exact).max()
    step, whole = searched - denoiser(x, t), rough - denoiser(x, t)
    length = jnp.vdot(step, whole) / jnp.vdot(whole, whole)
    np.testing.assert_allclose(step, length * whole, rtol=1e-3, atol=1e-4)


ONCE = sda.PredictorCorrector(
    6, sda.LogSNR(), sda.Heun(), sda.Langevin(2, 0.1, above=1.2), denoise=0.5
)
THRICE = sda.Candidates(ONCE, count=3)
DRAWN = sda.PredictorCorrector(4, sda.LogSNR(), corrector=sda.Gibbs(2, above=1.2))


ROWS = 6  # elements of y
VJPS = [
    (sda.SDA(), 1), (sda.SDA(through_network=False), 0), (sda.SDA(gamma_obs=0.5), 1),
    (sda.DPS(), 1),
    (sda.TweedieCovariance(), ROWS), (sda.PiGDM(), 1), (sda.TMPD(), 2),
    (sda.GaussianCovariance(), 1), (sda.GaussianCovariance(through_network=False), 0),
    (sda.GaussianCovariance(inflation=None, through_network=False), 0),
    pytest.param(sda.MMPS(1, 1e6), 1, marks=pytest.mark.slow), (sda.MMPS(3, 1e6), 3),
    pytest.param(sda.MMPS(3, 1e-6), 1, marks=pytest.mark.slow),
    (sda.MMPS(3, 1e-6, above=sda.GaussianCovariance(through_network=False)), 0),
    (sda.StatisticalLinearization(), 1),
]  # fmt: skip


@pytest.mark.parametrize(("method", "each"), VJPS, ids=str)
def test_evaluations_and_vjps_are_those_made(method, each):
    """MMPS is another guidance above its limit."""
    found = sda.count_evaluations(PRIOR, PLAIN, LENGTH, method, ONCE)
    over = int((noise_ratio(Cosine(), sda.LogSNR()(Cosine(), 6)[1:]) >= 1.2).sum())
    guided = 2 * 6 + 1 + 2 * over
    assert found == Evaluations(guided, each * guided)


@pytest.mark.parametrize(("method", "each"), [VJPS[0], VJPS[7], VJPS[11]], ids=str)
def test_fits_take_no_vjp(method, each):
    found = sda.count_evaluations(PRIOR, PLAIN, LENGTH, method, THRICE)
    over = int((noise_ratio(Cosine(), sda.LogSNR()(Cosine(), 6)[1:5]) >= 1.2).sum())
    guided = 3 * 2 * 4 + 2 * 2 + 1 + 3 * 2 * over
    assert found == Evaluations(guided + 3, each * guided)


@pytest.mark.parametrize("inflation", [1.0, None])
def test_draws_take_no_vjp(inflation):
    found = sda.count_evaluations(
        PRIOR, PLAIN, LENGTH, sda.GaussianCovariance(inflation=inflation), DRAWN
    )
    over = int((noise_ratio(Cosine(), sda.LogSNR()(Cosine(), 4)[1:]) >= 1.2).sum())
    assert found == Evaluations(4 + 2 * over, 4)


def test_jvps_are_counted_too():
    @component
    class ForwardMode:
        denoiser: Any
        schedule = Cosine()

        def __call__(self, x, t):
            x_hat, pushed = jax.jvp(lambda x: self.denoiser(x, t), (x,), (x,))
            return x_hat + 1e-6 * pushed

    sampler = sda.PredictorCorrector(5, sda.LogSNR(), corrector=sda.Langevin(0))
    found = sda.count_evaluations(PRIOR, PLAIN, LENGTH, lambda d, _: ForwardMode(d), sampler)
    assert found == Evaluations(5, 0, 5)


@pytest.mark.parametrize("method", [sda.GaussianCovariance(1), sda.PiGDM(1), sda.MMPS(1)], ids=str)
def test_without_a_known_law_states_are_independent(method, key):
    """Where the network's Jacobian is not used: the Kalman gain of a standard normal."""
    denoiser = Plain(PRIOR.denoiser)
    t, std = 0.9, 0.3
    x = jax.random.normal(key, (LENGTH, 2))
    assert noise_ratio(denoiser.schedule, t) > 3
    observation = sda.Observation(jnp.ones((3, 2)), lambda z: z[::2], std=std)
    r2 = noise_ratio(denoiser.schedule, t) ** 2
    variance = r2 / (1 + r2)
    x_hat, gradient = method.twist(denoiser, observation, x, t)
    slope = jnp.zeros_like(x).at[::2].set((1 - x_hat[::2]) / (std**2 + variance))
    expected = jax.vjp(lambda x: denoiser(x, t), x)[1](slope)[0]
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4)


def test_gamma_is_the_papers_where_units_agree(key):
    """Selecting standardised coordinates, gamma and gamma_obs mean the same."""
    x = jax.random.normal(key, (LENGTH, 2))
    observation = sda.Observation(jnp.ones((3, 2)), lambda z: z[::2], std=0.3)
    a, b = (m(PRIOR.denoiser, observation) for m in (sda.SDA(0.03), sda.SDA(gamma_obs=0.03)))
    np.testing.assert_allclose(a(x, 0.6), b(x, 0.6), rtol=1e-5)


def test_sda_is_its_formula(key):
    """Against the gradient written out with the exact denoiser's Jacobian."""
    t, gamma, std = 0.5, 0.02, 0.3
    x = jax.random.normal(key, (LENGTH, 2))
    denoiser, schedule = PRIOR.denoiser, PRIOR.denoiser.schedule
    ratio2 = float(noise_ratio(schedule, t)) ** 2
    y = np.ones((3, 2))
    observation = sda.Observation(y, lambda z: 2 * z[::2], std=std)
    jacobian = np.asarray(jax.jacobian(lambda x: denoiser(x, t))(x)).reshape(12, 12)
    matrix = 2 * np.kron(np.eye(6)[::2], np.eye(2))
    residual = (y - 2 * np.asarray(denoiser(x, t))[::2]).reshape(-1)
    slope = matrix.T @ residual / (std**2 + gamma * ratio2 * 4)
    weight = float(schedule.sigma(t) ** 2 / schedule.mu(t))
    mu = float(schedule.mu(t))
    for through, pulled in ((True, jacobian.T @ slope), (False, slope / mu)):
        guided = sda.SDA(gamma, through_network=through)(denoiser, observation)
        expected = denoiser(x, t) + weight * pulled.reshape(6, 2)
        np.testing.assert_allclose(guided(x, t), expected, rtol=1e-3, atol=1e-3)
    per_element = sda.SDA(jnp.full((3, 2), gamma))(denoiser, observation)
    np.testing.assert_allclose(per_element(x, t), sda.SDA(gamma)(denoiser, observation)(x, t))


def test_pigdm_and_tmpd_are_their_formulas(key):
    """Against dense matrices, with the exact denoiser's Jacobian and correlated noise."""
    t = 0.5
    x = jax.random.normal(key, (LENGTH, 2))
    denoiser, schedule = PRIOR.denoiser, PRIOR.denoiser.schedule
    matrix = np.random.default_rng(0).standard_normal((4, 12)).astype(np.float32)
    noise = np.diag([0.1, 0.2, 0.3, 0.4]).astype(np.float32) + 0.05
    operator = lambda z: jnp.asarray(matrix) @ z.reshape(-1)  # noqa: E731
    observation = sda.Observation(np.ones(4), operator, covariance=noise)
    jacobian = np.asarray(jax.jacobian(lambda x: denoiser(x, t))(x)).reshape(12, 12)
    residual = 1 - matrix @ np.asarray(denoiser(x, t)).reshape(-1)
    r2 = float(noise_ratio(schedule, t)) ** 2
    weight = float(schedule.sigma(t) ** 2 / schedule.mu(t))
    sums = np.maximum((matrix @ (weight * jacobian) @ matrix.T).sum(axis=1), 0)
    for method, extra in (
        (sda.PiGDM(), r2 / (1 + r2) * matrix @ matrix.T),
        (sda.TMPD(), np.diag(sums)),
    ):
        slope = np.linalg.solve(noise + extra, residual)
        _, gradient = method.twist(denoiser, observation, x, t)
        np.testing.assert_allclose(
            gradient.reshape(-1), jacobian.T @ matrix.T @ slope, rtol=2e-3, atol=1e-3
        )


@pytest.mark.parametrize("spread", [1.0, 1e4])
def test_conjugate_gradients_stop_when_single_precision_is_reached(key, spread):
    """With the same answer; with one of several right-hand sides, each by itself."""
    basis, _ = jnp.linalg.qr(jax.random.normal(key, (40, 40)))
    matrix = (basis * jnp.linspace(1, spread, 40)) @ basis.T
    many = jax.random.normal(key, (3, 40)) * jnp.array([[1.0], [1e3], [0.0]])
    products = []

    def product(v):
        jax.debug.callback(lambda: products.append(1))
        return matrix @ v

    def solved(until):
        products.clear()
        one = lambda b: conjugate_gradients(product, b, 60, until)  # noqa: E731
        found = jax.block_until_ready(jax.lax.map(one, many))
        jax.effects_barrier()
        return found, len(products)

    (all_of_them, most), (found, count) = solved(0.0), solved(SOLVED)
    size = np.abs(all_of_them).max(axis=1, keepdims=True)
    assert (np.abs(found - all_of_them) <= 3e-5 * size).all()
    assert most == 180 and count <= (6 if spread == 1 else 120)
    exact = np.linalg.solve(np.asarray(matrix, np.float64), np.asarray(many, np.float64).T).T
    assert (np.abs(found - exact) <= 3e-6 * spread * size).all()  # the matrix's condition


def test_row_norms(key):
    matrix = jax.random.normal(key, (7, 10))
    exact = row_norms_squared(lambda x: matrix @ x, jnp.zeros(10))
    np.testing.assert_allclose(exact, (matrix**2).sum(1), rtol=1e-5)
    one_entry = row_norms_squared(lambda x: 3 * x, jnp.zeros(1000))
    np.testing.assert_allclose(one_entry, 9, rtol=1e-5)
    mean = row_norms_squared(lambda x: x.reshape(500, 4).mean(1), jnp.zeros(2000))
    np.testing.assert_allclose(mean.mean(), 0.25, rtol=0.1)
    assert (mean > 0).all()


@pytest.mark.parametrize(
    "method, noise, operator, known",
    [
        (sda.SDA(), {"std": 0.3}, lambda x: 3 * x[::2], True),
        (sda.SDA(), {"std": 0.3}, lambda x: x**2, False),
        (sda.DPS(), {"std": 0.3}, lambda x: 3 * x[::2], True),
        (sda.GaussianCovariance(4), {"noise": sda.StudentT(0.3, 4.0)}, lambda x: x[:, :1], True),
    ],
    ids=["SDA", "square", "DPS", "noise model"],
)
@pytest.mark.parametrize("limit", [0, 256])
def test_what_is_the_same_for_all_states_is_computed_once(
    monkeypatch, key, method, noise, operator, known, limit
):
    """By the estimate, too: which directions are drawn does not depend on the state."""
    monkeypatch.setattr("sda_jax.observations._linear.EXACT_LIMIT", limit)
    x = jax.random.normal(key, (LENGTH, 2))
    posterior = method(PRIOR.denoiser, sda.Observation(operator(x) + 0.1, operator, **noise))
    once = jax.jit(lambda posterior: posterior.prepared(x.shape))(posterior)
    assert isinstance(once.observation.operator, WithRowNorms) == known
    np.testing.assert_allclose(once(x, 0.4), posterior(x, 0.4), rtol=1e-5, atol=1e-5)


def test_impossible_settings_are_refused():
    with pytest.raises(ConfigError, match="zeta"):
        sda.DPS(zeta=0.0)
    with pytest.raises(ConfigError, match="iterations"):
        sda.MMPS(iterations=0)
    with pytest.raises(ConfigError, match="above: got SDA.*GaussianCovariance"):
        sda.MMPS(above=sda.SDA())
    with pytest.raises(ConfigError, match="solver: got 'lu'.*'cg', 'gmres'"):
        sda.MMPS(solver="lu")
    with pytest.raises(ConfigError, match="limit"):
        sda.MMPS(limit=0.0)
    with pytest.raises(ConfigError, match="iterations"):
        sda.GaussianCovariance(iterations=0)
    with pytest.raises(ConfigError, match="inflation"):
        sda.GaussianCovariance(inflation=0.0)
    with pytest.raises(ConfigError, match="iterations"):
        sda.PiGDM(iterations=0)


def test_standardised_law_is_consistent():
    mean, covariance = standardised(trajectory_distribution(CHAIN, 3), CHAIN.standardisation)
    np.testing.assert_allclose(np.diag(covariance), 1, rtol=1e-5)
    np.testing.assert_allclose(mean, 0)


def test_two_sensors_at_one_place_are_one_more_precise_one():
    """Though in single precision the matrix of their innovations is singular."""
    x_hat, prior = jnp.zeros((6, 2)), lambda w: w
    both = sda.Observation(np.ones((2, 3), np.float32), lambda x: jnp.stack([x[::2, 0]] * 2), 1e-4)
    one = sda.Observation(np.ones(3, np.float32), lambda x: x[::2, 0], 1e-4 / np.sqrt(2))
    found, expected = (innovation_gradient(obs, x_hat, prior, 20) for obs in (both, one))
    np.testing.assert_allclose(found, expected, rtol=2e-3)


@pytest.mark.parametrize(
    "operator, linear",
    [
        (lambda x: x[::2], True),
        (lambda x: x @ jnp.ones((2, 3)) + 1, True),
        (lambda x: jnp.abs(x), False),
        (lambda x: jnp.where(x > 0, x, 0), False),
        (lambda x: x * x[0], False),
    ],
)
def test_linear_operators_are_told_from_others(operator, linear):
    assert is_linear(operator, jnp.zeros((4, 2))) == linear
