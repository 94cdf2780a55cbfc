"""Files that cannot be read: what is said is what is wrong, and damage only where it is proved."""

import json

import h5py
import numpy as np
import pytest
from own import save, waves

from sda_jax.core._errors import StorageError
from sda_jax.data._archive import open_archive
from sda_jax.data._files import Files
from sda_jax.data._unreadable import reading
from sda_jax.observations._gridded import Gridded
from sda_jax.observations._reading import read
from sda_jax.runtime._hdf5 import read_hdf5, write_hdf5

DAMAGED = "It is damaged: make it again"


def states(path, **said):
    archive = open_archive(Files((str(path),), **said))
    return archive.read(0, 0, len(archive.times[0]))


def expected(dataset):
    return np.stack([dataset.temp.values, dataset.wind.values], axis=-1)


def with_filter(path, code, name):
    """A file with one variable compressed by a filter that HDF5 does not have here."""
    data = waves(4)
    save(data, path)
    with h5py.File(path, "r+") as file:
        scales = [next(iter(dim.values()), None) for dim in file[name].dims]
        shape = file[name].shape
        del file[name]
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_chunk(shape)
        made.set_filter(code, h5py.h5z.FLAG_OPTIONAL, (3,))
        space = h5py.h5s.create_simple(shape)
        kept = h5py.h5d.create(file.id, name.encode(), h5py.h5t.IEEE_F32LE, space, made)
        kept.write_direct_chunk((0,) * len(shape), b"compressed bytes", 0)
        variable = h5py.Dataset(kept)
        if len(shape) == 1:
            variable.make_scale(name)
        else:
            for dim, scale in zip(variable.dims, scales, strict=True):
                dim.attach_scale(scale)


@pytest.mark.parametrize(
    ("code", "called"), [(32015, "Zstandard"), (32001, "Blosc"), (32026, "Blosc2"), (32999, "")]
)
def test_a_missing_filter_is_named(tmp_path, code, called):
    path = tmp_path / "a.nc"
    with_filter(path, code, "temp")
    with pytest.raises(StorageError) as caught:
        states(path)
    said = str(caught.value)
    assert f"temp by {called}" in said and f"HDF5 filter {code}" in said
    assert "damaged" not in said and "zlib" in said
    np.testing.assert_array_equal(states(path, variables=("wind",))[..., 0], waves(4).wind)
    layout = open_archive(Files((save(waves(4), tmp_path / "b.nc"),))).layout
    with pytest.raises(StorageError, match=f"temp by {called}.*HDF5 filter {code}"):
        read(Gridded(str(path), 1.0), layout, layout.number("2020-01-01", ""), 4)


def test_a_missing_filter_of_a_coordinate_is_named(tmp_path):
    with_filter(tmp_path / "a.nc", 32015, "lat")
    with pytest.raises(StorageError, match="lat by Zstandard"):
        states(tmp_path / "a.nc")


def test_forms_that_are_not_read_are_named(tmp_path):
    path = tmp_path / "a.nc"
    waves(4).to_netcdf(path, engine="scipy")
    np.testing.assert_array_equal(states(path), expected(waves(4)))
    with pytest.raises(StorageError, match="a group run; expected none: NetCDF 3 has no groups"):
        states(path, group="run")
    whole = bytearray(path.read_bytes())
    whole[3] = 5
    path.write_bytes(whole)
    with pytest.raises(StorageError, match="NetCDF in the format CDF-5.*nccopy -k nc4"):
        states(path)
    with h5py.File(tmp_path / "u.h5", "w", userblock_size=512) as file:
        file["x"] = np.arange(6.0)
    assert states(tmp_path / "u.h5", time="phony_dim_0").ravel().tolist() == list(range(6))


@pytest.mark.parametrize("form", [2, 3])
@pytest.mark.parametrize("consolidated", [False, True])
@pytest.mark.parametrize("group", [None, "run/a"])
def test_zarr_with_and_without_a_copy_of_its_metadata(tmp_path, form, consolidated, group):
    path = tmp_path / "a.zarr"
    waves(4).to_zarr(path, zarr_format=form, consolidated=consolidated, group=group)
    (path / "README").write_text("notes")
    (path / "notes").mkdir()
    if form == 3 and not consolidated:  # as other programs write that there is none
        root = path / (group or "") / "zarr.json"
        root.write_text(json.dumps({**json.loads(root.read_text()), "consolidated_metadata": None}))
    np.testing.assert_array_equal(states(path, group=group), expected(waves(4)))


BROKEN = [
    (3, True, "zarr.json", b"\xff\xfe\x00", DAMAGED),
    (3, True, "zarr.json", b'{"zarr_format": 3,', DAMAGED),
    (3, False, "zarr.json", b"", DAMAGED),
    (3, False, "zarr.json", b"[]", "Check the file"),
    (3, False, "zarr.json", b"null", "Check the file"),
    (3, False, "temp/zarr.json", b"\xff\xfe", DAMAGED),
    (3, False, "temp/zarr.json", b"{", DAMAGED),
    (3, False, "temp/zarr.json", b'{"zarr_format": 3, "node_type": "array"}', DAMAGED),
    (3, False, "temp/c/0/0/0", b"xx", DAMAGED),
    (2, True, ".zmetadata", b"{", DAMAGED),
    (2, True, ".zmetadata", b"\xff", DAMAGED),
    (2, False, ".zgroup", b"\xff", DAMAGED),
    (2, False, "temp/.zarray", b"{}", DAMAGED),
    (2, False, "temp/0.0.0", b"xx", DAMAGED),
]


@pytest.mark.parametrize(("form", "consolidated", "name", "contents", "said"), BROKEN)
def test_broken_stores(tmp_path, form, consolidated, name, contents, said):
    """No variable is left out in silence, either."""
    path = tmp_path / "a.zarr"
    waves(4).to_zarr(path, zarr_format=form, consolidated=consolidated)
    (path / name).write_bytes(contents)
    with pytest.raises(StorageError, match=rf"a\.zarr.*{said}"):
        states(path)


@pytest.mark.parametrize("cut", [100, 2000, -100, -4000])
@pytest.mark.parametrize("engine", ["scipy", "h5netcdf"])
def test_cut_files(tmp_path, engine, cut):
    waves(40).to_netcdf(tmp_path / "a.nc", engine=engine)
    whole = (tmp_path / "a.nc").read_bytes()
    (tmp_path / "a.nc").write_bytes(whole[:cut])
    with pytest.raises(StorageError, match=rf"a\.nc.*{DAMAGED}"):
        states(tmp_path / "a.nc")


@pytest.mark.parametrize("encoding", [{"zlib": True}, {"fletcher32": True}])
def test_a_flipped_bit_under_a_checksum(tmp_path, encoding):
    path = tmp_path / "a.nc"
    chunks = {"temp": {"chunksizes": (4, 6, 8), **encoding}}
    waves(4).to_netcdf(path, engine="h5netcdf", encoding=chunks)
    with h5py.File(path) as file:
        place = file["temp"].id.get_chunk_info(0).byte_offset
    whole = bytearray(path.read_bytes())
    whole[place + 50] ^= 64
    path.write_bytes(whole)
    with pytest.raises(StorageError, match=rf"a\.nc.*{DAMAGED}"):
        states(path)


@pytest.mark.parametrize(
    "error", [ValueError("other"), KeyError("x"), RuntimeError("x"), MemoryError(), TypeError("x")]
)
def test_other_errors_while_a_file_is_open_are_no_damage(tmp_path, error):
    with pytest.raises(StorageError) as caught, reading(tmp_path / "a.nc"):
        raise error
    assert "damaged" not in str(caught.value) and type(error).__name__ in str(caught.value)


@pytest.mark.parametrize("error", [ValueError("other"), KeyError("x"), TypeError("x")])
def test_other_errors_while_a_file_of_ours_is_open_are_no_damage(tmp_path, error):
    with write_hdf5(tmp_path / "a.h5", "posterior") as file:
        file["x"] = np.arange(3)
    with pytest.raises(StorageError) as caught, read_hdf5(tmp_path / "a.h5", "posterior"):
        raise error
    assert "damaged" not in str(caught.value)


def test_errors_of_the_system_stay_what_they_are(tmp_path):
    """A full disk while a file is read is none of that file's."""
    with write_hdf5(tmp_path / "a.h5", "posterior") as file:
        file["x"] = np.arange(3)
    full = OSError(28, "No space left on device")
    with pytest.raises(OSError) as caught, read_hdf5(tmp_path / "a.h5", "posterior"):
        raise full
    assert caught.value is full
