"""Time and peak memory of posteriors of Kolmogorov flow against their length, and what a stride
between windows costs in accuracy.

Each length runs in a process of its own, so that the peak is its own; the second of two runs is
timed, with 8 evaluations of the network.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from common import record

import sda_jax as sda
from sda_jax.diffusion._composition import LongRange
from sda_jax.diffusion._grids import LogSNR
from sda_jax.prior._trajectory_denoiser import trajectory_denoiser

RATIOS = (0.03, 0.3, 1.0, 3.0)
SAMPLER = sda.PredictorCorrector(4, LogSNR(), sda.ExponentialIntegrator(), sda.Langevin(1, 0.3))
EVALUATIONS = 8  # a prediction and a correction of four steps


def measure(length: int, chunk: int | None) -> dict[str, float]:
    """Seconds of the second run and the peak over what was resident before the first."""
    prior = sda.load_prior("kolmogorov")
    operator = sda.Every(4, sda.Coarsen(4))
    truth = jax.random.normal(jax.random.key(0), (length, *prior.state_shape))
    observation = sda.observe(jax.random.key(1), truth, operator, std=0.1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def run() -> None:
        memory = sda.Memory(window_chunk=chunk)
        sda.assimilate(
            jax.random.key(2), prior, observation, length, 1, sampler=SAMPLER, memory=memory
        )

    run()
    start = time.perf_counter()
    run()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "mib": (peak - before) / 1024}


def strides() -> str:
    """RMS error of the denoiser against the truth, by stride and noise."""
    prior = sda.load_prior("kolmogorov")
    length = 29
    truth = sda.simulate(jax.random.key(3), prior.system, length, batch=4)
    z = prior.standardisation.forward(truth)
    noise = jax.random.normal(jax.random.key(4), z.shape)
    lines = ["| stride | windows | " + " | ".join(f"sigma/mu = {r}" for r in RATIOS) + " |"]
    lines.append("|---" * (2 + len(RATIOS)) + "|")
    for stride in (1, 2, 3):
        cells = []
        denoiser = trajectory_denoiser(prior, length, memory=sda.Memory(window_stride=stride))
        schedule = denoiser.schedule
        apply = jax.jit(lambda x, t, d=denoiser: jax.lax.map(lambda x: d(x, t), x))
        for ratio in RATIOS:
            t = schedule.time(jnp.asarray(ratio))
            x = schedule.mu(t) * z + schedule.sigma(t) * noise
            error = np.sqrt(float(jnp.mean((apply(x, t) - z) ** 2)))
            cells.append(f"{error:.4f}")
        windows = len(range(0, 24, stride)) + 1
        lines.append(f"| {stride} | {windows} | {' | '.join(cells)} |")
    return "\n".join(lines)


def long_range() -> str:
    """Mean squared error of windows that are long_range what lies beyond them, over that of windows
    alone; and the same with the linear estimate's difference in full at every level."""
    prior, length = sda.load_prior("kolmogorov"), 16
    z = prior.standardisation.forward(sda.simulate(jax.random.key(5), prior.system, length, 16, 8))
    noise = jax.random.normal(jax.random.key(6), z.shape)
    long_range = trajectory_denoiser(prior, length)
    assert isinstance(long_range, LongRange)
    schedule = long_range.schedule

    @jax.jit
    def errors(x: jax.Array, t: jax.Array) -> tuple[jax.Array, ...]:
        alone = jax.lax.map(lambda x: long_range.windows(x, t), x)
        full = alone + jax.lax.map(lambda x: long_range.linear(x, t) - long_range.local(x, t), x)
        composed = jax.lax.map(lambda x: long_range(x, t), x)
        return tuple(jnp.mean((estimate - z) ** 2) for estimate in (alone, composed, full))

    lines = ["| sigma/mu | long_range / alone | in full / alone |", "|---|---|---|"]
    for ratio in (0.1, 0.3, 1.0, 3.0, 6.0, 10.0, 20.0, 40.0):
        t = schedule.time(jnp.asarray(ratio))
        alone, composed, full = errors(schedule.mu(t) * z + schedule.sigma(t) * noise, t)
        lines.append(f"| {ratio} | {composed / alone:.3f} | {full / alone:.3f} |")
    return "\n".join(lines)


def main() -> None:
    """Measures every length with and without chunks, then the strides."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="*", default=[8, 16, 29, 64, 127])
    parser.add_argument("--chunk", type=int, default=8)
    parser.add_argument("--one", type=int, nargs=2, default=None, help="length and chunk; internal")
    options = parser.parse_args()
    if options.one:
        length, chunk = options.one
        print(json.dumps(measure(length, chunk or None)))
        return
    rows = []
    for length in options.lengths:
        cells = []
        for chunk in (0, options.chunk):
            command = [sys.executable, __file__, "--one", str(length), str(chunk)]
            out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found = json.loads(out.splitlines()[-1])
            cells += [f"{found['seconds']:.2f}", f"{found['mib']:.0f}"]
            per = 1e3 * found["seconds"] / EVALUATIONS / (length - 4)
            cells.append(f"{per:.2f}")
        rows.append(f"| {length} | {length - 4} | {' | '.join(cells)} |")
    header = (
        f"One member, {EVALUATIONS} evaluations with their gradients; memory is the growth "
        "of the process's peak, compilation included.\n\n"
        f"| length | windows | all at once: s | MiB | ms per window and evaluation | chunks of "
        f"{options.chunk}: s | MiB | ms per window and evaluation |\n" + "|---" * 8 + "|\n"
    )
    body = header + "\n".join(rows) + "\n\nRMS error of the denoiser against the truth, 4 "
    body += "simulated trajectories of 29 states, by stride between windows:\n\n" + strides()
    body += "\n\nMean squared error on 16 simulated trajectories of 16 states, of windows that are "
    body += "long_range what lies beyond them over that of windows alone:\n\n" + long_range()
    record("windows", "Posteriors of Kolmogorov flow on 32 x 32 against length", body)


if __name__ == "__main__":
    main()
