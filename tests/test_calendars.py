"""Dates of every calendar and year are those that the files mean, in and out."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from own import save, waves

from sda_jax.core._errors import ConfigError, ObservationError, StorageError
from sda_jax.data._archive import open_archive
from sda_jax.data._files import Files
from sda_jax.data._layout import Axis, Channel, Layout
from sda_jax.data._opening import open_dataset
from sda_jax.observations._gridded import Gridded
from sda_jax.observations._reading import read
from sda_jax.observations._tables import Points
from sda_jax.posterior._export import write_posterior
from sda_jax.posterior._rehearsal import require_writable
from sda_jax.posterior._summary import summarise


def dated(units, calendar, values):
    """Waves at times as a file writes them."""
    attrs = {"units": units, "calendar": calendar}
    times = waves(len(values)).drop_vars("time")
    return times.assign_coords(time=("time", np.asarray(values), attrs))


def archive_of(dataset, path):
    return open_archive(Files((save(dataset, path),)))


def layout_of(tmp_path, *given):
    return archive_of(dated(*given), tmp_path / "a.nc").layout


DAYS = np.arange(20)
CENTURIES = [
    ("days since 1500-01-01", "standard", "1500-01-05"),
    ("days since 1500-01-01", "gregorian", "1500-01-05"),
    ("days since 1500-01-01", "proleptic_gregorian", "1500-01-05"),
    ("days since 1582-09-26", "standard", "1582-10-03"),
    ("days since 0850-01-01", "noleap", "0850-01-05"),
    ("days since 0001-01-01", "julian", "0001-01-05"),
    ("days since 2300-02-20", "360_day", "2300-02-30"),
    ("days since 2300-01-01", "standard", "2300-01-05"),
    ("days since 9999-12-25", "standard", "9999-12-28"),
]


@pytest.mark.parametrize("suffix", [".nc", pytest.param(".zarr", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("units", "calendar", "start"), CENTURIES)
def test_dates_come_back(tmp_path, units, calendar, start, suffix):
    """The dates of a posterior are those asked for, in the calendar of the data."""
    layout = layout_of(tmp_path, units, calendar, DAYS)
    number = layout.number(start, "--start")
    assert layout.written(number).startswith(start)
    require_writable(f"p{suffix}", layout, number, 3)
    x = np.zeros((3, *layout.state_shape), np.float32)
    path = write_posterior(tmp_path / f"p{suffix}", [x], 1, layout, number)
    options = {"engine": "zarr", "chunks": None} if suffix == ".zarr" else {}
    with xr.open_dataset(path, **options) as found:
        assert str(found.time.values[0]).startswith(start)
        assert found.time.encoding["calendar"] == layout.calendar
    with open_dataset(path) as found:
        summarise(found, ()).to_netcdf(tmp_path / "s.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "s.nc") as found:
        assert str(found.time.values[0]).startswith(start)
    again = archive_of(xr.open_dataset(path, **options).isel(member=0), tmp_path / "b.nc")
    np.testing.assert_array_equal(again.times[0], layout.times(number, 3))


def test_the_two_calendars_before_1582_are_told_apart(tmp_path):
    """The same text is another day; the same day has the same number."""
    mixed = layout_of(tmp_path, "days since 1500-01-01", "standard", DAYS)
    proleptic = layout_of(tmp_path, "days since 1500-01-01", "proleptic_gregorian", DAYS)
    assert (mixed.calendar, proleptic.calendar) == ("standard", "proleptic_gregorian")
    text = "1500-01-10"
    assert mixed.number(text, "") - proleptic.number(text, "") == 9 * 86400.0
    assert mixed.written(proleptic.number(text, "")) == "1500-01-01 00:00:00"
    assert mixed.number("1582-10-15", "") - mixed.number("1582-10-04", "") == 86400.0
    with pytest.raises(ObservationError, match="1582-10-10"):
        mixed.number("1582-10-10", "")


def test_days_counted_from_after_the_change(tmp_path):
    """A file may count from 1970 back to 1501."""
    layout = layout_of(tmp_path, "days since 1970-01-01", "standard", DAYS - 171000)
    assert layout.calendar == "standard"
    assert layout.written(-171000 * 86400.0) == "1501-10-17 00:00:00"


def test_files_across_the_change_are_one_record(tmp_path):
    units = "days since 1582-10-01"
    first, later = (dated(units, "proleptic_gregorian", d) for d in (DAYS, DAYS + 20))
    paths = (save(later, tmp_path / "b.nc"), save(first, tmp_path / "a.nc"))
    archive = open_archive(Files(paths))
    assert archive.layout.calendar == "proleptic_gregorian" and len(archive.times[0]) == 40
    assert archive.layout.written(archive.times[0][9]) == "1582-10-10T00:00:00"


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
@pytest.mark.parametrize("year", [1500, 2300])
@pytest.mark.parametrize("calendar", ["standard", "proleptic_gregorian"])
def test_columns_of_dates_do_not_overflow(tmp_path, unit, year, calendar):
    """Stamps beyond the 292 years on both sides of 1970 that nanoseconds count."""
    layout = layout_of(tmp_path, f"days since {year}-01-01", calendar, DAYS)
    table = pd.DataFrame({"time": np.array([f"{year}-01-04"], f"datetime64[{unit}]")})
    table = table.assign(lat=10.0, lon=45.0, variable="temp", value=1.0, std=1.0)
    table.to_parquet(tmp_path / "s.parquet")
    start = layout.number(f"{year}-01-02", "--start")
    used = read(Points(str(tmp_path / "s.parquet")), layout, start, 5)
    x = np.broadcast_to(np.arange(5.0)[:, None, None, None], (5, 6, 8, 2))
    assert float(used.observation.operator(x)[0]) == 2.0


@pytest.mark.parametrize("calendar", ["noleap", "360_day", "julian"])
def test_columns_of_dates_keep_their_date_in_another_calendar(tmp_path, calendar):
    layout = layout_of(tmp_path, "days since 2000-01-01", calendar, DAYS)
    stamps = np.array(["2000-01-08T06:00:00.5"], "datetime64[ms]")
    exact = layout.number("2000-01-08T06:00:00.5", "")
    assert layout.numbers(stamps, "s, column time").tolist() == [exact]
    assert exact - layout.number("2000-01-08T06:00", "") == 0.5
    assert exact == layout.number("2000-01-08T08:00:00.5+02:00", "")
    with pytest.raises(ObservationError, match="row 1: got '2001-02-31"):
        layout.numbers(np.array(["2001-02-31"], object), "s")
    if calendar == "noleap":
        with pytest.raises(ObservationError, match="row 1: got '2020-02-29"):
            layout.numbers(np.array(["2020-02-29"], "datetime64[s]"), "s")


@pytest.mark.parametrize("stamp", [2**62, -(2**62)])
def test_stamps_that_cannot_be_counted_are_refused(stamp):
    layout = Layout((Channel("t"),), calendar="standard")
    with pytest.raises(ObservationError, match="s, row 2: got .*expected a date"):
        layout.numbers(np.array([0, stamp]).astype("datetime64[s]"), "s")


def test_gridded_observations_before_1582(tmp_path):
    data = dated("days since 1500-01-01", "standard", DAYS)
    layout = archive_of(data, tmp_path / "a.nc").layout
    path = save(data.isel(time=[3]), tmp_path / "g.nc")
    used = read(Gridded(path, 1.0), layout, layout.number("1500-01-02", ""), 10)
    x = np.stack([data.temp.values, data.wind.values], -1)[1:11]
    np.testing.assert_array_equal(used.observation.operator(x), used.observation.y)


def test_months_across_the_change(tmp_path):
    times = xr.date_range("1580-01-10", periods=20, freq="MS", calendar="standard", use_cftime=True)
    layout = archive_of(waves(20).assign_coords(time=times), tmp_path / "a.nc").layout
    start = layout.number("1582-08-10", "")
    written = [layout.written(t)[:10] for t in layout.times(start, 4)]
    assert written == ["1582-08-10", "1582-09-10", "1582-10-15", "1582-11-10"]


@pytest.mark.parametrize(
    ("units", "calendar", "reason"),
    [
        ("months since 2000-01-01", "365_day", "only allowed for '360_day' calendar"),
        ("months since 2000-01-01", "standard", "only allowed for '360_day' calendar"),
        ("years since 2000-01-01", "noleap", "units must be one of"),
        ("days since 2000-01-01", "mayan", "calendar must be one of"),
        ("days since 0000-01-01", "standard", "zero not allowed"),
    ],
)
def test_units_without_a_meaning_are_refused_with_the_reason(tmp_path, units, calendar, reason):
    with pytest.raises(StorageError, match=rf"a\.nc: got times in units '{units}'.*{reason}"):
        layout_of(tmp_path, units, calendar, DAYS)


@pytest.mark.parametrize("calendar", ["noleap", "standard"])
@pytest.mark.parametrize("place", [0, 2])
def test_a_missing_time_is_not_made_up(tmp_path, calendar, place):
    days = DAYS.astype(float)
    days[place] = np.nan
    with pytest.raises(StorageError, match=f"time: got no time at index {place}"):
        layout_of(tmp_path, "days since 2000-01-01", calendar, days)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (Layout((Channel("t"),), step=1e13, calendar="standard"), "time: .*Ask for another period"),
        (Layout((Channel("lat"),), (Axis("lat", (0.0, 1.0)),)), "prior: .*cannot be written"),
    ],
)
def test_what_cannot_be_written_is_known_before(layout, message):
    with pytest.raises(ConfigError, match=message):
        require_writable("p.nc", layout, 0.0, 3)
