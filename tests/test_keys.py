"""No two purposes share random numbers."""

import zlib

import jax
import numpy as np
import pytest

import sda_jax as sda
from sda_jax.core._errors import ConfigError
from sda_jax.core._keys import PURPOSES, stream
from sda_jax.prior._train_state import streams

MEMBERS, SPLITS = 64, (2, 4, 16, 24)


def words(keys):
    return [tuple(row) for row in np.asarray(jax.random.key_data(keys)).reshape(-1, 2).tolist()]


def derived(key):
    """A key's first descendants: those of members or steps, and those of splits, of which the
    members' are the first (`split(k)[i] == fold_in(k, i)`)."""
    folded = jax.vmap(lambda i: jax.random.fold_in(key, i))(np.arange(MEMBERS))
    split = [words(jax.random.split(key, n)) for n in SPLITS]
    return {*words(key), *words(folded), *(w for some in split for w in some)}


def roots(seed):
    """Keys that the pipeline uses with one seed: of each purpose, of trainings whose own seeds
    differ, of cases."""
    of_training = ("initial weights", "training source", "training steps", "training segments")
    plain = [p for p in PURPOSES if p not in (*of_training, "cases")]
    found = {purpose: stream(seed, purpose) for purpose in plain}
    for own in (0, 1):
        keys = streams(seed, sda.Training(seed=own))
        segments = jax.random.fold_in(stream(seed, "training segments"), own)
        found |= {(own, i): key for i, key in enumerate((*keys, segments))}
    for name in ("lo", "hi"):
        case = jax.random.fold_in(stream(seed, "cases"), zlib.crc32(name.encode()))
        for index in (0, 1):
            test = jax.random.split(jax.random.fold_in(case, index), 4)
            found |= {(name, index, i): key for i, key in enumerate(test)}
    return found


def test_no_two_purposes_or_what_is_derived_of_them_are_equal():
    known = {}
    for seed in (0, 1):
        users = {"the user's": jax.random.key(seed)}  # such as assimilate is called with
        for name, key in (users | roots(seed)).items():
            for word in derived(key):
                assert word not in known, (known[word], (seed, name))
                known[word] = (seed, name)


def test_held_out_noise_is_not_a_members():
    """The keys that members of an assimilation are folded from, and those that noise is split
    from."""
    members, noise = (derived(stream(0, name)) for name in ("assimilation", "held-out noise"))
    assert not members & noise


def test_purposes_are_known_by_name():
    with pytest.raises(ConfigError, match="purpose: got 'luck'.*'stored set'"):
        stream(0, "luck")
