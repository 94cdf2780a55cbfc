"""Posteriors leave as CF data sets that other tools read."""

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from own import save, waves

from sda_jax.core._errors import ConfigError, StorageError
from sda_jax.data._archive import open_archive
from sda_jax.data._files import Files
from sda_jax.data._survey import survey
from sda_jax.posterior._cf import from_xarray, to_xarray
from sda_jax.posterior._export import provenance, write_posterior
from sda_jax.posterior._sealing import verify_posterior
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


FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np
import xarray as xr
from own import save, waves
from sda_jax.core._errors import StorageError
from sda_jax.data._archive import open_archive
from sda_jax.data._files import Files
from sda_jax.data._survey import survey
from sda_jax.posterior._cf import to_xarray
from sda_jax.posterior._export import write_posterior, write_summary
from sda_jax.posterior._summary import summarise

folder = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
layout = survey(open_archive(Files((save(waves(), folder / "a.nc"),)))).layout
x = np.ones((3, 5, *layout.state_shape), np.float32)
summary = summarise(to_xarray(x, layout, 0.0))
todo = {
    "p.nc": lambda path: write_posterior(path, x, 3, layout, 0.0),
    "p.zarr": lambda path: write_posterior(path, x, 3, layout, 0.0),
    "s.nc": lambda path: write_summary(path, summary),
}
found, most = 0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]
for limit in (0, 400, 3000, 12000, 16000):
    for name, write in todo.items():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
        try:
            write(folder / name)
        except StorageError as error:
            found += "run again" in str(error) and name in str(error)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
print(found, sorted(p.name for p in folder.iterdir()))
"""


def test_a_full_disk_ends_in_a_message_and_not_in_a_crash(tmp_path):
    """A limit on file size stands in for it; HDF5 would crash when the program ends."""
    given = [sys.executable, "-c", FULL, tmp_path]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])
    }
    process = subprocess.run(given, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-2000:]
    assert process.stdout.split(maxsplit=1) == ["12", "['a.nc', 'p.zarr']\n"]


def flipped(contents, rng):
    changed = bytearray(contents)
    changed[rng.integers(len(changed))] ^= 1 << rng.integers(8)
    return bytes(changed)


DAMAGES = {
    "cut": lambda contents, rng: contents[: rng.integers(len(contents))],
    "empty": lambda contents, rng: b"",
    "flipped": flipped,
    "removed": lambda contents, rng: None,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_damage_of_a_posterior_is_noticed(tmp_path, layout, suffix, damage):
    """Of every file of a store, and anywhere in a single file."""
    path = write_posterior(
        tmp_path / f"p{suffix}", ensemble(layout), 3, layout, 0.0, {"title": "x"}
    )
    verify_posterior(path)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if suffix == ".zarr" else [path] * 60
    assert len(files) > 20
    rng = np.random.default_rng(0)
    for victim in files:
        contents = victim.read_bytes()
        damaged = damage(contents, rng)
        victim.unlink() if damaged is None else victim.write_bytes(damaged)
        try:
            verify_posterior(path)
        except StorageError as error:
            assert str(path) in str(error)
        else:  # a byte that says nothing
            assert suffix == ".nc" and damage is flipped and len(damaged) == len(contents)
            same(path, contents, tmp_path)
        victim.write_bytes(contents)
    if path.is_dir():
        (path / "temp" / ".DS_Store").write_bytes(b"of a file manager")
        verify_posterior(path)
        (path / "temp" / "0.7.0.0").write_bytes(b"a chunk")
        with pytest.raises(StorageError, match="the first temp/0.7.0.0"):
            verify_posterior(path)


def same(path, contents, folder):
    (folder / "whole.nc").write_bytes(contents)
    with xr.open_dataset(path) as found, xr.open_dataset(folder / "whole.nc") as expected:
        xr.testing.assert_identical(found, expected)


def test_what_others_wrote_has_no_checksums(tmp_path, layout):
    path = write_posterior(tmp_path / "p.nc", ensemble(layout), 3, layout, 0.0)
    with xr.open_dataset(path) as found:
        found.isel(member=[0, 1]).to_netcdf(tmp_path / "q.nc", engine="h5netcdf")
        found.drop_attrs().to_netcdf(tmp_path / "r.nc", engine="h5netcdf")
        found.to_zarr(tmp_path / "q.zarr", zarr_format=2)
    for name, message in {
        "q.nc": "damaged or was edited",
        "r.nc": "as it was written",
        "q.zarr": "as it was written",
    }.items():
        with pytest.raises(StorageError, match=f"{name}: got .*{message}"):
            verify_posterior(tmp_path / name)
