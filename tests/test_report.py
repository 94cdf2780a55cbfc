"""The page of a posterior: what it says, and that a browser shows it from the file alone."""

import json
import shutil
import subprocess
from functools import partial

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from own import save, waves

from sda_jax.core._errors import ConfigError, StorageError
from sda_jax.core._json import dumps
from sda_jax.data._archive import open_archive
from sda_jax.data._files import Files
from sda_jax.data._survey import survey
from sda_jax.evaluation import held_out_scores
from sda_jax.experiment import posterior_page, score_posterior
from sda_jax.figures import _files as draw
from sda_jax.figures import _page as report
from sda_jax.observations._reading import read
from sda_jax.observations._tables import Points
from sda_jax.posterior._export import provenance, write_posterior
from sda_jax.posterior._to_file import digest
from sda_jax.prior._prior import Prior

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A posterior whose truth is one more draw of the same distribution."""
    monkeypatch.chdir(tmp_path)
    # most of the time of a page goes into its animations' frames
    monkeypatch.setattr(draw, "animation", partial(draw.animation, frames=2))
    data = waves()
    data.temp.values[:, 0, 0] = np.nan
    archive = open_archive(Files((save(data, tmp_path / "a.nc"),)))
    found = survey(archive)
    layout = found.layout
    rng = np.random.default_rng(0)
    length, members = 8, 63
    draws = 3 * rng.standard_normal((members + 1, length, *layout.state_shape)).astype("f4")
    start = layout.number("2020-01-01", "start")
    said = {
        "experiment": None, "start": "2020-01-01", "end": None, "length": length,
        "points": ["seen.csv"], "gridded": [], "operator": None, "y": None, "std": 0.5,
        "columns": [], "method": "linear", "set_aside": 0.0,
    }  # fmt: skip
    write_posterior(tmp_path / "truth.nc", draws[:1], 1, layout, start)
    with xr.open_dataset(tmp_path / "truth.nc") as file:
        file.isel(member=0, drop=True).load().to_netcdf(tmp_path / "true.nc", engine="h5netcdf")
    times = layout.dates(layout.times(start, length))
    for name, count in (("seen", 40), ("held", 800)):
        i, j, k = (rng.integers(0, n, count) for n in (length, 6, 8))
        j = np.maximum(j, 1)
        values = draws[0, i, j, k, 0] + 0.5 * rng.standard_normal(count)
        table = {
            "time": times[i], "lat": np.asarray(layout.axes[0].coordinates)[j], "lon": 45.0 * k,
            "variable": "temp", "value": values,
        }  # fmt: skip
        pd.DataFrame(table).drop_duplicates(["time", "lat", "lon"]).to_csv(
            f"{name}.csv", index=False
        )
    said["assimilated"] = digest(read(Points("seen.csv", 0.5), layout, start, length).observation)
    attributes = provenance("run/prior", dumps(said), 3, sda_observations="seen.csv: <40 & more>")
    write_posterior(tmp_path / "posterior.nc", draws[1:], members, layout, start, attributes)
    prior = Prior(None, found.standardisation, layout.state_shape, 5, None, None, layout)
    return tmp_path, prior, start, draws


def written(folder, prior, **given):
    """The scores and the page."""
    scores = score_posterior(folder / "posterior.nc", prior, std=0.5, **given)
    return scores, posterior_page(folder / "page.html", scores).read_text()


def test_scores_of_a_calibrated_ensemble(made, key):
    folder, prior, start, draws = made
    layout = prior.layout
    held = read(Points(str(folder / "held.csv"), 0.5), layout, start, 8).observation
    filled = np.where(layout.valid, draws[1:], 0.0).astype("f4")
    found, places = held_out_scores(key, prior, held, filled)
    assert list(found) == ["temp (degC)"]
    scores = found["temp (degC)"]
    m = scores["values"]
    # truth and members are draws of one distribution: RMSE^2 = 9 (1 + 1/n) + 0.25
    expected = np.sqrt(9 * (1 + 1 / 63) + 0.25)
    assert abs(scores["rmse"] / expected - 1) < 4 / np.sqrt(2 * m)
    assert abs(scores["spread_skill"] - 1) < 4 / np.sqrt(2 * m)
    assert abs(scores["inside_90"] - 0.9) < 4 * np.sqrt(0.09 / m) + 2 / 64
    # CRPS of a calibrated normal distribution of standard deviation s is s / sqrt(pi)
    assert abs(scores["crps"] / (np.sqrt(9.25) / np.sqrt(np.pi)) - 1) < 6 / np.sqrt(m)
    assert len(places) == m


def test_the_page_says_what_was_done_and_how_it_scores(made):
    folder, prior, *_ = made
    _, page = written(folder, prior, held_out=["held.csv"], truth=str(folder / "true.nc"))
    for text in (
        "innovation chi-square", "spread / skill", "inside the central 90 %", "CRPS",
        "sda-jax assimilate", "--points seen.csv", "--seed 3", "seen.csv: &lt;40 &amp; more&gt;",
        "climate&#x27;s RMSE", "temp (degC)", "data:image/gif;base64,",
    ):  # fmt: skip
        assert text in page, text
    assert page.count("<figure>") == 2 + 1 + 2 * 2
    assert "http" not in page.replace("arXiv", "") and "<script" not in page


@pytest.mark.parametrize("at", ["held_out", pytest.param("truth", marks=pytest.mark.slow)])
def test_baselines_stand_beside_the_posterior(made, at):
    folder, prior, *_ = made
    given = {"held_out": ["held.csv"]} if at == "held_out" else {"truth": str(folder / "true.nc")}
    scores, page = written(folder, prior, baselines=True, **given)
    of = scores.baselines["temp (degC)"]
    assert list(of) == ["posterior", "climatology", "interpolation in time"]
    assert "covariance" in scores.baselines_left_out["optimal interpolation"]
    # truth and members are independent draws around 0; the climate's mean is 15
    assert of["posterior"]["rmse"] < 4 < 14 < of["climatology"]["rmse"] < 16
    assert 0.9 < of["posterior"]["spread_skill"] < 1.1
    assert len(scores.baselines) == (1 if at == "held_out" else 2)
    assert "interpolation in time" in page and "left out" in page
    assert page.count("<figure>") == 2 + 1 + 2 * 2


def test_baselines_need_something_to_be_scored_at(made):
    folder, prior, *_ = made
    with pytest.raises(ConfigError, match="--held-out"):
        written(folder, prior, baselines=True)


@pytest.mark.slow
def test_without_truth_or_files_the_page_says_so(made):
    folder, prior, *_ = made
    table = pd.read_csv("seen.csv")
    table.assign(value=table.value + 1).to_csv("seen.csv", index=False)
    scores, page = written(folder, prior, truth=str(folder / "true.nc"))
    assert scores.chi_square is None and "innovation chi-square" not in page
    assert scores.left_out.startswith("for the files of observations have changed")
    (folder / "seen.csv").unlink()
    scores, page = written(folder, prior)
    assert scores.chi_square is None and "no such file" in scores.left_out
    assert "are there to compare with" in page and "climate&#x27;s RMSE" not in page
    assert "rmse" not in scores.channels[0] and scores.ranks is None


def test_a_truth_of_another_grid_is_refused(made):
    folder, prior, *_ = made
    with xr.open_dataset(folder / "true.nc") as file:
        file.load().isel(lat=slice(None, None, -1)).to_netcdf(folder / "t.nc", engine="h5netcdf")
    with pytest.raises(StorageError, match="the grid of the prior"):
        written(folder, prior, truth=str(folder / "t.nc"))


def test_a_file_that_is_no_posterior_is_refused(made):
    folder, prior, *_ = made
    with pytest.raises(StorageError, match="another file; expected a posterior"):
        score_posterior(folder / "truth.nc", prior)


def test_of_several_truths_none_is_chosen(made):
    folder, prior, *_ = made
    with xr.open_dataset(folder / "posterior.nc") as file:
        file.isel(member=[0, 1]).load().to_netcdf(folder / "t.nc", engine="h5netcdf")
    with pytest.raises(StorageError, match="2 trajectories"):
        written(folder, prior, truth=str(folder / "t.nc"))


CHECK = """<script>addEventListener("load", () => {
  const images = [...document.images];
  document.title = JSON.stringify({
    images: images.length, shown: images.filter(i => i.complete && i.naturalWidth > 100).length,
    fetched: performance.getEntriesByType("resource")
      .filter(r => !r.name.startsWith("data:")).length,
    overflow: document.documentElement.scrollWidth > innerWidth,
    anchors: [...document.querySelectorAll("nav a")].every(
      a => document.querySelector(a.getAttribute("href")))});
});</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [1200, 400])
def test_a_browser_shows_it_from_the_file_alone(made, width):
    folder, prior, *_ = made
    _, page = written(folder, prior, held_out=["held.csv"])
    (folder / "checked.html").write_text(page.replace("</body>", CHECK + "</body>"))
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
        "--no-first-run", "--disable-background-networking", "--disable-component-update",
        "--disable-sync", f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900",
        "--virtual-time-budget=5000", "--dump-dom", (folder / "checked.html").as_uri(),
    ]  # fmt: skip
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    title = shown.split("<title>")[1].split("</title>")[0].replace("&quot;", '"')
    found = json.loads(title)
    assert found == {
        "images": 6, "shown": 6, "fetched": 0, "overflow": False, "anchors": True,
    }  # fmt: skip


def test_text_is_escaped(tmp_path):
    path = report.write_page(
        tmp_path / "p.html",
        "<b>",
        [("a & b", report.paragraph("<i>") + report.table(["x"], [["<", ">"]]))],
    )
    page = path.read_text()
    assert "<b>" not in page and "<i>" not in page and "&lt;</td><td>&gt;" in page
