"""What reading and checking files costs, beside the work that they are of: the pass over training
data, and the sealing and verifying of a posterior file.

    python benchmarks/checking.py --folder FOLDER --gib 2

Times are seconds of processor, of all threads, so that other work on the machine counts little. The
sampler's rate is the network's times the evaluations of a member, for a posterior of a GiB takes
hours; members in the file are random numbers.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from common import record, train
from large_posterior import GRID, NAMES
from streaming import BATCH, GIB
from streaming import write as write_field

import sda_jax as sda
from sda_jax.data._archive import open_archive
from sda_jax.data._files import Files
from sda_jax.data._survey import survey
from sda_jax.posterior._export import write_posterior
from sda_jax.posterior._sealing import verify_posterior
from sda_jax.prior._training import Training
from sda_jax.prior._trajectory_denoiser import trajectory_denoiser

SEGMENT, LENGTH, MEMBERS = 5, 64, 256  # states, members
ALONE, TIMES = 8, 4  # states that the network is timed on, and how often
LARGE = 20  # GiB of training data


def seconds(do: Callable[[], object]) -> float:
    """Processor time of `do()`."""
    before = time.process_time()
    jax.block_until_ready(do())
    return time.process_time() - before


def training(folder: Path, gib: float, steps: int) -> tuple[list[str], sda.Prior]:
    """Lines of the table, and the prior of a few steps."""
    source, output = folder / "field.nc", folder / "run"
    states = write_field(source, gib)
    archive = open_archive(Files((str(source),)))
    size = source.stat().st_size / GIB
    passed = seconds(lambda: survey(archive)) / size
    again = seconds(lambda: open_archive(Files((str(source),)))) / size
    shutil.rmtree(output, ignore_errors=True)

    def trained(count: int) -> float:
        before = _of_children()
        train("--data", str(source), "--output", str(output / str(count)), "--training.steps",
              str(count), "--training.block", "4", "--training.batch", str(BATCH),
              "--training.validation-batches", "1")  # fmt: skip
        return _of_children() - before

    step = (trained(steps) - trained(4)) / (steps - 4)
    whole = Training().steps
    work, checked = step * whole, passed * LARGE
    lines = [
        f"| pass over the data (statistics, gaps, infinities), a GiB | {passed:.2f} s |",
        f"| opening them (roles, times, heaps), a GiB | {again:.3f} s |",
        f"| a training step of {BATCH} segments of {SEGMENT} states | {step:.2f} s |",
        f"| {whole} steps (the default; {whole * BATCH * SEGMENT / (states / size * LARGE):.1f} "
        f"times as many states as {LARGE} GiB have) | {work:.0f} s |",
        f"| **pass over {LARGE} GiB / these steps** | {checked:.0f} s, {checked / work:.1%} |",
    ]
    return lines, sda.load_prior(output / str(steps) / "prior")


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def posterior(folder: Path, prior: sda.Prior) -> list[str]:
    """Lines of the table."""
    layout = prior.layout
    assert layout is not None
    rng = np.random.default_rng(0)
    member = rng.standard_normal((LENGTH, GRID, GRID, len(NAMES)), dtype=np.float32)
    said = {"sda_prior": "none", "sda_config": "{}"}
    y = np.zeros((ALONE, GRID // 16, GRID // 16, len(NAMES)), np.float32)
    observation = sda.Observation(y, sda.Subsample(16), std=1.0)
    guidance, sampler = sda.presets(prior)["fast"]
    known = layout.context(layout.times(0.0, ALONE)) if layout.context_channels else None
    counted = sda.count_evaluations(
        prior, observation, ALONE, guidance, sampler, context=known, samples=16
    )
    denoiser = trajectory_denoiser(prior, ALONE, known)
    denoise = jax.jit(lambda denoiser, x: denoiser(x, 0.5))
    x = jax.numpy.zeros((ALONE, *prior.state_shape))
    jax.block_until_ready(denoise(denoiser, x))  # compiles
    once = seconds(lambda: [denoise(denoiser, x) for _ in range(TIMES)]) / TIMES
    drawn = once * counted.forwards * LENGTH / ALONE * MEMBERS
    lines = [
        f"| the network of {ALONE} states | {once:.2f} s |",
        f'| drawing {MEMBERS} members by the preset "fast", {counted.forwards:.0f} forwards each, '
        f"gradients not counted | {drawn:.0f} s |",
    ]
    for suffix in (".nc", ".zarr"):
        path = folder / f"posterior{suffix}"
        members = (member + np.float32(i) for i in range(MEMBERS))
        written = seconds(
            lambda m=members, p=path: write_posterior(p, m, MEMBERS, layout, 0.0, said)
        )
        verified = seconds(lambda p=path: verify_posterior(p))
        lines += [
            f"| writing {suffix}, checksums included | {written:.1f} s |",
            f"| **verifying {suffix} / drawing** | {verified:.1f} s, {verified / drawn:.2%} |",
        ]
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return lines


def main() -> None:
    """Measures both, and takes its files away."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--gib", type=float, default=2.0)
    parser.add_argument("--steps", type=int, default=12)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    first, prior = training(options.folder, options.gib, options.steps)
    second = posterior(options.folder, prior)
    (options.folder / "field.nc").unlink()
    shutil.rmtree(options.folder / "run")
    size = 4 * MEMBERS * LENGTH * GRID**2 * len(NAMES) / GIB
    body = "\n".join(
        [
            f"Training data of {options.gib:g} GiB, states of {GRID} x {GRID} x {len(NAMES)}; the "
            f"pass reads every number once, so that its time is proportional to their number and "
            f"{LARGE} GiB take {LARGE} times as long as one. A posterior of {size:g} GiB, "
            f"{MEMBERS} members of {LENGTH} states. Seconds of processor.\n",
            "| | |",
            "|---|---|",
            *first,
            *second,
        ]
    )
    record("checking", "What reading and checking cost", body)


if __name__ == "__main__":
    main()
