"""What every predictor and every corrector promises."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import Independent

import sda_jax as sda
from sda_jax.core._protocols import Corrector, Predictor
from sda_jax.core._registry import registry
from sda_jax.diffusion._gaussian import GaussianDenoiser
from sda_jax.diffusion._schedules import Cosine

SCHEDULE, LENGTH, VARIANCE = Cosine(), 8, 0.5
DENOISER = GaussianDenoiser.of(jnp.zeros((LENGTH, 1)), VARIANCE * jnp.eye(LENGTH), SCHEDULE)
PREDICTORS = {  # with the order at which 64 steps over 100-fold ratios keep the data's variance
    sda.ExponentialIntegrator(): 1,
    sda.Ancestral(): 1,
    sda.Ancestral(0.5): 1,
    sda.DPMSolverPP2M(): 2,
    sda.DPMSolverPP2M(1.0): 2,
    sda.Heun(): 2,
}
BIAS = {1: 0.1, 2: 0.005}
CORRECTORS = {  # with what two steps may do to the variance
    sda.Langevin(2, 0.1): 0.1,
    sda.Langevin(2, 0.1, relative=False): 0.1,
    sda.LeimkuhlerMatthews(2, 0.1): 0.0,
    sda.Gibbs(2, above=0.0): 0.0,
}
SEVERAL = sda.Correctors((sda.Gibbs(1, above=0.0), sda.Langevin(1, 0.1)))
EVERY = [*CORRECTORS, SEVERAL]
each_predictor = pytest.mark.parametrize("predictor", PREDICTORS, ids=str)
each_corrector = pytest.mark.parametrize("corrector", EVERY, ids=str)
x_t = jax.random.normal(jax.random.key(1), (3, LENGTH, 1))
KEYS = jax.random.split(jax.random.key(2), 3)


@jax.jit
def predicted(predictor, denoiser, key, x, t, s):
    return predictor.step(key, denoiser, x, t, s, predictor.init(x))


@jax.jit
def corrected(corrector, denoiser, key, x, t):
    return corrector(key, denoiser, x, t)


def level(std, t):
    """Of x_t, for data of standard deviation `std`."""
    return np.sqrt(SCHEDULE.mu(t) ** 2 * std**2 + SCHEDULE.sigma(t) ** 2)


def test_the_tables_have_every_class():
    found = [c for c in registry().values() if c.__module__.startswith("sda_jax.samplers")]
    ours = {c for c in found if not hasattr(c, "finish")}
    assert {type(p) for p in PREDICTORS} == {c for c in ours if issubclass(c, Predictor)}
    assert {type(c) for c in EVERY} == {c for c in ours if issubclass(c, Corrector)}


@each_predictor
def test_predictors_batch_and_remember_what_a_scan_can_carry(predictor):
    assert isinstance(predictor, Predictor)
    out, _ = jax.vmap(lambda k, x: predicted(predictor, DENOISER, k, x, 0.6, 0.5))(KEYS, x_t)
    assert out.shape == x_t.shape and out.dtype == jnp.float32
    one, remembered = predicted(predictor, DENOISER, KEYS[1], x_t[1], 0.6, 0.5)
    np.testing.assert_allclose(out[1], one, rtol=1e-5, atol=1e-6)
    first = predictor.init(x_t[1])
    assert jax.tree.structure(first) == jax.tree.structure(remembered)
    for before, after in zip(*map(jax.tree.leaves, (first, remembered)), strict=True):
        assert (before.shape, before.dtype) == (after.shape, after.dtype)


@each_predictor
def test_a_step_to_the_same_level_moves_nothing(predictor):
    out, memory = predicted(predictor, DENOISER, KEYS[0], x_t[0], 0.6, 0.6)
    np.testing.assert_allclose(out, x_t[0], rtol=1e-4, atol=1e-5)
    # whatever it remembers
    again, _ = predictor.step(KEYS[1], DENOISER, x_t[0], 0.6, 0.6, memory)
    np.testing.assert_allclose(again, x_t[0], rtol=1e-4, atol=1e-5)


@jax.jit
def walked(predictor, x, times):
    """Predictor steps for normal data in many dimensions."""
    denoiser, keys = Independent(VARIANCE), jax.random.split(jax.random.key(3), times.size - 1)

    def step(carry, now):
        key, t, s = now
        return predictor.step(key, denoiser, carry[0], t, s, carry[1]), None

    return jax.lax.scan(step, (x, predictor.init(x)), (keys, times[:-1], times[1:]))[0][0]


@each_predictor
def test_predictors_keep_the_variance_of_normal_data(predictor):
    n = 40_000
    times = SCHEDULE.time(jnp.geomspace(10.0, 0.1, 65))
    start = level(np.sqrt(VARIANCE), times[0]) * jax.random.normal(jax.random.key(4), (n, 1))
    error = (
        float(jnp.var(walked(predictor, start, times))) / level(np.sqrt(VARIANCE), times[-1]) ** 2
        - 1
    )
    assert abs(error) < BIAS[PREDICTORS[predictor]] + 4 * np.sqrt(2 / n), error


@each_corrector
def test_correctors_batch_and_compile_once(corrector):
    assert isinstance(corrector, Corrector)
    traces = []

    @jax.jit
    def run(corrector, x, t):
        traces.append(1)
        return jax.vmap(lambda k, x: corrector(k, DENOISER, x, t))(KEYS, x)

    for t in (0.3, 0.6):
        out = run(corrector, x_t, t)
        assert out.shape == x_t.shape and out.dtype == jnp.float32
        one = corrected(corrector, DENOISER, KEYS[1], x_t[1], t)
        np.testing.assert_allclose(out[1], one, rtol=1e-4, atol=1e-5)
        assert jnp.abs(out - x_t).min() > 0 and corrector.active(SCHEDULE, t)
    run(jax.tree.map(lambda leaf: 0.9 * leaf, corrector), x_t, 0.6)
    assert len(traces) == 1


@pytest.mark.parametrize(
    "corrector",
    [*(dataclasses.replace(c, steps=0) for c in CORRECTORS), sda.Correctors()],
    ids=str,
)
def test_no_steps_move_nothing(corrector):
    assert not corrector.active(SCHEDULE, 0.5)
    found = corrected(corrector, DENOISER, KEYS[0], x_t[0], 0.5)
    np.testing.assert_array_equal(found, x_t[0])


@pytest.mark.parametrize("corrector", CORRECTORS, ids=str)
def test_correctors_move_within_their_levels_only(corrector):
    middle = dataclasses.replace(corrector, above=0.5, below=2.0)
    for bounded in (middle, sda.Correctors((middle,))):
        for ratio, inside in ((0.4, False), (0.6, True), (1.9, True), (2.1, False)):
            t = SCHEDULE.time(ratio)
            assert bounded.active(SCHEDULE, t) == inside
            out = corrected(bounded, DENOISER, KEYS[0], x_t[0], t)
            assert bool((out == x_t[0]).all()) != inside, ratio


@jax.jit
def moved(corrector, keys, denoiser, x, t):
    return jax.vmap(lambda k, x: corrector(k, denoiser, x, t))(keys, x)


@pytest.mark.parametrize("corrector", CORRECTORS, ids=str)
def test_correctors_keep_the_variance_of_normal_data(corrector):
    n, members = 64, 1000
    denoiser = GaussianDenoiser.of(jnp.zeros((n, 1)), VARIANCE * jnp.eye(n), SCHEDULE)
    for ratio in (0.2, 1.0):
        t = SCHEDULE.time(ratio)
        std = level(np.sqrt(VARIANCE), t)
        start = std * jax.random.normal(jax.random.key(5), (members, n, 1))
        x = moved(corrector, jax.random.split(jax.random.key(6), members), denoiser, start, t)
        error = float(jnp.var(x)) / std**2 - 1
        assert abs(error) < CORRECTORS[corrector] + 4 * np.sqrt(2 / (n * members)), error


@sda.component
class Apart(sda.RepeatedMoves):
    """A corrector that evaluates for itself."""

    inside: object
    steps: int = sda.static(2)
    above: float = 0.0
    below: float = float("inf")

    def init(self, key, x):
        return self.inside.init(key, x)

    def move(self, key, denoiser, x, t, memory):
        return self.inside.move(key, denoiser, x, t, memory)


@sda.component
class Elsewhere(sda.Memoryless, sda.EvaluatesOnce):
    """It says that it evaluates once, and does not."""

    def step(self, key, denoiser, x, t, s, memory):
        return denoiser(denoiser(x, t), s), memory


@sda.component
class Marked:
    """A denoiser whose evaluations are seen in a program."""

    inside: object = Independent(VARIANCE)

    @property
    def schedule(self):
        return self.inside.schedule

    def __call__(self, x, t):
        return self.inside(jax.lax.optimization_barrier(x), t)


@pytest.mark.parametrize("above", [pytest.param(0.0, marks=pytest.mark.slow), 0.3])
@pytest.mark.parametrize(
    "predictor", [p for p in PREDICTORS if isinstance(p, sda.EvaluatesOnce)], ids=str
)
def test_one_evaluation_in_the_program_serves_prediction_and_corrections(predictor, above):
    """The draw is that of a corrector that evaluates for itself, whatever levels are corrected."""
    moves = sda.LeimkuhlerMatthews(2, 0.1, above=above)
    found, evaluations = [], []
    for corrector in (moves, Apart(moves, above=above)):
        sampler = sda.PredictorCorrector(6, sda.LogSNR(), predictor, corrector)

        def draw(key, sampler=sampler):
            return sda.samplers.draw(key, Marked(), sampler, (LENGTH, 1))

        found.append(jax.jit(draw)(KEYS[0]))
        program = str(jax.make_jaxpr(draw)(KEYS[0]))
        evaluations.append(program.count("optimization_barrier"))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-5)
    assert evaluations == [1, 2]


@sda.component
class Twice(sda.DPMSolverPP2M):
    """A subclass that evaluates at the new level too."""

    def step(self, key, denoiser, x, t, s, memory):
        x, memory = super().step(key, denoiser, x, t, s, memory)
        return x + 0.1 * (denoiser(x, s) - denoiser.mean), memory


@sda.component
class Still(sda.Langevin):
    """A subclass that does not move."""

    def __call__(self, key, denoiser, x, t):
        return x


def test_subclasses_with_steps_of_their_own_are_given_the_denoiser():
    def draw(predictor, corrector):
        sampler = sda.PredictorCorrector(4, sda.LogSNR(), predictor, corrector)
        return sda.samplers.draw(KEYS[0], DENOISER, sampler, (LENGTH, 1))

    moves = sda.LeimkuhlerMatthews(1)
    np.testing.assert_allclose(draw(Twice(), moves), draw(Twice(), Apart(moves, 1)), rtol=1e-4)
    none = draw(sda.Ancestral(), sda.Langevin(0))
    np.testing.assert_allclose(draw(sda.Ancestral(), Still(2)), none, rtol=1e-5)


def test_a_draw_is_differentiated_by_either_mode():
    def last(variance):
        denoiser = Independent(variance)
        sampler = sda.PredictorCorrector(3, sda.LogSNR(), corrector=sda.LeimkuhlerMatthews(1))
        return jnp.sum(sda.samplers.draw(KEYS[0], denoiser, sampler, (LENGTH, 1)) ** 2)

    np.testing.assert_allclose(jax.grad(last)(0.5), jax.jacfwd(last)(0.5), rtol=1e-4)


def test_a_step_that_evaluates_elsewhere_is_refused():
    sampler = sda.PredictorCorrector(4, predictor=Elsewhere(), corrector=sda.Langevin(1))
    with pytest.raises(sda.ConfigError, match=r"EvaluatesOnce: .*another x or t.*Do not derive"):
        sda.samplers.draw(KEYS[0], DENOISER, sampler, (LENGTH, 1))
