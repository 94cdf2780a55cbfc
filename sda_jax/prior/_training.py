"""How a network is trained: optimiser, budget and cadence."""

from __future__ import annotations

from typing import Any

import optax

from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError, require_at_least, require_choice, require_positive
from sda_jax.core._record import static
from sda_jax.data._tiling import require_crop
from sda_jax.diffusion._loss import UniformTime


@component
class Training:
    """How a network is trained.

    Attributes:
        steps: Optimiser steps in all.
        batch: Segments per step.
        segment: States per segment; a local network's window.
        crop: Points of a segment along each axis of space, cut in a random place of the grid; None
            for an axis that is not cut, and in place of all for whole states. Larger grids are
            assimilated by overlapping tiles of that size (`TiledDenoiser`).
        learning_rate: Initial learning rate of AdamW.
        weight_decay: AdamW's decoupled weight decay.
        decay: Learning-rate schedule over the whole run, "linear" or "cosine", to 0.
        clip: Largest norm of the gradient; None for no clipping.
        ema: Decay per step of the averaged weights, which become the prior's.
        times: Distribution of the training noise levels, `UniformTime` or `LogNormalRatio`.
        block: Steps per compiled call; metrics and checks come once a block.
        checkpoint_every: Steps between checkpoints, rounded up to blocks.
        validation_batches: Batches of the fixed validation set.
        keep: Whose averaged weights become the prior's: those of the "last" step, or those of the
            checkpoint whose validation loss was "best", for records so short that a network begins
            to learn them by heart. None for the last; `train_prior` takes the best where it
            chooses the network for data of one's own.
        patience: Checkpoints without a lower validation loss after which training ends early; None
            for never. For `keep="best"`.
        shard_optimiser: Whether devices along the mesh's batch keep a share each of the optimiser's
            moments, which update their share of the weights. Rajbhandari et al. (2020), stage 1.
        seed: Folded with the experiment's: a training that goes on from another's weights wants
            its own, or it sees the same segments and noise again.
    """

    steps: int = static(16384)
    batch: int = static(64)
    segment: int = static(32)
    crop: tuple[int | None, ...] | None = static(None)
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    decay: str = static("linear")
    clip: float | None = 1.0
    ema: float = 0.999
    times: Any = UniformTime()
    block: int = static(128)
    checkpoint_every: int = static(1024)
    validation_batches: int = static(16)
    keep: str | None = static(None)
    patience: int | None = static(None)
    shard_optimiser: bool = static(False)
    seed: int = static(0)

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "segment", "block", "checkpoint_every"):
            require_at_least(name, getattr(self, name), 1)
        require_at_least("validation_batches", self.validation_batches, 1)
        if self.crop is not None:
            require_crop("training.crop", self.crop)
        require_positive("learning_rate", self.learning_rate)
        require_choice("decay", self.decay, ("linear", "cosine"))
        if self.keep is not None:
            require_choice("keep", self.keep, ("last", "best"))
        if self.patience is not None:
            require_at_least("patience", self.patience, 1)
            if self.keep != "best":
                raise ConfigError(
                    "patience",
                    self.patience,
                    f'None with keep="{self.keep}"',
                    'Set training.keep to "best".',
                )
        if self.clip is not None:
            require_positive("clip", self.clip)

    def rate(self) -> optax.Schedule:
        """Learning rate by step."""
        if self.decay == "linear":
            return optax.linear_schedule(self.learning_rate, 0.0, self.steps)
        return optax.cosine_decay_schedule(self.learning_rate, self.steps)

    def optimiser(self) -> optax.GradientTransformation:
        """AdamW with the decay schedule and gradient clipping."""
        adamw = optax.adamw(self.rate(), weight_decay=self.weight_decay)
        if self.clip is None:
            return adamw
        return optax.chain(optax.clip_by_global_norm(self.clip), adamw)
