"""Observations from tables, grids and operators of one's own."""

import itertools

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from own import save, stations, waves

from sda_jax.core._errors import ObservationError, StorageError
from sda_jax.data._archive import open_archive
from sda_jax.data._files import Files
from sda_jax.data._survey import survey
from sda_jax.observations._gridded import Gridded
from sda_jax.observations._reading import OperatorSource, read, read_all
from sda_jax.observations._tables import Points


@pytest.fixture
def data():
    return waves()


@pytest.fixture
def layout(tmp_path, data):
    return survey(open_archive(Files((save(data, tmp_path / "a.nc"),)))).layout


def trajectory(data, length=12):
    return np.stack([data.temp.values, data.wind.values], axis=-1)[:length]


def start(layout):
    return layout.number("2020-01-01", "--start")


def write(table, path):
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False)
    return str(path)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_stations_see_what_xarray_interpolates(tmp_path, data, layout, suffix):
    table, exact = stations(data, np.random.default_rng(0), 300)
    used = read(Points(write(table, tmp_path / f"s.{suffix}")), layout, start(layout), 12)
    seen = used.observation.operator(trajectory(data))
    np.testing.assert_allclose(seen, exact, atol=1e-6 * np.abs(exact).max())
    np.testing.assert_allclose(used.observation.y, table.value.values, rtol=1e-6)
    assert "300 of 300 values used" in used.report


def test_falling_axes_and_meridians_by_other_names(tmp_path, data):
    region = data.isel(lon=slice(2, 7)).isel(lat=slice(None, None, -1))
    layout = survey(open_archive(Files((save(region, tmp_path / "r.nc"),)))).layout
    assert layout.axes[1].period is None
    lat, lon = np.array([-20.0, 13.0]), np.array([200.0, 130.0])
    table = pd.DataFrame(
        {"time": "2020-01-01T09:00", "lat": lat, "lon": [-160.0, -230.0], "variable": "temp",
         "value": 1.0, "std": 1.0}
    )  # fmt: skip
    used = read(Points(write(table, tmp_path / "s.csv")), layout, start(layout), 12)
    at = {"lat": xr.DataArray(lat, dims="p"), "lon": xr.DataArray(lon, dims="p")}
    exact = data.temp.astype(float).isel(time=[1, 2]).mean("time").interp(at).values
    x = trajectory(region)
    np.testing.assert_allclose(used.observation.operator(x), exact, rtol=1e-6)


def test_the_nearest_is_xarrays(tmp_path, data, layout):
    table, _ = stations(data, np.random.default_rng(1), 100)
    table = table[table.lon < 315]
    path = write(table, tmp_path / "s.csv")
    used = read(Points(path, method="nearest"), layout, start(layout), 12)
    at = {n: xr.DataArray(table[n].values, dims="p") for n in ("lat", "lon")}
    when = pd.to_datetime(table.time.str.rstrip("Z")).values.astype("datetime64[ns]")
    exact = data.temp.sel(time=xr.DataArray(when, dims="p"), **at, method="nearest").values
    np.testing.assert_array_equal(used.observation.operator(trajectory(data)), exact)


def test_what_cannot_be_used_is_counted_with_its_reason(tmp_path, data):
    data.temp.values[:, 0, :2] = np.nan
    data.wind.values[:, 0, :2] = np.nan
    layout = survey(open_archive(Files((save(data, tmp_path / "a.nc"),)))).layout
    rows = [
        ("2020-01-01T03:00", 12.0, 300.0, "temp", "1.5"),
        ("2019-12-31", 12.0, 300.0, "temp", "1"),
        ("2020-01-02", 70.0, 300.0, "wind", "1"),
        ("2020-01-02", -48.0, 50.0, "temp", "1"),
        ("2020-01-02", 12.0, 300.0, "temp", ""),
        ("2020-01-02", 12.0, -300.0, "wind", "2"),
    ]
    table = pd.DataFrame(rows, columns=["time", "lat", "lon", "variable", "value"])
    used = read(Points(write(table, tmp_path / "s.csv"), std=0.5), layout, start(layout), 12)
    assert used.report.splitlines() == [
        f"{tmp_path / 's.csv'}: 2 of 6 values used",
        "  left out: 1 no value (the first: line 6)",
        "  left out: 1 outside 2020-01-01T00:00:00 to 2020-01-03T18:00:00 (the first: line 3)",
        "  left out: 1 outside lat -50 to 50 degrees_north (the first: line 4)",
        "  left out: 1 next to points without values (the first: line 5)",
    ]
    assert used.observation.y.tolist() == [1.5, 2.0] and (used.observation.std == 0.5).all()


GOOD = {"time": "2020-01-01T03:00", "lat": "1", "lon": "2", "variable": "temp", "value": "3"}


@pytest.mark.parametrize(
    "change,message",
    [
        ({"value": "warm"}, r"s.csv, line 3, value: got 'warm'; expected a number"),
        ({"lat": ""}, r"s.csv, line 3, lat: got nothing"),
        ({"std": "-1"}, r"line 3, std: got -1.0; expected above zero"),
        ({"std": "1e999"}, r"line 3, std: got inf"),
        ({"time": "yesterday"}, r"column time, row 2: got 'yesterday'; expected a date"),
        ({"time": "2020-01-01T03:00Z"}, "times with a zone beside times without one"),
        (
            {"variable": "sst"},
            r"line 3: got variable 'sst'; expected one of the prior's: temp, win",
        ),
        ({"units": "K"}, r"line 3, units: got 'K'; expected 'degC'"),
        ({"lat": "1", "std": "1", "units": "degC", "value": "3"}, "a row that is there before; 1"),
    ],
)
def test_bad_rows_are_named(tmp_path, layout, change, message):
    good = {**GOOD, "std": "1", "units": "degC"}
    table = pd.DataFrame([good, {**good, **change}])
    with pytest.raises(ObservationError, match=message):
        read(Points(write(table, tmp_path / "s.csv")), layout, start(layout), 12)


def test_bad_tables_are_named(tmp_path, layout):
    def taken(table, **said):
        return read(Points(write(table, tmp_path / "s.csv"), **said), layout, start(layout), 12)

    good = pd.DataFrame([GOOD])
    with pytest.raises(StorageError, match="no rows"):
        taken(good.iloc[:0])
    with pytest.raises(StorageError, match=r"one called value.*--columns value=NAME"):
        taken(good.rename(columns={"value": "t2m"}))
    assert taken(good.rename(columns={"value": "t2m"}), std=1.0, columns={"value": "t2m"})
    with pytest.raises(ObservationError, match=r"no column std.*--std"):
        taken(good)
    with pytest.raises(ObservationError, match=r"none of 1 values.*\n.*outside lat"):
        taken(good.assign(lat="80"), std=1.0)
    with pytest.raises(ObservationError, match=r"none of 1 values.*\n.*no value"):
        taken(good.assign(value=""), std=1.0)
    with pytest.raises(StorageError, match="no such file"):
        read(Points(str(tmp_path / "none.csv")), layout, start(layout), 12)
    (tmp_path / "s.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(StorageError, match=r"s\.parquet"):
        read(Points(str(tmp_path / "s.parquet")), layout, start(layout), 12)


def test_grids_see_every_value_that_is_there(tmp_path, data, layout):
    coarse = data.isel(lat=slice(None, None, 2), lon=slice(1, None, 3), time=slice(2, 9, 3))
    coarse.temp.values[0, 0, 0] = np.nan
    coarse["wind_std"] = coarse.wind * 0 + 0.7
    path = save(coarse, tmp_path / "g.nc")
    used = read(Gridded(path, {"temp": 0.1}), layout, start(layout), 12)
    assert "53 of 54 values used" in used.report and "1 no value" in used.report
    x = trajectory(data)
    np.testing.assert_array_equal(used.observation.operator(x), used.observation.y)
    assert sorted(set(np.asarray(used.observation.std).tolist())) == [
        np.float32(0.1),
        np.float32(0.7),
    ]
    mixed = read(Gridded(path, 0.1), layout, start(layout), 12)  # where the file has none
    np.testing.assert_array_equal(mixed.observation.std, used.observation.std)
    with pytest.raises(ObservationError, match="g.nc, temp: got no std"):
        read(Gridded(path), layout, start(layout), 12)
    coarse.temp.attrs["units"] = "K"
    with pytest.raises(ObservationError, match="units 'K'"):
        read(Gridded(save(coarse, tmp_path / "k.nc"), 1.0), layout, start(layout), 12)
    with pytest.raises(StorageError, match="lat, as the prior's states have it"):
        read(
            Gridded(save(coarse.rename(lat="y"), tmp_path / "y.nc"), 1.0), layout, start(layout), 12
        )


def test_an_operator_of_ones_own(tmp_path, layout, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("def mean(x):\n    return x.mean(axis=(1, 2))\n")
    np.save(tmp_path / "y.npy", np.ones((12, 2)))
    used = read(OperatorSource("mine:mean", "y.npy", 0.1), layout, start(layout), 12)
    assert "24 of 24" in used.report and used.observation.operator(np.ones((12, 6, 8, 2))).all()
    for operator in ("mine", "mine:median", "yours:mean"):
        with pytest.raises(ObservationError, match="module:function"):
            read(OperatorSource(operator, "y.npy", 0.1), layout, start(layout), 12)


def test_several_sources_are_one_observation(tmp_path, data, layout):
    table, _ = stations(data, np.random.default_rng(0), 5)
    points = Points(write(table, tmp_path / "s.csv"))
    grid = Gridded(save(data.isel(time=[3]), tmp_path / "g.nc"), 0.9)
    used = read_all([points, grid], layout, start(layout), 12)
    m = 5 + 2 * 6 * 8
    assert used.observation.y.shape == (m,) and len(used.report.splitlines()) == 2
    std = np.asarray(used.observation.std)
    assert np.allclose(std, [0.2] * 5 + [0.9] * (m - 5))


def test_weights_sum_to_one_at_every_corner_case(tmp_path, data, layout):
    times = ["2020-01-01", "2020-01-03T18:00"]
    rows = itertools.product(times, [-50.0, 50.0], [0.0, 359.999, 360.0, -0.001])
    table = pd.DataFrame(rows, columns=["time", "lat", "lon"])
    table = table.assign(variable="wind", value=0.0, std=1.0)
    used = read(Points(write(table, tmp_path / "s.csv")), layout, start(layout), 12)
    assert "16 of 16" in used.report
    ones = np.ones((12, 6, 8, 2), np.float32)
    np.testing.assert_allclose(used.observation.operator(ones), 1.0, rtol=1e-6)


def lone(channels, **times):
    from sda_jax.data._layout import Channel, Layout

    made = tuple(Channel(name, "", "", "", at) for name, at in channels)
    return Layout(made, **times)


def test_rows_find_their_channel_by_exact_labels(tmp_path):
    def channel(layout, **row):
        table = pd.DataFrame([{"time": 0, "value": 1, "std": 1, **row}])
        used = read(Points(write(table, tmp_path / "s.csv")), layout, 0.0, 4)
        return int(used.observation.operator.indices[0, 0])

    stations = lone([("t", (("id", 10384001),)), ("t", (("id", 10384002),))])
    assert [channel(stations, id=i) for i in (10384001, 10384002)] == [0, 1]
    texts = lone([("t", (("id", "007"),)), ("t", (("id", "7"),))])
    assert [channel(texts, id=i) for i in ("007", "7")] == [0, 1]
    levels = lone([("t", (("level", 850.0),)), ("t", (("level", 500.0),))])
    assert channel(levels, level=500) == 1
    with pytest.raises(ObservationError, match="got variable 'u', level '850'"):
        channel(levels, variable="u", level=850)
    mixed = lone([("t", (("level", 850.0),)), ("ps", ())])
    assert channel(mixed, variable="ps") == 1
    assert channel(mixed, variable="t", level="850") == 0


def test_points_beside_a_mask_are_used_whatever_the_rounding():
    from sda_jax.data._layout import Axis, Channel, Layout, pack
    from sda_jax.observations._interpolation import interpolation

    lon = tuple((np.arange(3600) * 0.1).tolist())
    mask = np.zeros((3600, 1), bool)
    mask[1::2] = True
    layout = Layout(
        (Channel("t"),), (Axis("lon", lon, "degrees_east", period=360.0),), mask=pack(mask)
    )
    places = np.asarray(lon, np.float32).astype(float)[::2]
    zeros = np.zeros(1800)
    found = interpolation(layout, 0.0, 2, zeros, [places], zeros.astype(int))
    assert not any(out.any() for _, out in found.reasons)


@pytest.mark.parametrize(("first", "freq"), [("2000-01-01T06", "MS"), ("2000-01-31T12", "ME")])
@pytest.mark.parametrize("calendar", ["standard", "noleap"])
def test_months_are_calendar_months(tmp_path, first, freq, calendar):
    times = xr.date_range(first, periods=60, freq=freq, calendar=calendar)
    data = waves(60).assign_coords(time=times)
    archive = open_archive(Files((save(data, tmp_path / "m.nc"),)))
    layout = survey(archive).layout
    start = layout.number(first, "start")
    assert layout.months == 1
    np.testing.assert_array_equal(layout.times(start, 60), archive.times[0])
    used = read(Gridded(str(tmp_path / "m.nc"), 1.0), layout, start, 12)
    values = 12 * 6 * 8 * 2
    assert len(used.observation.y) == values
    x = trajectory(data)
    np.testing.assert_array_equal(used.observation.operator(x), used.observation.y)
    assert "48 of 60 times far from the trajectory's" in used.report


def test_dates_are_iso_alone(layout, tmp_path):
    for text in ("02/03/2020", "now", "2020-13-01"):
        with pytest.raises(ObservationError, match="row 1"):
            layout.numbers(np.array([text], object), "s.csv, column time")
    other = lone([("t", ())], calendar="360_day")
    assert other.written(other.number("2001-02-30", "--start")).startswith("2001-02-30")
    plain = lone([("t", ())])
    with pytest.raises(ObservationError, match="row 3: got 'abc'"):
        plain.numbers(np.array(["0", "1", "abc"], object), "times")


def test_lines_are_those_of_the_file(tmp_path, layout):
    (tmp_path / "s.csv").write_text(
        "time,lat,lon,variable,value,std\n\n2020-01-01,1,2,temp,3,1\n\n2020-01-01,1,2,temp,x,1\n"
    )
    with pytest.raises(ObservationError, match="line 5, value"):
        read(Points(str(tmp_path / "s.csv")), layout, start(layout), 12)
    (tmp_path / "s.csv").write_text("time,lat,lon,variable,value,std\n2020-01-01,1,2,temp,3,1,9\n")
    with pytest.raises(StorageError, match=r"s\.csv"):
        read(Points(str(tmp_path / "s.csv")), layout, start(layout), 12)


def test_seasons_last_a_year_of_the_calendar():
    from sda_jax.data._layout import Layout

    for calendar, days in (("360_day", 360), ("noleap", 365)):
        layout: Layout = lone([("t", ())], calendar=calendar, cycles=("year",))
        years = layout.context(86400.0 * days * np.arange(0, 60, 17))
        np.testing.assert_allclose(years, np.broadcast_to([0.0, 1.0], years.shape), atol=1e-4)


@pytest.mark.parametrize("falling", [False, True])
@pytest.mark.parametrize("turn", [0.0, 360.0])
@pytest.mark.parametrize("step", [0.1, 1 / 48])
@pytest.mark.parametrize("single", ["grid", "stations", "both"])
def test_stations_on_the_edge_of_a_grid_in_single_precision(tmp_path, step, turn, falling, single):
    """Each sees its own point, with or without a neighbour that has no value."""
    lat, lon = 10 + step * np.arange(7), -20.3 + step * np.arange(20)
    lat = lat[::-1] if falling else lat
    stored = [np.float32(x) if single != "stations" else x for x in (lat, lon)]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 7, 20)).astype(np.float32)
    x[:, 1] = np.nan
    data = xr.Dataset(
        {"temp": (("time", "lat", "lon"), x)},
        {
            "time": pd.date_range("2020-01-01", periods=3),
            "lat": ("lat", stored[0], {"units": "degrees_north"}),
            "lon": ("lon", stored[1], {"units": "degrees_east"}),
        },
    )
    layout = survey(open_archive(Files((save(data, tmp_path / "a.nc"),)))).layout
    i, j = (k.ravel() for k in np.meshgrid([0, 2, 6], np.arange(20), indexing="ij"))
    places = [lat[i], lon[j] + turn]
    if single != "grid":
        places = [np.float32(p) for p in places]
    table = pd.DataFrame({"time": "2020-01-02", "lat": places[0], "lon": places[1]})
    table = table.assign(value=0.0, std=1.0)
    table.to_parquet(tmp_path / "s.parquet")
    used = read(Points(str(tmp_path / "s.parquet")), layout, start(layout), 3)
    seen = used.observation.operator(np.nan_to_num(x)[..., None])
    np.testing.assert_array_equal(seen, x[1, i, j])


def test_a_fine_globe_in_single_precision_is_periodic(tmp_path):
    lon = np.linspace(-180, 180, 21600, endpoint=False).astype(np.float32)
    data = waves(2, lat=2)[["temp"]].isel(lon=np.zeros(len(lon), int))
    data = data.assign_coords(lon=("lon", lon, {"units": "degrees_east"}))
    assert open_archive(Files((save(data, tmp_path / "a.nc"),))).layout.axes[1].period == 360.0


def test_a_station_outside_stays_outside(tmp_path):
    """By more than coordinates are rounded."""
    lat = np.linspace(10, 11, 11).astype(np.float32)
    data = waves(3, lat=11)[["temp"]]
    data = data.assign_coords(lat=("lat", lat, {"units": "degrees_north"}))
    layout = open_archive(Files((save(data, tmp_path / "a.nc"),))).layout
    table = pd.DataFrame({"time": "2020-01-01", "lat": [11.0, 11.0001, 9.9999], "lon": 0.0})
    path = write(table.assign(value=1.0, std=1.0), tmp_path / "s.csv")
    used = read(Points(path), layout, start(layout), 3)
    assert "1 of 3 values used" in used.report and "2 outside lat 10 to 11" in used.report


@pytest.mark.parametrize("lon", ["720", "1e300", "-361", "360.5"])
@pytest.mark.parametrize("whole", [True, False])
def test_longitudes_far_around_the_globe_are_refused_by_row(tmp_path, data, layout, lon, whole):
    """Which would be wrapped to somewhere."""
    if not whole:
        region = save(data.isel(lon=slice(0, 4)), tmp_path / "r.nc")
        layout = survey(open_archive(Files((region,)))).layout
    (tmp_path / "s.csv").write_text(
        "time,lat,lon,variable,value,std\n"
        "2020-01-01T03:00,1,-357.5,temp,3,1\n"
        f"2020-01-01T03:00,1,{lon},temp,3,1\n"
    )
    with pytest.raises(ObservationError, match=r"s.csv, line 3, lon: got .*from -360 to 360"):
        read(Points(str(tmp_path / "s.csv")), layout, start(layout), 12)


def test_complex_y_of_files_is_refused(tmp_path, layout, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine.py").write_text("def mean(x):\n    return x.mean(axis=(1, 2))\n")
    np.save(tmp_path / "y.npy", np.full((12, 2), 1 + 2j))
    with pytest.raises(ObservationError, match="y.npy: got complex numbers"):
        read(OperatorSource("mine:mean", "y.npy", 0.1), layout, start(layout), 12)
