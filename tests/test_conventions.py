"""What dimensions, attributes and values of files mean, however they are spelt."""

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from own import save, waves

from sda_jax.core._errors import ObservationError, StorageError
from sda_jax.core._json import dumps, loads
from sda_jax.core._registry import registry
from sda_jax.data._archive import open_archive
from sda_jax.data._files import Files
from sda_jax.data._survey import survey
from sda_jax.observations._gridded import Gridded
from sda_jax.observations._reading import read


def opened(dataset, path, **said):
    return open_archive(Files((save(dataset, path),), **said))


def named(lat, lon, units=("degrees_north", "degrees_east")):
    """A globe of 6 x 8 points whose axes have these names and units."""
    data = waves(4)[["temp"]].rename(lat=lat, lon=lon)
    for name, unit in zip((lat, lon), units, strict=True):
        data[name].attrs = {} if unit is None else {"units": unit}
    return data


SPELT = ["degrees_%s", "degree_%s", "degrees%s", "degree%s", "deg_%s", "°%s"]
LETTERS = [("N", "E"), ("north", "east")]


@pytest.mark.parametrize("letters", LETTERS)
@pytest.mark.parametrize("spelt", SPELT)
@pytest.mark.parametrize("names", [("lat", "lon"), ("p", "q")])
def test_degrees_by_any_spelling(tmp_path, spelt, letters, names):
    if letters[0] == "north" and "_" not in spelt:
        spelt = spelt.replace("degree", "Degree").replace("%s", " %s")
    units = tuple(spelt % letter for letter in letters)
    layout = opened(named(*names, units), tmp_path / "a.nc").layout
    assert layout.state_shape == (6, 8, 1) and [a.period for a in layout.axes] == [None, 360.0]
    assert layout.axes[1].is_longitude and not layout.axes[0].is_longitude


GLOBES = [
    ("lat", "lon"), ("LAT", "LON"), ("nav_lat", "nav_lon"), ("g0_lat_1", "g0_lon_2"),
    ("latitude", "longitude"), ("grid_latitude", "grid_longitude"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("units", "names"),
    [*(("degrees", names) for names in GLOBES),
     *((units, GLOBES[0]) for units in ("degree", "deg", "", None))],
)  # fmt: skip
def test_plain_degrees_are_what_the_name_says(tmp_path, units, names):
    layout = opened(named(*names, (units, units)), tmp_path / "a.nc").layout
    assert layout.state_shape == (6, 8, 1) and [a.period for a in layout.axes] == [None, 360.0]


def test_radians_have_a_turn_of_their_own(tmp_path):
    data = named("lat", "lon", ("radian", "radian"))
    data = data.assign_coords(lon=("lon", np.deg2rad(data.lon.values), {"units": "radian"}))
    assert opened(data, tmp_path / "a.nc").layout.axes[1].period == 2 * np.pi


def test_kilometres_do_not_come_round(tmp_path):
    layout = opened(named("y", "x", ("km", "km")), tmp_path / "a.nc").layout
    assert layout.state_shape == (6, 8, 1) and [a.period for a in layout.axes] == [None, None]


def test_latitudes_and_longitudes_beside_dimensions_of_other_names(tmp_path):
    data = named("lat", "lon")
    lat, lon = data.lat.variable, data.lon.variable
    data = data.drop_vars(["lat", "lon"]).rename(lat="rows", lon="columns")
    data = data.assign_coords(
        lat=("rows", lat.values, lat.attrs), lon=("columns", lon.values, lon.attrs)
    )
    layout = opened(data, tmp_path / "a.nc").layout
    assert [a.name for a in layout.axes] == ["rows", "columns"]
    assert layout.axes[1].period == 360.0 and layout.axes[1].coordinates[2] == 90.0


@pytest.mark.parametrize("names", [("j", "i"), ("eta", "xi"), ("cell", "face")])
def test_dimensions_of_unknown_meaning_are_asked_about(tmp_path, names):
    """48 channels are more than a guess may make."""
    data = named(*names).drop_vars(list(names))
    said = f"--data.files.space {names[0]} {names[1]}"
    message = rf"48 channels along .*unknown.*{names[0]} \(6\).*{said}\."
    with pytest.raises(StorageError, match=message):
        opened(data, tmp_path / "a.nc")
    assert opened(data, tmp_path / "a.nc", space=names).layout.state_shape == (6, 8, 1)
    assert opened(data, tmp_path / "a.nc", space=()).layout.state_shape == (48,)


@pytest.mark.parametrize(
    ("name", "coordinate"),
    [
        ("station", None),
        ("pressure_level", None),
        ("id", [f"s{i}" for i in range(40)]),
        ("k", ("k", np.arange(40), {"axis": "Z"})),
        ("k", ("k", np.arange(40), {"positive": "up"})),
    ],
)
def test_heights_and_stations_are_channels_however_many(tmp_path, name, coordinate):
    times = pd.date_range("2020", periods=4)
    data = xr.Dataset({"t": (("time", name), np.random.rand(4, 40))}, {"time": times})
    data = data if coordinate is None else data.assign_coords({name: coordinate})
    assert opened(data, tmp_path / "a.nc").layout.state_shape == (40,)


def test_units_of_places_are_compared(tmp_path):
    data = named("y", "x", ("km", "km"))
    layout = opened(data, tmp_path / "a.nc").layout
    other = named("y", "x", ("m", "m")).isel(time=[1])
    path = save(other, tmp_path / "b.nc")
    with pytest.raises(ObservationError, match="b.nc, y: got units 'm'; expected 'km'"):
        read(Gridded(path, 1.0), layout, layout.number("2020-01-01", ""), 4)


PACKED = {"scale_factor": 0.5, "add_offset": 10.0, "_FillValue": None}
TURNED = {"scale_factor": -0.5, "_FillValue": None}


@pytest.mark.parametrize(
    ("dtype", "packing", "attributes"),
    [
        ("f4", {}, {"valid_range": np.float32([-100, 100])}),
        ("f4", {}, {"valid_min": np.float32(-100)}),
        ("f8", {}, {"valid_min": -100.0, "valid_max": 100.0}),
        ("f4", {}, {"valid_min": -100}),
        ("i4", {}, {"valid_range": np.int32([-100, 100])}),
        ("i2", PACKED, {"valid_range": np.int16([-200, 200])}),
        ("i2", PACKED, {"valid_min": np.int16(-200)}),
        ("i2", PACKED, {"valid_range": [-90.0, 110.0]}),
        ("i2", TURNED, {"valid_range": np.int16([-200, 200])}),
        ("i2", TURNED, {"valid_max": np.int16(200)}),
    ],
)
def test_values_outside_the_valid_range_are_none(tmp_path, dtype, packing, attributes):
    data = waves(6)
    values = data.temp.values.astype(float).round()
    values[3, 1, 2] = -999.0
    data["temp"] = (data.temp.dims, values, {"units": "degC", **attributes})
    data.to_netcdf(
        tmp_path / "a.nc", engine="h5netcdf", encoding={"temp": {"dtype": dtype, **packing}}
    )
    archive = open_archive(Files((str(tmp_path / "a.nc"),)))
    values[3, 1, 2] = np.nan
    np.testing.assert_array_equal(archive.read(0, 0, 6)[..., 0], values)
    start = archive.layout.number("2020-01-01", "")
    used = read(Gridded(str(tmp_path / "a.nc"), 1.0), archive.layout, start, 6)
    assert "1 no value" in used.report


def test_the_ends_of_a_valid_range_are_valid(tmp_path):
    data = waves(3)
    ends = np.float32([0.1, 0.7])
    data.temp.values[:] = np.resize(ends, data.temp.shape)
    data.temp.attrs.update(valid_min=0.1, valid_max=0.7)  # in double precision
    assert np.isfinite(opened(data, tmp_path / "a.nc").read(0, 0, 3)).all()


def test_bytes_without_a_sign(tmp_path):
    path = tmp_path / "a.nc"
    save(waves(3), path)
    with h5py.File(path, "r+") as file:
        stored = np.resize(np.int8([0, 100, -56, -1]), (3, 6, 8))
        file["temp"][:] = 0
        dims = [next(iter(dim.values())) for dim in file["temp"].dims]
        del file["temp"]
        file["temp"] = stored
        for dim, scale in zip(file["temp"].dims, dims, strict=True):
            dim.attach_scale(scale)
        file["temp"].attrs["_Unsigned"] = "true"
        file["temp"].attrs["valid_range"] = np.int8([0, -56])  # to 200
    x = open_archive(Files((str(path),))).read(0, 0, 1)[0, 0, :4, 0]
    np.testing.assert_array_equal(x, [0, 100, 200, np.nan])


def test_what_was_never_written_is_none(tmp_path):
    data = waves(3)
    data.temp.values[1, 2, 3] = 9.969209968386869e36
    x = opened(data, tmp_path / "a.nc").read(0, 0, 3)
    assert np.argwhere(np.isnan(x)).tolist() == [[1, 2, 3, 0]]


@pytest.mark.parametrize("attribute", [{"valid_range": "0, 100"}, {"valid_min": [0.0, 1.0]}])
def test_a_range_that_is_none_is_refused(tmp_path, attribute):
    data = waves(3)
    data.temp.attrs.update(attribute)
    with pytest.raises(StorageError, match="temp: got valid_.*Correct the attribute"):
        opened(data, tmp_path / "a.nc").read(0, 0, 3)


def wrf(path, times=True, minutes=True):
    """As WRF writes: no coordinates, but XTIME, the texts Times and fields of places."""
    x = np.random.default_rng(0).standard_normal((30, 5, 7)).astype(np.float32)
    data = xr.Dataset({"T2": (("Time", "south_north", "west_east"), x, {"units": "K"})})
    data["XLAT"] = (("Time", "south_north", "west_east"), 0 * x, {"units": "degree_north"})
    if times:
        texts = [f"2000-01-{1 + i // 24:02d}_{i % 24:02d}:00:00".encode() for i in range(30)]
        data["Times"] = (("Time",), np.array(texts, "S19"))
    if minutes:
        since = {"units": "minutes since 2000-01-01 00:00:00"}
        data["XTIME"] = (("Time",), 60 * np.arange(30, dtype=np.float32), since)
    data.set_coords(["XLAT"]).to_netcdf(path, engine="h5netcdf")
    return str(path), x


@pytest.mark.parametrize(("times", "minutes"), [(True, True), (True, False), (False, True)])
def test_wrf(tmp_path, times, minutes):
    path, x = wrf(tmp_path / "wrfout", times, minutes)
    archive = open_archive(Files((path,)))
    layout = archive.layout
    assert layout.state_shape == (5, 7, 1) and layout.step == 3600.0
    assert layout.written(archive.times[0][29]) == "2000-01-02T05:00:00"
    used = read(Gridded(path, 1.0), layout, layout.number("2000-01-01T03", ""), 4)
    np.testing.assert_array_equal(used.observation.operator(x[3:7, ..., None]), x[3:7].ravel())


def test_times_that_differ_are_refused(tmp_path):
    path, _ = wrf(tmp_path / "wrfout")
    with h5py.File(path, "r+") as file:
        file["XTIME"][3] += 5
    with pytest.raises(StorageError, match="Time: got different times in Times, XTIME"):
        open_archive(Files((path,)))


def test_dates_along_a_dimension_of_another_name(tmp_path):
    times = pd.date_range("2020", periods=4)
    data = xr.Dataset({"t": ("record", np.arange(4.0))}, {"when": ("record", times)})
    layout = opened(data, tmp_path / "a.nc").layout
    assert layout.time == "record" and layout.step == 86400.0


@pytest.mark.parametrize("value", [3, 1.5, np.array([1, 2]), b"K", ["K", "m"]])
def test_attributes_of_odd_types(tmp_path, value):
    data = waves(40)
    for name in ("temp", "lat", "time"):
        for key in ("axis", "standard_name", "long_name", "positive"):
            data[name].attrs[key] = value
    data.temp.attrs["units"] = data.lat.attrs["units"] = value
    found = survey(opened(data, tmp_path / "a.nc"))
    assert found.layout.state_shape == (6, 8, 2)
    assert loads(dumps(found), registry()) == found


def test_units_of_before_unicode(tmp_path):
    path = save(waves(3), tmp_path / "a.nc")
    with h5py.File(path, "r+") as file:
        del file["temp"].attrs["units"]
        file["temp"].attrs["units"] = np.bytes_("°C".encode("latin-1"))
    assert open_archive(Files((path,))).layout.channels[0].units == "°C"


@pytest.mark.parametrize("empty", ["lat", "time", "level", "member"])
def test_a_selection_that_left_nothing(tmp_path, empty):
    data = xr.concat([waves(4)[["temp"]]] * 2, empty) if empty in ("level", "member") else waves(4)
    with pytest.raises(StorageError, match=f"a.nc: got nothing along {empty};"):
        opened(data.isel({empty: []}), tmp_path / "a.nc")


def test_a_time_without_a_dimension(tmp_path):
    with pytest.raises(StorageError, match=r"one time, time.*expand_dims\('time'\)"):
        opened(waves(4).isel(time=2), tmp_path / "a.nc")


@pytest.mark.parametrize("name", ["scale_factor", "add_offset"])
def test_a_packing_that_is_no_number(tmp_path, name):
    path = save(waves(4), tmp_path / "a.nc")
    with h5py.File(path, "r+") as file:
        file["temp"].attrs[name] = "x"
    with pytest.raises(StorageError, match=rf"a.nc, temp: got {name} = .*'x'.*expected a number"):
        open_archive(Files((path,))).read(0, 0, 2)
