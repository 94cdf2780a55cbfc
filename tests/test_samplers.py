"""Samplers against closed forms, and their distributions."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counting import evaluations
from oracles import Independent

import sda_jax as sda
from sda_jax.core._errors import ConfigError
from sda_jax.core._protocols import SamplerState
from sda_jax.diffusion._denoisers import predicted_noise
from sda_jax.diffusion._gaussian import GaussianDenoiser
from sda_jax.diffusion._grids import EvenTime, Karras, LogSNR
from sda_jax.diffusion._schedules import Cosine, RectifiedFlow, VarianceExploding, noise_ratio
from sda_jax.samplers._counting import Evaluations
from sda_jax.samplers._driver import draw

NONE = sda.Langevin(steps=0)
PREDICTORS = [sda.ExponentialIntegrator(), sda.DPMSolverPP2M(), sda.Heun()]
ORDERS = [1, 2, 2]


def gaussian(variance, schedule=Cosine(), n=1):
    return GaussianDenoiser.of(jnp.zeros((n, 1)), variance * jnp.eye(n), schedule)


LONGEST = 512


@jax.jit
def path(predictor, denoiser, times, steps):
    """Where predictor steps from a standard deviation of the first level end, in units of the
    data; one program for any grid and number of steps."""
    schedule = denoiser.schedule
    x = jnp.sqrt(schedule.mu(1.0) ** 2 + schedule.sigma(1.0) ** 2) * jnp.ones((1, 1))

    def step(i, carry):
        t, s = times[i], times[i + 1]
        return predictor.step(jax.random.key(0), denoiser, carry[0], t, s, carry[1])

    x, _ = jax.lax.fori_loop(0, steps, step, (x, predictor.init(x)))
    return (x / schedule.mu(times[steps]))[0, 0]


def deterministic_gain(predictor, grid, steps, variance, schedule=Cosine()):
    """Standard deviation of the sampler's output for N(0, variance): without corrector it is linear
    in its start, so one path gives it."""
    times = jnp.pad(grid(schedule, steps), (0, LONGEST - steps))
    return float(path(predictor, gaussian(variance, schedule), times, steps))


def test_a_draw_is_the_predictors_path():
    """From the noise of its key."""
    key = jax.random.key(0)
    start = jax.random.normal(jax.random.split(key)[0], (1, 1))[0, 0]
    for predictor in PREDICTORS:
        sampler = sda.PredictorCorrector(32, LogSNR(), predictor, NONE)
        out = jax.jit(draw, static_argnums=3)(key, gaussian(0.1), sampler, (1, 1))[0, 0]
        gain = deterministic_gain(predictor, LogSNR(), 32, 0.1)
        assert float(out / start) == pytest.approx(gain, rel=1e-5)


def test_variance_kept_by_each_discretisation():
    """Closed form, for the variance of Lorenz's transition noise in standardised units."""
    kept = {
        (EvenTime(), 256, 0): 0.73,
        (EvenTime(), 512, 0): 0.85,
        (LogSNR(), 128, 0): 0.95,
        (LogSNR(), 64, 1): 1.006,
    }
    for (grid, steps, predictor), expected in kept.items():
        gain = deterministic_gain(PREDICTORS[predictor], grid, steps, 3.4e-4)
        assert gain**2 / 3.4e-4 == pytest.approx(expected, abs=0.012), (grid, steps)


@pytest.mark.parametrize("variance", [3.4e-4, 1e-2])
def test_second_order_steps_below_a_correctors_last_level_keep_the_variance(variance):
    """Gibbs steps down to sigma/mu = 0.03, exact for Gaussian data, then the ODE."""
    sampler = sda.PredictorCorrector(64, LogSNR(), sda.DPMSolverPP2M(), sda.Gibbs(2, 0.03))
    n, denoiser = 40_000, gaussian(variance)
    keys = jax.random.split(jax.random.key(0), n)
    drawn = np.asarray(jax.jit(jax.vmap(lambda k: draw(k, denoiser, sampler, (1, 1))))(keys))
    assert drawn.var() / variance == pytest.approx(1, abs=0.01 + 3 * np.sqrt(2 / n))


@pytest.mark.parametrize(
    "corrector",
    [sda.Langevin(1, 0.1), sda.Correctors((sda.Gibbs(1, above=1.0), sda.Langevin(1, 0.1)))],
    ids=["Langevin", "several"],
)
def test_a_multistep_predictor_forgets_where_the_corrector_moved(key, corrector):
    """With a correction after every step, nothing is left to extrapolate from."""
    first, second = (
        jax.jit(draw, static_argnums=3)(
            key,
            gaussian(0.5),
            sda.PredictorCorrector(8, LogSNR(), predictor, corrector),
            (1, 1),
        )
        for predictor in (sda.ExponentialIntegrator(), sda.DPMSolverPP2M())
    )
    np.testing.assert_allclose(first, second, rtol=1e-5)


@pytest.mark.parametrize("schedule", [Cosine(), VarianceExploding(), RectifiedFlow()], ids=str)
@pytest.mark.parametrize("grid", [LogSNR(), Karras()], ids=str)
@pytest.mark.parametrize(
    ("predictor", "order"), list(zip(PREDICTORS, ORDERS, strict=True)), ids=str
)
def test_order_of_convergence(predictor, order, grid, schedule):
    exact = np.sqrt(0.1 + 1e-6)
    errors = [
        abs(deterministic_gain(predictor, grid, n, 0.1, schedule) / exact - 1)
        for n in (32, 64, 128)
    ]
    rate = np.log2(errors[0] / errors[1])
    assert rate > order - 0.35, (errors, rate)
    assert errors[2] < errors[1]


@pytest.mark.parametrize("predictor", [*PREDICTORS, sda.Ancestral()], ids=str)
def test_scan_equals_loop(predictor, key):
    """The compiled scan against the algorithm written out, with the last posterior mean; what the
    predictor remembers is forgotten after every corrector step."""
    schedule, denoiser = Cosine(), gaussian(0.3, n=4)
    corrector = sda.Langevin(2, 0.3)
    sampler = sda.PredictorCorrector(12, LogSNR(), predictor, corrector, denoise=1.0)
    times = LogSNR()(schedule, 12)
    key_start, key_steps = jax.random.split(key)
    x = jnp.sqrt(schedule.mu(1.0) ** 2 + schedule.sigma(1.0) ** 2) * jax.random.normal(
        key_start, (4, 1)
    )
    for i, (t, s) in enumerate(itertools.pairwise(times)):
        key_predictor, key_i = jax.random.split(jax.random.fold_in(key_steps, i))
        x, _ = predictor.step(key_predictor, denoiser, x, t, s, predictor.init(x))
        for c in range(2):
            eps = predicted_noise(denoiser, x, s)
            delta = 0.3 / jnp.mean(eps**2)
            k = jax.random.fold_in(key_i, c)
            z = jax.random.normal(k, x.shape)
            x = x - schedule.sigma(s) * (delta * eps + jnp.sqrt(2 * delta) * z)
    x = denoiser(x, 0.0)
    found = jax.jit(draw, static_argnums=3)(key, denoiser, sampler, (4, 1))
    np.testing.assert_allclose(found, x, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("schedule", [Cosine(), VarianceExploding(), RectifiedFlow()], ids=str)
def test_half_denoised_samples_have_the_variance_of_data(schedule):
    """The state at the last level has that level's noise too much, its posterior mean too little;
    halfway the rest is of second order in the ratio of variances."""
    ratio = float(noise_ratio(schedule, 0.0))
    excess, x = 0.1, jnp.ones((1, 1))
    noisy = schedule.mu(0.0) * jnp.sqrt(1 + excess) * x
    expected = {0.0: 0.5 * excess, 0.5: 0.0, 1.0: -0.5 * excess}
    for denoise, off in expected.items():
        sampler = sda.PredictorCorrector(2, denoise=denoise)
        # in units of the data's standard deviation, ratio / sqrt(excess)
        end = sampler.finish(gaussian(ratio**2 / excess, schedule), SamplerState(noisy, ratio))
        assert float(end[0, 0]) - 1 == pytest.approx(off, abs=excess**2 / 2), denoise
    for wrong in (-0.1, 1.1):
        with pytest.raises(ConfigError, match="denoise"):
            sda.PredictorCorrector(2, denoise=wrong)


def test_exponential_integrator_is_the_papers_form(key):
    schedule, x = Cosine(), jax.random.normal(key, (5, 1))
    denoiser, t, s = gaussian(0.3, n=5), 0.5, 0.4
    mu, sigma = schedule.mu, schedule.sigma
    eps = predicted_noise(denoiser, x, t)
    paper = mu(s) / mu(t) * x + (sigma(s) - mu(s) / mu(t) * sigma(t)) * eps
    for predictor in (sda.ExponentialIntegrator(), sda.Ancestral(eta=0.0)):
        out, _ = predictor.step(key, denoiser, x, t, s, ())
        np.testing.assert_allclose(out, paper, atol=1e-5)


def test_ancestral_steps_are_the_forward_process_reversed(key):
    """Given the data itself as posterior mean: x_s has the distribution `q(x_s | x)` and its
    correlation with x_t is that of the forward process, whose noise at s is kept as a share
    s_ratio/t_ratio."""

    class Known:
        schedule = Cosine()

        def __call__(self, x, t):
            return jnp.ones_like(x)

    n, (t, s), schedule = 100_000, (0.6, 0.4), Cosine()
    mu, sigma = schedule.mu, schedule.sigma
    noise = jax.random.normal(key, (n, 1))
    x_t = mu(t) + sigma(t) * noise
    x_s, _ = sda.Ancestral().step(jax.random.key(1), Known(), x_t, t, s, ())
    residual = np.asarray((x_s - mu(s)) / sigma(s)).ravel()
    assert abs(residual.mean()) < 4 / np.sqrt(n)
    assert np.var(residual) == pytest.approx(1, abs=4 * np.sqrt(2 / n))
    share = float(noise_ratio(schedule, s) / noise_ratio(schedule, t))
    correlation = np.corrcoef(residual, np.asarray(noise).ravel())[0, 1]
    assert correlation == pytest.approx(share, abs=4 / np.sqrt(n))


def test_ancestral_variance_converges_at_first_order():
    """The variance of Gaussian data after n steps follows a recursion in closed form."""
    v, schedule = 0.1, Cosine()
    errors = []
    for steps in (64, 128, 256):
        ratios = np.asarray(noise_ratio(schedule, LogSNR()(schedule, steps)), float)
        variance = 1 + ratios[0] ** 2  # of x/mu
        for high, low in itertools.pairwise(ratios):
            gain, share = v / (v + high**2), (low / high) ** 2
            variance = (gain + share * (1 - gain)) ** 2 * variance + low**2 * (1 - share)
        errors.append(abs(variance / (v + ratios[-1] ** 2) - 1))
        keys = jax.random.split(jax.random.key(steps), 20_000)
        sampler = sda.PredictorCorrector(steps, LogSNR(), sda.Ancestral(), NONE)
        x = jax.jit(jax.vmap(lambda k: draw(k, gaussian(v), sampler, (1, 1))))(keys)  # noqa: B023
        expected = variance * float(schedule.mu(0.0)) ** 2
        assert np.var(x) == pytest.approx(expected, rel=4 * np.sqrt(2 / 20_000))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.2), errors
    assert np.log2(errors[1] / errors[2]) == pytest.approx(1, abs=0.1), errors


@jax.jit
def corrected(corrector, keys, denoiser, x, t):
    return jax.vmap(lambda k, x: corrector(k, denoiser, x, t))(keys, x)


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("tau", [0.05, 0.25])
def test_langevin_keeps_its_law_but_for_its_known_bias(tau, relative):
    """In many dimensions, for x of unit variance, v = (1 - delta)^2 v + 2 delta: with a fixed
    delta v = 1 / (1 - tau / 2); relative to the score, mean(eps^2) = v, so delta = tau / v and
    v = 1 + tau / (2 v)."""
    n = 400
    keys = jax.random.split(jax.random.key(1), 50)
    start = jax.random.normal(jax.random.key(2), (50, n, 1))
    x = corrected(sda.Langevin(200, tau, relative=relative), keys, Independent(1.0), start, 1.0)
    variance = float(jnp.var(x))
    expected = (1 + np.sqrt(1 + 2 * tau)) / 2 if relative else 1 / (1 - tau / 2)
    assert variance == pytest.approx(expected, abs=5 * np.sqrt(2 / (50 * n)))


@pytest.mark.parametrize("tau", [0.1, 0.25])
@pytest.mark.parametrize("steps", [10, 200])
def test_leimkuhler_matthews_steps_keep_their_law(steps, tau):
    """The variance of Gaussian data stays as it is; `Langevin`'s rises by 5 to 14 per cent."""
    n = 400
    keys = jax.random.split(jax.random.key(1), 200)
    start = jax.random.normal(jax.random.key(2), (200, n, 1))
    x = corrected(sda.LeimkuhlerMatthews(steps, tau), keys, Independent(1.0), start, 1.0)
    assert float(jnp.var(x)) == pytest.approx(1, abs=4 * np.sqrt(2 / (200 * n)))


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_leimkuhler_matthews_steps_of_a_stiff_law(steps):
    """A tenth of the directions as stiff as noise makes them, the others wide: `tau / mean(eps^2)`
    would be a step of 2. The variance is that of the recursion, with the longest step, 1."""
    n, wide = 300, 100.0
    stds = jnp.where(jnp.arange(n) % 10 == 0, 0.0, wide)[:, None]
    denoiser = Independent(stds**2)
    mu, sigma = denoiser.schedule.mu(0.5), denoiser.schedule.sigma(0.5)
    total = (mu * stds) ** 2 + sigma**2
    keys = jax.random.split(jax.random.key(1), 200)
    corrector = sda.LeimkuhlerMatthews(steps, 0.2)
    start = jnp.sqrt(total) * jax.random.normal(jax.random.key(2), (200, n, 1))
    x = corrected(corrector, keys, denoiser, start, 0.5)
    stiff = float(jnp.var(x[:, ::10])) / float(sigma**2)
    expected = 2.0 if steps == 1 else 1.0
    assert stiff == pytest.approx(expected, rel=5 * np.sqrt(2 / (200 * n / 10)))


def test_leimkuhler_matthews_steps_shorten_where_the_score_explodes():
    """From a state whose score is small, at a place of a far stiffer distribution: steps of the
    first size would grow without end."""

    class Stiffening:
        """Score -x^3: the larger x, the stiffer."""

        schedule = Cosine()

        def __call__(self, x, t):
            sigma = self.schedule.sigma(t)
            return (x - sigma**2 * x**3) / self.schedule.mu(t)

    start = jnp.full((64, 1), 0.5)
    moved = sda.LeimkuhlerMatthews(50, 0.3)(jax.random.key(0), Stiffening(), start, 1.0)
    assert jnp.all(jnp.abs(moved) < 30)


@pytest.mark.slow
def test_keys_are_independent():
    """The variance of an ensemble's mean is that of one member divided by their number."""
    prior = sda.Prior(gaussian(1.0, n=3), sda.Standardisation(), (1,), None)
    sampler = sda.PredictorCorrector(8, LogSNR(), PREDICTORS[1], sda.Langevin(1, 0.3))
    ensembles = [
        np.asarray(sda.sample(jax.random.key(i), prior, 3, 64, sampler=sampler)) for i in range(200)
    ]
    means = np.array([e.mean(0) for e in ensembles])
    member = np.var(np.concatenate(ensembles))
    ratio = np.var(means) / (member / 64)
    assert abs(ratio - 1) < 4 * np.sqrt(2 / 600)


def test_evaluations():
    """What is counted is what is called."""
    for sampler, expected in (
        (sda.PredictorCorrector(10, corrector=sda.Langevin(3)), 40),
        (sda.PredictorCorrector(5, EvenTime(), sda.Heun(), sda.Langevin(1), denoise=1.0), 16),
        (sda.PredictorCorrector(5, LogSNR(), corrector=sda.Gibbs(2, above=1.0)), 9),
    ):
        assert evaluations(sampler, gaussian(1.0, n=2), (2, 1)) == Evaluations(expected)


def test_correctors_step_over_their_level_only(key):
    """Levels over `above` alone are counted, and the others leave x as it is."""
    schedule, denoiser = Cosine(), gaussian(1.0, n=3)
    x = jax.random.normal(key, (3, 1))
    for corrector in (sda.Gibbs(2, above=1.0), sda.Langevin(2, 0.3, above=1.0)):
        sampler = sda.PredictorCorrector(30, LogSNR(), corrector=corrector)
        times = LogSNR()(schedule, 30)[1:]
        over = sum(float(noise_ratio(schedule, t)) >= 1 for t in times)
        assert 5 < over < 25
        assert evaluations(sampler, denoiser, (3, 1)) == Evaluations(30 + 2 * over)
        low, high = schedule.time(0.9), schedule.time(1.1)
        np.testing.assert_array_equal(corrector(key, denoiser, x, low), x)
        assert jnp.abs(corrector(key, denoiser, x, high) - x).min() > 0


def test_several_correctors_have_a_range_of_levels_each(key):
    schedule, denoiser = Cosine(), gaussian(1.0, n=3)
    x = jax.random.normal(key, (3, 1))
    high, low = sda.Langevin(2, 0.3, above=1.0), sda.Langevin(1, 0.1, below=1.0)
    both = sda.Correctors((high, low))
    for ratio, active, i in ((3.0, high, 0), (0.3, low, 1)):
        t = schedule.time(ratio)
        expected = active(jax.random.fold_in(key, i), denoiser, x, t)
        np.testing.assert_allclose(both(key, denoiser, x, t), expected, rtol=1e-6)
    sampler = sda.PredictorCorrector(30, LogSNR(), corrector=both)
    ratios = noise_ratio(schedule, LogSNR()(schedule, 30)[1:])
    expected = 30 + 2 * int((ratios >= 1).sum()) + int((ratios <= 1).sum())
    assert evaluations(sampler, denoiser, (3, 1)) == Evaluations(expected)


@pytest.mark.parametrize(
    ("predictor", "bias"), [(sda.Ancestral(), -0.10), (sda.DPMSolverPP2M(1.0), 0.004)], ids=str
)
def test_variance_kept_by_fresh_noise(predictor, bias):
    """Against the recursion's closed form at 128 steps; the extrapolation removes the bias."""
    sampler = sda.PredictorCorrector(128, LogSNR(), predictor, NONE)
    n = 40000
    drawn = jax.jit(jax.vmap(lambda k: draw(k, gaussian(0.1), sampler, (1, 1))))
    x = drawn(jax.random.split(jax.random.key(3), n))
    assert float(x.var() / 0.1) == pytest.approx(1 + bias, abs=4 * np.sqrt(2 / n))


def test_gibbs_keeps_the_law_and_forgets_its_start(key):
    """For Gaussian data: variance mu^2 v + sigma^2 of x_t from any start, with the correlation of
    one step, the data's share `mu^2 v / (mu^2 v + sigma^2)` of it, to the power of the steps."""
    v, n, schedule = 0.5, 100_000, Cosine()
    t = schedule.time(0.7)
    total = float(schedule.mu(t) ** 2 * v + schedule.sigma(t) ** 2)
    share = float(schedule.mu(t) ** 2 * v) / total
    start = np.sqrt(total) * jax.random.normal(key, (n, 1, 1))
    keys = jax.random.split(jax.random.key(1), n)
    for steps in (1, 3):
        x = np.asarray(corrected(sda.Gibbs(steps, 0.0), keys, gaussian(v), start, t))
        assert np.var(x) == pytest.approx(total, rel=4 * np.sqrt(2 / n))
        correlation = np.corrcoef(x.ravel(), np.asarray(start).ravel())[0, 1]
        assert correlation == pytest.approx(share**steps, abs=4 / np.sqrt(n))


def test_one_trace_for_other_numbers(key):
    traces = []

    @jax.jit
    def run(sampler, denoiser):
        traces.append(1)
        return draw(key, denoiser, sampler, (2, 1))

    base = sda.PredictorCorrector(4)
    for tau in (0.1, 0.2):
        other = dataclasses.replace(base, corrector=sda.Langevin(1, tau))
        run(other, gaussian(tau, n=2))
    assert len(traces) == 1


def test_start_has_the_schedules_spread():
    draws = []
    for schedule in (Cosine(), VarianceExploding()):
        sampler = sda.PredictorCorrector(1, EvenTime(), sda.ExponentialIntegrator(), NONE)
        x = jax.vmap(lambda k: draw(k, gaussian(1.0, schedule, 50), sampler, (50, 1)))(  # noqa: B023
            jax.random.split(jax.random.key(0), 40)
        )
        ratio = float(noise_ratio(schedule, 1.0))
        draws.append(float(jnp.std(x)))
        assert ratio == pytest.approx(1e3, rel=2e-3)
    assert draws[0] == pytest.approx(draws[1], rel=1e-3)


def test_impossible_settings_are_refused():
    with pytest.raises(ConfigError, match="steps: got 0"):
        sda.PredictorCorrector(0)
    with pytest.raises(ConfigError, match="corrections: got -1"):
        sda.Langevin(-1)
    with pytest.raises(ConfigError, match="tau"):
        sda.Langevin(1, tau=0.0)
    with pytest.raises(ConfigError, match="above: got 1.0; expected below 0.5"):
        sda.Langevin(1, above=1.0, below=0.5)
    with pytest.raises(ConfigError, match="eta: got 2"):
        sda.DPMSolverPP2M(2)
