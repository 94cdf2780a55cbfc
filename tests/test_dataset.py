"""Stored data sets: whole or not there; and segments drawn from both sources."""

import resource
import subprocess
import sys

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sda_jax as sda
from sda_jax.core._errors import ConfigError, DivergenceError, SDAError, StorageError
from sda_jax.core._keys import stream
from sda_jax.data import _simulation as dataset
from sda_jax.data._dataset import SPLITS, generate, load, statistics
from sda_jax.data._sources import FromArray, FromSimulator, Moved, Replay

SYSTEM = sda.Lorenz63(spinup=8)


def make(path, **kwargs):
    arguments = dict(seed=3, trajectories=20, length=6, chunk=7) | kwargs
    return generate(path, SYSTEM, **arguments)


def test_contents_are_the_simulation_split_by_trajectory(tmp_path):
    path = make(tmp_path / "data.h5")
    expected = np.asarray(sda.simulate(stream(3, "stored set"), SYSTEM, 6, batch=20))
    parts = [load(path, s) for s in ("train", "valid", "test")]
    assert [len(p) for p in parts] == [16, 2, 2]
    np.testing.assert_allclose(np.concatenate(parts), expected, rtol=1e-4, atol=1e-4)
    with h5py.File(path) as file:
        assert file.attrs["seed"] == 3
        assert '"Lorenz63"' in file.attrs["system"] and '"jax"' in file.attrs["versions"]
        np.testing.assert_allclose(file.attrs["mean"], parts[0].mean((0, 1)), rtol=1e-4)
    assert [p.name for p in tmp_path.iterdir()] == ["data.h5"]


def test_interrupted_generation_goes_on(tmp_path, monkeypatch):
    whole = make(tmp_path / "whole.h5")
    real, calls = dataset.run_if_fits, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(dataset, "run_if_fits", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "data.h5")
    assert not (tmp_path / "data.h5").exists()
    with pytest.raises(StorageError, match="the folder of another run"):
        make(tmp_path / "data.h5", seed=4)
    make(tmp_path / "data.h5")
    assert len(calls) == 4  # two before, the interrupted one again, none of the finished
    for split in SPLITS:
        np.testing.assert_array_equal(load(tmp_path / "data.h5", split), load(whole, split))


def test_a_finished_file_is_kept_and_not_mistaken_for_another(tmp_path):
    path = make(tmp_path / "data.h5")
    before = path.read_bytes()
    make(path)
    assert path.read_bytes() == before
    with pytest.raises(StorageError, match="another data set"):
        make(path, length=7)
    assert path.read_bytes() == before


def test_damaged_truncated_and_foreign_files_are_refused(tmp_path):
    path = make(tmp_path / "data.h5")
    whole = path.read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.h5").write_text("no HDF5")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["x"] = 1.0
    with h5py.File(tmp_path / "hollow.h5", "w") as file:
        file.attrs.update(format="sda_jax", kind="dataset", format_version=1)
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file.attrs.update(format="sda_jax", kind="dataset", format_version=0)
    messages = {
        "cut": "damaged",
        "text": "damaged",
        "foreign": "Name another file",
        "hollow": "damaged",
        "old": "version 0",
        "none": "no such file",
    }
    for name, message in messages.items():
        with pytest.raises(StorageError, match=message) as error:
            load(tmp_path / f"{name}.h5", "train")
        assert name in str(error.value)
    with pytest.raises(ConfigError, match="split: got 'testing'"):
        load(path, "testing")


def test_a_damaged_file_does_not_count_as_finished(tmp_path):
    path = make(tmp_path / "data.h5")
    contents = path.read_bytes()
    at = contents.index(load(path, "test")[1].tobytes()) + 5
    path.write_bytes(contents[:at] + bytes([contents[at] ^ 4]) + contents[at + 1 :])
    with pytest.raises(StorageError, match=f"{path}: got .*make it again"):
        make(path)
    path.unlink()
    make(path)
    assert path.read_bytes() == contents


def test_full_disk_is_reported_and_nothing_lost(tmp_path):
    """A limit on file size stands in for a full disk: the operating system refuses to write on."""
    path = make(tmp_path / "data.h5")
    before = path.read_bytes()
    code = f"""
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from sda_jax.core._errors import StorageError
from sda_jax.runtime._hdf5 import write_hdf5
import numpy as np
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    with write_hdf5({str(path)!r}, "dataset") as file:
        file["x"] = np.zeros(100000)
except StorageError as error:
    sys.exit(7 if "run again" in str(error) else 1)
"""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 7
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["data.h5"]


def test_an_unstable_simulation_is_reported(tmp_path):
    with pytest.raises(
        DivergenceError, match=r"trajectory 0 from step \d+ on, 1024 of them spin-up.*dt"
    ):
        generate(tmp_path / "x.h5", sda.Lorenz63(dt=0.5), 0, 4, 6)
    with pytest.raises(ConfigError, match="trajectories: got 2"):
        make(tmp_path / "x.h5", trajectories=2)
    assert issubclass(DivergenceError, SDAError)


def test_statistics():
    x = np.random.default_rng(0).normal([1.0, 5.0], [2.0, 0.1], (50, 40, 2)).astype(np.float32)
    found = statistics(x)
    np.testing.assert_allclose(found.mean, x.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(found.std, x.std((0, 1)), rtol=1e-5)


def test_running_simulator_gives_trajectories_without_gaps(key):
    """Deterministic, so that each state must be the forecast of the one before."""
    system = sda.Lorenz63(noise=0.0, spinup=8)
    source = FromSimulator(system)
    state = source.init(key, 4)
    state, a = source.draw(key, state, 4, 5)
    _, b = source.draw(jax.random.key(1), state, 4, 5)
    x = jnp.concatenate([a, b], axis=1)
    forecast = jax.vmap(jax.vmap(system.forecast))(x[:, :-1])
    np.testing.assert_allclose(x[:, 1:], forecast, rtol=1e-4, atol=1e-4)
    assert len(np.unique(np.asarray(x[:, 0, 0]))) == 4


def test_stored_segments_are_cut_uniformly(key):
    stored = jnp.arange(3 * 10).reshape(3, 10, 1).astype(jnp.float32)
    _, x = FromArray(stored).draw(key, (), 21000, 4)
    np.testing.assert_array_equal(jnp.diff(x, axis=1), 1)
    counts = np.unique(np.asarray(x[:, 0, 0]), return_counts=True)[1]
    assert len(counts) == 3 * 7
    assert (np.abs(counts - 1000) < 5 * np.sqrt(1000)).all()
    with pytest.raises(ConfigError, match="segment: got 11"):
        FromArray(stored).draw(key, (), 2, 11)


@pytest.mark.parametrize(
    "chunk, together", [(None, 3), (2, 2), pytest.param(64, 3, marks=pytest.mark.slow)]
)
def test_the_replay_buffer_is_refreshed_in_bulk_at_the_configs_pace(key, chunk, together):
    """One trajectory in `refresh` draws, whatever is simulated at once; every one in turn."""
    system = sda.Lorenz63(noise=0.0, spinup=4)
    source = Replay(system, trajectories=13, length=6, refresh=3, chunk=chunk)
    assert source.together == together
    state = source.init(key, 4)
    draw = jax.jit(lambda key, state: source.draw(key, state, 4, 2)[0])
    forecast = jax.jit(jax.vmap(system.forecast))
    age = np.zeros(13, int)
    for i in range(5 * 13 * 3):
        before, state = state[2], draw(jax.random.fold_in(key, i), state)
        changed = np.any(before != state[2], axis=(1, 2))
        assert changed.sum() == (together if (i + 1) % (3 * together) == 0 else 0)
        ends = forecast(before[changed, -1])
        np.testing.assert_allclose(state[2][changed, 0], ends, rtol=1e-4, atol=1e-4)
        age = np.where(changed, 0, age + 1)
        assert age.max() <= 3 * (13 + together)


def test_moved_segments_are_another_sources_in_random_places(key):
    """Each in its own; a system without a force is the same everywhere."""
    system = sda.KolmogorovFlow(size=32, coarsening=4, wavenumber=0)
    stored = jax.random.normal(key, (1, 3, 8, 8, 2))
    _, x = Moved(FromArray(stored), system).draw(key, (), 64, 3)
    rolls = {
        np.asarray(jnp.roll(stored[0], (i, j), (1, 2))).tobytes(): (i, j)
        for i in range(8)
        for j in range(8)
    }
    places = [rolls[np.asarray(segment).tobytes()] for segment in x]
    assert len(set(places)) > 30  # of 64: 40.7 +- 2.6 are expected


def test_the_replay_buffer_holds_the_simulations_and_moves_on(key):
    """A deterministic system: every segment continues itself, rows are renewed in turn."""
    system = sda.Lorenz63(noise=0.0, spinup=4)
    source = Replay(system, trajectories=3, length=12, refresh=2, chunk=2)
    state = source.init(key, 8)
    first = state[2]
    assert first.shape == (3, 12, 3)
    draw = jax.jit(lambda key, state: source.draw(key, state, 8, 5))
    for i in range(8):
        state, segments = draw(jax.random.fold_in(key, i), state)
        ahead = jax.vmap(jax.vmap(system.forecast))(segments[:, :-1])
        np.testing.assert_allclose(segments[:, 1:], ahead, rtol=1e-4, atol=1e-4)
        renewed = [not np.array_equal(state[2][j], first[j]) for j in range(3)]
        assert sum(renewed) == min((i + 1) // 2, 3)
    # four renewals: row 0 twice, each going on where the simulation stood
    row = first[0, -1]
    for _ in range(13):
        row = system.forecast(row)
    np.testing.assert_allclose(state[2][0, 0], row, rtol=1e-2, atol=1e-2)
    with pytest.raises(ConfigError, match="refresh: got 0"):
        Replay(system, refresh=0)
