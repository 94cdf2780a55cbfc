"""The driver of samplers: single draws, populations, and where they are saved on the way."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interrupting import interrupted, interruptible

import sda_jax as sda
from sda_jax.classical import exact_prior
from sda_jax.core._component import component
from sda_jax.core._protocols import PopulationSampler, Sampler, SamplerState
from sda_jax.core._record import static
from sda_jax.diffusion._schedules import noise_ratio
from sda_jax.posterior._files import load_posterior
from sda_jax.samplers import draw

pytestmark = pytest.mark.compiles
LENGTH, SHAPE, STD = 5, (5, 2), 0.3
PRIOR = exact_prior(sda.VectorAutoregression(), LENGTH)
Y = np.array([[0.5, -0.5], [1.0, 0.0], [0.2, 0.3]], np.float32)
OBSERVATION = sda.Observation(Y, sda.Every(2, sda.Channels((0, 1))), std=STD)
GUIDANCE = sda.GaussianCovariance(through_network=False)


@component
class Resampling:
    """Ancestral steps of the members of an island, which are resampled at every level with the
    likelihood of y at their posterior means."""

    steps: int = static(6)
    island: int = static(4)
    grid: sda.LogSNR = sda.LogSNR()
    predictor: sda.Ancestral = sda.Ancestral()

    def init(self, key, denoiser, shape):
        noise = jax.random.normal(jax.random.fold_in(key, self.steps), (self.island, *shape))
        start = self.grid(denoiser.schedule, self.steps)[0]
        return SamplerState(
            denoiser.schedule.sigma(1.0) * noise, noise_ratio(denoiser.schedule, start)
        )

    def step(self, key, denoiser, state, i):
        times = self.grid(denoiser.schedule, self.steps)
        t, s = times[i], times[i + 1]
        key_move, key_choose = jax.random.split(jax.random.fold_in(key, i))
        weights = jax.vmap(lambda x: denoiser.fit(x, t))(state.x)
        chosen = jax.random.categorical(key_choose, weights, shape=(self.island,))

        def move(key, x):
            return self.predictor.step(key, denoiser, x, t, s, ())[0]

        x = jax.vmap(move)(jax.random.split(key_move, self.island), state.x[chosen])
        return SamplerState(x, noise_ratio(denoiser.schedule, s))

    def finish(self, denoiser, state):
        return state.x / denoiser.schedule.mu(0.0)


POPULATION = Resampling()


def assimilated(samples=12, sampler=POPULATION, **memory):
    key = jax.random.key(0)
    given = (PRIOR, OBSERVATION, LENGTH, samples, GUIDANCE, sampler)
    return np.asarray(sda.assimilate(key, *given, memory=sda.Memory(**memory)))


@pytest.fixture(scope="module")
def whole():
    """All islands in one chunk."""
    return assimilated(chunk=12)


def denoiser():
    standardised = OBSERVATION.standardised(PRIOR.standardisation)
    return GUIDANCE(PRIOR.denoiser, standardised)


def looped(sampler, key):
    """A draw, or an island of them, written out."""
    posterior = denoiser()
    state = sampler.init(key, posterior, SHAPE)
    step = jax.jit(lambda state, i: sampler.step(key, posterior, state, i))
    for i in range(sampler.steps):
        state = step(state, i)
    return sampler.finish(posterior, state)


def test_islands_are_steps_written_out(whole):
    assert isinstance(POPULATION, PopulationSampler) and isinstance(POPULATION, Sampler)
    for i in range(3):
        x = looped(POPULATION, jax.random.fold_in(jax.random.key(0), i))
        island = PRIOR.standardisation.inverse(x)
        np.testing.assert_allclose(whole[4 * i : 4 * i + 4], island, rtol=1e-3, atol=1e-3)
    assert np.ptp(whole, axis=0).min() > 0


@pytest.mark.parametrize("chunk", [4, 5, 8])
def test_islands_do_not_depend_on_the_chunk(whole, chunk):
    """Which is rounded up to whole islands."""
    np.testing.assert_allclose(assimilated(chunk=chunk), whole, rtol=1e-3, atol=1e-3)


def test_a_last_island_that_is_not_full_gives_its_first_members(whole):
    np.testing.assert_allclose(assimilated(7, chunk=4), whole[:7], rtol=1e-3, atol=1e-3)


def test_members_of_an_island_depend_on_each_other_and_islands_do_not(whole):
    other = assimilated(8, dataclasses.replace(POPULATION, island=2), chunk=8)
    assert np.abs(other - whole[:8]).max() > 1e-2
    assert np.abs(whole[:4] - whole[4:8]).min() > 0


SINGLE = sda.PredictorCorrector(
    6, sda.LogSNR(), sda.DPMSolverPP2M(), sda.Langevin(1, 0.1), denoise=0.5
)


def test_single_draws_lifted_are_draws_one_by_one():
    """By the public function, by the driver and written out: a compiled scan is a loop."""
    assert not isinstance(SINGLE, PopulationSampler) and isinstance(SINGLE, Sampler)
    members = assimilated(3, SINGLE, chunk=3)
    one = jax.jit(draw, static_argnums=3)
    for i in range(3):
        key = jax.random.fold_in(jax.random.key(0), i)
        single = PRIOR.standardisation.inverse(one(key, denoiser(), SINGLE, SHAPE))
        # rounding errors at sigma/mu = 1000 are those of data of this size
        np.testing.assert_allclose(members[i], single, rtol=1e-2, atol=1e-2)
    loop = PRIOR.standardisation.inverse(looped(SINGLE, key))
    np.testing.assert_allclose(members[2], loop, rtol=1e-2, atol=1e-2)
    assert np.ptp(members, axis=0).min() > 0.05


def test_populations_go_to_file_and_go_on(tmp_path, whole):
    """Interrupted again and again, within each of three islands; six evaluations of all members
    and their fits are between two checkpoints."""
    prior, switch = interruptible(PRIOR)

    def to_file(name="p.h5"):
        given = (prior, OBSERVATION, LENGTH, 10, GUIDANCE, POPULATION, sda.Memory(4))
        sda.assimilate_to_file(jax.random.key(0), tmp_path / name, *given, save_every=2)
        return load_posterior(tmp_path / name)["ensemble"]

    unbroken = to_file("whole.h5")
    np.testing.assert_allclose(unbroken, whole[:10], rtol=1e-3, atol=1e-3)
    interruptions, between = 0, switch.calls // 9
    while interrupted(switch, between + between // 2, to_file):
        interruptions += 1
    assert interruptions >= 5
    np.testing.assert_array_equal(to_file(), unbroken)


def test_a_population_that_diverges_says_where():
    @component
    class Breaking(Resampling):
        """One member of each island is lost at step 2."""

        def step(self, key, denoiser, state, i):
            state = Resampling.step(self, key, denoiser, state, i)
            return state._replace(x=state.x.at[1].multiply(jnp.where(i == 2, jnp.nan, 1.0)))

        def finish(self, denoiser, state):
            return state.x

    schedule = PRIOR.denoiser.schedule
    level = float(noise_ratio(schedule, sda.LogSNR()(schedule, 3)[2]))
    with pytest.raises(sda.SDAError, match=f"of 8 members.*sigma/mu = {level:.3g}"):
        assimilated(8, Breaking(steps=3), chunk=8)
