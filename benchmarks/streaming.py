"""Training on a file that is far larger than memory may be: resident memory, and how long the
training waits for the reader.

Writes a NetCDF of the size asked for, once, to the folder given.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import h5netcdf
import jax
import numpy as np
from common import record

from sda_jax.data._archive import open_archive
from sda_jax.data._feed import Feed
from sda_jax.data._files import Files
from sda_jax.data._survey import surveyed

GRID, CHANNELS, BLOCK = 64, ("t", "u", "v", "q"), 256
BATCH, STEPS = 8, 8  # segments a step, steps a block
GIB = 2**30


def write(path: Path, gib: float) -> int:
    """A field of noise around a wave; returns its number of states."""
    states = int(gib * GIB / (4 * GRID * GRID * len(CHANNELS))) // BLOCK * BLOCK
    if path.exists():
        return states
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((BLOCK, GRID, GRID)).astype(np.float32)
    place = 2 * np.pi * np.arange(GRID) / GRID
    temporary = path.with_suffix(".partial")
    with h5netcdf.File(temporary, "w") as file:
        file.dimensions = {"time": states, "y": GRID, "x": GRID}
        for name, values in (("y", place), ("x", place), ("time", np.arange(states) * 1.0)):
            file.create_variable(name, (name,), "float64")[:] = values
        file.variables["time"].attrs["units"] = "hours since 2000-01-01"
        for k, name in enumerate(CHANNELS):
            made = file.create_variable(name, ("time", "y", "x"), "float32", chunks=(1, GRID, GRID))
            for first in range(0, states, BLOCK):
                phase = 0.1 * np.arange(first, first + BLOCK)[:, None, None] + k
                made[first : first + BLOCK] = noise + np.sin(place + phase).astype(np.float32)
    temporary.rename(path)
    return states


def main() -> None:
    """Writes the file, surveys it, trains, and reads as fast as it can."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--gib", type=float, default=20.0)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--reading", type=Path, default=None, help="internal: just reads")
    options = parser.parse_args()
    source = options.folder / "field.nc"
    if options.reading:
        archive = open_archive(Files((str(source),)))
        found = surveyed(options.reading, archive)
        feed = Feed(archive, found, jax.random.key(0), BATCH, 5)
        start = time.perf_counter()
        size = sum(feed.segments(i, 16).nbytes for i in range(0, 64, 16))
        print(json.dumps({"mib": size / 2**20, "seconds": time.perf_counter() - start}))
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    states = write(source, options.gib)
    output = options.folder / "run"
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "sda_jax.cli.main", "train", "--data", str(source),
         "--output", str(output), "--training.steps", str(options.steps),
         "--training.block", str(STEPS),
         "--training.batch", str(BATCH), "--training.validation-batches", "2"],
        check=True,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    lines = (output / "train" / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    waits = [r["waited"] for r in records]
    block = (records[-1]["seconds"] - records[0]["seconds"]) / (len(records) - 1)
    command = [sys.executable, __file__, "--folder", str(options.folder)]
    command += ["--reading", str(output / "train" / "survey.json")]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    reading = json.loads(printed.splitlines()[-1])
    rate = reading["mib"] / reading["seconds"]
    per_step = 4 * BATCH * 5 * GRID * GRID * len(CHANNELS) / 2**20
    body = "\n".join(
        [
            f"{states} states of {GRID} x {GRID} x {len(CHANNELS)}, "
            f"{source.stat().st_size / GIB:.1f} GiB; {options.steps} steps of {BATCH} segments "
            f"of 5 states, in blocks of {STEPS}.\n",
            "| | |",
            "|---|---|",
            f"| peak resident memory of the whole command | {peak:.2f} GiB |",
            f"| whole command, the survey's pass over the file included | {seconds:.0f} s |",
            f"| a block of steps | {block:.2f} s |",
            f"| waited for the reader, first block | {waits[0]:.2f} s |",
            f"| waited for the reader, the longest of the others | {max(waits[1:]):.3f} s |",
            f"| reader alone | {rate:.0f} MiB/s: {rate / per_step:.0f} steps a second |",
        ]
    )
    record("streaming", "Training from a file larger than memory", body)


if __name__ == "__main__":
    main()
