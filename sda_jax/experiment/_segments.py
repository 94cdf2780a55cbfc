"""The segments of files that the Gaussian distribution of their states is measured on."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sda_jax.data._archive import Archive
from sda_jax.data._survey import Survey, runs, stretches
from sda_jax.diffusion._series_law import HORIZON

SERIES_NUMBERS = 2**22  # that the distribution of series is measured on at most
SERIES_PIECE = 8 * HORIZON  # states of a piece of a long record
FIELD_LAGS = 33  # states that the distribution of fields is measured over
FIELD_NUMBERS = 2**25  # that it is measured on at most


def series_stretches(
    archive: Archive, found: Survey, parts: Sequence[str]
) -> list[Float[np.ndarray, "states channel"]]:
    """What a record of series holds without gaps, with its context, in the order of time; of a long
    one pieces evenly over it."""
    length = SERIES_PIECE
    pieces = [
        (i, begin, min(begin + length, last))
        for part in parts
        for i, first, last in stretches(archive, found, part, 1)
        for begin in range(first, last, length)
    ]
    # pieces that follow each other are one stretch unless some between them are left out
    states = sum(last - first for _, first, last in pieces)
    most = max(1, len(pieces) * SERIES_NUMBERS // (states * found.layout.state_shape[-1]))
    chosen = np.unique(np.linspace(0, len(pieces) - 1, min(most, len(pieces)), dtype=int))
    joined: list[tuple[int, int, int]] = []
    for i, first, last in (pieces[k] for k in chosen):
        if joined and joined[-1][0] == i and joined[-1][2] == first:
            joined[-1] = (i, joined[-1][1], last)
        else:
            joined.append((i, first, last))
    return [
        np.concatenate(
            [archive.read(i, a, b), found.layout.context(archive.times[i][a:b])], axis=-1
        )
        for i, a, b in joined
    ]


def field_segments(
    archive: Archive, found: Survey, parts: Sequence[str]
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
