"""Full disks, folders that cannot be written, too little memory, two runs at once, clocks that jump
and numbers that are not finite."""

import fcntl
import os
import shutil
import time

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from launch import results, start, start_two

import sda_jax as sda
from sda_jax.cli import assimilate, simulate, train
from sda_jax.core._errors import DivergenceError
from sda_jax.data._sources import FromSimulator
from sda_jax.diffusion._denoisers import NetworkDenoiser
from sda_jax.diffusion._parameterisations import Preconditioned
from sda_jax.prior._loop import train as train_denoiser
from sda_jax.prior._training import Training
from sda_jax.runtime._claims import hold, release

MAIN = {"simulate": simulate.main, "train": train.main, "assimilate": assimilate.main}
MADE = {"simulate": ("data.h5",), "train": ("train", "prior"), "assimilate": ("lo",)}


def without(whole, folder, command):
    """A copy of the results in which those of a command and what follows it are missing."""
    copy = folder / "out"
    shutil.copytree(whole[1], copy)
    for name in list(MADE)[list(MADE).index(command) :]:
        for made in MADE[name]:
            path = copy / made
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return copy


def ran(command, whole, output, *arguments):
    return MAIN[command](["--config", str(whole[0]), "--output", str(output), *arguments])


@pytest.mark.parametrize("command", MAIN)
def test_a_full_disk_is_reported_and_the_run_goes_on_later(whole, tmp_path, command):
    """A limit on file size stands in for a full disk: the operating system refuses to write on."""
    copy = without(whole, tmp_path, command)
    process = start(command, whole[0], copy, limit=("RLIMIT_FSIZE", 5000))
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2, errors[-2000:]
    assert "error: " in errors and "run again" in errors and str(copy) in errors
    for rest in list(MADE)[list(MADE).index(command) :]:
        assert ran(rest, whole, copy) == 0
    found, expected = results(copy), results(whole[1])
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize("command", MAIN)
def test_a_folder_that_cannot_be_written_is_named(whole, command, capsys):
    """Not even by an administrator, to whom permissions are no obstacle."""
    prior = () if command != "assimilate" else ("--prior", str(whole[1] / "prior"))
    assert ran(command, whole, "/proc/nowhere", *prior) == 2
    assert "/proc/nowhere" in capsys.readouterr().err


def test_too_little_memory_is_foreseen(whole, tmp_path):
    copy = without(whole, tmp_path, "assimilate")
    many = ("--assimilation.samples", 20000, "--assimilation.memory.chunk", 20000)
    process = start(
        "assimilate",
        whole[0],
        copy,
        *many,
        "--cases.lo.length",
        2048,
        limit=("RLIMIT_AS", 6 * 2**30),
    )
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2, errors[-2000:]
    assert "memory: got a computation that needs" in errors and "Lower memory.chunk" in errors


def test_one_run_in_a_folder_at_a_time(whole, tmp_path, capsys):
    copy = without(whole, tmp_path, "train")
    first = start("train", whole[0], copy, "--training.steps", 100000)
    began = time.monotonic()
    while not (copy / "train" / "metrics.jsonl").exists():
        assert first.poll() is None and time.monotonic() - began < 300
        time.sleep(0.05)
    assert ran("train", whole, copy, "--training.steps", "100000") == 2
    assert "another run is at work" in capsys.readouterr().err
    first.kill()
    first.communicate()


@pytest.mark.parametrize(
    "command,wrong,said",
    [
        ("simulate", ("--data.length", "0"), "length: got 0"),
        ("train", ("--training.segment", "33"), "training.segment: got 33"),
        ("train", ("--data.length", "8"), "at most 8, the states of a trajectory"),
        ("train", ("--training.learning-rate", "1e30"), "Lower learning_rate"),
        ("assimilate", ("--assimilation.samples", "0"), "samples: got 0"),
        ("assimilate", ("--assimilation.memory.window-stride", "9"), "window_stride: got 9"),
        ("assimilate", ("--save-every", "0"), "save_every: got 0"),
        ("assimilate", ("--index", "-1"), "index: got -1"),
        ("assimilate", ("--cases.lo.std", "-1"), "std: got -1"),
    ],
)
def test_what_is_refused_claims_no_folder(whole, tmp_path, capsys, command, wrong, said):
    """So that the corrected command is not another run's."""
    copy = without(whole, tmp_path, command)
    assert ran(command, whole, copy, *wrong) == 2
    assert said in capsys.readouterr().err
    assert not list(copy.glob("*.parts")) and not (copy / "lo").exists()
    assert command != "train" or not (copy / "train" / "config.json").exists()


def test_a_folder_that_was_removed_is_held_anew(tmp_path):
    """By the lock that is there now, and without keeping the old one open."""
    hold(tmp_path / "run")
    held = len(os.listdir("/proc/self/fd"))
    shutil.rmtree(tmp_path / "run")
    hold(tmp_path / "run")
    assert len(os.listdir("/proc/self/fd")) == held
    with open(tmp_path / "run" / ".lock") as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    release(tmp_path / "run")


@pytest.mark.slow
def test_two_processes_that_are_told_different_things_end(whole, tmp_path):
    for process in start_two("simulate", whole[0], tmp_path, "--mesh.batch", 4, own="--seed"):
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 2, errors
        assert "arguments: got others in process 0 than in 1" in errors


@pytest.mark.parametrize("jump", [-3e8, 3e8])
def test_a_clock_that_jumps(whole, tmp_path, monkeypatch, jump):
    """Ten years back or ahead, between a checkpoint and going on from it."""
    copy = without(whole, tmp_path, "assimilate")
    shutil.rmtree(copy / "prior")
    shutil.rmtree(copy / "train" / "checkpoints" / "10")
    clock, nanoseconds = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: clock() + jump)
    monkeypatch.setattr(time, "time_ns", lambda: nanoseconds() + int(jump * 1e9))
    assert ran("train", whole, copy) == 0
    assert ran("assimilate", whole, copy, "--assimilation.memory.chunk", "4") == 0
    found, expected = results(copy), results(whole[1])
    np.testing.assert_array_equal(found["weights"], expected["weights"])
    np.testing.assert_array_equal(found["posterior"], expected["posterior"])


def test_data_that_are_not_finite(whole, tmp_path, capsys):
    copy = without(whole, tmp_path, "train")
    with h5py.File(copy / "data.h5", "r+") as file:
        file["train/x"][2, 5] = np.nan
    assert ran("train", whole, copy) == 2
    assert "data" in capsys.readouterr().err


class NoGradient(nn.Module):
    """A network with a finite value whose gradient is not."""

    @nn.compact
    def __call__(self, x, t, context=None):
        edge = self.param("edge", nn.initializers.zeros, ())
        return 0.0 * x + jnp.sqrt(jnp.abs(edge))


def test_a_gradient_that_is_not_finite(tmp_path):
    system = sda.VectorAutoregression()
    blank = NetworkDenoiser(NoGradient(), None, sda.Cosine(), Preconditioned())
    validation = sda.simulate(jax.random.key(0), system, 8, 4)[None]
    training = Training(steps=20, batch=4, segment=8, block=5, checkpoint_every=5)
    units = system.standardisation
    with pytest.raises(DivergenceError, match=r"loss: got nan at step 1;"):
        train_denoiser(blank, FromSimulator(system), validation, units, training, tmp_path)
    assert not list((tmp_path / "checkpoints").glob("[0-9]*"))
