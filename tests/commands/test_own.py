"""From files to a posterior file by commands."""

import dataclasses
import json
import re
import sys

import numpy as np
import pytest
import xarray as xr
from own import save, stations, waves

from sda_jax.cli.main import main
from sda_jax.core._errors import ConfigError
from sda_jax.experiment import Experiment, ObservationFiles, assimilate_files, score_posterior
from sda_jax.experiment._config import override
from sda_jax.prior._loading import load_prior

pytestmark = pytest.mark.compiles
QUICK = [
    "--assimilation.sampler.search",
    "4",
    "--assimilation.sampler.refinement",
    "2",
    "--assimilation.sampler.alone.sampler.steps",
    "4",
    "--assimilation.samples",
    "3",
]
TRAINING = ["--training.steps", "6", "--training.block", "3", "--training.batch", "2"]
TRAINING += ["--training.checkpoint-every", "3", "--training.validation-batches", "1"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A barely trained prior of masked fields, with the folder it lies in."""
    folder = tmp_path_factory.mktemp("own")
    data = waves(120, lat=7)
    data.temp.values[:, :2, 3:5] = np.nan
    path = save(data, folder / "fields.nc")
    given = ["--data", path, "--output", str(folder / "run"), "--data.files.cycles", "day"]
    assert main(["train", *given, *TRAINING]) == 0
    table, _ = stations(waves(120, lat=7), np.random.default_rng(0), 30)
    table.to_csv(folder / "stations.csv", index=False)
    return folder


def test_three_commands_end_in_a_posterior_file(trained, capsys):
    out = ["--output", str(trained / "run")]
    assert main(["inspect", str(trained / "fields.nc")]) == 0
    said = capsys.readouterr().out
    assert "lon: 8 points, 0 to 315 degrees_east, periodic" in said and "channel temp degC" in said
    period = ["--start", "2020-01-01", "--end", "2020-01-03T18:00"]
    points = ["--points", str(trained / "stations.csv"), "--quantiles", "0.1", "0.9"]
    assert main(["assimilate", *out, *period, *points, *QUICK]) == 0
    said = capsys.readouterr().out
    assert "of 30 values used" in said and "next to points without values" in said
    with xr.open_dataset(trained / "run" / "posterior.nc") as found:
        assert dict(found.sizes) == {"member": 3, "time": 12, "lat": 7, "lon": 8}
        masked = np.isnan(found.temp.values)
        assert masked[:, :, :2, 3:5].all() and masked.sum() == 3 * 12 * 4
        assert np.isfinite(found.wind.values).all()
        assert json.loads(found.attrs["sda_config"])["dict"]["start"] == "2020-01-01"
        with xr.open_dataset(trained / "run" / "posterior_summary.nc") as summary:
            np.testing.assert_allclose(
                summary.wind_mean, found.wind.mean("member"), rtol=1e-4, atol=1e-5
            )
    written = (trained / "run" / "posterior.nc").stat().st_mtime_ns
    assert main(["assimilate", *out, *period, *points, *QUICK]) == 0
    assert (trained / "run" / "posterior.nc").stat().st_mtime_ns == written
    assert main(["assimilate", *out, *period, *points, *QUICK, "--seed", "1"]) == 2
    assert "Choose another --posterior" in capsys.readouterr().err
    assert not list((trained / "run").glob("*.parts"))
    for path in ("run", "run/prior", "run/train", "run/posterior.nc"):
        assert main(["inspect", str(trained / path)]) == 0
    said = capsys.readouterr().out
    assert "windows of 5 states" in said and "a posterior of temp, wind" in said


def test_the_prior_knows_its_states(trained):
    prior = load_prior(trained / "run" / "prior")
    layout = prior.layout
    assert layout.state_shape == prior.state_shape == (7, 8, 2) and prior.system is None
    assert layout.context_channels == prior.denoiser.channels == 4
    assert not layout.valid[:2, 3:5, 0].any() and layout.valid[..., 1].all()
    assert prior.denoiser.network.periodic == (False, True)


def test_training_goes_on_and_repeats_itself(trained, tmp_path):
    given = ["train", "--data", str(trained / "fields.nc"), "--data.files.cycles", "day"]
    rest = ["--output", str(tmp_path / "run"), *TRAINING]
    assert main([*given, *rest]) == 0
    ours, theirs = (
        (p / "run" / "train" / "metrics.jsonl").read_text().splitlines()
        for p in (tmp_path, trained)
    )
    losses = [[json.loads(line)["loss"] for line in lines] for lines in (ours, theirs)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.parametrize(
    "given,message",
    [
        (["--points", "none.csv", "--start", "2020-01-01", "--length", "8"], "no such file"),
        (["--start", "2020-01-01", "--length", "8"], "at least one file of observations"),
        (["--points", "stations.csv", "--start", "2020-01-01", "--length", "0"], "at least 1"),
        (["--points", "stations.csv", "--start", "2020-01-01"], "an end or a length"),
        (["--points", "stations.csv", "--start", "soon", "--length", "8"], "--start.*a date"),
        (
            ["--points", "stations.csv", "--start", "2020-01-01", "--end", "2020-01-01T15:00"],
            "a whole number of steps",
        ),
        (["--gridded", "fields.nc", "--start", "2020-01-01", "--length", "8"], "Give --std"),
        (["--operator", "a:b", "--start", "2020-01-01", "--length", "8"], "both or none"),
        (
            ["--points", "stations.csv", "--start", "2020-01-01", "--length", "8",
             "--posterior", "out.h5"],
            "ends in .zarr or .nc",
        ),
    ],
)  # fmt: skip
def test_impossible_requests_are_refused(trained, monkeypatch, capsys, given, message):
    monkeypatch.chdir(trained)
    assert main(["assimilate", "--output", "run", *given, *QUICK]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_series_without_space_train_and_assimilate(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    series = waves(2000).isel(lat=2, lon=3, drop=True)
    save(series, tmp_path / "series.nc")
    (tmp_path / "averages.py").write_text("def mean(x):\n    return x[::4].mean(axis=-1)\n")
    np.save(tmp_path / "y.npy", np.ones(4, np.float32))
    assert main(["train", "--data", "series.nc", "--output", "run", *TRAINING]) == 0
    given = ["--operator", "averages:mean", "--y", "y.npy", "--std", "1"]
    given += ["--start", "2020-02-01", "--length", "16", "--posterior", "out.zarr"]
    given += ["--set-aside", "0.25"]
    assert main(["assimilate", "--output", "run", *given, *QUICK]) == 0
    with xr.open_dataset("out.zarr", engine="zarr", chunks=None) as found:
        assert found.temp.shape == (16, 3) and np.isfinite(found.temp.values).all()
    said = capsys.readouterr().out
    assert "set aside, all values: 1 values" in said
    del sys.modules["averages"]
    evaluate = ["evaluate", "--output", "run", "--posterior", "out.zarr"]
    capsys.readouterr()
    assert main(evaluate) == 0
    assert "left out, " in (said := capsys.readouterr().out)
    assert "give --operator averages:mean" in said and "averages" not in sys.modules
    assert main([*evaluate, "--operator", "averages:mean", "--baselines"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"innovation chi-square: \d", said)
    assert re.search(r"all values, optimal interpolation: RMSE \d", said)
    assert "interpolation in time: left out, operator" in said


def test_the_same_from_python(trained, monkeypatch):
    monkeypatch.chdir(trained)
    config = override(Experiment(), QUICK)  # the shapes that the command compiled for
    files = ObservationFiles(start="2020-01-01", length=12, points=("stations.csv",))
    prior = load_prior("run/prior")
    path = assimilate_files("python.nc", prior, files, config, quantiles=())
    written = path.stat().st_mtime_ns
    assert assimilate_files("python.nc", prior, files, config).stat().st_mtime_ns == written
    scores = score_posterior(path, prior)
    assert scores.chi_square is not None and scores.chi_square.members.shape == (3,)
    assert scores.posterior.ensemble.shape == (3, 12, 7, 8, 2) and not scores.left_out
    assert (trained / "python_summary.nc").exists()
    with pytest.raises(ConfigError, match="one trained on files"):
        assimilate_files("other.nc", load_prior("lorenz63"), files)


def test_what_cannot_be_written_is_refused_before_sampling(trained, monkeypatch):
    """Here a variable with the name of an axis."""
    monkeypatch.chdir(trained)
    prior = load_prior("run/prior")
    assert prior.layout is not None
    temp, wind = prior.layout.channels
    channels = (temp, dataclasses.replace(wind, name="lat"))
    other = dataclasses.replace(prior, layout=dataclasses.replace(prior.layout, channels=channels))
    files = ObservationFiles(start="2020-01-01", length=12, points=("stations.csv",))
    with pytest.raises(ConfigError, match="states that cannot be written"):
        assimilate_files("never.nc", other, files)
    assert not list(trained.glob("never*"))


def test_a_damaged_posterior_does_not_count_as_finished(trained, tmp_path, monkeypatch, capsys):
    """Neither for the command that wrote it nor for what scores it; and its parts may be a link."""
    monkeypatch.chdir(trained)
    path, scratch = tmp_path / "out" / "p.nc", tmp_path / "scratch"
    path.parent.mkdir(), scratch.mkdir()
    path.with_name("p.nc.parts").symlink_to(scratch)
    period = ["--points", "stations.csv", "--start", "2020-01-01", "--length", "12"]
    given = ["assimilate", "--output", "run", *period, *QUICK, "--posterior", str(path)]
    for wrong in (["--assimilation.samples", "0"], ["--save-every", "0"], ["--quantiles", "7"]):
        assert main([*given, *wrong]) == 2  # and claims nothing
    assert not any(scratch.iterdir())
    assert main(given) == 0
    assert [p.name for p in path.parent.iterdir()] == ["p.nc"] and not any(scratch.iterdir())
    contents = path.read_bytes()
    with xr.open_dataset(path) as found:
        at = contents.index(found.wind.values[:, 1].astype("<f4").tobytes()) + 100
    path.write_bytes(contents[:at] + bytes([contents[at] ^ 1]) + contents[at + 1 :])
    capsys.readouterr()
    for command in (given, ["evaluate", "--output", "run", "--posterior", str(path)]):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert f"{path}: got " in said and "make it again" in said


GENTLE = """
from sda_jax.core._component import component
from sda_jax.experiment import Assimilation, Experiment
from sda_jax.guidance import SDA

@component
class Gentle(SDA):
    gamma: float = 0.1

config = Experiment(assimilation=Assimilation(guidance=Gentle()))
"""


@pytest.mark.slow
def test_a_posterior_by_guidance_of_ones_own_is_evaluated(trained, monkeypatch, capsys):
    """Its file names a class that evaluating does not need."""
    monkeypatch.chdir(trained)
    (trained / "gentle.py").write_text(GENTLE)
    given = ["--points", "stations.csv", "--start", "2020-01-01", "--length", "12"]
    given += ["--config", "gentle.py", "--output", "run", "--posterior", "gentle.nc", *QUICK]
    assert main(["assimilate", *given]) == 0
    with xr.open_dataset("gentle.nc") as found:
        assert '"Gentle"' in found.attrs["sda_config"]
    assert main(["evaluate", "--output", "run", "--posterior", "gentle.nc"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"innovation chi-square: \d", said)
    page = (trained / "gentle_report.html").read_text()
    assert "Gentle" in page and "--points stations.csv" in page


def test_no_command_or_an_unknown_one(capsys):
    assert main([]) == 0 and "from your own files to a posterior" in capsys.readouterr().out
    assert main(["trian"]) == 2 and "there are" in capsys.readouterr().err
    assert main(["train"]) == 2 and "files with --data" in capsys.readouterr().err
    assert main(["inspect", "lorenz63"]) == 0 and "Lorenz63" in capsys.readouterr().out
