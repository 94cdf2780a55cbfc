"""NetCDF 3 has no checksums; its header says how long a file is and what its texts are."""

import numpy as np
import pytest
from own import waves
from scipy.io import netcdf_file

from sda_jax.core._errors import StorageError
from sda_jax.data._archive import open_archive
from sda_jax.data._files import Files
from sda_jax.data._netcdf3 import require_length
from sda_jax.data._opening import open_dataset


def written(path, version=2, records=True, variables=2, units=b"K"):
    with netcdf_file(path, "w", version=version) as file:
        file.createDimension("time", None if records else 5)
        file.createDimension("x", 3)
        times = file.createVariable("time", "f8", ("time",))
        times[:] = np.arange(5.0)
        for i in range(variables):
            made = file.createVariable(f"v{i}", "i2", ("time", "x"))
            made[:] = np.arange(15).reshape(5, 3) + i
            made.units = units
        file.title = units
    return path


FORMS = [(v, r, n) for v in (1, 2) for r in (True, False) for n in (1, 2)]


@pytest.mark.parametrize(("version", "records", "variables"), FORMS)
def test_a_shorter_file_is_damaged(tmp_path, version, records, variables):
    path = written(tmp_path / "a.nc", version, records, variables)
    whole = path.read_bytes()
    needed = require_length(path).size
    assert 0 <= len(whole) - needed < 4  # what fills up the last number to four bytes
    with open_dataset(path) as dataset:
        np.testing.assert_array_equal(dataset.v0, np.arange(15).reshape(5, 3))
    path.write_bytes(whole[:needed])
    require_length(path)
    for cut in (needed - 1, needed // 2, 50, 20, 5):
        path.write_bytes(whole[:cut])
        with pytest.raises(StorageError, match=r"a\.nc: got .*says.*It is damaged: make it again"):
            open_dataset(path)


def test_one_variable_along_records_is_not_filled_up(tmp_path):
    path = tmp_path / "a.nc"
    with netcdf_file(path, "w") as file:
        file.createDimension("time", None)
        made = file.createVariable("flag", "i1", ("time",))
        made[:] = np.arange(7, dtype=np.int8)
    header = require_length(path)
    assert header.size <= len(path.read_bytes())


def test_headers_that_are_none(tmp_path):
    path = tmp_path / "a.nc"
    whole = written(path).read_bytes()
    for place, number in [(8, 3), (12, 2**31), (16, 2**32 - 1), (4, 2**31)]:
        contents = bytearray(whole)
        contents[place : place + 4] = number.to_bytes(4, "big")
        path.write_bytes(contents)
        with pytest.raises(StorageError, match=r"a\.nc: got .*It is damaged"):
            open_dataset(path)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_texts_before_and_after_unicode(tmp_path, encoding):
    path = written(tmp_path / "a.nc", units="°C".encode(encoding))
    with open_dataset(path) as dataset:
        assert dataset.v0.units == dataset.title == "°C"


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_names_before_and_after_unicode(tmp_path, encoding):
    """The writer takes all names for Latin-1."""
    names = {n: n.encode(encoding).decode("latin-1") for n in ("température", "é")}
    data = waves(4).rename(temp=names["température"], lat=names["é"])
    data.to_netcdf(tmp_path / "a.nc", engine="scipy")
    archive = open_archive(Files((str(tmp_path / "a.nc"),)))
    assert [c.name for c in archive.layout.channels] == ["température", "wind"]
    assert [a.name for a in archive.layout.axes] == ["é", "lon"]
    np.testing.assert_array_equal(archive.read(0, 0, 4)[..., 0], waves(4).temp)
