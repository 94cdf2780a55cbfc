"""An experiment for states of one's own, where the config leaves network and training open."""

from __future__ import annotations

import dataclasses
from typing import Any

from sda_jax.diffusion._fields import FieldPreconditioned
from sda_jax.diffusion._loss import LogNormalRatio
from sda_jax.diffusion._series import SeriesPreconditioned
from sda_jax.experiment._config import Experiment
from sda_jax.experiment._crops import Grid, tiling_of
from sda_jax.networks import TemporalConv, UNet
from sda_jax.prior._training import Training

# a record of one's own is short: what is learnt by heart is noticed early
OWN: dict[str, Any] = {"keep": "best", "patience": 8, "checkpoint_every": 256}
SERIES = Training(segment=64, batch=32, times=LogNormalRatio(), block=64, weight_decay=1.0, **OWN)
FIELDS = Training(segment=5, batch=16, times=LogNormalRatio(-1.2, 1.8), block=32, **OWN)
SHORT = 3  # states of a segment, of records of which no more are held out
SMALLEST = 4  # points of the coarsest level of a U-Net


def network(grid: Grid, channels: int) -> TemporalConv | UNet:
    """Convolutions along time for states without space, a U-Net for those with."""
    if not grid:
        return TemporalConv(64, (1, 2, 4, 4, 2, 1), outputs=channels, max_frequency=32.0)
    levels = 1
    while levels < 3 and all(
        points >= SMALLEST * 2**levels and (not periodic or points % 2**levels == 0)
        for points, periodic in grid
    ):
        levels += 1
    return UNet(
        outputs=channels,
        channels=(32, 64, 96)[:levels],
        blocks=(1, 1, 2)[:levels],
        forcing=None,
        max_frequency=32.0,
        periodic=tuple(periodic for _, periodic in grid),
    )


def completed(
    config: Experiment, grid: Grid, channels: int, context: int, states: int
) -> Experiment:
    """The experiment with a network for states of so many channels on this grid, if it names none;
    and, with it, a parameterisation and a training that are the user's where they are not the
    defaults, of segments of at most `states` states. A network of crops has ends where they are
    cut, and no linear estimate of whole fields to depart from."""
    if config.network is not None:
        return dataclasses.replace(config, context=context)
    chosen, plain = (FIELDS if grid else SERIES), Training()
    theirs: dict[str, Any] = {
        f.name: getattr(config.training, f.name)
        for f in dataclasses.fields(Training)
        if getattr(config.training, f.name) != getattr(plain, f.name)
    }
    if theirs.get("keep") == "last":
        theirs = {"patience": None} | theirs
    if states < chosen.segment:
        chosen = dataclasses.replace(chosen, segment=SHORT if grid else max(states, SHORT))
    training = dataclasses.replace(chosen, **theirs)
    law = config.parameterisation
    tiling = tiling_of(config, grid)
    if tiling is not None:
        grid = [
            (points, wraps) if n is None else (n, False)
            for n, (points, wraps) in zip(tiling.crop, grid, strict=True)
        ]
    elif law == Experiment().parameterisation:
        law = FieldPreconditioned() if grid else SeriesPreconditioned()
    return dataclasses.replace(
        config,
        network=network(grid, channels),
        parameterisation=law,
        training=training,
        window=training.segment if grid else None,
        context=context,
    )
