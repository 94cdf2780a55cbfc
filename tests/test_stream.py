"""Ensembles drawn onto disk are those drawn in memory, however often they are interrupted."""

import dataclasses

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sda_jax as sda
from sda_jax.classical import exact_prior
from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError, DivergenceError, StorageError
from sda_jax.diffusion._schedules import noise_ratio
from sda_jax.posterior import _to_file as stream
from sda_jax.posterior._files import load_posterior
from sda_jax.posterior._to_file import assimilate_to_file

LENGTH, SAMPLES = 9, 10
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
def test_interrupted_after_every_checkpoint(tmp_path, prior, observation, sampler, monkeypatch):
    """Three checkpoints of each of three blocks: nine interruptions."""
    whole = drawn(tmp_path / "whole.h5", prior, observation, sampler)
    save, levels, advance = stream.save, [], stream._advance

    def save_and_stop(manager, step, state):
        save(manager, step, state)
        raise KeyboardInterrupt

    def counted(*arguments):
        levels.append(arguments[-1])
        return advance(*arguments)

    counted.lower = advance.lower
    monkeypatch.setattr(stream, "save", save_and_stop)
    monkeypatch.setattr(stream, "_advance", counted)
    for _ in range(9):
        with pytest.raises(KeyboardInterrupt):
            drawn(tmp_path / "p.h5", prior, observation, sampler)
    np.testing.assert_array_equal(drawn(tmp_path / "p.h5", prior, observation, sampler), whole)
    assert sum(levels) == 3 * sampler.steps


def test_what_is_there_is_not_drawn_again_and_another_is_refused(tmp_path, prior, observation):
    sampler = SAMPLERS["one level after another"]
    path = tmp_path / "p.h5"
    drawn(path, prior, observation, sampler)
    before = path.stat().st_mtime_ns
    drawn(path, prior, observation, sampler)
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
        {"memory": sda.Memory(5)},
    ):
        with pytest.raises(StorageError, match="another posterior"):
            drawn(path, prior, observation, sampler, **changes)
    with pytest.raises(StorageError, match="another posterior"):
        drawn(path, prior, louder, sampler)


def test_parts_of_another_are_refused(tmp_path, prior, observation, monkeypatch):
    sampler = SAMPLERS["one level after another"]

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(stream, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        drawn(tmp_path / "p.h5", prior, observation, sampler)
    with pytest.raises(StorageError, match="parts of something else"):
        drawn(tmp_path / "p.h5", prior, observation, sampler, key=jax.random.key(4))


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b[:-1] + bytes([b[-1] ^ 1])])
def test_a_damaged_part_is_refused(tmp_path, prior, observation, monkeypatch, damage):
    sampler = SAMPLERS["one level after another"]

    def stop(*arguments, **keywords):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(stream, "new_posterior", stop)
        with pytest.raises(KeyboardInterrupt):
            drawn(tmp_path / "p.h5", prior, observation, sampler)
    parts = sorted((tmp_path / "p.h5.parts").rglob("*.npy"))
    assert len(parts) == 3
    parts[1].write_bytes(damage(parts[1].read_bytes()))
    with pytest.raises(StorageError, match=f"{parts[1].parent} and run again"):
        drawn(tmp_path / "p.h5", prior, observation, sampler)
    for path in parts[1].parent.iterdir():
        path.unlink()
    parts[1].parent.rmdir()
    whole = drawn(tmp_path / "whole.h5", prior, observation, sampler)
    np.testing.assert_array_equal(drawn(tmp_path / "p.h5", prior, observation, sampler), whole)


def test_parts_of_a_finished_file_do_not_stay(tmp_path, prior, observation, monkeypatch):
    """Killed between the file and the removal of its parts."""
    sampler, path = SAMPLERS["one level after another"], tmp_path / "p.h5"

    def stop(parts):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(stream.Parts, "remove", stop)
        with pytest.raises(KeyboardInterrupt):
            drawn(path, prior, observation, sampler)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.h5", "p.h5.parts"]
    drawn(path, prior, observation, sampler)
    assert [p.name for p in tmp_path.iterdir()] == ["p.h5"]


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
