"""Kolmogorov flow: speed against jax-cfd called directly, throughput of batches, steadiness after
the spin-up, divergence."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import record

import sda_jax as sda
from sda_jax.systems import _cfd as cfd
from sda_jax.systems._fields import divergence, staggered_divergence, vorticity


def direct(system: sda.KolmogorovFlow) -> tuple[Callable[[Any], Any], Any]:
    """The step as a user of jax-cfd would write it, and its initial state."""
    grid = cfd.grids.Grid((system.size, system.size), domain=((0, 2 * math.pi),) * 2)
    force = cfd.forcings.simple_turbulence_forcing(grid, 1.0, 4, -0.1)
    advance = cfd.equations.semi_implicit_navier_stokes(
        density=1.0, viscosity=1e-3, dt=system.dt / system.inner_steps, grid=grid, forcing=force
    )
    start = cfd.initial_conditions.filtered_velocity_field(jax.random.key(0), grid, 3.0, 4)
    return jax.jit(cfd.funcutils.repeated(advance, system.inner_steps)), start


def seconds(step: Callable[[Any], Any], s: Any, repeats: int) -> float:
    """Median time of a step."""
    s = jax.block_until_ready(step(s))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        s = jax.block_until_ready(step(s))
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def main() -> None:
    """Times and checks the simulator."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[64, 128, 256])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--trajectories", type=int, default=16)
    options = parser.parse_args()
    rows = []
    for size in options.sizes:
        system = sda.KolmogorovFlow(size=size)
        theirs, start = direct(system)
        ours = jax.jit(lambda s, system=system: system.step(jax.random.key(0), s))
        first = system.init(jax.random.key(0))
        gap = jnp.abs(ours(first) - jnp.stack([u.data for u in theirs(start)], -1)).max()
        # interleaved, so that what else the machine does falls on both
        pairs = [
            (seconds(theirs, start, options.repeats), seconds(ours, first, options.repeats))
            for _ in range(3)
        ]
        a, b = np.median([p[0] for p in pairs]), np.median([p[1] for p in pairs])
        batch = jax.vmap(system.init)(jax.random.split(jax.random.key(1), 8))
        together = jax.jit(jax.vmap(lambda s, system=system: system.step(jax.random.key(0), s)))
        c = seconds(together, batch, 3) / 8
        rows.append(
            f"| {size} | {system.inner_steps} | {1e3 * a:.1f} | {1e3 * b:.1f} | {b / a:.3f} | "
            f"{float(gap):.1e} | {1e3 * c:.1f} | {1 / c:.0f} |"
        )
    system = sda.KolmogorovFlow(size=128, spinup=0)
    n = options.trajectories
    x = np.asarray(sda.simulate(jax.random.key(2), system, 128, batch=n, chunk=8))
    energy = (x**2).sum(-1).mean(axis=(2, 3)) / 2
    curl = np.asarray(vorticity(jnp.asarray(x)))
    enstrophy = (curl**2).mean(axis=(2, 3)) / 2
    steady = []
    for low in range(0, 128, 16):
        part = slice(low, low + 16)
        e, w = energy[:, part].mean(axis=1), enstrophy[:, part].mean(axis=1)
        steady.append(
            f"| {low * system.dt:.1f} to {(low + 16) * system.dt:.1f} | {e.mean():.3f} +- "
            f"{e.std(ddof=1) / np.sqrt(n):.3f} | {w.mean():.4f} +- "
            f"{w.std(ddof=1) / np.sqrt(n):.4f} |"
        )
    s = system.init(jax.random.key(3))
    advance = jax.jit(lambda s: system.step(jax.random.key(0), s))
    for _ in range(8):
        s = advance(s)
    fine = jnp.sqrt(jnp.mean(staggered_divergence(s) ** 2) / jnp.mean(vorticity(s) ** 2))
    coarse = x[:, 64:]
    div = np.asarray(divergence(jnp.asarray(coarse)))
    stored = np.sqrt((div**2).mean() / (curl[:, 64:] ** 2).mean())
    body = "\n".join(
        [
            "Milliseconds per state of 0.2 time units; the batch is 8 trajectories.\n",
            "| grid | inner steps | jax-cfd directly | KolmogorovFlow | ratio | largest difference "
            "| in a batch, each | states per second |",
            "|---" * 8 + "|",
            *rows,
            f"\nSimulated on 128 x 128 without spin-up, observed on 32 x 32, {n} trajectories, by "
            "time (64 states of spin-up are 12.8 time units):\n",
            "| time | energy | enstrophy (grid units) |",
            "|---" * 3 + "|",
            *steady,
            f"\nrms divergence / rms vorticity: {float(fine):.1e} on the simulation grid, "
            f"{stored:.3f} on the stored averages.",
        ]
    )
    record("simulator", "Kolmogorov flow: the simulator", body)


if __name__ == "__main__":
    main()
