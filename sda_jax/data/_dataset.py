"""Data sets of simulated trajectories, stored in HDF5 files."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator
from pathlib import Path
from typing import Any

import h5py
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from tqdm import tqdm

from sda_jax.core._errors import ConfigError, require_at_least, whole_number
from sda_jax.core._json import dumps
from sda_jax.core._keys import stream
from sda_jax.core._protocols import System
from sda_jax.core._requirements import require_protocol
from sda_jax.core._units import Standardisation
from sda_jax.data._simulation import simulate_members
from sda_jax.runtime._devices import scattered, sharding
from sda_jax.runtime._hdf5 import create_array, read_hdf5, write_hdf5
from sda_jax.runtime._parts import Parts, is_finished
from sda_jax.runtime._processes import on_process_zero, together
from sda_jax.runtime._room import require_disk
from sda_jax.runtime._versions import numerics

KEPT = 64  # trajectories at a time, while a set is made
SPLITS = ("train", "valid", "test")


def statistics(trajectories: Float[np.ndarray, ...]) -> Standardisation:
    """Mean and standard deviation per channel (the last axis) over all states."""
    axes = tuple(range(trajectories.ndim - 2))
    # a trajectory at a time, so that a large set needs no copy in double precision
    means = [np.mean(x, axis=axes, dtype=np.float64) for x in trajectories]
    mean = np.atleast_1d(np.mean(means, axis=0))
    squares = [np.mean((x - mean) ** 2, axis=axes, dtype=np.float64) for x in trajectories]
    std = np.atleast_1d(np.sqrt(np.mean(squares, axis=0)))
    return Standardisation(tuple(mean.tolist()), tuple(std.tolist()))


def split_sizes(trajectories: int, test: float = 0.1) -> dict[str, int]:
    """A tenth for validation and a share for test, at least one trajectory each; without a test for
    a share of 0.

    Raises:
        ConfigError: Fewer trajectories than parts.
    """
    require_at_least("trajectories", trajectories, 3 if test else 2)
    held = max(1, trajectories // 10)
    apart = max(1, min(int(round(trajectories * test, 9)), trajectories - held - 1)) if test else 0
    return {"train": trajectories - held - apart, "valid": held, "test": apart}


def generate(
    path: str | Path,
    system: System,
    seed: int,
    trajectories: int,
    length: int,
    chunk: int | None = None,
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
        chunk: Trajectories simulated at once, and kept when the call is interrupted; None for 64,
            or as many as fit the memory.
        progress: Shows a bar.

    Raises:
        StorageError: The file or the folder of chunks is of another data set, or cannot be
            written.
        DivergenceError: The simulation gave values that are not finite.
        ResourceError: More memory or space on the disk is needed than there is.
    """
    path = Path(path)
    require_protocol("system", system, System)
    trajectories, length = (
        whole_number(name, value)
        for name, value in (("trajectories", trajectories), ("length", length))
    )
    chunk = None if chunk is None else whole_number("chunk", chunk)
    sizes = split_sizes(trajectories)
    given = {"system": system, "seed": seed, "trajectories": trajectories, "length": length}
    description = dumps(given | {"numerics": numerics()})
    if is_finished(path, "dataset", "description", description, "data set"):
        return path
    shape = (trajectories, length, *system.state_shape)
    require_disk(path, 4 * math.prod(shape), "Ask for fewer or shorter trajectories.")
    parts = Parts(path, description, shape)
    key = stream(seed, "stored set")
    chunks = parts.blocks(chunk or KEPT)
    for first, last in tqdm(chunks, desc="simulate", disable=not progress):
        if not parts.has(first, last):
            members = jnp.arange(first, last)
            parts.write(first, last, simulate_members(key, system, members, length, chunk))

    attributes = {"description": description, "system": dumps(system), "seed": seed}
    shape = (length, *system.state_shape)
    on_process_zero(lambda: _assemble(path, parts, chunks, sizes, shape, attributes))
    return path


def _assemble(
    path: Path,
    parts: Parts,
    chunks: list[tuple[int, int]],
    sizes: dict[str, int],
    shape: tuple[int, ...],
    attributes: dict[str, Any],
) -> None:
    """The file of all finished chunks, which are removed then."""
    with write_hdf5(path, "dataset") as file:
        file.attrs.update(attributes)
        first = 0
        for split, size in sizes.items():
            parts.copy(chunks, first, create_array(file, f"{split}/x", (size, *shape)))
            first += size
        train = statistics(file["train/x"])
        file.attrs["mean"], file.attrs["std"] = train.mean, train.std
    parts.remove()


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
