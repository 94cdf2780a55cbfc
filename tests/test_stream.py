"""Ensembles drawn onto disk are those drawn in memory, however often they are interrupted."""

import dataclasses
import shutil

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interrupting import interrupted, interruptible

import sda_jax as sda
from sda_jax.classical import exact_prior
from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError, DivergenceError, StorageError
from sda_jax.diffusion._schedules import noise_ratio
from sda_jax.posterior._files import load_posterior
from sda_jax.posterior._to_file import assimilate_to_file

LENGTH, SAMPLES = 9, 10
pytestmark = pytest.mark.compiles
SAMPLERS = {
    "one level after another": sda.PredictorCorrector(
        12, sda.LogSNR(), sda.ExponentialIntegrator(), sda.Langevin(1, 0.1, relative=False)
    ),
    "remembering the level before": sda.PredictorCorrector(
        12, sda.LogSNR(), sda.DPMSolverPP2M(), sda.Langevin(0), denoise=1.0
    ),
    "starting again": sda.Candidates(
        sda.PredictorCorrector(
            7, sda.LogSNR(), sda.DPMSolverPP2M(), sda.Langevin(1, 0.1, relative=False)
        ),
        count=2,
        share=0.7,
        gap=0.1,
    ),
}


@pytest.fixture(scope="module")
def prior():
    return exact_prior(sda.VectorAutoregression(), LENGTH)


@pytest.fixture(scope="module")
def observation():
    truth = sda.simulate(jax.random.key(1), sda.VectorAutoregression(), LENGTH)
    return sda.observe(jax.random.key(2), truth, sda.Every(2), std=0.3)


def drawn(path, prior, observation, sampler, **changes):
    settings = {
        "guidance": sda.TweedieCovariance(),
        "sampler": sampler,
        "memory": sda.Memory(4),
        "save_every": 5,
    } | changes
    key = settings.pop("key", jax.random.key(3))
    assimilate_to_file(key, path, prior, observation, LENGTH, SAMPLES, **settings)
    return load_posterior(path)["ensemble"]


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_the_ensemble_is_the_one_in_memory(tmp_path, prior, observation, sampler):
    found = drawn(tmp_path / "p.h5", prior, observation, sampler)
    expected = sda.assimilate(
        jax.random.key(3),
        prior,
        observation,
        LENGTH,
        SAMPLES,
        sda.TweedieCovariance(),
        sampler,
        memory=sda.Memory(4),
    )
    assert found.shape == (SAMPLES, LENGTH, 2)
    assert found.std(axis=0).min() > 0.01
    size = np.abs(expected).max()  # two programs, whose sums differ in order
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * size)
    assert [p.name for p in tmp_path.iterdir()] == ["p.h5"]


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_interrupted_again_and_again(tmp_path, prior, observation, sampler):
    """Three blocks of three checkpoints each: what lies between two is all that is lost."""
    prior, switch = interruptible(prior)

    def do():
        return drawn(tmp_path / "p.h5", prior, observation, sampler)

    whole = drawn(tmp_path / "whole.h5", prior, observation, sampler)
    all_calls, most = switch.calls, -(-switch.calls // 3 * 5 // sampler.steps)
    interruptions = 0
    while interrupted(switch, most + most // 2, do):
        interruptions += 1
    np.testing.assert_array_equal(do(), whole)
    assert interruptions >= 5
    assert switch.calls - all_calls < all_calls + interruptions * most


def test_what_is_there_is_not_drawn_again_and_another_is_refused(tmp_path, prior, observation):
    sampler = SAMPLERS["one level after another"]
    path = tmp_path / "p.h5"
    drawn(path, prior, observation, sampler)
    before = path.stat().st_mtime_ns
    drawn(path, prior, observation, sampler)
    drawn(path, prior, observation, sampler, memory=sda.Memory(5))
    assert path.stat().st_mtime_ns == before
    louder = dataclasses.replace(observation, std=0.4)
    elsewhere = dataclasses.replace(observation, operator=sda.Every(2, sda.Channels((1,))))
    with pytest.raises(StorageError, match="another posterior"):
        drawn(path, prior, elsewhere, sampler)
    with pytest.raises(StorageError, match="another posterior"):
        drawn(path, prior, observation, dataclasses.replace(sampler, steps=13))
    for changes in (
        {"key": jax.random.key(4)},
        {"guidance": sda.SDA(0.5)},
    ):
        with pytest.raises(StorageError, match="another posterior"):
            drawn(path, prior, observation, sampler, **changes)
    with pytest.raises(StorageError, match="another posterior"):
        drawn(path, prior, louder, sampler)


@pytest.fixture
def two_parts(tmp_path, prior, observation):
    """What draws into a file, of which two of three blocks are there."""
    prior, switch = interruptible(prior)

    def do(name="p.h5", **changes):
        sampler = SAMPLERS["one level after another"]
        return drawn(tmp_path / name, prior, observation, sampler, **changes)

    do("count.h5")
    assert interrupted(switch, switch.calls * 5 // 6, do)
    assert len(list((tmp_path / "p.h5.parts").rglob("*.npy"))) == 2
    return do


def test_parts_of_another_are_refused(two_parts):
    with pytest.raises(StorageError, match="the folder of another run"):
        two_parts(key=jax.random.key(4))


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b[:-1] + bytes([b[-1] ^ 1])])
def test_a_damaged_part_is_refused(tmp_path, two_parts, damage):
    path = sorted((tmp_path / "p.h5.parts").rglob("*.npy"))[1]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StorageError, match=f"{path.parent} and run again"):
        two_parts()
    shutil.rmtree(path.parent)
    np.testing.assert_array_equal(two_parts(), two_parts("whole.h5"))


def test_parts_of_a_finished_file_do_not_stay(tmp_path, two_parts):
    """As after a kill between the file and the removal of its parts."""
    parts = tmp_path / "p.h5.parts"
    shutil.copytree(parts, tmp_path / "kept")
    two_parts()
    assert not parts.exists()
    shutil.copytree(tmp_path / "kept", parts)
    two_parts()
    assert not parts.exists()


def test_a_block_that_diverges_says_at_which_level(tmp_path, observation):
    @component
    class Breaking:
        schedule = sda.Cosine()

        def __call__(self, x, t):
            return jnp.where(noise_ratio(self.schedule, t) < 2.0, jnp.nan, 0.0 * x)

    broken = sda.Prior(Breaking(), sda.Standardisation(), (2,))
    sampler = SAMPLERS["one level after another"]
    ratios = noise_ratio(sda.Cosine(), sampler.grid(sda.Cosine(), sampler.steps))
    # the corrector evaluates at the end of a step
    first = float(ratios[np.argmax(np.asarray(ratios) < 2.0) - 1])
    with pytest.raises(DivergenceError, match=f"4 of 4 .*sigma/mu = {first:.3g}"):
        drawn(tmp_path / "p.h5", broken, observation, sampler)


def test_truth_and_description_are_kept(tmp_path, prior, observation):
    sampler, truth = SAMPLERS["one level after another"], np.ones((LENGTH, 2), np.float32)
    path = tmp_path / "p.h5"
    drawn(path, prior, observation, sampler, truth=truth, description={"case": "x"})
    np.testing.assert_array_equal(load_posterior(path)["truth"], truth)
    with h5py.File(path) as file:
        assert '"case": "x"' in file.attrs["description"]
        assert file["ensemble"].attrs["units"] == "physical"


def test_levels_are_at_least_one(tmp_path, prior, observation):
    with pytest.raises(ConfigError, match="save_every: got 0"):
        drawn(tmp_path / "p.h5", prior, observation, sda.PredictorCorrector(4), save_every=0)


def test_what_is_no_key_is_refused(tmp_path, prior, observation):
    with pytest.raises(ConfigError, match="key: got 0"):
        drawn(tmp_path / "p.h5", prior, observation, sda.PredictorCorrector(4), key=0)
