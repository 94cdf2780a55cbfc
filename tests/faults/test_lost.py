"""Any file of a run, at any stage, is removed, emptied, cut or changed: the command then refuses by
its name, or makes it anew, and the result is the undisturbed one."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from conftest import ROOT
from launch import results
from own import save, stations, waves

from sda_jax.cli.main import main
from sda_jax.data import _dataset
from sda_jax.experiment import _files
from sda_jax.posterior import _to_file
from sda_jax.prior import _loop

RNG = np.random.default_rng(0)


def flip(path):
    contents = bytearray(path.read_bytes())
    if contents:
        contents[RNG.integers(len(contents))] ^= 1 << RNG.integers(8)
        path.write_bytes(contents)


DAMAGES = {
    "removed": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "flipped": flip,
}


def interrupted(monkeypatch, module, name, after, command):
    """Runs a command up to a call of a function after so many others, as if killed there."""
    real, calls = getattr(module, name), []

    def stop(*args):
        if len(calls) == after:
            raise KeyboardInterrupt
        calls.append(name)
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, stop)
        assert main(command) == 130


def suffer(state, folder, damage, command, same, capsys):
    """Damages each file of a state in turn; how many times the command refused."""
    files = sorted(p for p in state.rglob("*") if p.is_file())
    assert len(files) > 1
    refused = 0
    for victim in files:
        shutil.copytree(state, folder, symlinks=True)
        victim = folder / victim.relative_to(state)
        damage(victim)
        capsys.readouterr()
        status = main(command)
        if status:
            assert status == 2, victim
            said = capsys.readouterr().err
            named = [p for p in (victim, *victim.parents) if folder in p.parents]
            assert any(str(p) in said for p in named), f"{victim} is not named by {said}"
            refused += 1
        else:
            assert same(folder), victim
            assert not list(folder.rglob("*.partial")), victim
        shutil.rmtree(folder)
    return refused


STAGES = {  # where each is interrupted, what it needs and what it makes
    "simulate": (_dataset, "_assemble", 0, (), "data"),
    "train": (_loop, "save", 1, ("data.h5",), "weights"),
    "assimilate": (_to_file, "save", 1, (), "posterior"),
    "assemble": (_to_file, "_assemble", 0, (), "posterior"),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of Orbax's readers
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "stage", [s if s == "simulate" else pytest.param(s, marks=pytest.mark.slow) for s in STAGES]
)
def test_of_an_interrupted_command(whole, tmp_path, monkeypatch, capsys, stage, damage):
    module, name, after, needed, number = STAGES[stage]
    state, folder = tmp_path / "state", tmp_path / "out"
    folder.mkdir()
    for needs in needed:
        shutil.copy(whole[1] / needs, folder)
    command = "assimilate" if stage == "assemble" else stage
    given = [command, "--config", str(whole[0]), "--output", str(folder)]
    if command == "assimilate":
        given += ["--save-every", "4", "--prior", str(whole[1] / "prior")]
    expected = results(whole[1])[number]
    interrupted(monkeypatch, module, name, after, given)
    folder.rename(state)

    def same(folder):
        return np.array_equal(results(folder)[number], expected)

    assert suffer(state, folder, DAMAGES[damage], given, same, capsys) > 1


QUICK = ["--assimilation.sampler.search", "4", "--assimilation.sampler.refinement", "2"]
QUICK += ["--assimilation.sampler.alone.sampler.steps", "4", "--assimilation.samples", "4"]
QUICK += ["--assimilation.memory.chunk", "2"]
TRAINING = ["--training.steps", "2", "--training.block", "2", "--training.batch", "2"]
TRAINING += ["--training.checkpoint-every", "2", "--training.validation-batches", "1"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A prior of files, and a table of observations."""
    folder = tmp_path_factory.mktemp("own")
    path = save(waves(120), folder / "fields.nc")
    assert main(["train", "--data", path, "--output", str(folder / "run"), *TRAINING]) == 0
    table, _ = stations(waves(120), np.random.default_rng(0), 30)
    table.to_csv(folder / "stations.csv", index=False)
    return folder


def asked(trained, path):
    given = ["assimilate", "--output", trained / "run", "--points", trained / "stations.csv"]
    given += ["--start", "2020-01-01", "--length", "12", *QUICK, "--posterior", path]
    return list(map(str, given))


def contents(path):
    options = {"engine": "zarr"} if path.suffix == ".zarr" else {"engine": "h5netcdf"}
    with xr.open_dataset(path, chunks=None, **options) as found:
        return found.load().drop_attrs()


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
@pytest.mark.parametrize("stage", ["blocks", "drawn", "finished"])
def test_of_an_export(trained, tmp_path, monkeypatch, capsys, stage, suffix, damage):
    folder, state = tmp_path / "out", tmp_path / "state"
    path = folder / f"p{suffix}"
    given = asked(trained, path)
    assert main(given) == 0
    expected = contents(path)
    if stage == "finished":
        (folder / "other").touch()
    else:
        module, name = {
            "blocks": (_to_file, "_assemble"), "drawn": (_files, "write_posterior"),
        }[stage]  # fmt: skip
        shutil.rmtree(folder)
        interrupted(monkeypatch, module, name, 0, given)
    folder.rename(state)
    refused = suffer(
        state, folder, DAMAGES[damage], given, lambda _: contents(path).equals(expected), capsys
    )
    assert refused or (damage == "removed" and suffix == ".nc")


KILLED = """
import os, signal, sys
left, folder = int(sys.argv[1]), sys.argv[2]

def counted(real):
    def call(path, *args, **kwargs):
        global left
        left -= folder in str(path) or "dir_fd" in kwargs
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(path, *args, **kwargs)
    return call

from sda_jax.cli.main import main
for name in ("replace", "rename", "unlink", "rmdir"):
    setattr(os, name, counted(getattr(os, name)))
sys.exit(main(sys.argv[3:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("suffix,stride", [(".nc", 1), (".zarr", 20)])
def test_killed_at_steps_of_the_end_of_an_export(trained, tmp_path, monkeypatch, suffix, stride):
    """The next run ends with the same files, and nothing else is left."""
    folder, state = tmp_path / "out", tmp_path / "state"
    path = folder / f"p{suffix}"
    given = [*asked(trained, path), "--quantiles", "0.5"]
    assert main(given) == 0
    expected = contents(path)
    shutil.rmtree(folder)
    interrupted(monkeypatch, _files, "write_posterior", 0, given)
    folder.rename(state)
    kills, status = 0, -9
    while status == -9:
        shutil.copytree(state, folder)
        status = subprocess.run(
            [sys.executable, "-c", KILLED, str(kills), str(folder), *given],
            cwd=ROOT, env=os.environ, capture_output=True, check=False,
        ).returncode  # fmt: skip
        kills += stride * (status == -9)
        assert main(given) == 0
        assert sorted(p.name for p in folder.iterdir()) == [f"p{suffix}", "p_summary.nc"]
        assert contents(path).equals(expected)
        shutil.rmtree(folder)
    assert status == 0 and kills > 4
