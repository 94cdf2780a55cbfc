"""Segments are what the files hold, and the same again."""

import jax
import numpy as np
import pytest
from own import save, waves

from sda_jax.core._errors import ResourceError
from sda_jax.data._archive import open_archive
from sda_jax.data._feed import Feed
from sda_jax.data._files import Files
from sda_jax.data._sources import Source
from sda_jax.data._survey import survey
from sda_jax.diffusion._denoisers import NetworkDenoiser
from sda_jax.diffusion._parameterisations import Preconditioned
from sda_jax.diffusion._schedules import Cosine
from sda_jax.networks import TemporalConv
from sda_jax.prior._loop import train
from sda_jax.prior._training import Training


@pytest.fixture
def known(tmp_path):
    data = waves(300)
    data.temp.values[:, 0, 0] = np.nan
    archive = open_archive(Files((save(data, tmp_path / "a.nc"),), cycles=("day",)))
    return archive, survey(archive)


@pytest.mark.parametrize("cached", [True, False])
def test_segments_are_pieces_of_the_part_with_its_context(known, monkeypatch, cached):
    monkeypatch.setattr("sda_jax.data._feed.CACHED", 2**29 if cached else 0)
    archive, found = known
    for part, first, last in (("train", 0, 240), ("valid", 245, 270)):
        feed = Feed(archive, found, jax.random.key(0), batch=6, length=5, part=part)
        segments = feed.segments(0, 20)
        assert segments.shape == (20, 6, 5, 6, 8, 2 + 4)
        x = archive.read(0, first, last)
        x = np.where(np.isnan(x), np.float32(found.standardisation.mean), x)
        known_there = found.layout.context(archive.times[0][first:last])
        whole = np.concatenate([x, known_there], axis=-1)
        starts = {piece[:, 2, 3, 0].tobytes(): i for i, piece in enumerate(
            whole[i : i + 5] for i in range(len(whole) - 4)
        )}  # fmt: skip
        drawn = [starts[s[:, 2, 3, 0].tobytes()] for s in segments.reshape(-1, 5, 6, 8, 6)]
        for s, i in zip(segments.reshape(-1, 5, 6, 8, 6), drawn, strict=True):
            np.testing.assert_array_equal(s, whole[i : i + 5])
        # every start equally likely, but for the ends of stretches
        assert abs(np.mean(drawn) / (len(whole) - 5) - 0.5) < 0.2


def test_a_small_archive_is_read_once(known, monkeypatch):
    """And holds the same."""
    archive, found = known
    states = archive.read(0, 3, 250)
    segments = Feed(archive, found, jax.random.key(0), 4, 5).segments(0, 4)
    archive.keep(4 * 300 * 6 * 8 * 2 - 1)
    assert archive._kept is None
    archive.keep(4 * 300 * 6 * 8 * 2)
    monkeypatch.setattr(archive.__class__, "_read", None)
    np.testing.assert_array_equal(archive.read(0, 3, 250), states)
    assert survey(archive) == found
    again = Feed(archive, found, jax.random.key(0), 4, 5).segments(0, 4)
    np.testing.assert_array_equal(again, segments)


def test_blocks_depend_on_key_and_first_step_alone(known):
    archive, found = known
    one = Feed(archive, found, jax.random.key(0), batch=4, length=5)
    first, second = one.at(0, 3, 3), one.at(3, 3, 0)
    again = Feed(archive, found, jax.random.key(0), batch=4, length=5).at(3, 3, 0)
    np.testing.assert_array_equal(second.segments, again.segments)
    assert (np.asarray(first.segments) != np.asarray(second.segments)).any()
    other = Feed(archive, found, jax.random.key(1), batch=4, length=5).at(3, 3, 0)
    assert (np.asarray(second.segments) != np.asarray(other.segments)).any()
    state, x = second.draw(jax.random.key(0), np.int32(4), 4, 5)
    assert state == 5
    np.testing.assert_array_equal(x, second.segments[1])


def test_blocks_that_do_not_fit_are_refused(known, monkeypatch):
    monkeypatch.setattr("sda_jax.data._feed.free_bytes", lambda: 2**20)
    archive, found = known
    with pytest.raises(ResourceError, match="Lower training.block"):
        Feed(archive, found, jax.random.key(0), batch=64, length=5).at(0, 100, 0)


def test_an_interrupted_training_from_files_goes_on_bit_for_bit(tmp_path):
    series = waves(400).isel(lat=2, lon=3, drop=True)
    archive = open_archive(Files((save(series, tmp_path / "a.nc"),)))
    found = survey(archive)
    training = Training(steps=6, batch=4, segment=8, block=2, checkpoint_every=2)
    start = NetworkDenoiser(TemporalConv(8, (1, 2)), None, Cosine(), Preconditioned())
    held = Feed(archive, found, jax.random.key(1), 4, 8, "valid").segments(0, 2)

    class Interrupted(Feed):
        def at(self, first, steps, then):
            if first == 4:
                raise KeyboardInterrupt
            return super().at(first, steps, then)

    def trained(folder, kind=Feed):
        feed = kind(archive, found, jax.random.key(0), 4, 8)
        assert isinstance(feed, Source)
        return train(start, feed, held, found.standardisation, training, tmp_path / folder)

    whole = trained("whole")
    with pytest.raises(KeyboardInterrupt):
        trained("cut", Interrupted)
    again = trained("cut")
    jax.tree.map(np.testing.assert_array_equal, again.variables, whole.variables)
