"""Simulating trajectories and storing them."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from functools import partial
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree
from tqdm import tqdm

from sda_jax.core._arrays import PRNGKey, Trajectory
from sda_jax.core._errors import ConfigError, DivergenceError, require_at_least
from sda_jax.core._json import dumps
from sda_jax.core._keys import stream
from sda_jax.core._protocols import System
from sda_jax.core._units import Standardisation
from sda_jax.runtime._devices import BATCH, over_batch, require_shared, scattered, sharding
from sda_jax.runtime._files import create_array, read_hdf5, write_hdf5
from sda_jax.runtime._memory import run_if_fits
from sda_jax.runtime._parts import Parts, blocks, is_finished
from sda_jax.runtime._processes import finite_rows, on_process_zero, together

SPLITS = ("train", "valid", "test")

UNSTABLE = (
    "The step is unstable: lower the system's dt or its noise; for a flow raise max_velocity or "
    "lower courant, which take more inner steps."
)
CHUNK_REMEDY = "Lower chunk, the trajectories simulated at once."


def spun_up(key: PRNGKey, system: System) -> PyTree[Array]:
    """A simulator state after the system's spin-up."""
    key_init, key_spin = jax.random.split(key)

    def step(s: PyTree[Array], i: Array) -> tuple[PyTree[Array], None]:
        return system.step(jax.random.fold_in(key_spin, i), s), None

    return jax.lax.scan(step, system.init(key_init), jnp.arange(system.spinup))[0]


def advance(
    key: PRNGKey, system: System, s: PyTree[Array], length: int
) -> tuple[PyTree[Array], Trajectory]:
    """`length` observed states from `s` on, and the simulator's state after the last."""

    def step(s: PyTree[Array], i: Array) -> tuple[PyTree[Array], Array]:
        return system.step(jax.random.fold_in(key, i), s), system.state(s)

    return jax.lax.scan(step, s, jnp.arange(length))


@partial(jax.jit, static_argnames="length")
def _simulate(key: PRNGKey, system: System, length: int) -> Trajectory:
    key_start, key_path = jax.random.split(key)
    return advance(key_path, system, spun_up(key_start, system), length)[1]


@partial(jax.jit, static_argnames="length")
def _simulate_members(
    key: PRNGKey, system: System, members: Array, length: int
) -> Float[Array, "batch length *state"]:
    return over_batch(lambda i: _simulate(jax.random.fold_in(key, i), system, length), members)


def _simulated_members(
    key: PRNGKey, system: System, members: Array, length: int
) -> Float[Array, "batch length *state"]:
    """A chunk of trajectories, in memory and finite."""
    require_shared("chunk", len(members), BATCH)
    x = run_if_fits(_simulate_members, CHUNK_REMEDY, key, system, members, length)
    _require_finite(key, system, x, members)
    return x


def simulate(
    key: PRNGKey,
    system: System,
    length: int,
    batch: int | None = None,
    chunk: int | None = None,
) -> Float[Array, ...]:
    """Draws trajectories after the system's spin-up; compiled.

    Args:
        key: Random key. Trajectory i of a batch uses the key folded with i.
        system: What to simulate.
        length: States per trajectory.
        batch: Trajectories; None for a single one without a batch axis.
        chunk: Trajectories simulated at once, which bounds the memory; None for all.

    Returns:
        `(length, *S)` or `(batch, length, *S)` in physical units.

    Raises:
        ConfigError: `length`, `batch` or `chunk` below 1.
        DivergenceError: The simulation gave values that are not finite.
    """
    require_at_least("length", length, 1)
    if batch is None:
        x = _simulate(key, system, length)
        _require_finite(key, system, x, None)
        return x
    require_at_least("batch", batch, 1)
    chunk = batch if chunk is None else chunk
    require_at_least("chunk", chunk, 1)
    parts = []
    for start in range(0, batch, chunk):
        members = jnp.arange(start, min(start + chunk, batch))
        parts.append(_simulated_members(key, system, members, length))
    return jnp.concatenate(parts)


@partial(jax.jit, static_argnames="length")
def forecast(key: PRNGKey, system: System, x: Float[Array, "*state"], length: int) -> Trajectory:
    """Simulates on from an observed state, lifted to the simulator's: `(length, *S)` from `x` on.

    Where lifting is not exact, as for a coarsened flow, the first state given back is not quite x.
    """
    return advance(key, system, system.lift(x), length)[1]


def statistics(trajectories: Float[np.ndarray, ...]) -> Standardisation:
    """Mean and standard deviation per channel (the last axis) over all states."""
    axes = tuple(range(trajectories.ndim - 2))
    # a trajectory at a time, so that a large set needs no copy in double precision
    means = [np.mean(x, axis=axes, dtype=np.float64) for x in trajectories]
    mean = np.atleast_1d(np.mean(means, axis=0))
    squares = [np.mean((x - mean) ** 2, axis=axes, dtype=np.float64) for x in trajectories]
    std = np.atleast_1d(np.sqrt(np.mean(squares, axis=0)))
    return Standardisation(tuple(mean.tolist()), tuple(std.tolist()))


def split_sizes(trajectories: int) -> dict[str, int]:
    """80/10/10 by trajectory, at least one trajectory each.

    Raises:
        ConfigError: Fewer than three trajectories.
    """
    require_at_least("trajectories", trajectories, 3)
    held = max(1, trajectories // 10)
    return {"train": trajectories - 2 * held, "valid": held, "test": held}


def generate(
    path: str | Path,
    system: System,
    seed: int,
    trajectories: int,
    length: int,
    chunk: int = 64,
    progress: bool = False,
) -> Path:
    """Simulates a data set into an HDF5 file with the groups train, valid and test.

    Chunks of trajectories are kept in a folder beside the file until all are there, each process
    its own share, so that an interrupted call goes on where it stopped, with as many devices and
    processes as there are then; the file appears only when it is complete.
    Trajectory i depends on the seed and i alone, not on the chunk size (up to rounding, which a
    chaotic system amplifies).

    Args:
        path: The file; complete with the same contents already, nothing is done.
        system: What to simulate; saved in the file.
        seed: Seed of the whole set.
        trajectories: Number of trajectories, split 80/10/10.
        length: States per trajectory.
        chunk: Trajectories simulated at once; bounds the memory.
        progress: Shows a bar.

    Raises:
        StorageError: The file or the folder of chunks is of another data set, or cannot be
            written.
        DivergenceError: The simulation gave values that are not finite.
    """
    path = Path(path)
    sizes = split_sizes(trajectories)
    require_at_least("length", length, 1)
    require_at_least("chunk", chunk, 1)
    description = dumps(
        {"system": system, "seed": seed, "trajectories": trajectories, "length": length}
    )
    if is_finished(path, "dataset", "description", description, "data set"):
        return path
    parts = Parts(path, description)
    key = stream(seed, "stored set")
    chunks = blocks(trajectories, chunk)
    for first, last in tqdm(chunks, desc="simulate", disable=not progress):
        if not parts.has(first, last):
            members = jnp.arange(first, last)
            parts.write(first, last, _simulated_members(key, system, members, length))

    def assemble() -> None:
        with write_hdf5(path, "dataset") as file:
            file.attrs["description"] = description
            file.attrs["system"] = dumps(system)
            file.attrs["seed"] = seed
            first = 0
            for split, size in sizes.items():
                shape = (size, length, *system.state_shape)
                parts.copy(chunks, first, create_array(file, f"{split}/x", shape))
                first += size
            train = statistics(file["train/x"])
            file.attrs["mean"], file.attrs["std"] = train.mean, train.std
        parts.remove()

    on_process_zero(assemble)
    return path


def _require_finite(key: PRNGKey, system: System, x: Array, members: Array | None) -> None:
    """Raises `DivergenceError` naming the first trajectory and step that is not finite.

    `x` is what `_simulate_members` gave, or `_simulate` where `members` is None.
    """
    batch = x[None] if members is None else x
    finite = finite_rows(batch)
    if finite.all():
        return
    row, name = int(np.argmin(finite)), "the trajectory"
    if members is not None:
        key, name = jax.random.fold_in(key, members[row]), f"trajectory {members[row]}"
    step = int(_first_bad(key, system, batch.shape[1]))
    when = "the initial state" if step == 0 else f"step {step}"
    if step < 0:  # chaos: simulated alone, this trajectory happens to stay finite
        when = "an unknown step"
    raise DivergenceError(
        "simulation",
        f"values that are not finite in {name} from {when} on, {system.spinup} of them spin-up",
        "finite states",
        UNSTABLE,
    )


@partial(jax.jit, static_argnames="length")
def _first_bad(key: PRNGKey, system: System, length: int) -> Array:
    """The number of steps, spin-up included, after which `_simulate` first is not finite; -1
    if it always is."""
    key_start, key_path = jax.random.split(key)
    key_init, key_spin = jax.random.split(key_start)

    def finite(s: PyTree[Array]) -> Array:
        return jnp.isfinite(system.state(s)).all()

    def run(key: PRNGKey, s: PyTree[Array], steps: int) -> tuple[PyTree[Array], Array]:
        def step(s: PyTree[Array], i: Array) -> tuple[PyTree[Array], Array]:
            s = system.step(jax.random.fold_in(key, i), s)
            return s, finite(s)

        return jax.lax.scan(step, s, jnp.arange(steps))

    start = system.init(key_init)
    spun, first = run(key_spin, start, system.spinup)
    _, second = run(key_path, spun, length)
    good = jnp.concatenate([finite(start)[None], first, second])
    return jnp.where(good.all(), -1, jnp.argmin(good))


def load(path: str | Path, split: str) -> Float[np.ndarray, "trajectory length *state"]:
    """One split of a data set, in physical units.

    Raises:
        ConfigError: Unknown split.
        StorageError: The file is missing, damaged or not a data set.
    """
    with _opened(path, split) as x:
        return x[:]


def load_shared(path: str | Path, split: str) -> Float[Array, "trajectory length *state"]:
    """The same on the devices of the mesh in use, a share on each along batch where some axis can
    be shared evenly; every process reads the shares of its own devices."""
    found = []

    def read() -> None:
        with _opened(path, split) as x:
            shared = sharding(scattered(x.shape))
            found.append(jax.make_array_from_callback(x.shape, shared, lambda index: x[index]))

    together(read)
    return found[0]


@contextlib.contextmanager
def _opened(path: str | Path, split: str) -> Generator[h5py.Dataset, None, None]:
    if split not in SPLITS:
        raise ConfigError("split", repr(split), f"one of {SPLITS}", "Choose one of these.")
    with read_hdf5(path, "dataset") as file:
        yield file[f"{split}/x"]
