"""Posteriors that outgrow memory or a night: drawn block by block onto disk, and gone on with where
they stopped, between two noise levels of a block if need be."""

from __future__ import annotations

import hashlib
import math
import shutil
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array, PyTree
from tqdm import tqdm

from sda_jax.core._arrays import PRNGKey
from sda_jax.core._errors import ConfigError, whole_number
from sda_jax.core._json import dumps
from sda_jax.core._numbers import real_array
from sda_jax.core._paths import require_path
from sda_jax.core._protocols import Denoiser, Guidance, PopulationSampler, Sampler, Skips
from sda_jax.core._units import Standardisation
from sda_jax.observations._observation import Observation
from sda_jax.posterior._arguments import (
    BYTES,
    check_length,
    check_methods,
    check_sizes,
    particles_at_once,
    require_call,
)
from sda_jax.posterior._assimilate import posterior_denoiser, require_finite, warn
from sda_jax.posterior._diagnosis import fits, judged
from sda_jax.posterior._files import load_diagnosis, new_posterior, put_diagnosis
from sda_jax.posterior._presets import default_methods
from sda_jax.prior._prior import Prior
from sda_jax.runtime._checkpoints import checkpointer, latest_step, restore, save
from sda_jax.runtime._devices import BATCH, TIME, constrain, sharding
from sda_jax.runtime._hdf5 import create_array
from sda_jax.runtime._memory import Memory, needed_bytes, run_if_fits
from sda_jax.runtime._parts import Parts, is_finished
from sda_jax.runtime._processes import on_process_zero, unaddressed, whole
from sda_jax.runtime._room import require_disk
from sda_jax.runtime._versions import numerics
from sda_jax.samplers._driver import (
    advance_members,
    begin_members,
    finish_members,
    island,
    prepared,
)


def assimilate_to_file(
    key: PRNGKey,
    path: str | Path,
    prior: Prior,
    observation: Observation,
    length: int,
    samples: int,
    guidance: Guidance | None = None,
    sampler: Sampler | None = None,
    memory: Memory = Memory(),
    context: Any = None,
    save_every: int = 16,
    description: Any = None,
    truth: Any = None,
    progress: bool = False,
) -> Path:
    """Draws the ensemble of `assimilate` into a posterior file; called again after an interruption,
    it goes on, with as many devices and processes as there are then.

    Each block of `memory.chunk` members is written when it is finished, every process its own
    share, to a folder beside the file; the file appears when all are there. Memory is bounded by a
    block.

    Args:
        key: Random key.
        path: The file; complete with the same contents already, nothing is done.
        prior, observation, length, samples, guidance, sampler, memory, context: See `assimilate`.
        save_every: Noise levels between two checkpoints of the block under way.
        description: Component or table saved as JSON in the attribute `description`.
        truth: The true trajectory `(L, *S)` to be kept beside the ensemble, where there is one.
        progress: Shows a bar over the noise levels of all blocks.

    Returns:
        `path`. The file has the ensemble's diagnosis (`load_diagnosis`), which is warned of where
        the ensemble should not be trusted.

    Raises:
        ConfigError, ObservationError, DivergenceError, ResourceError: See `assimilate`.
        StorageError: The file or its parts are of another ensemble, or cannot be written.
    """
    found = draw_to_file(
        key, path, prior, observation, length, samples, guidance, sampler, memory, context,
        save_every, description, truth, progress,
    )  # fmt: skip
    warn(load_diagnosis(found))
    return found


def draw_to_file(
    key: PRNGKey,
    path: str | Path,
    prior: Prior,
    observation: Observation,
    length: int,
    samples: int,
    guidance: Guidance | None = None,
    sampler: Sampler | None = None,
    memory: Memory = Memory(),
    context: Any = None,
    save_every: int = 16,
    description: Any = None,
    truth: Any = None,
    progress: bool = False,
) -> Path:
    """`assimilate_to_file` without a warning."""
    require_call("assimilate_to_file", key, prior, observation, context)
    path, save_every = require_path("path", path), whole_number("save_every", save_every)
    check_methods(guidance, sampler)
    length = check_length(prior, length)
    samples = whole_number("samples", samples)
    size = (samples, length, *prior.state_shape)
    truth = None if truth is None else _truth(truth, size[1:])
    guidance, sampler = default_methods(prior, observation, length, guidance, sampler)
    denoiser, sampler = posterior_denoiser(
        prior, observation, length, samples, guidance, sampler, memory, context
    )
    shape = size[1:]
    run = _Run(key, denoiser, sampler, shape)
    # of what is given, not of what follows from it, which other devices round differently
    given = (jax.random.key_data(key), prior.denoiser, prior.standardisation, prior.window)
    given += (prior.tiling, observation, guidance, sampler, memory.window_stride, context)
    sizes = {"length": length, "samples": samples}
    identity = dumps({"given": digest(given), "numerics": numerics(), **sizes})
    if is_finished(path, "posterior", "identity", identity, "posterior"):
        return path
    chunk, remedy = check_sizes(prior, length, samples, sampler, memory.chunk, run.needed)
    fewer = "Ask for fewer members or a shorter trajectory, or choose another disk."
    require_disk(path, BYTES * math.prod(size), fewer)
    parts = Parts(path, identity, (samples, *shape))
    todo = parts.blocks(chunk)

    def needed(sampler: Sampler) -> int:
        return run._replace(sampler=sampler).needed(chunk)

    sampler = particles_at_once(sampler, denoiser, samples, shape, memory, needed)
    run = run._replace(sampler=sampler)
    with tqdm(total=len(todo) * sampler.steps, desc="assimilate", disable=not progress) as bar:
        for first, last in todo:
            if parts.has(first, last):
                bar.update(sampler.steps)
                continue
            members = first + jnp.arange(chunk)  # the last block is filled up: one compilation
            under_way = parts.folder / "under_way" / f"{first:08d}-{chunk}"
            draws = run.block(members, under_way, save_every, remedy, bar)
            x, diverged_at, report = _end(denoiser, sampler, prior.standardisation, draws)
            require_finite(x, diverged_at, last - first)
            islands = -(-(last - first) // island(sampler))
            said = {k: whole(v)[:islands].tolist() for k, v in report.items()}
            parts.write(first, last, x, said)
            on_process_zero(partial(shutil.rmtree, under_way))
    on_process_zero(
        lambda: _assemble(path, parts, todo, size, identity, description, truth, observation)
    )
    return path


def _truth(given: Any, shape: tuple[int, ...]) -> np.ndarray:
    truth = np.asarray(real_array("truth", given))
    if truth.shape != shape:
        raise ConfigError("truth", f"shape {truth.shape}", f"{shape}", "Give one trajectory.")
    return truth


def _assemble(
    path: Path,
    parts: Parts,
    todo: list[tuple[int, int]],
    size: tuple[int, ...],
    identity: str,
    description: Any,
    truth: Any,
    observation: Observation,
) -> None:
    """The file of all blocks, and the diagnosis of what it holds."""
    with new_posterior(path, description, truth=truth) as file:
        file.attrs["identity"] = identity
        data = create_array(file, "ensemble", size)
        data.attrs["units"] = "physical"
        parts.copy(todo, 0, data)
        each = [fits(observation, jnp.asarray(data[a:b])) for a, b in todo]
        notes = [parts.noted(*block) for block in todo]
        report = {name: np.concatenate([n[name] for n in notes]) for name in notes[0]}
        fit, misfit = (np.concatenate(part) for part in zip(*each, strict=True))
        put_diagnosis(file, judged(fit, misfit, report))
    parts.remove()


class _Run(NamedTuple):
    """What all blocks of an ensemble have in common."""

    key: PRNGKey
    denoiser: Denoiser
    sampler: Sampler
    shape: tuple[int, ...]

    def blank(self, members: Array) -> PyTree[Array]:
        """The form of a block of draws."""
        begin = partial(_begin, shape=self.shape)
        return jax.eval_shape(begin, self.key, members, self.denoiser, self.sampler)

    def needed(self, chunk: int) -> int:
        """Bytes that a block of so many members needs."""
        members = jnp.arange(chunk)
        given = self.key, members, self.denoiser, self.sampler, self.blank(members)
        return needed_bytes(_advance.lower(*given, 0, 1).compile())

    def block(
        self, members: Array, folder: Path, save_every: int, remedy: str, bar: tqdm
    ) -> PyTree[Array]:
        """A block of draws after their last step, from where `folder` has them."""
        given = self.key, members, self.denoiser, self.sampler
        with checkpointer(folder, keep=1) as manager:
            like = jax.tree.map(
                lambda a: jax.ShapeDtypeStruct(
                    a.shape, a.dtype, sharding=sharding(_spec(a, self.shape))
                ),
                self.blank(members),
            )
            latest = latest_step(manager)
            draws = restore(manager, latest, like) if latest >= 0 else _begin(*given, self.shape)
            done = max(latest, 0)
            bar.update(done)
            while done < self.sampler.steps:
                steps = min(save_every, self.sampler.steps - done)
                draws = run_if_fits(_advance, remedy, *given, draws, done, steps)
                before, done = done, done + steps
                if isinstance(self.sampler, Skips):
                    done = int(whole(self.sampler.upcoming(draws.state, done)))
                bar.update(done - before)
                save(manager, done, draws)
        return draws


def _spec(leaf: Array, shape: tuple[int, ...]) -> PartitionSpec:
    """How something that every member of a block has is shared by the devices."""
    return PartitionSpec(BATCH, TIME) if leaf.shape[1:] == shape else PartitionSpec(BATCH)


@partial(jax.jit, static_argnames="shape")
def _begin(
    key: PRNGKey, members: Array, denoiser: Denoiser, sampler: Sampler, shape: tuple[int, ...]
) -> PyTree[Array]:
    return _pinned(begin_members(key, members, denoiser, sampler, shape), shape)


@partial(jax.jit, donate_argnames="draws")
def _advance(
    key: PRNGKey,
    members: Array,
    denoiser: Denoiser,
    sampler: Sampler,
    draws: PyTree[Array],
    first: int,
    steps: int,
) -> PyTree[Array]:
    shape = draws.state.x.shape[1 + isinstance(sampler, PopulationSampler) :]
    denoiser = prepared(denoiser, shape)
    return _pinned(advance_members(key, members, denoiser, sampler, draws, first, steps), shape)


@jax.jit
def _end(
    denoiser: Denoiser, sampler: Sampler, standardisation: Standardisation, draws: PyTree[Array]
) -> tuple[Array, Array, dict[str, Array]]:
    x, diverged_at, report = finish_members(denoiser, sampler, draws)
    return constrain(standardisation.inverse(x), BATCH, TIME), diverged_at, report


def _pinned(draws: PyTree[Array], shape: tuple[int, ...]) -> PyTree[Array]:
    return jax.tree.map(lambda leaf: constrain(leaf, *_spec(leaf, shape)), draws)


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
