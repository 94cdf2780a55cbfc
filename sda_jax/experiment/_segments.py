"""The segments of files that the Gaussian distribution of their states is measured on."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sda_jax.core._keys import stream
from sda_jax.data._archive import Archive
from sda_jax.data._feed import Feed
from sda_jax.data._survey import Survey, runs, stretches
from sda_jax.diffusion._series_law import odd_states
from sda_jax.experiment._config import Experiment

SERIES_SEGMENTS = 2048  # that the distribution of series is measured on
SERIES_NUMBERS = 2**26  # in them at most
FIELD_LAGS = 33  # states that the distribution of fields is measured over
FIELD_NUMBERS = 2**25  # that it is measured on at most


def series_segments(
    archive: Archive, found: Survey, parts: Sequence[str], experiment: Experiment
) -> Float[np.ndarray, "n length *state"]:
    """Segments as long as the lags of series reach, or half of the longest stretch; from each
    part as many as its states are worth."""
    size = found.layout.state_shape[-1]
    train = [last - first for _, first, last in runs(archive, found, "train", 1)]
    longest, segment = max(train), experiment.training.segment
    length = odd_states(min(longest, max(longest // 2, segment)), size)
    there = {part: stretches(archive, found, part, length) for part in parts}
    states = {part: sum(last - first for _, first, last in r) for part, r in there.items()}
    most = min(SERIES_SEGMENTS, SERIES_NUMBERS // (length * size))
    key, drawn = stream(experiment.seed, "parameterisation"), []
    for part in parts:
        if states[part]:
            count = max(1, round(most * states[part] / sum(states.values())))
            feed = Feed(archive, found, key, count, length, part)
            drawn.append(feed.segments(0, 1)[0])
    return np.concatenate(drawn)


def field_segments(
    archive: Archive, found: Survey, parts: Sequence[str], experiment: Experiment
) -> Float[np.ndarray, "n length *state"]:
    """Segments that follow each other in time and do not overlap, with their context: of
    twice the states that lags reach at most, evenly over the record where there are too many.
    """
    train = [last - first for _, first, last in runs(archive, found, "train", 1)]
    pieces = -(-max(train) // (2 * FIELD_LAGS - 1))
    length = max(train) // pieces  # so that none of the longest stretch is left over
    starts = [
        (i, first)
        for part in parts
        for i, begin, end in stretches(archive, found, part, length)
        for first in range(begin, end - length + 1, length)
    ]
    size = length * int(np.prod(found.layout.state_shape))
    most = max(1, FIELD_NUMBERS // size)
    chosen = np.unique(np.linspace(0, len(starts) - 1, most, dtype=int))
    fill = np.asarray(found.standardisation.inverse(jnp.zeros(found.layout.state_shape)))
    segments = []
    for i, first in (starts[k] for k in chosen):
        x = archive.read(i, first, first + length)
        known = found.layout.context(archive.times[i][first : first + length])
        segments.append(np.concatenate([np.where(np.isnan(x), fill, x), known], axis=-1))
    return np.stack(segments)
