"""Two processes with two devices each do what one device does."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from launch import environment, finish, results, start_two, write_config

from sda_jax.core._errors import ConfigError
from sda_jax.runtime import _processes
from sda_jax.runtime._processes import join, on_process_zero, together

# pieces that threads of the library that carries the messages write, one into another's
CARRIER = r"\[Gloo\]|Rank|is connected to|peer ranks\.|Expected number of connected peer ranks is :"


def said(printed):
    """The lines of a process that are its own."""
    return [line for line in re.sub(CARRIER, "", printed).splitlines() if re.search("[a-z]", line)]


@pytest.mark.slow
def test_two_processes_give_what_one_gives(whole, tmp_path):
    config, one, two = *whole, tmp_path / "two"
    meshes = {
        "simulate": ("--mesh.batch", 4),
        "train": ("--mesh.batch", 4, "--training.shard-optimiser"),
        "assimilate": ("--mesh.batch", 2, "--mesh.time", 2),
    }
    for command, mesh in meshes.items():
        first, second = finish(*start_two(command, config, two, *mesh))
        assert str(two) in first
        assert not said(second)
    expected, found = results(one), results(two)
    assert sorted(found) == ["data", "posterior", "weights"]
    np.testing.assert_allclose(found["data"], expected["data"], atol=1e-5)
    # of weights of order 0.1 that moved by 1e-3 a step; and of the errors' correlations, quotients
    # of order 1 to 10
    np.testing.assert_allclose(found["weights"], expected["weights"], rtol=1e-4, atol=1e-4)
    size = np.abs(expected["posterior"]).max()  # of a network that has learnt little
    np.testing.assert_allclose(found["posterior"], expected["posterior"], atol=1e-3 * size)
    assert found["posterior"].std(axis=0).min() > 0.05
    assert (two / "train" / "metrics.jsonl").read_text().count("\n") == 2
    assert not list(two.rglob("*.parts"))


@pytest.mark.slow
def test_every_device_has_its_place_in_the_mesh(tmp_path):
    ended = start_two("simulate", write_config(tmp_path), tmp_path / "out", "--mesh.batch", 2)
    for i, process in enumerate(ended):
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 2
        got = "mesh: got 2 x 1 x 1 (batch x time x space); expected 4 devices"
        assert f"process {i}: error: {got}" in errors


FAILING = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import PartitionSpec
import sda_jax as sda
from sda_jax.core._errors import ProcessError
from sda_jax.runtime._devices import sharding
from sda_jax.runtime._processes import on_process_zero, is_process_zero, join, together, whole

join()

def fail_here():
    raise ValueError("here")

def message(action, do):
    try:
        return action(do)
    except (ProcessError, ValueError) as error:
        return str(error)

print(is_process_zero(), on_process_zero(lambda: 5), on_process_zero(lambda: is_process_zero()))
print(message(on_process_zero, fail_here))
print(message(together, lambda: None if is_process_zero() else fail_here()))
with sda.use_mesh(2):
    x = jax.device_put(np.arange(4.0), sharding(PartitionSpec("batch")))
    print(x.is_fully_addressable, whole(x).tolist())
"""


def test_what_fails_in_one_is_told_to_the_other():
    """Joined by what Slurm sets."""
    job = os.getpid()  # from which the port follows
    slurm = {"SLURM_JOB_ID": job, "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": 2}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", FAILING],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(1)
            | {k: str(v) for k, v in slurm.items()}
            | {"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)},
        )
        for i in range(2)
    ]
    first, second = map(said, finish(*both))
    assert first[0] == "True 5 1" and second[0] == "False 5 1"
    assert first[1] == "here" and "a failure in 0" in second[1]
    assert "a failure in 1" in first[2] and second[2] == "here"
    assert first[3] == second[3] == "False [0.0, 1.0, 2.0, 3.0]"


def test_one_process_waits_for_nobody():
    assert on_process_zero(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        on_process_zero(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        together(lambda: 1 // 0)
    np.testing.assert_array_equal(_processes.whole(np.arange(3)), np.arange(3))


def test_the_others_must_be_named():
    with pytest.raises(ConfigError, match="all three"):
        join("localhost:1", 2)
    with pytest.raises(ConfigError, match="--process: got 2; expected 0 to 1"):
        join("localhost:1", 2, 2)
