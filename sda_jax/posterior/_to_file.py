"""Posteriors that outgrow memory or a night: drawn block by block onto disk, and gone on with where
they stopped, between two noise levels of a block if need be."""

from __future__ import annotations

import hashlib
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array, PyTree
from tqdm import tqdm

from sda_jax.core._arrays import PRNGKey
from sda_jax.core._errors import require_at_least
from sda_jax.core._json import dumps
from sda_jax.core._protocols import Denoiser, Guidance, Sampler
from sda_jax.core._units import Standardisation
from sda_jax.observations._observation import Observation
from sda_jax.posterior._assimilate import check_sizes, diverged, guided
from sda_jax.posterior._files import new_posterior
from sda_jax.posterior._presets import settings
from sda_jax.prior._prior import Prior
from sda_jax.runtime._checkpoints import checkpointer, latest_step, restore, save
from sda_jax.runtime._devices import BATCH, TIME, constrain, over_batch, sharding
from sda_jax.runtime._hdf5 import create_array
from sda_jax.runtime._memory import run_if_fits
from sda_jax.runtime._parts import Parts, blocks, is_finished
from sda_jax.runtime._processes import finite_rows, on_process_zero, unaddressed, whole


def assimilate_to_file(
    path: str | Path,
    key: PRNGKey,
    prior: Prior,
    observation: Observation,
    length: int,
    samples: int,
    guidance: Guidance | None = None,
    sampler: Sampler | None = None,
    chunk: int = 64,
    window_chunk: int | None = None,
    window_stride: int = 1,
    context: Any = None,
    save_every: int = 16,
    description: Any = None,
    truth: Any = None,
    progress: bool = False,
) -> Path:
    """Draws the ensemble of `assimilate` into a posterior file; called again after an interruption,
    it goes on, with as many devices and processes as there are then.

    Each block of `chunk` members is written when it is finished, every process its own share, to a
    folder beside the file; the file appears when all are there. Memory is bounded by a block.

    Args:
        path: The file; complete with the same contents already, nothing is done.
        key, prior, observation, length, samples, guidance, sampler, chunk: See `assimilate`.
        window_chunk, window_stride, context: See `assimilate`.
        save_every: Noise levels between two checkpoints of the block under way.
        description: Component or table saved as JSON in the attribute `description`.
        truth: The true trajectory `(L, *S)` to be kept beside the ensemble, where there is one.
        progress: Shows a bar over the noise levels of all blocks.

    Returns:
        `path`.

    Raises:
        ConfigError, ObservationError, DivergenceError, ResourceError: See `assimilate`.
        StorageError: The file or its parts are of another ensemble, or cannot be written.
    """
    path = Path(path)
    require_at_least("save_every", save_every, 1)
    guidance, sampler = settings(prior, observation, guidance, sampler)
    denoiser = guided(prior, observation, length, guidance, window_chunk, window_stride, context)
    chunk, remedy = check_sizes(prior, length, samples, chunk)
    shape = (length, *prior.state_shape)
    # of what is given, not of what follows from it, which other devices round differently
    given = (jax.random.key_data(key), prior.denoiser, prior.standardisation, prior.window)
    given += (observation, guidance, sampler, window_stride, context)
    sizes = {"length": length, "samples": samples, "chunk": chunk}
    identity = dumps({"given": digest(given), **sizes})
    if is_finished(path, "posterior", "identity", identity, "posterior"):
        return path
    parts = Parts(path, identity)
    todo = blocks(samples, chunk)
    with tqdm(total=len(todo) * sampler.steps, desc="assimilate", disable=not progress) as bar:
        for first, last in todo:
            if parts.has(first, last):
                bar.update(sampler.steps)
                continue
            # the last block is filled up, so that one compilation serves all
            members = first + jnp.arange(chunk)
            under_way = parts.folder / "under_way" / f"{first:08d}"
            draw = partial(_levels, key, members, denoiser, sampler, shape)
            state = draw(under_way, save_every, last - first, remedy, bar)
            x = _end(denoiser, sampler, prior.standardisation, state)
            if not (finite := finite_rows(x)[: last - first]).all():
                raise diverged(int((~finite).sum()), last - first, float("nan"))
            parts.write(first, last, x)
            on_process_zero(lambda folder=under_way: shutil.rmtree(folder))

    def assemble() -> None:
        with new_posterior(path, description, truth=truth) as file:
            file.attrs["identity"] = identity
            data = create_array(file, "ensemble", (samples, *shape))
            data.attrs["units"] = "physical"
            parts.copy(todo, 0, data)
        parts.remove()

    on_process_zero(assemble)
    return path


def _levels(
    key: PRNGKey,
    members: Array,
    denoiser: Denoiser,
    sampler: Sampler,
    shape: tuple[int, ...],
    folder: Path,
    save_every: int,
    wanted: int,
    remedy: str,
    bar: tqdm,
) -> PyTree[Array]:
    """A block of draws after their last step, from where `folder` has them."""
    with checkpointer(folder, keep=1) as manager:
        blank = jax.eval_shape(partial(_begin, shape=shape), key, members, denoiser, sampler)
        like = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding(_spec(a, shape))),
            blank,
        )
        latest = latest_step(manager)
        if latest >= 0:
            state = restore(manager, latest, like)
        else:
            state = _begin(key, members, denoiser, sampler, shape)
        done = max(latest, 0)
        bar.update(done)
        while done < sampler.steps:
            steps = min(save_every, sampler.steps - done)
            state, finite = run_if_fits(
                _advance, remedy, key, members, denoiser, sampler, state, done, steps
            )
            finite = whole(finite)[:wanted]
            if not finite.all():
                bad = ~finite.all(axis=1)
                step = done + int(np.argmin(finite[np.argmax(bad)]))
                raise diverged(int(bad.sum()), wanted, float(sampler.level(denoiser, step)))
            done += steps
            bar.update(steps)
            save(manager, done, state)
    return state


def _spec(leaf: Array, shape: tuple[int, ...]) -> PartitionSpec:
    """How something that every member of a block has is shared by the devices."""
    return PartitionSpec(BATCH, TIME) if leaf.shape[1:] == shape else PartitionSpec(BATCH)


@partial(jax.jit, static_argnames="shape")
def _begin(
    key: PRNGKey, members: Array, denoiser: Denoiser, sampler: Sampler, shape: tuple[int, ...]
) -> PyTree[Array]:
    def one(member: Array) -> PyTree[Array]:
        return sampler.begin(jax.random.fold_in(key, member), denoiser, shape)

    return _pinned(over_batch(one, members), shape)


@partial(jax.jit, static_argnames="steps", donate_argnames="state")
def _advance(
    key: PRNGKey,
    members: Array,
    denoiser: Denoiser,
    sampler: Sampler,
    state: PyTree[Array],
    first: int,
    steps: int,
) -> tuple[PyTree[Array], Array]:
    def one(given: tuple[Array, PyTree[Array]]) -> tuple[PyTree[Array], Array]:
        member, state = given
        return sampler.advance(jax.random.fold_in(key, member), denoiser, state, first, steps)

    state, finite = over_batch(one, (members, state))
    return _pinned(state, state[0].shape[1:]), finite


@jax.jit
def _end(
    denoiser: Denoiser, sampler: Sampler, standardisation: Standardisation, state: PyTree[Array]
) -> Array:
    x = over_batch(partial(sampler.end, denoiser), state)
    return constrain(standardisation.inverse(x), BATCH, TIME)


def _pinned(state: PyTree[Array], shape: tuple[int, ...]) -> PyTree[Array]:
    return jax.tree.map(lambda leaf: constrain(leaf, *_spec(leaf, shape)), state)


def digest(tree: PyTree) -> str:
    """A hash of a tree: its structure and its leaves, in which functions have names but no
    addresses."""
    leaves, structure = jax.tree.flatten(tree)
    found = hashlib.sha256(unaddressed(str(structure)).encode())
    for leaf in leaves:
        value = np.asarray(leaf)
        found.update(f"{value.shape}{value.dtype}".encode())
        numbers = value.dtype != object
        found.update(value.tobytes() if numbers else unaddressed(repr(leaf)).encode())
    return found.hexdigest()
