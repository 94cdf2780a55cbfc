"""Posterior sampling against a bare loop over the same network's forward and gradient."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from common import record

import sda_jax as sda
from sda_jax.types import Denoiser

LENGTH, CHUNK, STEPS = 65, 32, 64


def seconds(run: Callable[[], jax.Array], repeats: int = 7) -> float:
    """Median of the time of one call, after a first that compiles."""
    jax.block_until_ready(run())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def main() -> None:
    """Evaluations (a forward and a VJP) per second and core, and the sampler's overhead."""
    prior = sda.load_prior("lorenz63")
    system = prior.system
    truth = sda.simulate(jax.random.key(0), system, LENGTH)
    sampler = sda.PredictorCorrector(
        STEPS, sda.EvenLogRatio(), sda.DPMSolverPP2M(), sda.Langevin(1, 0.25)
    )
    forwards = sampler.evaluations(prior.denoiser.schedule)
    evaluations = CHUNK * forwards

    @jax.jit
    def bare(denoiser: Denoiser, x: jax.Array) -> jax.Array:
        """As many evaluations, each depending on the one before, and nothing else."""

        def one(x: jax.Array, t: jax.Array) -> tuple[jax.Array, None]:
            out, pull = jax.vjp(lambda x: denoiser(x, t), x)
            return out + 1e-6 * pull(out)[0], None

        times = jnp.linspace(0.9, 0.1, forwards)
        return jax.vmap(lambda x: jax.lax.scan(one, x, times)[0])(x)

    x = jax.random.normal(jax.random.key(3), (CHUNK, LENGTH, 3))
    loop = seconds(lambda: bare(prior.denoiser, x))
    rows = ["| what | seconds | evaluations / s / core | overhead |", "|---|---|---|---|"]
    cores = os.cpu_count() or 1
    rows.append(f"| bare loop | {loop:.3f} | {evaluations / loop / cores:.0f} | |")
    for name, every, std in (("lo", 8, 0.4), ("hi", 1, 2.0)):
        operator = sda.Every(every, sda.Channels((0,)))
        observation = sda.observe(jax.random.key(1), truth, operator, std=std)
        took = seconds(
            lambda o=observation: sda.assimilate(
                jax.random.key(2), prior, o, LENGTH, CHUNK, sampler=sampler, chunk=CHUNK
            )
        )
        rows.append(
            f"| assimilate, {name} | {took:.3f} | {evaluations / took / cores:.0f} | "
            f"{took / loop - 1:+.1%} |"
        )
    record(
        "sampling_speed",
        f"Sampling speed, shipped Lorenz prior, {CHUNK} members of {LENGTH} states",
        f"{forwards} evaluations a member, a forward and a VJP each; medians of 7.\n\n"
        + "\n".join(rows),
    )


if __name__ == "__main__":
    main()
