"""Writing a posterior larger than the machine's memory, and its statistics.

    python benchmarks/large_posterior.py --folder FOLDER --gib 26

Members come from a generator of random fields, for what is measured is the writing.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xarray as xr
from common import record

from sda_jax.data._layout import Axis, Channel, Layout
from sda_jax.posterior._export import write_posterior
from sda_jax.posterior._summary import summarise

GRID, NAMES, LENGTH = 64, ("t", "u", "v", "q"), 2048
GIB = 2**30


def members(count: int) -> Iterator[np.ndarray]:
    """Trajectories that differ by a number, so that the spread is known."""
    field = np.random.default_rng(0).standard_normal((LENGTH, GRID, GRID, len(NAMES)))
    field = field.astype(np.float32)
    for i in range(count):
        yield field + np.float32(i)


def main() -> None:
    """Writes, opens, and computes mean, spread and quantiles."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--gib", type=float, default=26.0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / "posterior.nc"
    size = 4 * LENGTH * GRID**2 * len(NAMES)
    count = int(np.ceil(options.gib * GIB / size))
    axes = tuple(Axis(n, tuple(np.linspace(0, 1, GRID)), "1") for n in ("y", "x"))
    layout = Layout(
        tuple(Channel(n, "1") for n in NAMES), axes, time_units="hours since 2000-01-01"
    )
    start = time.perf_counter()
    write_posterior(path, members(count), count, layout, 0.0)
    written = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    start = time.perf_counter()
    with xr.open_dataset(path, engine="h5netcdf") as dataset:
        shape = dict(dataset.sizes)
        found = summarise(dataset.isel(time=slice(0, 256)), (0.05, 0.95))
    summarised = time.perf_counter() - start
    spread, expected = found.t_spread.values, np.arange(count).std(ddof=1)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    body = "\n".join(
        [
            f"{count} members of {LENGTH} states of {GRID} x {GRID} x {len(NAMES)}: {shape}.\n",
            "| | |",
            "|---|---|",
            f"| file | {path.stat().st_size / GIB:.1f} GiB |",
            f"| the machine's memory | {memory:.1f} GiB |",
            f"| peak resident memory of the writing | {peak:.2f} GiB |",
            f"| writing | {written:.0f} s |",
            f"| mean, spread and two quantiles of 256 states | {summarised:.0f} s |",
            f"| largest relative error of the spread | {np.abs(spread / expected - 1).max():.1e} |",
        ]
    )
    record("large_posterior", "A posterior larger than memory", body)


if __name__ == "__main__":
    main()
