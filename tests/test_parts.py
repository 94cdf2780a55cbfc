"""Parts are put together whole, every row once, or not at all."""

import os
import shutil

import h5py
import jax.numpy as jnp
import numpy as np
import pytest

from sda_jax.core._errors import StorageError
from sda_jax.runtime._claims import abandon, claim, clear, leave_bare, release
from sda_jax.runtime._files import atomic, write_text
from sda_jax.runtime._parts import Parts

ROWS = np.arange(10 * 4 * 2, dtype=np.float32).reshape(10, 4, 2)
BLOCKS = [(0, 4), (4, 8), (8, 10)]


@pytest.fixture
def parts(tmp_path):
    parts = Parts(tmp_path / "x.h5", "what", ROWS.shape)
    for first, last in BLOCKS:  # the last block is filled up
        filled = np.concatenate([ROWS[first:last], np.zeros((4 + first - last, 4, 2))])
        parts.write(first, last, jnp.asarray(filled, jnp.float32), {"first": first})
    yield parts
    if parts.folder.exists():
        parts.remove()


def together(parts, first=0, last=10):
    with h5py.File("x", "w", driver="core", backing_store=False) as file:
        data = file.create_dataset("x", (last - first, 4, 2), "float32")
        parts.copy(BLOCKS, first, data)
        return data[:]


def test_rows_come_back_from_anywhere(parts):
    np.testing.assert_array_equal(together(parts), ROWS)
    np.testing.assert_array_equal(together(parts, 3, 9), ROWS[3:9])
    assert all(parts.has(*block) for block in BLOCKS) and not parts.has(0, 5)
    assert [parts.noted(*block)["first"] for block in BLOCKS] == [0, 4, 8]


def test_what_is_left_is_divided_anew(parts):
    assert parts.blocks(3) == BLOCKS
    shutil.rmtree(parts.folder / "00000004-00000008")
    assert parts.blocks(3) == [(0, 4), (4, 7), (7, 8), (8, 10)]
    shutil.rmtree(parts.folder / "00000000-00000004")
    assert parts.blocks(20) == [(0, 8), (8, 10)]
    shutil.rmtree(parts.folder / "00000008-00000010")
    assert parts.blocks(4) == BLOCKS


def flip(path):
    contents = bytearray(path.read_bytes())
    contents[-1] ^= 1
    path.write_bytes(contents)


def swap(path):
    other = next((path.parent.parent / "00000000-00000004").glob("*.npy"))
    contents = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(contents)


def exchange(path):
    block, other = path.parent, path.parent.parent / "00000000-00000004"
    block.rename(block.with_name("x"))
    other.rename(block)
    block.with_name("x").rename(other)


DAMAGES = {
    "removed": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "flipped": flip,
    "its rows renamed": lambda path: path.rename(path.with_name("00000001" + path.name[8:])),
    "twice": lambda path: shutil.copy(path, path.with_name("00000001" + path.name[8:])),
    "a stranger": lambda path: path.with_name("mine.npy").touch(),
    "contents of another block": swap,
    "another block": exchange,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_lost_and_changed_rows_are_noticed(parts, damage):
    block = parts.folder / "00000004-00000008"
    damage(next(block.glob("*.npy")))
    with pytest.raises(StorageError, match="every row once. Remove the folder") as error:
        together(parts)
    assert str(parts.folder) in str(error.value)
    with pytest.raises(StorageError, match=f"Remove the folder {block} and run again"):
        parts.has(4, 8)
    shutil.rmtree(block)
    assert not parts.has(4, 8)
    parts.write(4, 8, jnp.asarray(ROWS[4:8]), {"first": 4})
    if damage not in (swap, exchange):
        np.testing.assert_array_equal(together(parts), ROWS)


@pytest.mark.parametrize("name", ["removed", "empty", "cut", "flipped"])
def test_lost_and_changed_notes_are_noticed(parts, name):
    block = parts.folder / "00000004-00000008"
    DAMAGES[name](next(block.glob("note-*")))
    for ask in (parts.has, parts.noted):
        with pytest.raises(StorageError, match=f"Remove the folder {block} and run again"):
            ask(4, 8)


def test_a_block_that_two_processes_share_has_all_columns(tmp_path, parts):
    """Each keeps what it has: here the columns of one of them are lost."""
    whole = next((parts.folder / "00000004-00000008").glob("*.npy"))
    narrow = Parts(tmp_path / "y.h5", "what", (10, 5, 2))
    target = narrow.folder / "00000004-00000008"
    target.mkdir()
    shutil.copy(whole, target)
    with pytest.raises(StorageError, match="row 4 missing"):
        narrow.has(4, 8)
    narrow.remove()


def test_a_linked_folder_is_emptied_and_the_link_removed(tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (tmp_path / "x.h5.parts").symlink_to(scratch)
    parts = Parts(tmp_path / "x.h5", "what", ROWS.shape)
    parts.write(0, 4, jnp.asarray(ROWS[:4]))
    assert any(scratch.iterdir())
    parts.remove()
    assert [p.name for p in tmp_path.iterdir()] == ["scratch"] and not any(scratch.iterdir())


def test_a_folder_with_a_users_files_is_refused(tmp_path):
    (tmp_path / "x.h5.parts").mkdir()
    (tmp_path / "x.h5.parts" / "thesis.txt").write_text("mine")
    with pytest.raises(StorageError, match="a folder with other files"):
        Parts(tmp_path / "x.h5", "what", ROWS.shape)
    clear(tmp_path / "x.h5.parts")
    assert (tmp_path / "x.h5.parts" / "thesis.txt").read_text() == "mine"


def test_what_a_killed_removal_left_is_removed(tmp_path):
    left = tmp_path / "run.4711.partial"
    (left / "deep").mkdir(parents=True)
    (left / "deep" / "file").write_text("x")
    link = tmp_path / "run.4712.partial"
    link.symlink_to(tmp_path / "run.4711.partial" / "deep")
    mine = tmp_path / "run.mine.partial"
    mine.mkdir()
    (tmp_path / f"run.{os.getpid()}.partial" / "deep").mkdir(parents=True)  # in a container
    claim(tmp_path / "run", "what")
    abandon(tmp_path / "run")
    assert [p.name for p in tmp_path.iterdir()] == ["run.mine.partial"]
    claim(tmp_path / "run", "what")
    clear(tmp_path / "run")
    assert [p.name for p in tmp_path.iterdir()] == ["run.mine.partial"]


def test_temporary_files_of_the_killed_go_and_those_of_the_living_stay(tmp_path):
    (tmp_path / "a.txt.0-4711.partial").write_text("torn")
    (tmp_path / "a.txt.mine.partial").write_text("mine")
    with atomic(tmp_path / "a.txt") as living:
        living.write_text("under way")
        assert not (tmp_path / "a.txt.0-4711.partial").exists()
        living.rename(other := tmp_path / "a.txt.1-4712.partial")  # as of another process
        write_text(tmp_path / "a.txt", "whole")
        assert other.read_text() == "under way"
        other.rename(living)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "a.txt.mine.partial"]
    assert (tmp_path / "a.txt").read_text() == "under way"


def test_a_folder_in_which_nothing_was_made_is_free(tmp_path):
    folder = tmp_path / "run"
    claim(folder, "seed 1")
    (folder / "checkpoints").mkdir()
    (folder / "metrics.jsonl").touch()
    claim(folder, "seed 2")
    assert (folder / "config.json").read_text() == "seed 2"
    (folder / "survey.json").write_text("slow to make")
    with pytest.raises(StorageError, match="seed 2|another run"):
        claim(folder, "seed 3")
    claim(folder, "seed 3", apart=("survey.json",))
    assert not (folder / "survey.json").exists()
    leave_bare()
    assert not (folder / "config.json").exists() and not (folder / ".lock").exists()
    claim(folder, "seed 4")
    (folder / "result").write_text("x")
    leave_bare()
    assert (folder / "config.json").read_text() == "seed 4"
    release(folder)
    claim(folder, "seed 4")
    abandon(folder)
    assert not folder.exists()
