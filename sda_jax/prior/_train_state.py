"""Everything that a training needs to go on, and how devices share it."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, PyTree

from sda_jax.core._arrays import PRNGKey
from sda_jax.core._keys import stream
from sda_jax.data._sources import Source
from sda_jax.diffusion._denoisers import NetworkDenoiser
from sda_jax.prior._training import Training
from sda_jax.runtime._devices import scattered


class TrainState(NamedTuple):
    """Everything that a training needs to go on. `best` are the averaged weights of the checkpoint
    with the lowest validation loss, `waited` checkpoints ago; nothing where the last are kept."""

    step: Array
    variables: PyTree[Array]
    averaged: PyTree[Array]
    optimiser: PyTree[Array]
    source: PyTree[Array]
    best: PyTree[Array]
    best_loss: Array
    waited: Array


def streams(seed: int, training: Training) -> tuple[PRNGKey, PRNGKey, PRNGKey]:
    """Keys of the initial weights, the source's start and the steps."""
    names = ("initial weights", "training source", "training steps")
    a, b, c = (jax.random.fold_in(stream(seed, name), training.seed) for name in names)
    return a, b, c


def init_state(
    seed: int,
    denoiser: NetworkDenoiser,
    source: Source,
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
    best = jax.tree.map(jnp.array, variables) if training.keep == "best" else ()
    first, none = (jnp.zeros((), jnp.int32) for _ in range(2))  # two buffers: both are donated
    worst = jnp.asarray(jnp.inf)
    return TrainState(first, variables, averaged, moments, state, best, worst, none)


def shardings(state: TrainState, training: Training) -> TrainState:
    """How a state's arrays are shared by the devices of the mesh in use: the source's along batch,
    the optimiser's moments if asked for, the rest on every device."""

    everywhere = jax.tree.map(lambda leaf: PartitionSpec(), state)
    shared = jax.tree.map(lambda leaf: scattered(leaf.shape), state)
    moments = shared if training.shard_optimiser else everywhere
    return everywhere._replace(optimiser=moments.optimiser, source=shared.source)


def with_best(state: TrainState, loss: float) -> TrainState:
    """The state at a checkpoint of this validation loss: its averaged weights kept if there were
    none better, one more checkpoint waited otherwise."""

    def like(value: float, old: Array) -> Array:  # where the others are
        return jax.device_put(jnp.asarray(value, old.dtype), old.sharding)

    if loss >= float(state.best_loss):
        return state._replace(waited=like(int(state.waited) + 1, state.waited))
    best = jax.tree.map(jnp.array, state.averaged)
    kept = {"best_loss": like(loss, state.best_loss), "waited": like(0, state.waited)}
    return state._replace(best=best, **kept)


def is_over(state: TrainState, training: Training) -> bool:
    """Whether the last step is taken, or patience is at an end."""
    impatient = training.patience is not None and int(state.waited) >= training.patience
    return int(state.step) >= training.steps or impatient
