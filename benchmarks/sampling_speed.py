"""Posterior sampling against a bare loop over the same network's forwards and gradients."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from common import record

import sda_jax as sda
from sda_jax.core._protocols import Denoiser
from sda_jax.posterior._presets import PRESETS

LENGTH, CHUNK = 65, 32
DEFAULT = PRESETS["default"]
METHODS = {
    "SDA, 2M 64, C=1": (
        sda.SDA(),
        sda.PredictorCorrector(64, sda.LogSNR(), sda.DPMSolverPP2M(), sda.Langevin(1, 0.25)),
    ),
    "fast": PRESETS["fast"],
    "default, one search": (DEFAULT[0], dataclasses.replace(DEFAULT[1], searches=1)),
}


def seconds(run: Callable[[], jax.Array], repeats: int = 3) -> float:
    """Median of the time of one call, after a first that compiles."""
    jax.block_until_ready(run())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - start)
    return float(np.median(times))


@partial(jax.jit, static_argnames="counts")
def bare(denoiser: Denoiser, x: jax.Array, counts: tuple[int, int, int]) -> jax.Array:
    """So many evaluations without a VJP, with one and with two, each depending on the one before,
    and nothing else."""

    def one(gradients: int, x: jax.Array, t: jax.Array) -> tuple[jax.Array, None]:
        out, pull = jax.vjp(lambda x: denoiser(x, t), x)
        w = out
        for _ in range(gradients):
            (w,) = pull(w)
        return out + 1e-6 * w, None

    def member(x: jax.Array) -> jax.Array:
        for gradients, count in enumerate(counts):
            x, _ = jax.lax.scan(partial(one, gradients), x, jnp.linspace(0.9, 0.1, count))
        return x

    return jax.vmap(member)(x)


def main() -> None:
    """Seconds of each method, of its evaluations alone, and what it takes beside them."""
    prior = sda.load_prior("lorenz63")
    truth = sda.simulate(jax.random.key(0), prior.system, LENGTH)
    x = jax.random.normal(jax.random.key(3), (CHUNK, LENGTH, 3))
    cores = os.cpu_count() or 1
    rows = [
        "| method | observation | forwards | VJPs | seconds | bare loop | overhead | "
        "forwards / s / core |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, (guidance, sampler) in METHODS.items():
        for label, every, std in (("lo", 8, 0.4), ("hi", 1, 2.0)):
            operator = sda.Every(every, sda.Channels((0,)))
            observation = sda.observe(jax.random.key(1), truth, operator, std=std)
            cost = sda.count_evaluations(prior, observation, LENGTH, guidance, sampler)
            forwards, vjps = cost[:2]
            twice = max(vjps - forwards, 0)
            once = vjps - 2 * twice
            counts = forwards - once - twice, once, twice
            loop = seconds(partial(bare, prior.denoiser, x, counts))
            run = partial(
                sda.assimilate, jax.random.key(2), prior, observation, LENGTH, CHUNK, guidance,
                sampler, sda.Memory(CHUNK),
            )  # fmt: skip
            took = seconds(run)
            rows.append(
                f"| {name} | {label} | {forwards} | {vjps} | {took:.2f} | {loop:.2f} | "
                f"{took / loop - 1:+.0%} | {CHUNK * forwards / took / cores:.0f} |"
            )
            print(rows[-1], flush=True)
    record(
        "sampling_speed",
        f"Sampling speed, shipped Lorenz prior, {CHUNK} members of {LENGTH} states",
        "Forwards and VJPs are a member's; the bare loop makes as many of the network and nothing "
        "else; medians of 3.\n\n" + "\n".join(rows),
    )


if __name__ == "__main__":
    main()
