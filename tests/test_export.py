"""Posteriors leave as CF data sets that other tools read."""

import shutil
import subprocess
import warnings

import numpy as np
import pytest
import xarray as xr
from own import save, waves

from sda_jax.core._errors import ConfigError
from sda_jax.data._archive import open_archive
from sda_jax.data._files import Files
from sda_jax.data._survey import survey
from sda_jax.posterior._cf import from_xarray, to_xarray
from sda_jax.posterior._export import provenance, write_posterior
from sda_jax.posterior._summary import summarise


@pytest.fixture
def layout(tmp_path):
    data = waves()
    data.temp.values[:, 0, :2] = np.nan
    return survey(open_archive(Files((save(data, tmp_path / "a.nc"),)))).layout


def ensemble(layout, members=3, length=5):
    rng = np.random.default_rng(0)
    return rng.standard_normal((members, length, *layout.state_shape)).astype(np.float32)


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_written_files_keep_everything(tmp_path, layout, suffix):
    x, start = ensemble(layout), layout.number("2020-03-01", "start")
    said = provenance("runs/a/prior", "{}", 7, sda_observations="buoys.csv: 3 of 3")
    path = write_posterior(tmp_path / f"p{suffix}", iter(x), 3, layout, start, said)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        options = {"engine": "zarr"} if suffix == ".zarr" else {}
        with xr.open_dataset(path, chunks=None, **options) as found:
            found.load()
    assert found.temp.dims == ("time", "member", "lat", "lon")
    x = np.swapaxes(x, 0, 1)
    shown = np.where(layout.valid, x, np.nan)
    np.testing.assert_array_equal(found.temp.values, shown[..., 0])
    np.testing.assert_array_equal(found.wind.values, x[..., 1])
    assert found.time.values[1] == np.datetime64("2020-03-01T06:00")
    assert found.member.values.tolist() == [0, 1, 2]
    assert found.member.attrs["standard_name"] == "realization"
    assert found.temp.attrs["units"] == "degC" and found.temp.attrs["long_name"] == "T"
    assert found.lat.attrs == {
        "units": "degrees_north",
        "standard_name": "latitude",
        "axis": "Y",
    }
    assert found.attrs["Conventions"] == "CF-1.11" and found.attrs["sda_seed"] == "7"
    again = to_xarray(np.swapaxes(x, 0, 1), layout, start, said)
    np.testing.assert_array_equal(
        from_xarray(found, layout), np.where(layout.valid, np.swapaxes(x, 0, 1), np.nan)
    )
    xr.testing.assert_equal(found, again)
    assert not list(tmp_path.glob("*.partial"))


def test_netcdfs_own_library_reads_the_file(tmp_path, layout):
    netCDF4 = pytest.importorskip("netCDF4")
    x = ensemble(layout)
    path = write_posterior(tmp_path / "p.nc", iter(x), 3, layout, 0.0)
    with netCDF4.Dataset(path) as file:
        temp = file["temp"][:]
        x = np.swapaxes(x, 0, 1)
        assert temp.shape == x.shape[:-1] and file["time"].units == "seconds since 1970-01-01"
        np.testing.assert_array_equal(temp.mask[0, 0], ~layout.valid[..., 0])
        np.testing.assert_array_equal(temp.data[~temp.mask], x[..., 0][~temp.mask])
    if shutil.which("ncdump"):
        text = subprocess.run(["ncdump", "-h", path], capture_output=True, text=True).stdout
        assert 'temp:units = "degC"' in text and "member = 3 ;" in text


def test_channels_along_other_dimensions_come_back(tmp_path):
    levels = xr.concat([waves(seed=i) for i in range(3)], "level")
    data = levels.assign_coords(level=["low", "mid", "high"]).isel(lat=0, lon=0, drop=True)
    layout = survey(open_archive(Files((save(data, tmp_path / "a.nc"),)))).layout
    x = np.stack([data[n].values[k] for n in ("temp", "wind") for k in range(3)], axis=-1)
    out = to_xarray(x[None], layout, layout.number("2020-01-01", "start"))
    got = out.temp.isel(member=0).sel(level="high").values
    np.testing.assert_array_equal(got, data.temp.values[2])
    again = write_posterior(tmp_path / "p.nc", [x], 1, layout, 0.0)
    with xr.open_dataset(again) as found:
        assert found.wind.dims == ("time", "member", "level")
        np.testing.assert_array_equal(found.wind.values, out.wind.values)


def test_summaries_are_numpys(layout):
    x = ensemble(layout, 20, 130)
    found = summarise(to_xarray(x, layout, 0.0), (0.1, 0.9))
    np.testing.assert_allclose(found.wind_mean, x[..., 1].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.wind_spread, x[..., 1].std(axis=0, ddof=1), rtol=1e-5)
    expected = np.quantile(x[..., 1], (0.1, 0.9), axis=0)
    quantiles = found.wind_quantile.transpose("quantile", ...)
    np.testing.assert_allclose(quantiles, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ConfigError, match="from 0 to 1"):
        summarise(to_xarray(x, layout, 0.0), (5, 95))


def test_other_names_are_refused(tmp_path, layout):
    with pytest.raises(ConfigError, match="ends in .zarr or .nc"):
        write_posterior(tmp_path / "p.h5", [], 0, layout, 0.0)
