"""What an evaluation of each guidance costs over the bare network's: its forward, its forward with
a VJP, and the guided ones, each inside a compiled loop as a sampler's is.

    python benchmarks/guidance_cost.py                  # flow of 29 states, Lorenz of 65
    python benchmarks/guidance_cost.py --priors lorenz63 --evaluations 4 --rounds 2

All are compiled first and then run in turns; the medians of their rounds are compared.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import record

import sda_jax as sda
from sda_jax.posterior._assimilate import guided
from sda_jax.prior import trajectory_denoiser
from sda_jax.samplers._driver import prepared

GUIDANCE: dict[str, Any] = {
    "SDA": sda.SDA(),
    "SDA without VJP": sda.SDA(through_network=False),
    "DPS": sda.DPS(),
    "GaussianCovariance(10)": sda.GaussianCovariance(10),
}
PRESET = "the default preset"
AGAIN = "SDA, row norms in every evaluation"
# prior: states, members, operator
CASES: dict[str, tuple[int, int, Any]] = {
    "lorenz63": (65, 64, sda.Every(8, sda.Channels((0,)))),
    "kolmogorov": (29, 1, sda.Every(4, sda.Coarsen(2))),
    "kolmogorov64": (29, 1, sda.Every(4, sda.Coarsen(4))),
}


def spent() -> float:
    """Seconds: of this process's CPU time, which other programs on the machine leave alone, or by
    the clock on an accelerator."""
    if jax.default_backend() == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_utime
    return time.perf_counter()


def loop(
    evaluate: Callable[[Any, Any], Any], count: int, prepare: bool, posterior: Any, x: Any
) -> Any:
    """`count` evaluations, each of what the last one gave."""
    if prepare:
        posterior = prepared(posterior, x.shape[1:])

    def step(i: Any, x: Any) -> Any:
        found = jax.vmap(lambda x: evaluate(posterior, x))(x)
        return x + 1e-3 * found

    return jax.lax.fori_loop(0, count, step, x)


def forward(denoiser: Any, x: Any) -> Any:
    """The posterior mean at a middling noise level."""
    return denoiser(x, 0.5)


def with_vjp(denoiser: Any, x: Any) -> Any:
    """The same, and a product with its Jacobian."""
    found, pull = jax.vjp(partial(denoiser, t=0.5), x)
    return pull(found)[0]


def rows(name: str, methods: list[str], evaluations: int, rounds: int) -> list[str]:
    """Lines of the table for one prior."""
    length, members, operator = CASES[name]
    prior = sda.load_prior(name)
    denoiser = trajectory_denoiser(prior, length)
    shape = (length, *prior.state_shape)
    y = jax.eval_shape(operator, jnp.zeros(shape))
    seen = sda.Observation(np.zeros(y.shape, np.float32), operator, std=0.3)
    seen = seen.standardised(prior.standardisation)
    known = GUIDANCE | {AGAIN: sda.SDA(), PRESET: sda.presets(prior)["default"][0]}
    x = jax.random.normal(jax.random.key(0), (members, *shape))
    programs = {"forward": (forward, denoiser), "forward and VJP": (with_vjp, denoiser)}
    for label in methods:
        programs[label] = (forward, guided(denoiser, seen, known[label]))
    runs = {}
    for label, (evaluate, posterior) in programs.items():
        run = jax.jit(partial(loop, evaluate, evaluations, label != AGAIN))
        jax.block_until_ready(run(posterior, x))
        runs[label] = partial(run, posterior, x)
    seconds: dict[str, list[float]] = {label: [] for label in runs}
    for _ in range(rounds):
        for label, run in runs.items():
            start = spent()
            jax.block_until_ready(run())
            seconds[label].append((spent() - start) / evaluations)
    median = {label: statistics.median(found) for label, found in seconds.items()}
    return [
        f"| {name}, {members} x {length} states | {label} | {1e3 * value:.1f} | "
        f"{value / median['forward']:.2f} | {value / median['forward and VJP']:.2f} |"
        for label, value in median.items()
    ]


def main() -> None:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--priors", nargs="*", default=["lorenz63", "kolmogorov"])
    parser.add_argument("--methods", nargs="*", default=[*GUIDANCE, AGAIN, PRESET])
    parser.add_argument("--evaluations", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    head = "| prior | evaluation | ms | over forward | over forward and VJP |\n" + "|---" * 5 + "|"
    lines = [head]
    for name in options.priors:
        lines += rows(name, options.methods, options.evaluations, options.rounds)
        print("\n".join(lines), flush=True)
    clock = "user CPU time" if jax.default_backend() == "cpu" else "time"
    record(
        "guidance_cost",
        "An evaluation of each guidance over the bare network",
        f"Medians of {options.rounds} rounds in turns, {clock} of a loop of {options.evaluations} "
        "evaluations by their number.\n\n" + "\n".join(lines),
    )


if __name__ == "__main__":
    main()
