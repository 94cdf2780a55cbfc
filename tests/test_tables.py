"""Tables as other programs write them: what they say is used, what they cannot mean is named."""

import bz2
import dataclasses
import datetime
import decimal
import gzip
import io
import lzma
import zipfile

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from own import save, waves

from sda_jax.core._errors import ObservationError, StorageError
from sda_jax.data._archive import open_archive
from sda_jax.data._files import Files
from sda_jax.data._layout import Axis, Channel, Layout
from sda_jax.observations._gridded import Gridded
from sda_jax.observations._reading import read
from sda_jax.observations._tables import Points

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

LAYOUT = Layout(
    (Channel("temp", "degC"), Channel("wind", "m s-1")),
    (Axis("lat", (0.0, 1.0)), Axis("lon", (0.0, 1.0, 2.0))),
    step=86400.0,
    calendar="standard",
)
COLUMNS = {
    "time": ["2020-01-01", "2020-01-02"], "lat": [0.0, 1.0], "lon": [1.0, 2.0],
    "variable": ["temp", "wind"], "value": [3.0, 4.0], "std": [1.0, 2.0],
}  # fmt: skip
HEAD = ",".join(COLUMNS)
ROW = "2020-01-01,0,1,temp,3,1"


def taken(path, **said):
    """The values used, and the state, place and channel where each is."""
    used = read(Points(str(path), **said), LAYOUT, LAYOUT.number("2020-01-01", ""), 3)
    first = used.observation.operator.indices[:, 0]
    places = np.stack(np.unravel_index(first, (3, 2, 3, 2)), axis=1)
    return np.asarray(used.observation.y).tolist(), places.tolist()


def test_a_dimension_of_one_place_needs_no_column(tmp_path):
    """A missing column is said before rows that are alike without it."""
    head, row = "time,lat,lon,value,std\n", "2020-01-01,0,1,3,1\n"
    (tmp_path / "t.csv").write_text(head + 2 * row)

    def read_at(*levels):
        channels = tuple(Channel("temp", "degC", at=(("lev", lev),)) for lev in levels)
        layout = dataclasses.replace(LAYOUT, channels=channels)
        return read(Points(str(tmp_path / "t.csv")), layout, layout.number("2020-01-01", ""), 3)

    with pytest.raises(StorageError, match="expected one called lev"):
        read_at(0.0, 5.0)
    with pytest.raises(ObservationError, match="a row that is there before"):
        read_at(0.0)
    (tmp_path / "t.csv").write_text(head + row)
    assert read_at(0.0).observation.y.tolist() == [3.0]


PLAIN = ([3.0, 4.0], [[0, 0, 1, 0], [1, 1, 2, 1]])


def arrow(path, **columns):
    pq.write_table(pa.table({**COLUMNS, **columns}), path)
    return path


SAME = {
    "a list beside": {"tags": [[1, 2], [3]]},
    "a list beside, empty first": {"tags": [None, [3]]},
    "a structure beside": {"meta": [{"a": 1}, {"a": 2}]},
    "bytes": {k: [str(v).encode() for v in column] for k, column in COLUMNS.items()},
    "categories": {"variable": pa.array(["temp", "wind"]).dictionary_encode()},
    "decimals": {"value": [decimal.Decimal("3.0"), decimal.Decimal("4.0")]},
    "days": {"time": [datetime.date(2020, 1, 1), datetime.date(2020, 1, 2)]},
    "blanks around": {"variable": [" temp", b"wind  ".decode()]},
}


@pytest.mark.parametrize("name", SAME)
def test_parquet_of_any_type_says_the_same(tmp_path, name):
    assert taken(arrow(tmp_path / "s.parquet", **SAME[name])) == PLAIN


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"value": [[1.0], [2.0]]}, "line 0, value: got '.1.*expected a number"),
        ({"value": [{"v": 1.0}, {"v": 2.0}]}, "line 0, value: got .*expected a number"),
        ({"value": [b"\xff\xfe", b"1"]}, "line 0, value: got .*expected a number"),
        ({"value": [True, False]}, "value: got truth values; expected numbers"),
        ({"lat": [True, False]}, "lat: got truth values; expected numbers"),
        ({"time": [["2020-01-01"], ["2020-01-02"]]}, "column time, row 1: .*expected a date"),
        ({"variable": [["temp"], ["wind"]]}, "line 0: got variable .*one of the prior's"),
        ({k: [v[0], v[0]] for k, v in COLUMNS.items()} | {"t": [[1], [1]]}, "there before"),
    ],
)
def test_nested_columns_are_no_values(tmp_path, columns, message):
    with pytest.raises(ObservationError, match=message):
        taken(arrow(tmp_path / "s.parquet", **columns))


@pytest.mark.parametrize("nothing", [[None, "4.0"], [None, b"4.0"], [None, 4], [b"", b"4"]])
def test_what_is_null_was_not_seen(tmp_path, nothing):
    assert taken(arrow(tmp_path / "s.parquet", value=nothing)) == ([4.0], PLAIN[1][1:])


@pytest.mark.parametrize("index", [["time"], ["lat", "lon"], "texts"])
def test_an_index_of_pandas(tmp_path, index):
    table = pd.DataFrame(COLUMNS)
    table = table.set_axis(["a", "b"]) if index == "texts" else table.set_index(index)
    table.to_parquet(tmp_path / "s.parquet")
    assert taken(tmp_path / "s.parquet") == PLAIN
    table.assign(value=["3", "x"]).to_parquet(tmp_path / "s.parquet")
    with pytest.raises(ObservationError, match="line 1, value: got 'x'"):
        taken(tmp_path / "s.parquet")


@pytest.mark.parametrize("name", ["value", "time", "lat", "std", "units", "value "])
def test_a_column_that_is_there_twice(tmp_path, name):
    """Also one that an index of pandas repeats; of columns that are not looked at, nobody cares."""
    head = HEAD + ",units" * (name == "units")
    (tmp_path / "s.csv").write_text(f"{head},{name}\n{ROW}{',degC' * (name == 'units')},9\n")
    with pytest.raises(StorageError, match=f"several columns called {name.strip()};"):
        taken(tmp_path / "s.csv")
    (tmp_path / "s.csv").write_text(f"{HEAD},note,note\n{ROW},a,b\n")
    assert taken(tmp_path / "s.csv") == ([3.0], PLAIN[1][:1])
    if name in COLUMNS:
        pd.DataFrame(COLUMNS).set_index(name, drop=False).to_parquet(tmp_path / "s.parquet")
        with pytest.raises(StorageError, match=f"several columns called {name};"):
            taken(tmp_path / "s.parquet")


@pytest.mark.parametrize(
    "text",
    [f"{HEAD}\n{ROW}\n", f"\ufeff{HEAD}\r\n{ROW}\r\n", HEAD.replace(",", " , ") + f" \n{ROW}\n",
     HEAD.replace("time", '"time"') + f"\n\n{ROW}\n"],
)  # fmt: skip
def test_headers_as_spreadsheets_write_them(tmp_path, text):
    (tmp_path / "s.csv").write_bytes(text.encode())
    assert taken(tmp_path / "s.csv") == ([3.0], PLAIN[1][:1])


def zipped(text):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("s.csv", text)
    return buffer.getvalue()


COMPRESS = {"gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress, "zip": zipped}


@pytest.mark.parametrize("kind", COMPRESS)
def test_compressed_tables_that_were_cut_or_changed(tmp_path, kind):
    path = tmp_path / f"s.csv.{kind}"
    rows = "".join(f"2020-01-02,0,1,temp,{i},1\n" for i in range(2000))
    whole = COMPRESS[kind](f"{HEAD}\n{rows}".encode())
    path.write_bytes(whole)
    assert len(taken(path)[0]) == 2000
    for cut in (len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:cut])
        with pytest.raises(StorageError, match=rf"s\.csv\.{kind}: got .*(damaged|Check the file)"):
            taken(path)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 4
    path.write_bytes(flipped)
    with pytest.raises(StorageError, match=rf"s\.csv\.{kind}: got "):
        taken(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(StorageError, match=rf"s\.csv\.{kind}: got .*Check the file"):
        taken(path)


@pytest.mark.parametrize("names", [["KJFK  ", "KLGA  "], [b"KJFK  ", b"KLGA"], [" KJFK", "KLGA"]])
@pytest.mark.parametrize("form", ["netcdf4", "netcdf3", "zarr"])
def test_names_of_stations_match_without_their_blanks(tmp_path, names, form):
    dtype = "S6" if isinstance(names[0], bytes) else "U6"
    sets = [waves(12, seed=i)[["temp"]].isel(lat=0, lon=0, drop=True) for i in range(2)]
    data = xr.concat(sets, "id").assign_coords(id=np.array(names, dtype))
    path = tmp_path / "a"
    if form == "zarr":
        data.to_zarr(path, zarr_format=2)
    else:
        data.to_netcdf(path, engine="scipy" if form == "netcdf3" else "h5netcdf")
    layout = open_archive(Files((str(path),))).layout
    assert [c.label for c in layout.channels] == ["temp[id=KJFK]", "temp[id=KLGA]"]
    start = layout.number("2020-01-01", "")
    rows = {"time": ["2020-01-02"], "value": [1.0], "std": [1.0]}
    for name in ("KLGA", "KLGA ", b"KLGA  "):
        pd.DataFrame({**rows, "id": [name]}).to_parquet(tmp_path / "s.parquet")
        used = read(Points(str(tmp_path / "s.parquet")), layout, start, 12)
        assert used.observation.operator.indices[0, 0] == 2 * 4 + 1
    grid = save(data.isel(time=[2]), tmp_path / "g.nc")
    used = read(Gridded(grid, 1.0), layout, start, 12)
    np.testing.assert_array_equal(used.observation.y, data.temp.values[:, 2])


def test_labels_in_single_precision_are_those_in_double(tmp_path):
    sets = [waves(12, seed=i)[["temp"]] for i in range(2)]
    data = xr.concat(sets, "depth").assign_coords(depth=np.array([0.1, 0.3]))
    layout = open_archive(Files((save(data, tmp_path / "a.nc"),))).layout
    other = data.isel(time=[2]).assign_coords(depth=np.float32([0.1, 0.3]))
    used = read(
        Gridded(save(other, tmp_path / "g.nc"), 1.0), layout, layout.number("2020-01-01", ""), 12
    )
    assert "96 of 96 values used" in used.report
    single = data.isel(time=[2], depth=0).assign_coords(depth=0.7)
    with pytest.raises(StorageError, match=r"temp: got depth 0.7; expected temp\[depth=0.1\]"):
        read(
            Gridded(save(single, tmp_path / "h.nc"), 1.0),
            layout,
            layout.number("2020-01-01", ""),
            12,
        )
