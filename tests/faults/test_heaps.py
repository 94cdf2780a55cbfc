"""Damage that makes HDF5 read for ever is noticed before HDF5 reads."""

import h5py
import numpy as np
import pytest
from own import save, waves

from sda_jax.core._errors import StorageError
from sda_jax.data._opening import open_dataset
from sda_jax.experiment._describe import describe
from sda_jax.runtime._hdf5 import read_hdf5, write_hdf5
from sda_jax.runtime._heaps import SIGNATURE


def last_entry(contents, place):
    """Where the last entry of a heap begins, before the room that is left."""
    at, before = place + 16, None
    while contents[at : at + 2] != b"\0\0":
        before = at
        at += 16 + -(-int.from_bytes(contents[at + 8 : at + 16], "little") // 8) * 8
    return before


def ours(path):
    with write_hdf5(path, "posterior") as file:
        file["x"] = np.arange(3.0)


def foreign(path):
    save(waves(4).assign_attrs(title="a title", source="a source"), path)


READERS = {ours: lambda path: read_hdf5(path, "posterior").__enter__(), foreign: open_dataset}


@pytest.mark.parametrize("make", READERS)
def test_a_heap_in_which_hdf5_would_read_for_ever(tmp_path, make):
    """The last entry is longer by 8 bytes than it is: what seems to follow it has no length."""
    path = tmp_path / "a.nc"
    make(path)
    whole = path.read_bytes()
    contents, place = bytearray(whole), whole.find(SIGNATURE)
    assert place > 0
    at = last_entry(whole, place) + 8
    length = int.from_bytes(whole[at : at + 8], "little") + 8
    contents[at : at + 8] = length.to_bytes(8, "little")
    path.write_bytes(contents)
    for read in (READERS[make], describe):
        with pytest.raises(StorageError, match=rf"a.nc: got a global heap at byte {place} whose"):
            read(path)


@pytest.mark.parametrize("length", [0, 1, 2**64 - 1, 2**64 - 40, 2**63, 4096])
def test_lengths_of_entries(tmp_path, length):
    path = tmp_path / "a.h5"
    ours(path)
    contents = bytearray(path.read_bytes())
    at = last_entry(contents, contents.find(SIGNATURE)) + 8
    contents[at : at + 8] = length.to_bytes(8, "little")
    path.write_bytes(contents)
    with pytest.raises(StorageError, match=r"a.h5"):
        READERS[ours](path)


def test_values_that_look_like_a_heap_are_values(tmp_path):
    path = tmp_path / "a.h5"
    looks = np.frombuffer(SIGNATURE + (4096).to_bytes(8, "little") + bytes(8176), np.uint8)
    with write_hdf5(path, "posterior") as file:
        file["contiguous"] = looks
        file.create_dataset("chunked", data=looks, chunks=(2048,))
    with read_hdf5(path, "posterior") as file:
        np.testing.assert_array_equal(file["contiguous"][:], looks)
        np.testing.assert_array_equal(file["chunked"][:], looks)


def test_large_heaps_and_what_is_left_of_old_ones(tmp_path):
    """Texts longer than a heap, and attributes that were written again and again."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["text"] = "x" * 10**5
        for i in range(200):
            file.attrs["again"] = "y" * (7 * i % 1000)
        for i in range(100):
            file[f"many/{i}"] = ["z" * i, "é" * i]
    with open_dataset(path, "many") as dataset:
        assert dataset["99"].values.tolist() == ["z" * 99, "é" * 99]
