"""What each device needs and receives when one trajectory is shared along time, by the compiler's
analysis of the samplers; nothing is run but for the overhead of a mesh of one device.

The volume is what a device receives from its neighbours and in sums over all devices in one
evaluation of the guided network: what the compiled program exchanges, loops counted as often as
they run, over the evaluations of a draw.
"""

from __future__ import annotations

import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import math
import re
import statistics
import time
from collections import Counter
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import record
from jax.sharding import AxisType

import sda_jax as sda
from sda_jax.posterior._assimilate import _draw, posterior_denoiser

EXCHANGES = r"= \(?f32\[([\d,]*)\]\S* (all-gather|all-to-all|all-reduce|collective-permute)"
CALLED = r"(?:body|to_apply|calls|branch_computations|true_computation|false_computation)="
DEVICES = (1, 2, 4, 8)
GUIDANCE = sda.GaussianCovariance(10)


def case(name: str, length: int) -> tuple[Any, ...]:
    """Prior, observation and sampler."""
    prior = sda.load_prior(name)
    if name == "lorenz63":
        operator: Any = sda.Every(8, sda.Channels((0,)))
        predictor: Any = sda.ExponentialIntegrator()
    else:
        operator, predictor = sda.Every(4, sda.Coarsen(4)), sda.DPMSolverPP2M()
    shape = jax.eval_shape(operator, jnp.zeros((length, *prior.state_shape))).shape
    observation = sda.Observation(np.zeros(shape, np.float32), operator, std=0.4)
    sampler = sda.PredictorCorrector(64, sda.LogSNR(), predictor, sda.Langevin(1, 0.1))
    return prior, observation, sampler


def compiled(name: str, length: int) -> Any:
    """The compiled draw of one trajectory and its arguments."""
    prior, observation, sampler = case(name, length)
    posterior, _ = posterior_denoiser(prior, observation, length, 1, GUIDANCE)
    given = (jax.random.key(0), jnp.arange(1), posterior, prior.standardisation)
    program = _draw.lower(*given, sampler, (length, *prior.state_shape)).compile()
    return program, lambda: jax.block_until_ready(program(*given, sampler))


def exchanged(program: str) -> Counter[str]:
    """Bytes that a device receives while a compiled program runs, by kind of exchange."""
    parts = re.split(r"^(?:ENTRY )?%?([\w.-]+) .*\{$", program, flags=re.M)
    bodies = dict(zip(parts[1::2], parts[2::2], strict=True))
    entry = re.findall(r"^ENTRY %?([\w.-]+)", program, flags=re.M)[0]

    @cache
    def volume(name: str) -> Counter[str]:
        found: Counter[str] = Counter()
        for line in bodies[name].splitlines():
            for shape, kind in re.findall(EXCHANGES, line):
                found[kind] += 4 * math.prod(int(n) for n in shape.split(",") if n)
            times = re.findall(r'"known_trip_count":\{"n":"(\d+)"', line)
            for called in re.findall(CALLED + r"\{?((?:%?[\w.-]+(?:, )?)+)", line):
                for inner in re.findall(r"[\w.-]+", called):
                    for kind, size in volume(inner).items() if inner in bodies else ():
                        found[kind] += size * int(times[0] if times else 1)
        return found

    return volume(entry)


def row(name: str, length: int, devices: int) -> str:
    """A line of the table: what one device of so many needs and receives."""
    with sda.use_mesh(1, devices):
        program, _ = compiled(name, length)
    stats = program.memory_analysis()
    memory = (stats.temp_size_in_bytes + stats.output_size_in_bytes) / 2**20
    prior, observation, sampler = case(name, length)
    counted = sda.count_evaluations(prior, observation, length, GUIDANCE, sampler)
    volumes = exchanged(program.as_text())
    known = " | ".join(
        f"{volumes[kind] / counted.forwards / 2**10:.1f}"
        for kind in ("collective-permute", "all-reduce", "all-gather", "all-to-all")
    )
    line = f"| {name} | {length} | {devices} | {memory:.1f} | {known} |"
    print(line, flush=True)
    return line


def overhead(name: str = "lorenz63", length: int = 1024, repeats: int = 9) -> str:
    """Seconds of the same draw without a mesh and on a mesh of one device, in turns."""
    _, plain = compiled(name, length)
    mesh = jax.make_mesh((1, 1), ("batch", "time"), (AxisType.Auto,) * 2, devices=jax.devices()[:1])
    with jax.set_mesh(mesh):
        _, shared = compiled(name, length)
    times: dict[Any, list[float]] = {plain: [], shared: []}
    for draw in times:
        draw()
    for _ in range(repeats):
        for draw, seconds in times.items():
            start = time.perf_counter()
            draw()
            seconds.append(time.perf_counter() - start)
    without, with_mesh = (statistics.median(s) for s in times.values())
    return (
        f"A draw of {length} states of {name}, median of {repeats} in turns: {without:.3f} s "
        f"without a mesh, {with_mesh:.3f} s on a mesh of one device "
        f"({100 * (with_mesh / without - 1):+.1f} %). `use_mesh(1, 1)` makes none, and so runs the "
        "first program."
    )


def main() -> None:
    """Writes the table and the overhead."""
    head = (
        "| prior | states | devices along time | memory a device, MiB | from neighbours, KiB | "
        "summed over all, KiB | gathered, KiB | all to all, KiB |\n" + "|---" * 8 + "|"
    )
    lines = [row("lorenz63", n, d) for n in (2048, 4096, 8192) for d in DEVICES]
    lines += [row("kolmogorov", n, d) for n in (256, 512) for d in DEVICES]
    record(
        "scaling",
        "Memory and communication of one trajectory shared along time",
        f"{overhead()}\n\n{head}\n" + "\n".join(lines),
    )


if __name__ == "__main__":
    main()
