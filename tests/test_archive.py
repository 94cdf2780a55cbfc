"""Files of one's own become trajectories, or messages."""

import h5py
import numpy as np
import pytest
import xarray as xr
from own import save, waves

from sda_jax.core._errors import ConfigError, ResourceError, StorageError
from sda_jax.core._json import dumps, loads
from sda_jax.core._registry import registry
from sda_jax.data._archive import open_archive
from sda_jax.data._files import Files
from sda_jax.data._summary import summary
from sda_jax.data._survey import parts_of, runs, survey, surveyed
from sda_jax.experiment import _segments
from sda_jax.experiment._segments import series_stretches


def opened(dataset, path, **said):
    return open_archive(Files((save(dataset, path),), **said))


def stacked(dataset):
    return np.stack([dataset.temp.values, dataset.wind.values], axis=-1)


def test_roles_are_guessed_from_conventions(tmp_path):
    archive = opened(waves(), tmp_path / "a.nc")
    layout = archive.layout
    assert layout.state_shape == (6, 8, 2) and layout.time == "time"
    assert [c.label for c in layout.channels] == ["temp", "wind"]
    assert [a.period for a in layout.axes] == [None, 360.0]
    assert layout.step == 6 * 3600 and layout.calendar == "standard"
    np.testing.assert_array_equal(archive.read(0, 3, 9), stacked(waves())[3:9])


@pytest.mark.parametrize("kind", ["zarr", "netcdf3", "hdf5"])
def test_other_formats_hold_the_same(tmp_path, kind):
    data, path = waves(), tmp_path / kind
    said = {}
    if kind == "zarr":
        data.to_zarr(path, zarr_format=2, consolidated=False)
    elif kind == "netcdf3":
        data.to_netcdf(path, engine="scipy")
    else:
        with h5py.File(path, "w") as file:
            for name in ("temp", "wind"):
                file[f"run/{name}"] = data[name].values
        said = {"group": "run", "time": "phony_dim_0", "space": ("phony_dim_1", "phony_dim_2")}
    archive = open_archive(Files((str(path),), **said))
    np.testing.assert_array_equal(archive.read(0, 0, 60), stacked(data))


def test_several_files_are_one_record_whatever_their_order(tmp_path):
    data = waves()
    paths = [
        save(data.isel(time=slice(a, b)), tmp_path / f"{a}.nc") for a, b in ((40, 60), (0, 40))
    ]
    archive = open_archive(Files(tuple(paths)))
    assert len(archive.times) == 1
    np.testing.assert_array_equal(archive.read(0, 35, 45), stacked(data)[35:45])
    assert "40.nc, index 2" in archive.place(0, 42)


def test_files_may_be_trajectories_and_so_may_a_dimension(tmp_path):
    sets = [waves(seed=i) for i in range(3)]
    paths = tuple(save(d, tmp_path / f"{i}.nc") for i, d in enumerate(sets))
    archive = open_archive(Files(paths, each="trajectory"))
    np.testing.assert_array_equal(archive.read(2, 5, 7), stacked(sets[2])[5:7])
    joined = opened(xr.concat(sets, "member"), tmp_path / "all.nc")
    assert len(joined.times) == 3 and joined.roles.trajectory == "member"
    np.testing.assert_array_equal(joined.read(1, 5, 7), stacked(sets[1])[5:7])


def test_other_dimensions_become_channels(tmp_path):
    levels = xr.concat([waves(seed=i)[["temp"]] for i in range(2)], "level")
    archive = opened(levels.assign_coords(level=[850.0, 500.0]), tmp_path / "a.nc")
    labels = [c.label for c in archive.layout.channels]
    assert labels == ["temp[level=850.0]", "temp[level=500.0]"]
    np.testing.assert_array_equal(archive.read(0, 4, 5)[0, ..., 1], waves(seed=1).temp.values[4])


@pytest.mark.parametrize("space", [0, 1])
def test_states_with_less_space(tmp_path, space):
    data = waves().isel(lat=2) if space else waves().isel(lat=2, lon=3)
    archive = opened(data.drop_vars(["lat"] if space else ["lat", "lon"]), tmp_path / "a.nc")
    assert archive.layout.state_shape == ((8, 2) if space else (2,))


def bad_files():
    def shuffled(d):
        return d.isel(time=[0, 2, 1, 3])

    def twice(d):
        return d.isel(time=[0, 1, 1, 2])

    def no_time(d):
        return d.rename(time="step").drop_vars("step")

    def infinite(d):
        d.temp.values[7, 1, 2] = np.inf
        return d

    def holes(d):
        d.temp.values[7, 1, 2] = np.nan
        return d

    def constant(d):
        return d.assign(wind=d.wind * 0 + 3.0)

    def unsorted_axis(d):
        return d.isel(lat=[0, 2, 1])

    return [
        (shuffled, {}, "a.nc, time: got 2020-01-01T06:00:00 after a later one, at index 2"),
        (twice, {}, "twice, at index 2"),
        (no_time, {}, "no dimension that looks like time among step, lat, lon"),
        (infinite, {}, r"a.nc, index 7 .time 2020-01-02T18:00:00.: got an infinite temp at .*1, 2"),
        (holes, {}, r"a.nc, index 7 .*no value of temp at point \[1, 2\]; 1 states.*missing skip"),
        (constant, {}, "wind: got always 3"),
        (unsorted_axis, {}, "a.nc, lat: .*Sort the file"),
        (lambda d: d, {"variables": ("sst",)}, "no variable 'sst'.*temp, wind"),
        (lambda d: d, {"space": ("x",)}, "no dimension 'x'.*time, lat, lon"),
        (lambda d: d, {"periodic": ("y",)}, "no dimension 'y'"),
    ]


@pytest.mark.parametrize("change,said,message", bad_files())
def test_bad_files_are_named_with_place_and_remedy(tmp_path, change, said, message):
    with pytest.raises(StorageError, match=message):
        survey(opened(change(waves()), tmp_path / "a.nc", **said))


def test_files_that_do_not_fit_are_refused(tmp_path):
    first = save(waves(), tmp_path / "a.nc")
    later = waves(start="2021-01-01")
    later.temp.attrs["units"] = "K"
    cases = [
        (later, "b.nc: got K; expected the units of temp as in .*a.nc: degC"),
        (waves(start="2021-01-01", lat=5), "the grid as in"),
        (waves(start="2021-01-01")[["temp"]], "the variables as in .*a.nc: temp, wind"),
        (waves(start="2020-01-05"), "not after the last of .*a.nc"),
    ]
    for data, message in cases:
        with pytest.raises(StorageError, match=message):
            open_archive(Files((first, save(data, tmp_path / "b.nc"))))
    (tmp_path / "c.nc").write_bytes(b"time,temp\n1,2\n")
    with pytest.raises(StorageError, match="begins with b'time'"):
        open_archive(Files((str(tmp_path / "c.nc"),)))
    broken = tmp_path / "d.nc"
    broken.write_bytes((tmp_path / "a.nc").read_bytes()[:4000])
    with pytest.raises(StorageError, match=r"d\.nc"):
        survey(open_archive(Files((str(broken),))))


def test_statistics_are_those_of_what_is_trained_on(tmp_path, monkeypatch):
    monkeypatch.setattr("sda_jax.data._survey.BLOCK_BYTES", 4 * 6 * 8 * 2 * 7)  # 7 states at once
    found = survey(opened(waves(), tmp_path / "a.nc"))
    x = stacked(waves())[:48].astype(float)
    np.testing.assert_allclose(found.standardisation.mean, x.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(found.standardisation.std, x.std(axis=(0, 1, 2)), rtol=1e-12)


def test_masks_and_gaps(tmp_path):
    data = waves(200)
    data.temp.values[:, :2, 3] = np.nan
    data.temp.values[20:22, 4, 4] = np.nan
    found = survey(opened(data, tmp_path / "a.nc", missing="skip"))
    np.testing.assert_array_equal(found.layout.valid, ~np.isnan(stacked(data)[0]))
    assert found.gaps == ((0, 20, 22),)
    archive = opened(data, tmp_path / "a.nc", missing="skip")
    assert runs(archive, found, "train", 5) == [(0, 0, 20), (0, 22, 160)]
    kept = ~np.isnan(data.temp.values[:160])
    mean = data.temp.values[:160][kept].astype(float).mean()
    assert found.standardisation.mean[0] == pytest.approx(mean)
    text = summary(archive, found, 5)
    assert "mask: 2.1%" in text and "gaps: 2 states" in text and "lon, 8 points" in text


def test_constants_are_part_of_the_context(tmp_path):
    """Standardised, in row-major order after the mask, whatever the order in the file; points
    without a value have the mean. They outlive the prior's file."""
    data = waves(200)
    data.temp.values[:, 0, 0] = np.nan
    data.wind.values[:, 0, 0] = np.nan
    height = np.random.default_rng(0).uniform(0, 3000, (8, 6))
    height[3, 2] = np.nan
    data["height"] = (("lon", "lat"), height)
    archive = opened(data, tmp_path / "a.nc", constants=("height",), cycles=("day",))
    found = survey(archive)
    assert "height" not in archive.roles.variables + archive.roles.left_out
    assert "constants: height" in summary(archive, found, 5)
    layout = loads(dumps(found), registry()).layout
    known = layout.context(archive.times[0][:3])
    assert known.shape == (3, 6, 8, layout.context_channels) == (3, 6, 8, 5)
    exact = np.nan_to_num((height - np.nanmean(height)) / np.nanstd(height)).T
    np.testing.assert_allclose(known[..., 2], np.broadcast_to(exact, (3, 6, 8)), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("depth", "no such variable"),
        ("wind", "along lat and lon"),
        ("flat", "same everywhere"),
        ("empty", "no values"),
        ("endless", "infinite values"),
    ],
)
def test_constants_that_say_nothing(tmp_path, name, message):
    data = waves(20)
    for constant, value in (("flat", 7.0), ("empty", np.nan), ("endless", np.inf)):
        data[constant] = (("lat", "lon"), np.full((6, 8), value))
    with pytest.raises(StorageError, match=message):
        opened(data, tmp_path / "a.nc", constants=(name,))


def test_a_step_is_a_spacing_that_occurs(tmp_path):
    """Two reports a day, 6 and 18 hours apart: no state follows another after the step, again and
    again."""
    times = np.cumsum(np.tile([6, 18], 30)) * np.timedelta64(1, "h") + np.datetime64("2020-01-01")
    archive = opened(waves(59).assign_coords(time=times[:59]), tmp_path / "a.nc")
    assert archive.layout.step in (6 * 3600, 18 * 3600)
    found = survey(archive)
    assert all(b - a == 2 for _, a, b in runs(archive, found, "train", 2))
    with pytest.raises(ConfigError):
        runs(archive, found, "train", 3)


def test_labels_of_levels(tmp_path):
    levels = np.array([0.05, 0.1], np.float32)
    data = xr.concat([waves(20), waves(20, seed=1)], "depth")
    archive = opened(data.assign_coords(depth=levels), tmp_path / "a.nc", space=("lat", "lon"))
    assert [c.label for c in archive.layout.channels][:2] == ["temp[depth=0.05]", "temp[depth=0.1]"]
    np.testing.assert_array_equal(archive.read(0, 3, 5)[..., 1], data.temp[1, 3:5])
    with pytest.raises(StorageError, match="depth: got the label 0.05 more than once"):
        opened(data.assign_coords(depth=levels[[0, 0]]), tmp_path / "b.nc", space=("lat", "lon"))


def test_held_out_states_are_far_from_those_trained_on(tmp_path):
    archive = opened(waves(200), tmp_path / "a.nc")
    found = survey(archive)
    used = {p: runs(archive, found, p, 7) for p in ("train", "valid", "test")}
    assert used == {"train": [(0, 0, 160)], "valid": [(0, 167, 180)], "test": [(0, 187, 200)]}
    with pytest.raises(ConfigError, match="a stretch of as many states"):
        runs(archive, found, "valid", 15)


def test_segments_do_not_cross_breaks_in_time(tmp_path):
    data = waves(80)
    archive = opened(data.isel(time=[*range(30), *range(35, 80)]), tmp_path / "a.nc")
    assert runs(archive, survey(archive), "train", 5) == [(0, 0, 30), (0, 30, 60)]


def test_many_trajectories_are_split_whole(tmp_path):
    sets = xr.concat([waves(12, seed=i) for i in range(10)], "member")
    archive = opened(sets, tmp_path / "a.nc")
    assert parts_of(archive, "valid") == [(8, 0, 12)] and parts_of(archive, "test") == [(9, 0, 12)]


def test_series_are_measured_on_all_that_is_without_gaps(tmp_path, monkeypatch):
    data = waves(200)[["temp"]].isel(lat=0, lon=0, drop=True)
    data.temp[30:33] = np.nan
    archive = opened(data, tmp_path / "a.nc", test=0.0, missing="skip")
    found = survey(archive)
    both = series_stretches(archive, found, ("train", "valid"))
    assert [len(x) for x in both] == [30, 147, 19]
    np.testing.assert_array_equal(both[1][:, 0], data.temp[33:180])
    monkeypatch.setattr(_segments, "SERIES_NUMBERS", 40)  # two of ten pieces
    monkeypatch.setattr(_segments, "SERIES_PIECE", 20)
    some = series_stretches(archive, found, ("train",))
    assert [x[0, 0] for x in some] == [data.temp[0], data.temp[173]] and len(some[1]) == 7


def test_a_record_may_be_known_to_its_end(tmp_path):
    archive = opened(waves(200), tmp_path / "a.nc", test=0.0)
    found = survey(archive)
    assert runs(archive, found, "train", 7) == [(0, 0, 180)]
    assert runs(archive, found, "valid", 7) == [(0, 187, 200)]
    assert parts_of(archive, "test") == [] and "test" not in summary(archive, found, 7)
    sets = xr.concat([waves(12, seed=i) for i in range(10)], "member")
    archive = opened(sets, tmp_path / "b.nc", test=0.0)
    assert parts_of(archive, "valid") == [(9, 0, 12)] and parts_of(archive, "test") == []
    assert len(parts_of(archive, "train")) == 9
    with pytest.raises(ConfigError, match="test"):
        Files(test=0.95)


@pytest.mark.parametrize("calendar", ["noleap", "360_day"])
def test_other_calendars(tmp_path, calendar):
    data = waves(60)
    dates = xr.date_range("2000-02-20", periods=60, freq="D", calendar=calendar, use_cftime=True)
    archive = opened(data.assign_coords(time=dates), tmp_path / "a.nc")
    assert archive.layout.step == 86400 and len(runs(archive, survey(archive), "train", 40)) == 1
    start = archive.layout.number("2000-02-20", "--start")
    assert start == archive.times[0][0] and archive.layout.written(start).startswith("2000-02-20")


def test_files_that_change_are_noticed(tmp_path):
    archive = opened(waves(), tmp_path / "a.nc")
    first = surveyed(tmp_path / "survey.json", archive)
    assert surveyed(tmp_path / "survey.json", archive) == first
    (tmp_path / "a.nc").unlink()
    again = opened(waves(seed=1), tmp_path / "a.nc")
    with pytest.raises(StorageError, match="have changed since"):
        surveyed(tmp_path / "survey.json", again)


def test_states_that_no_memory_holds_are_foreseen(tmp_path):
    """Before coordinates that the file does not have are made up."""
    path = tmp_path / "huge.nc"
    with h5py.File(path, "w") as file:
        times = file.create_dataset("time", data=np.arange(2.0))
        times.make_scale("time")
        points = file.create_dataset("x", (10**15,), "f4", chunks=(10**6,))
        points.make_scale("This is a netCDF dimension but not a netCDF variable. 1000000000000000")
        values = file.create_dataset("t", (2, 10**15), "f4", chunks=(1, 10**6))
        for axis, scale in enumerate((times, points)):
            values.dims[axis].attach_scale(scale)
    with pytest.raises(ResourceError, match=r"memory: got .*huge.nc: a state of 1e\+15 numbers"):
        open_archive(Files((str(path),)))
