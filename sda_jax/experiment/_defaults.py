"""An experiment for a user's own states, where the config leaves network and training open."""

from __future__ import annotations

import dataclasses
from typing import Any

from sda_jax.data._layout import Layout
from sda_jax.diffusion._loss import LogNormalRatio
from sda_jax.experiment._config import Experiment
from sda_jax.networks import TemporalConv, UNet
from sda_jax.prior._training import Training

SERIES = Training(segment=64, batch=32, times=LogNormalRatio(), block=64)
FIELDS = Training(segment=5, batch=16, times=LogNormalRatio(mean=-1.2, std=1.8), block=32)
SMALLEST = 4  # points of the coarsest level of a U-Net


def network(layout: Layout) -> TemporalConv | UNet:
    """Convolutions along time for states without space, a U-Net for those with."""
    if not layout.axes:
        return TemporalConv(width=64, dilations=(1, 2, 4, 4, 2, 1), max_frequency=32.0)
    levels = 1
    while levels < 3 and all(
        len(a.coordinates) >= SMALLEST * 2**levels
        and (a.period is None or len(a.coordinates) % 2**levels == 0)
        for a in layout.axes
    ):
        levels += 1
    return UNet(
        channels=(32, 64, 96)[:levels],
        blocks=(1, 1, 2)[:levels],
        forcing=None,
        max_frequency=32.0,
        periodic=tuple(a.period is not None for a in layout.axes),
    )


def completed(config: Experiment, layout: Layout) -> Experiment:
    """The experiment with a network for states of this layout, if it names none; and, with it, a
    training whose fields are the user's where they are not the defaults."""
    context = layout.context_channels
    if config.network is not None:
        return dataclasses.replace(config, context=context)
    chosen, plain = (FIELDS if layout.axes else SERIES), Training()
    theirs: dict[str, Any] = {
        f.name: getattr(config.training, f.name)
        for f in dataclasses.fields(Training)
        if getattr(config.training, f.name) != getattr(plain, f.name)
    }
    training = dataclasses.replace(chosen, **theirs)
    window = training.segment if layout.axes else None
    return dataclasses.replace(
        config, network=network(layout), training=training, window=window, context=context
    )
