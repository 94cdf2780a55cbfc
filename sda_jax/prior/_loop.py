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
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree
from orbax.checkpoint import v1 as ocp
from tqdm import tqdm

from sda_jax.core._arrays import PRNGKey
from sda_jax.core._errors import ConfigError, DivergenceError, StorageError
from sda_jax.core._keys import stream
from sda_jax.core._units import Standardisation
from sda_jax.data._simulation import UNSTABLE
from sda_jax.data._sources import DeviceSource, Source
from sda_jax.diffusion._denoisers import NetworkDenoiser
from sda_jax.diffusion._loss import denoising_loss
from sda_jax.prior._train_state import (
    TrainState,
    init_state,
    is_over,
    shardings,
    streams,
    with_best,
)
from sda_jax.prior._training import Training
from sda_jax.runtime._checkpoints import checkpointer, latest_step, restore, save
from sda_jax.runtime._devices import BATCH, constrain, require_shared, sharding
from sda_jax.runtime._memory import run_if_fits
from sda_jax.runtime._processes import on_process_zero
from sda_jax.runtime._records import append_record, read_records, write_records

BATCH_REMEDY = "Lower training.batch, or set network.remat where the network has it."
# fields of a line of metrics, and of one with a validation loss
METRICS = {
    "step": int, "loss": float, "learning_rate": float, "seconds": float,
    "validation_loss": float | None,
}  # fmt: skip
CHECKED = {"step": int, "validation_loss": float}
Block = Callable[[PRNGKey, DeviceSource, "TrainState", int], tuple["TrainState", Array]]


def with_weights(denoiser: NetworkDenoiser, variables: PyTree[Array]) -> NetworkDenoiser:
    """The same denoiser with other weights."""
    return dataclasses.replace(denoiser, variables=variables)


def make_block(
    training: Training, denoiser: NetworkDenoiser, standardisation: Standardisation
) -> Block:
    """The compiled `(key, source, state, steps) -> (state, losses)` of many steps in one call."""
    optimiser = training.optimiser()

    def loss(variables: PyTree[Array], key: PRNGKey, x: Array) -> Array:
        return denoising_loss(key, with_weights(denoiser, variables), training.times, x)

    def pinned(state: TrainState) -> TrainState:
        return jax.tree.map(lambda x, spec: constrain(x, *spec), state, shardings(state, training))

    def step(
        key: PRNGKey, source: DeviceSource, state: TrainState, _: None
    ) -> tuple[TrainState, Array]:
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
        after = state._replace(
            step=state.step + 1,
            variables=variables,
            averaged=averaged,
            optimiser=moments,
            source=drawn,
        )
        return pinned(after), value

    @partial(jax.jit, static_argnames="steps", donate_argnums=2)
    def block(
        key: PRNGKey, source: DeviceSource, state: TrainState, steps: int
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
    keys = jax.random.split(stream(0, "validation loss"), segments.shape[0])
    losses = jax.lax.map(
        lambda kx: denoising_loss(kx[0], denoiser, training.times, kx[1]), (keys, segments)
    )
    return jnp.mean(losses)


def train(
    denoiser: NetworkDenoiser,
    source: Source,
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
        source: Where segments come from, in physical units; the last channels are the context that
            the denoiser asks for.
        validation: Fixed segments for the validation loss, in physical units.
        standardisation: Physical to standardised units.
        training: Optimiser, budget and cadence.
        folder: Receives `checkpoints/` and `metrics.jsonl` (one line a block: step, loss,
            learning rate, seconds, those waited for the source, validation loss at checkpoints).
        seed: With the step number, the source of all randomness.
        progress: Shows a bar with the loss and the time left.

    Returns:
        The denoiser with averaged weights: see `Training.keep`.

    Raises:
        ConfigError: The source lacks a method.
        DivergenceError: The loss is not finite; the last good checkpoint is kept.
        StorageError: The checkpoint is damaged, of another network or optimiser, or past the last
            step; or it cannot be written.
    """
    if not isinstance(source, Source):
        raise ConfigError(
            "source",
            type(source).__name__,
            "a Source of segments, with the methods init and at",
            "Extend sda_jax.data.DeviceSource, which asks for one method, draw.",
        )
    require_shared("training.batch", training.batch, BATCH)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    begin = partial(init_state, seed, denoiser, source, training, validation.shape[3:])
    advance = partial(
        run_if_fits,
        make_block(training, denoiser, standardisation),
        BATCH_REMEDY,
        streams(seed, training)[2],
    )
    segments = standardisation.forward(jnp.asarray(validation))

    def validate(averaged: PyTree[Array]) -> Array:
        return _validation_loss(with_weights(denoiser, averaged), segments, training)

    with checkpointer(folder / "checkpoints") as manager:
        state = _first_state(manager, begin, training)
        state = _run(state, source, training, advance, validate, manager, folder, progress)
    return with_weights(denoiser, state.best if training.keep == "best" else state.averaged)


def _first_state(
    manager: ocp.training.Checkpointer, begin: Callable[[], TrainState], training: Training
) -> TrainState:
    """The latest checkpoint's state, or a new one, shared by the devices of the mesh in use."""
    blank = jax.eval_shape(begin)
    places = jax.tree.map(sharding, shardings(blank, training))
    latest = latest_step(manager)
    if latest < 0:
        state = jax.device_put(begin(), places)
        _require_finite_source(state.source, 0)
        return state
    like = jax.tree.map(
        lambda a, at: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=at), blank, places
    )
    state = restore(manager, latest, like)
    if int(state.step) > training.steps:
        raise StorageError(
            str(manager.directory),
            f"a checkpoint of step {int(state.step)}",
            f"at most {training.steps}, the steps of this training",
            "Use the configuration that wrote it, or another folder.",
        )
    return state


def _run(
    state: TrainState,
    source: Source,
    training: Training,
    advance: Callable[[DeviceSource, TrainState, int], tuple[TrainState, Array]],
    validate: Callable[[PyTree[Array]], Array],
    manager: ocp.training.Checkpointer,
    folder: Path,
    progress: bool,
) -> TrainState:
    """The state after the last step; a line of metrics for each block of steps, and checkpoints."""
    done = saved = int(state.step)
    metrics, rate = folder / "metrics.jsonl", training.rate()
    _forget_after(done, metrics)
    # unless damaged, they know it
    if is_over(state, training) and not on_process_zero(lambda: _is_known(done, metrics)):
        again = {"step": done, "validation_loss": _checked(state, validate, done, folder, saved)}
        append_record(metrics, again)
    bar = tqdm(total=training.steps, initial=done, desc="train", disable=not progress)
    started = time.perf_counter()
    with bar:
        while not is_over(state, training):
            steps = min(training.block, training.steps - done)
            asked = time.perf_counter()
            block = source.at(done, steps, min(training.block, training.steps - done - steps))
            waited = time.perf_counter() - asked
            state, losses = advance(block, state, steps)
            if not np.isfinite(losses).all():
                _require_finite_source(state.source, done + steps)
            _require_finite(losses, done, folder, saved)
            done += steps
            record: dict[str, Any] = {
                "step": done,
                "loss": float(jnp.mean(losses)),
                "learning_rate": float(np.asarray(rate(done))),
                "seconds": round(time.perf_counter() - started, 3),
                "waited": round(waited, 3),
            }
            due = done - saved >= training.checkpoint_every or done == training.steps
            if due:
                loss = record["validation_loss"] = _checked(state, validate, done, folder, saved)
                if training.keep == "best":
                    state = with_best(state, loss)
            append_record(metrics, record)
            if due:
                save(manager, done, state)
                saved = done
            bar.update(steps)
            bar.set_postfix(loss=f"{record['loss']:.4f}")
    return state


def _forget_after(step: int, metrics: Path) -> None:
    """Removes the lines of metrics of steps that are taken again."""

    def forget() -> None:
        kept = [r for r in read_records(metrics, {"step": int}) if r["step"] <= step]
        write_records(metrics, kept)

    on_process_zero(forget)


def _is_known(step: int, metrics: Path) -> bool:
    """Whether the validation loss of a step is among the records."""
    return any(r["step"] == step for r in read_records(metrics, CHECKED))


def _checked(
    state: TrainState,
    validate: Callable[[PyTree[Array]], Array],
    step: int,
    folder: Path,
    saved: int,
) -> float:
    """The validation loss of a state that is to be saved, in which everything is finite."""
    _require_finite_source(state.source, step)
    loss = validate(state.averaged)
    for value in (loss, _total(state.variables)):
        _require_finite(value[None], step, folder, saved)
    return float(loss)


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
