"""Draws that start again are the sampler's own, and those that explain y go on."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counting import evaluations

import sda_jax as sda
from sda_jax.classical import exact_prior
from sda_jax.core._errors import ConfigError
from sda_jax.diffusion._schedules import noise_ratio
from sda_jax.guidance._base import Guided
from sda_jax.samplers._counting import Evaluations
from sda_jax.samplers._driver import advance, begin, draw

pytestmark = pytest.mark.compiles
LENGTH = 7
CHAIN = sda.VectorAutoregression()
PRIOR = exact_prior(CHAIN, LENGTH)
SHAPE = (LENGTH, 2)
OPERATOR = sda.Every(2)
INNER = sda.PredictorCorrector(
    10, sda.LogSNR(), sda.DPMSolverPP2M(), sda.Langevin(1, 0.1, relative=False)
)
MANY = sda.Candidates(INNER, count=3, share=0.6, gap=1e-6)


@pytest.fixture(scope="module")
def posterior():
    truth = sda.simulate(jax.random.key(1), CHAIN, LENGTH)
    observation = sda.observe(jax.random.key(2), truth, OPERATOR, std=0.3)
    return sda.GaussianCovariance(10)(PRIOR.denoiser, observation)


KEYS = jax.random.split(jax.random.key(3), 8)


@jax.jit
def all_drawn(sampler, posterior):
    return jax.vmap(lambda k: draw(k, posterior, sampler, SHAPE))(KEYS)


def drawn(sampler, posterior):
    return np.asarray(all_drawn(sampler, posterior))


@pytest.fixture(scope="module")
def candidates(posterior):
    """Of each member: how well the states after six steps fit, and what becomes of them."""

    @jax.jit
    def of(key, own):
        progress = advance(own, posterior, INNER, begin(own, posterior, INNER, SHAPE), 0, 6)
        fit = posterior.fit(progress.state.x, INNER.grid(posterior.schedule, 10)[6])
        return fit, INNER.finish(posterior, advance(key, posterior, INNER, progress, 6, 4).state)

    others = [KEYS, *(jax.vmap(lambda k, i=i: jax.random.fold_in(k, i))(KEYS) for i in (2, 3))]
    found = [jax.vmap(of)(KEYS, own) for own in others]
    return np.stack([f for f, _ in found]), np.stack([x for _, x in found])


def test_what_goes_on_is_the_candidate_that_fits_best(posterior, candidates):
    fits, ends = candidates
    best = fits.argmax(axis=0)
    assert set(best) == {0, 1, 2}
    expected = ends[best, np.arange(8)]
    np.testing.assert_allclose(drawn(MANY, posterior), expected, rtol=1e-4, atol=1e-4)


def test_a_later_candidate_must_be_better_by_the_gap(posterior, candidates):
    fits, ends = candidates
    gap = float(np.median(np.abs(fits[1] - fits[0])))
    best, expected = [], []
    for member in range(8):
        chosen = 0
        for i in (1, 2):
            chosen = i if fits[i, member] > fits[chosen, member] + gap else chosen
        best.append(chosen)
        expected.append(ends[chosen, member])
    assert 0 in best and max(best) > 0
    chance = np.sqrt(posterior.observation.observed.sum())
    found = drawn(dataclasses.replace(MANY, gap=gap / chance), posterior)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "changes", [{"count": 1}, {"gap": 1e9}, {"count": 1, "share": 1.0}], ids=str
)
def test_without_a_choice_it_is_the_sampler_inside(posterior, changes):
    found = drawn(dataclasses.replace(MANY, **changes), posterior)
    np.testing.assert_allclose(found, drawn(INNER, posterior), rtol=1e-4, atol=1e-4)


def test_evaluations_are_counted(posterior):
    def guided(denoiser):
        return posterior.method(denoiser, posterior.observation)

    found = evaluations(MANY, posterior.denoiser, SHAPE, guided)
    assert found == Evaluations(20 + 2 * 12 + 3, 20 + 2 * 12)
    assert MANY.steps == 3 * 6 + 4


def test_candidates_share_no_random_numbers(posterior, monkeypatch):
    """Nor does a candidate the other's corrections: all normal numbers drawn are different."""
    drawn, normal = [], jax.random.normal

    def noted(*args, **kwargs):
        x = normal(*args, **kwargs)
        jax.debug.callback(lambda x: drawn.append(float(x.ravel()[0])), x)
        return x

    monkeypatch.setattr(jax.random, "normal", noted)
    inner = sda.PredictorCorrector(4, sda.LogSNR(), sda.Ancestral(), sda.Langevin(2, 0.1))
    jax.clear_caches()
    draw(jax.random.key(0), posterior, sda.Candidates(inner, count=2, share=0.5), SHAPE)
    jax.effects_barrier()
    assert len(set(drawn)) == len(drawn) == 3 + (4 + 2) * 3  # the third start is of nobody


def test_a_candidate_that_diverges_is_left(posterior):
    """The first one alone would be NaN; and if all are, it is said from which level on."""
    first = jax.random.key_data(jax.random.key(5))

    def broken(all_of_them):
        def init(self, key, denoiser, shape):
            state = INNER.init(key, denoiser, shape)
            bad = jnp.all(jax.random.key_data(key) == first) | all_of_them
            return state._replace(x=jnp.where(bad, jnp.nan, state.x))

        kind = type("Broken", (sda.PredictorCorrector,), {"init": init})
        return dataclasses.replace(
            MANY,
            sampler=kind(INNER.steps, INNER.grid, INNER.predictor, INNER.corrector),
        )

    def end(sampler):
        key = jax.random.key(5)
        return advance(key, posterior, sampler, begin(key, posterior, sampler, SHAPE), 0)

    assert np.isfinite(end(broken(False)).state.x).all()
    assert end(broken(False)).diverged_at == 0
    first_level = noise_ratio(posterior.schedule, INNER.grid(posterior.schedule, 10)[0])
    assert end(broken(True)).diverged_at == first_level


def test_fit_is_the_log_density_of_y_up_to_a_constant(posterior):
    """The exact covariance: differences are those of the Gaussian's log density; of another
    distribution, its log likelihood at the posterior mean."""
    t = posterior.schedule.time(0.5)
    x = jax.random.normal(jax.random.key(6), (5, *SHAPE))
    fits = jax.vmap(lambda x: posterior.fit(x, t))(x)
    x_hat = jax.vmap(lambda x: posterior.denoiser(x, t))(x)
    parts = (posterior.denoiser, posterior.observation)
    exact = jax.vmap(lambda x_hat: posterior.method.log_twist(*parts, x_hat, t))(x_hat)
    np.testing.assert_allclose(fits - fits[0], exact - exact[0], rtol=1e-3, atol=1e-3)
    assert fits.max() < 0 and np.ptp(fits) > 1
    distribution = sda.Observation(posterior.observation.y, OPERATOR, noise=sda.StudentT(0.3, 4.0))
    other = Guided(posterior.denoiser, distribution, posterior.method)
    np.testing.assert_allclose(other.fit(x[0], t), distribution.log_likelihood(x_hat[0]), rtol=1e-5)


def test_an_ensemble_by_the_public_function():
    truth = sda.simulate(jax.random.key(1), CHAIN, LENGTH)
    observation = sda.observe(jax.random.key(2), truth, OPERATOR, std=0.3)
    given = (jax.random.key(0), PRIOR, observation, LENGTH)
    a, b = (sda.assimilate(*given, 5, sampler=MANY, memory=sda.Memory(chunk)) for chunk in (2, 5))
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_impossible_settings_are_refused():
    with pytest.raises(ConfigError, match="sampler: got Candidates.*an observation"):
        sda.sample(jax.random.key(0), PRIOR, LENGTH, 2, MANY)
    for name, value in (("count", 0), ("share", 0.0), ("share", 1.1), ("gap", 0.0)):
        with pytest.raises(ConfigError, match=name):
            dataclasses.replace(MANY, **{name: value})
