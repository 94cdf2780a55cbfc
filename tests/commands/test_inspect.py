"""`sda-jax inspect` of the files that archives are made of."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from own import save, waves

import sda_jax as sda
from sda_jax.cli.main import COMMANDS, main
from sda_jax.data import Channel, Layout


def said(capsys, *arguments):
    status = main(["inspect", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out + err


def test_commands_start_without_what_they_do_not_need(tmp_path):
    """JAX takes most of a second to import."""
    observation = sda.Observation(np.zeros((5, 1)), sda.Every(4), std=0.4)
    sda.save_observation(tmp_path / "seen.h5", observation, 17)
    prior = dataclasses.replace(sda.load_prior("lorenz63"), layout=Layout((Channel("a"),) * 3))
    sda.save_prior(tmp_path / "prior", prior)
    paths = [tmp_path / "prior", save(waves(4), tmp_path / "waves.nc"), tmp_path / "seen.h5"]
    inspect = ["inspect", "kolmogorov64", *map(str, paths)]
    lines = [["--help"], ["--version"], inspect, *([c, "--help"] for c in COMMANDS)]
    code = (
        "import contextlib, sys; from sda_jax.cli.main import COMMANDS, main\n"
        f"for line in {lines}:\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        assert main(line) == 0\n"
        "assert not {'jax', 'flax', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "4 states in 1" in done.stdout and "an observation of 17 states by Every" in done.stdout
    assert "windows of 5 states, 7,093,898 weights, UNet" in done.stdout
    assert f"of the system {sda.Lorenz63()}\n" in done.stdout and "channel a" in done.stdout


def one_a_file(folder):
    return [save(waves(4).isel(time=[i]), folder / f"{i}.nc") for i in range(4)]


def test_a_file_of_one_state(tmp_path, capsys):
    status, text = said(capsys, one_a_file(tmp_path)[1])
    assert status == 0 and "1 state in 1" in text and "lon: 8 points" in text
    assert "give the other files of its record too" in text and "every" not in text


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 0, 2]])
def test_files_that_make_a_record_together(tmp_path, capsys, order):
    paths = one_a_file(tmp_path)
    status, text = said(capsys, *(paths[i] for i in order))
    assert status == 0 and text.count("trajectories to train on") == 1
    assert "4 files" in text and "4 states in 1" in text and "every 21600 s" in text
    assert "from 2020-01-01T00:00:00 to 2020-01-01T18:00:00" in text


def test_files_that_do_not_are_described_alone(tmp_path, capsys):
    paths = [save(waves(3, lat=n), tmp_path / f"{n}.nc") for n in (5, 6)]
    status, text = said(capsys, "lorenz63", *paths)
    assert status == 0 and text.count("trajectories to train on, 3 states") == 2
    assert "lorenz63: a prior" in text and "not one record: " in text and "the grid as in" in text


@pytest.mark.parametrize("form", ["a.nc", "a.zarr"])
def test_a_group(tmp_path, capsys, form):
    path = tmp_path / form
    if form == "a.nc":
        waves(4).to_netcdf(path, engine="h5netcdf", group="run/first")
    else:
        waves(4).to_zarr(path, group="run/first")
    status, text = said(capsys, path, "--group", "run/first")
    assert status == 0 and "4 states in 1" in text and "channel temp degC" in text
    status, text = said(capsys, path)
    assert status == 2 and "no variables but in groups: run/first" in text and "--group" in text
    status, text = said(capsys, path, "--group", "run/second")
    assert status == 2 and "with a group run/second" in text and "damaged" not in text
    status, text = said(capsys, "lorenz63", "--group", "run")
    assert status == 2 and "lorenz63 is no file of data" in text
