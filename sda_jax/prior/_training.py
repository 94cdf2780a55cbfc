"""The training loop: denoising score matching with AdamW, an averaged copy of the weights, and
checkpoints from which it goes on bit for bit.

All randomness of step n comes from the seed and n, so a resumed run repeats the unbroken one.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, PyTree
from tqdm import tqdm

from sda_jax.core._arrays import PRNGKey
from sda_jax.core._component import component, static
from sda_jax.core._errors import (
    DivergenceError,
    StorageError,
    require_at_least,
    require_choice,
    require_positive,
)
from sda_jax.core._units import Standardisation
from sda_jax.data._feed import Feed
from sda_jax.data._simulation import UNSTABLE
from sda_jax.data._sources import Source
from sda_jax.diffusion._denoisers import NetworkDenoiser
from sda_jax.diffusion._loss import UniformTime, denoising_loss
from sda_jax.runtime._checkpoints import checkpointer, latest_step, restore, save
from sda_jax.runtime._devices import BATCH, constrain, require_shared, scattered, sharding
from sda_jax.runtime._memory import run_if_fits
from sda_jax.runtime._processes import on_process_zero
from sda_jax.runtime._records import append_record, read_records, write_records

BATCH_REMEDY = "Lower training.batch, or set network.remat where the network has it."
TRAINING = 1  # what a seed's key is folded with for training


@component
class Training:
    """How a network is trained.

    Attributes:
        steps: Optimiser steps in all.
        batch: Segments per step.
        segment: States per segment; a local network's window.
        learning_rate: Initial learning rate of AdamW.
        weight_decay: AdamW's decoupled weight decay.
        decay: Learning-rate schedule over the whole run, "linear" or "cosine", to 0.
        clip: Largest norm of the gradient; None for no clipping.
        ema: Decay per step of the averaged weights, which become the prior's.
        times: Law of the training noise levels, `UniformTime` or `LogNormalRatio`.
        block: Steps per compiled call; metrics and checks come once a block.
        checkpoint_every: Steps between checkpoints, rounded up to blocks.
        validation_batches: Batches of the fixed validation set.
        shard_optimiser: Whether devices along the mesh's batch keep a share each of the optimiser's
            moments, which update their share of the weights. Rajbhandari et al. (2020), stage 1.
        seed: Folded with the experiment's: a training that goes on from another's weights wants
            its own, or it sees the same segments and noise again.
    """

    steps: int = static(16384)
    batch: int = static(64)
    segment: int = static(32)
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    decay: str = static("linear")
    clip: float | None = 1.0
    ema: float = 0.999
    times: Any = UniformTime()
    block: int = static(128)
    checkpoint_every: int = static(1024)
    validation_batches: int = static(16)
    shard_optimiser: bool = static(False)
    seed: int = static(0)

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "segment", "block", "checkpoint_every"):
            require_at_least(name, getattr(self, name), 1)
        require_at_least("validation_batches", self.validation_batches, 1)
        require_positive("learning_rate", self.learning_rate)
        require_choice("decay", self.decay, ("linear", "cosine"))
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


class TrainState(NamedTuple):
    """Everything that a training needs to go on."""

    step: Array
    variables: PyTree[Array]
    averaged: PyTree[Array]
    optimiser: PyTree[Array]
    source: PyTree[Array]


def streams(seed: int, training: Training) -> Array:
    """Independent keys for the initial weights, the source's start and the steps."""
    root = jax.random.fold_in(jax.random.key(seed), TRAINING)
    return jax.random.split(jax.random.fold_in(root, training.seed), 3)


def init_state(
    seed: int,
    denoiser: NetworkDenoiser,
    source: Source | Feed,
    training: Training,
    shape: tuple[int, ...],
) -> TrainState:
    """The state before the first step; `shape` is that of one state of the data, with its context.

    Weights are the denoiser's own, or random ones from the seed where it has none.
    """
    key_network, key_source, _ = streams(seed, training)
    variables = jax.tree.map(jnp.array, denoiser.variables)
    if variables is None:
        shape = (training.segment, *shape[:-1], shape[-1] - denoiser.channels)
        variables = jax.jit(denoiser.init, static_argnums=1)(key_network, shape)
    state = jax.jit(partial(source.init, batch=training.batch))(key_source)
    moments = training.optimiser().init(variables)
    averaged = jax.tree.map(jnp.array, variables)
    return TrainState(jnp.zeros((), jnp.int32), variables, averaged, moments, state)


def shardings(state: TrainState, training: Training) -> TrainState:
    """How a state's arrays are shared by the devices of the mesh in use: the source's along batch,
    the optimiser's moments if asked for, the rest on every device."""

    everywhere = jax.tree.map(lambda leaf: PartitionSpec(), state)
    shared = jax.tree.map(lambda leaf: scattered(leaf.shape), state)
    moments = shared if training.shard_optimiser else everywhere
    return everywhere._replace(optimiser=moments.optimiser, source=shared.source)


def with_weights(denoiser: NetworkDenoiser, variables: PyTree[Array]) -> NetworkDenoiser:
    """The same denoiser with other weights."""
    return dataclasses.replace(denoiser, variables=variables)


def make_block(
    training: Training, denoiser: NetworkDenoiser, standardisation: Standardisation
) -> Callable[[PRNGKey, Source, TrainState, int], tuple[TrainState, Array]]:
    """The compiled `(key, source, state, steps) -> (state, losses)` of many steps in one call."""
    optimiser = training.optimiser()

    def loss(variables: PyTree[Array], key: PRNGKey, x: Array) -> Array:
        return denoising_loss(key, with_weights(denoiser, variables), training.times, x)

    def pinned(state: TrainState) -> TrainState:
        return jax.tree.map(lambda x, spec: constrain(x, *spec), state, shardings(state, training))

    def step(key: PRNGKey, source: Source, state: TrainState, _: None) -> tuple[TrainState, Array]:
        key_data, key_loss = jax.random.split(jax.random.fold_in(key, state.step))
        drawn, x = source.draw(key_data, state.source, training.batch, training.segment)
        value, gradient = jax.value_and_grad(loss)(
            state.variables, key_loss, constrain(standardisation.forward(x), BATCH)
        )
        updates, moments = optimiser.update(gradient, state.optimiser, state.variables)
        variables = optax.apply_updates(state.variables, updates)
        # a short average at first, so that the initial weights do not linger in it
        decay = jnp.minimum(training.ema, (1.0 + state.step) / (10.0 + state.step))
        averaged = optax.incremental_update(variables, state.averaged, 1.0 - decay)
        after = TrainState(state.step + 1, variables, averaged, moments, drawn)
        return pinned(after), value

    @partial(jax.jit, static_argnames="steps", donate_argnums=2)
    def block(
        key: PRNGKey, source: Source, state: TrainState, steps: int
    ) -> tuple[TrainState, Array]:
        state, losses = jax.lax.scan(partial(step, key, source), state, None, length=steps)
        return pinned(state), losses

    return block


@partial(jax.jit, static_argnames="training")
def _validation_loss(
    denoiser: NetworkDenoiser,
    segments: Float[Array, "batches batch length *state"],
    training: Training,
) -> Array:
    keys = jax.random.split(jax.random.key(0), segments.shape[0])
    losses = jax.lax.map(
        lambda kx: denoising_loss(kx[0], denoiser, training.times, kx[1]), (keys, segments)
    )
    return jnp.mean(losses)


def train(
    denoiser: NetworkDenoiser,
    source: Source | Feed,
    validation: Float[Array, "batches batch length *state"],
    standardisation: Standardisation,
    training: Training,
    folder: str | Path,
    seed: int = 0,
    progress: bool = False,
) -> NetworkDenoiser:
    """Trains a denoiser of segments; called again after an interruption, it goes on.

    Args:
        denoiser: Network, schedule and parameterisation; with variables, training starts from
            them, with None from random ones.
        source: Where segments come from, in physical units: drawn on the device, or read from files
            (`Feed`); the last channels are the context that the denoiser asks for.
        validation: Fixed segments for the validation loss, in physical units.
        standardisation: Physical to standardised units.
        training: Optimiser, budget and cadence.
        folder: Receives `checkpoints/` and `metrics.jsonl` (one line a block: step, loss,
            validation loss at checkpoints, learning rate, seconds, those waited for files).
        seed: With the step number, the source of all randomness.
        progress: Shows a bar with the loss and the time left.

    Returns:
        The denoiser with the averaged weights.

    Raises:
        DivergenceError: The loss is not finite; the last good checkpoint is kept.
        StorageError: The checkpoint is damaged, of another network or optimiser, or past the last
            step; or it cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    require_shared("training.batch", training.batch, BATCH)
    key = streams(seed, training)[2]
    begin = partial(init_state, seed, denoiser, source, training, validation.shape[3:])
    block = make_block(training, denoiser, standardisation)
    segments = standardisation.forward(jnp.asarray(validation))
    rate = training.rate()

    with checkpointer(folder / "checkpoints") as manager:
        blank = jax.eval_shape(begin)
        places = jax.tree.map(sharding, shardings(blank, training))
        like = jax.tree.map(
            lambda a, at: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=at), blank, places
        )
        latest = latest_step(manager)
        state = restore(manager, latest, like) if latest >= 0 else jax.device_put(begin(), places)
        done = int(state.step)
        if latest < 0:
            _require_finite_source(state.source, done)
        if done > training.steps:
            raise StorageError(
                str(folder / "checkpoints"),
                f"a checkpoint of step {done}",
                f"at most {training.steps}, the steps of this training",
                "Use the configuration that wrote it, or another folder.",
            )
        # later lines are of steps that are taken again
        metrics = folder / "metrics.jsonl"

        def go_on() -> None:
            kept = [r for r in read_records(metrics) if r.get("step", done + 1) <= done]
            write_records(metrics, kept)

        on_process_zero(go_on)
        saved = done
        bar = tqdm(total=training.steps, initial=done, desc="train", disable=not progress)
        started = time.perf_counter()
        with bar:
            while done < training.steps:
                steps = min(training.block, training.steps - done)
                given = source
                if isinstance(source, Feed):
                    then = min(training.block, training.steps - done - steps)
                    given = source.at(done, steps, then)
                state, losses = run_if_fits(block, BATCH_REMEDY, key, given, state, steps)
                done += steps
                if not np.isfinite(losses).all():
                    _require_finite_source(state.source, done)
                _require_finite(losses, done - steps, folder, saved)
                record: dict[str, Any] = {
                    "step": done,
                    "loss": float(jnp.mean(losses)),
                    "learning_rate": float(np.asarray(rate(done))),
                    "seconds": round(time.perf_counter() - started, 3),
                }
                if isinstance(source, Feed):
                    record["waited"] = round(source.waited, 3)
                due = done - saved >= training.checkpoint_every or done == training.steps
                if due:
                    _require_finite_source(state.source, done)
                    averaged = with_weights(denoiser, state.averaged)
                    validation_loss = _validation_loss(averaged, segments, training)
                    _require_finite(validation_loss[None], done, folder, saved)
                    _require_finite(_total(state.variables)[None], done, folder, saved)
                    record["validation_loss"] = float(validation_loss)
                append_record(metrics, record)
                if due:
                    save(manager, done, state)
                    saved = done
                bar.update(steps)
                bar.set_postfix(loss=f"{record['loss']:.4f}")
    return with_weights(denoiser, state.averaged)


def _require_finite_source(source: PyTree[Array], step: int) -> None:
    if not np.isfinite(np.asarray(_total(source))):
        raise DivergenceError(
            "simulation",
            f"values that are not finite in the source of segments at training step {step}",
            "finite states",
            UNSTABLE,
        )


@jax.jit
def _total(variables: PyTree[Array]) -> Array:
    return sum((jnp.sum(leaf) for leaf in jax.tree.leaves(variables)), jnp.zeros(()))


def _require_finite(losses: Array, first: int, folder: Path, saved: int) -> None:
    bad = jnp.flatnonzero(~jnp.isfinite(losses), size=1, fill_value=-1)[0]
    if bad >= 0:
        raise DivergenceError(
            "loss",
            f"{losses[bad]} at step {first + int(bad)}",
            "a finite number",
            (
                f"The checkpoint of step {saved} in {folder / 'checkpoints'} is kept. "
                if saved
                else ""
            )
            + "Lower learning_rate or clip, or look for bad values in the data.",
        )
