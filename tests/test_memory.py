"""What is computed at once where nobody said, by small limits of memory."""

import dataclasses
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sda_jax as sda
from sda_jax.classical import exact_prior
from sda_jax.core._batches import evened, map_batches
from sda_jax.core._errors import ResourceError
from sda_jax.diffusion._denoisers import NetworkDenoiser
from sda_jax.diffusion._parameterisations import Preconditioned
from sda_jax.networks import TemporalConv
from sda_jax.posterior import _assimilate as assimilating
from sda_jax.posterior._arguments import particles_at_once
from sda_jax.posterior._assimilate import posterior_denoiser
from sda_jax.runtime import _memory as memory

CHAIN, LENGTH = sda.VectorAutoregression(), 8
# Langevin's step, tau over the score's square, would be a million where two steps end on the mean
STEPS = sda.PredictorCorrector(2, corrector=sda.LeimkuhlerMatthews(1))
SMALL = sda.Population(island=12, particles=2, search=2, refinement=1, corrections=1, alone=STEPS)


@pytest.fixture(scope="module")
def given():
    observation = sda.Observation(jnp.zeros((LENGTH, 2)), lambda x: x, std=1.0)
    return jax.random.key(0), exact_prior(CHAIN, LENGTH), observation, LENGTH


def limit(monkeypatch, free):
    monkeypatch.setattr(memory, "free_bytes", lambda: free)


@pytest.mark.parametrize("fixed, each", [(0, 10), (500, 10), (990, 1)])
@pytest.mark.parametrize("unit, most", [(1, None), (4, None), (3, 50)])
def test_as_many_as_fit(monkeypatch, fixed, each, unit, most):
    """Programs that need `fixed + each n` bytes, of which 1000 are free."""
    limit(monkeypatch, 1000)
    asked = []

    def needed(n):
        asked.append(n)
        return fixed + each * n

    for count in (1, 7, 64, 1000):
        found = memory.members_that_fit(count, needed, unit, most)
        assert found % unit == 0 and unit <= found <= max(most or count + unit, unit)
        assert found == unit or fixed + each * found <= 1000
        fitting = min((1000 - fixed) // each, most or count) // unit * unit
        assert -(-count // found) <= 2 * -(-count // max(fitting, unit))
        assert -(-count // found) * found - count < unit * -(-count // found)  # little filled up
    assert len(asked) <= 4 * 10  # each is a compilation
    limit(monkeypatch, None)
    assert memory.members_that_fit(10**6, needed) == 10**6


@pytest.mark.parametrize("count, most, batches", [(7, 7, 1), (10, 4, 3), (5, 64, 1), (9, 2, 5)])
def test_batches_are_traced_once_and_filled_up(count, most, batches):
    traces = []

    def one(pair):
        traces.append(1)
        key, x = pair
        return {"x": x + jax.random.normal(key, x.shape), "twice": 2 * x}

    given = jax.random.split(jax.random.key(0), count), jnp.arange(2.0 * count).reshape(count, 2)
    found = map_batches(one, given, most)
    assert len(traces) == 1
    assert -(-count // evened(count, most)) == batches and evened(count, most) <= most
    for name, expected in jax.vmap(one)(given).items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=1e-6)


def test_members_are_the_same_and_what_is_foreseen_fits(monkeypatch, given):
    sizes = []

    def spy(function, remedy, key, members, *rest):
        needed = memory.needed_bytes(function.lower(key, members, *rest).compile())
        sizes.append((len(members), needed))
        return memory.run_if_fits(function, remedy, key, members, *rest)

    monkeypatch.setattr(assimilating, "run_if_fits", spy)
    whole = sda.draw_posterior(*given, 24, sda.SDA(), STEPS).ensemble
    ((count, needed),) = sizes
    assert count == 24
    sizes.clear()
    limit(monkeypatch, needed // 3)
    part = sda.draw_posterior(*given, 24, sda.SDA(), STEPS).ensemble
    assert 1 < len(sizes) <= 24 and all(n <= needed // 3 for _, n in sizes)
    np.testing.assert_allclose(part, whole, rtol=1e-5, atol=1e-5)
    limit(monkeypatch, 100)
    with pytest.raises(ResourceError, match="memory: got"):
        sda.draw_posterior(*given, 24, sda.SDA(), STEPS)


def resident(name):
    """Bytes of this process's memory, now (`VmRSS`) or at most (`VmHWM`)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="asks Linux")
def test_a_draw_takes_the_memory_that_was_foreseen(monkeypatch):
    """To a tenth, where it is compiled already."""
    length, members, foreseen = 4096, 16, []
    network = TemporalConv(width=32, dilations=(1,))
    blank = NetworkDenoiser(network, None, sda.Cosine(), Preconditioned())
    variables = jax.jit(lambda key: blank.init(key, (64, 3)))(jax.random.key(0))
    denoiser = dataclasses.replace(blank, variables=variables)
    prior = sda.Prior(denoiser, sda.Standardisation(0.0, 1.0), (3,))
    observation = sda.Observation(jnp.zeros((length // 8, 3)), lambda x: x[::8], std=1.0)
    given = prior, observation, length, members, sda.SDA(), STEPS, sda.Memory(members)

    def spy(compiled, needed=memory.needed_bytes):
        foreseen.append(needed(compiled))
        return foreseen[-1]

    monkeypatch.setattr(memory, "needed_bytes", spy)
    sda.draw_posterior(jax.random.key(0), *given)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    sda.draw_posterior(jax.random.key(1), *given)
    grown = resident("VmHWM") - before
    assert max(foreseen) > 1e8
    assert 0.5 < grown / max(foreseen) < 1.1, (grown, max(foreseen))


def test_populations_move_as_many_particles_as_fit(monkeypatch, given):
    """Of programs that need a kilobyte a particle; a number that the user gave stays."""
    _, prior, observation, length = given
    posterior, sampler = posterior_denoiser(prior, observation, length, 300, sampler=SMALL)
    shape = (length, 2)

    def moved(sampler, samples=300, chunk=None):
        needed = lambda sampler: 1000 * sampler.at_once  # noqa: E731
        given = sampler, posterior, samples, shape, sda.Memory(chunk), needed
        return particles_at_once(*given).at_once

    limit(monkeypatch, None)
    assert moved(sampler) == memory.CPU_MEMBERS
    limit(monkeypatch, 20_500)
    assert moved(sampler) == 20
    assert moved(sampler, chunk=32) is None  # `fitted` has seen the user's
    assert moved(dataclasses.replace(sampler, at_once=40)) == 40
    assert particles_at_once(STEPS, posterior, 4, shape, sda.Memory(), lambda _: 10**9) is STEPS


def climbed(key, prior, observation, start):
    return sda.find_modes(prior, observation, start, sda.SDA(), levels=2, steps=2).of_member


def refined(key, prior, observation, start):
    return sda.refine(key, CHAIN, observation, start, steps=2).ensemble


def simulated(key, prior, observation, start):
    return sda.simulate(key, CHAIN, LENGTH, batch=16)


@pytest.mark.parametrize("function", [climbed, refined, simulated])
def test_chunks_that_fit_give_the_same(monkeypatch, given, function):
    """At once without a limit, in chunks just below what all need."""
    key, prior, observation, _ = given
    arguments = key, prior, observation, sda.simulate(key, CHAIN, LENGTH, batch=16)
    calls = []
    real = memory.members_that_fit

    def spy(count, needed, unit=1, most=None):
        found = real(count, needed, unit, most)
        calls.append((found, needed(found), needed(count)))
        return found

    for module in ("runtime._memory", "data._simulation"):
        monkeypatch.setattr(f"sda_jax.{module}.members_that_fit", spy)
    whole = function(*arguments)
    ((found, all_of_them, _),) = calls
    assert found == 16
    limit(monkeypatch, all_of_them - 1)
    np.testing.assert_allclose(function(*arguments), whole, rtol=1e-5, atol=1e-5)
    found, needed, _ = calls[1]
    assert 1 <= found < 16 and needed < all_of_them
