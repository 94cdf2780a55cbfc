"""Angles, which instruments report as one number and states hold as cosine and sine."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from sda_jax.data._layout import WAVES, Channel, Layout
from sda_jax.observations._rows import Rows


def as_measured(layout: Layout) -> tuple[Layout, list[tuple[int, ...]]]:
    """A layout in which each angle is one channel, as instruments report it; and the channels of
    the layout's own that each of its channels stands for."""
    channels: dict[tuple[Any, ...], tuple[Channel, list[int]]] = {}
    for i, channel in enumerate(layout.channels):
        if channel.circular is not None:
            name, _, units = channel.circular
            channel = Channel(name, units, at=channel.at)
        channels.setdefault((channel.name, channel.at), (channel, []))[1].append(i)
    measured = tuple(channel for channel, _ in channels.values())
    own = [tuple(indices) for _, indices in channels.values()]
    return dataclasses.replace(layout, channels=measured), own


def rows_in_components(
    rows: Rows, layout: Layout, own: list[tuple[int, ...]]
) -> tuple[Rows, np.ndarray]:
    """Rows of `as_measured` as rows of the layout's channels, and which of those each is of: an
    angle makes two, of its cosine and its sine, with the angle's noise in radians."""
    origin = np.concatenate([np.arange(len(rows.values))] * len(WAVES))
    wave = np.repeat(range(len(WAVES)), len(rows.values))
    several = np.array([len(indices) for indices in own])[rows.channels[origin]]
    origin, wave = origin[wave < several], wave[wave < several]
    channels = np.array([own[c][w] for c, w in zip(rows.channels[origin], wave, strict=True)], int)
    values, std = rows.values[origin].astype(float), rows.std[origin].astype(float)
    for c in np.unique(channels):
        if (known := layout.channels[c].circular) is not None:
            here = channels == c
            phase = 2 * np.pi * values[here] / known[1]
            values[here] = np.cos(phase) if layout.channels[c].wave == WAVES[0] else np.sin(phase)
            std[here] *= 2 * np.pi / known[1]
    found = Rows(
        rows.times[origin],
        [places[origin] for places in rows.coordinates],
        channels,
        values,
        std,
        lambda row: rows.where(int(origin[row])),
        rows.unread,
    )
    return found, origin
