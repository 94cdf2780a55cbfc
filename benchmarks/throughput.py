"""How much is computed per second, with what memory, and how that grows: members of posteriors with
states and with members at once, windows of a U-Net's training, simulated states.

    python benchmarks/throughput.py                         # all that is not yet recorded
    python benchmarks/throughput.py --priors lorenz63 --seconds 120

Records go to results/throughput.jsonl; run again, it goes on where it stopped, on another machine
anew. On a CPU rates are per second of CPU time, which other programs leave alone; an accelerator's
by the clock.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import RESULTS, machine, measured, record
from guidance_cost import spent

import sda_jax as sda
from sda_jax.posterior._assimilate import _draw, posterior_denoiser
from sda_jax.runtime._memory import needed_bytes
from sda_jax.runtime._records import append_record, read_records

MIB = 2**20
STEPS = 4  # of the sampler that is timed: cost grows with them in proportion
OPERATORS: dict[str, Any] = {
    "lorenz63": sda.Every(8, sda.Channels((0,))),
    "kolmogorov": sda.Every(4, sda.Coarsen(4)),
    "kolmogorov64": sda.Every(4, sda.Coarsen(4)),
}
# prior: (states, members at once)
POSTERIORS: dict[str, tuple[tuple[int, int], ...]] = {
    "lorenz63": ((65, 1), (65, 8), (65, 64), (65, 256), (33, 64), (129, 64), (257, 64)),
    "kolmogorov": ((9, 1), (29, 1), (29, 4), (57, 1)),
    "kolmogorov64": ((9, 1), (29, 1)),
}


def posterior(name: str, length: int, members: int) -> dict[str, float]:
    """Evaluations with SDA's gradient of so many members at once, a sampler step each."""
    prior = sda.load_prior(name)
    y = jax.eval_shape(OPERATORS[name], jnp.zeros((length, *prior.state_shape)))
    seen = sda.Observation(np.zeros(y.shape, np.float32), OPERATORS[name], std=0.5)
    sampler = sda.PredictorCorrector(STEPS, sda.LogSNR(), corrector=sda.Langevin(0))
    denoiser, sampler = posterior_denoiser(prior, seen, length, members, sda.SDA(), sampler)
    given = (jax.random.key(0), jnp.arange(members), denoiser, prior.standardisation, sampler)
    shape = (length, *prior.state_shape)
    start = spent()
    program = _draw.lower(*given, shape).compile()
    compiling = spent() - start
    seconds = timed(lambda: program(*given))
    windows = members * (length if prior.window is None else length - prior.window + 1)
    return {
        "rate": STEPS * members / seconds,
        "windows": STEPS * windows / seconds,
        "mib": needed_bytes(program) / MIB,
        "compile": compiling,
    }


def timed(run: Callable[[], Any], rounds: int = 3) -> float:
    """Seconds of the quickest of some runs, after a first."""
    jax.block_until_ready(run())
    found = []
    for _ in range(rounds):
        start = spent()
        jax.block_until_ready(run())
        found.append(spent() - start)
    return min(found)


def table(records: list[dict[str, Any]]) -> str:
    """A row for each record."""
    lines = [
        "| prior | states | members at once | member evaluations/s | windows or states/s | MiB | "
        "MiB a member | compilation, s |",
        "|---" * 8 + "|",
    ]
    for r in sorted(records, key=lambda r: (r["prior"], r["length"], r["members"])):
        lines.append(
            f"| {r['prior']} | {r['length']} | {r['members']} | {r['rate']:.1f} | "
            f"{r['windows']:.0f} | {r['mib']:.1f} | {r['mib'] / r['members']:.2f} | "
            f"{r['compile']:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Runs what is not yet recorded of this machine, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--priors", nargs="*", default=list(POSTERIORS), choices=POSTERIORS)
    parser.add_argument("--shape", type=int, nargs=2, help="states and members, in place of all")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="to start anything in")
    options = parser.parse_args()
    path, began = RESULTS / "throughput.jsonl", time.monotonic()
    records = [r for r in read_records(path) if r["machine"] == machine()]
    done = {(r["prior"], r["length"], r["members"]) for r in records}
    for name in options.priors:
        shapes = [tuple(options.shape)] if options.shape else POSTERIORS[name]
        for length, members in shapes:
            late = time.monotonic() - began > options.seconds
            if (name, length, members) in done or late:
                continue
            found = {"prior": name, "length": length, "members": members}
            records.append(found | posterior(name, length, members) | measured())
            append_record(path, records[-1])
            print(table(records[-1:]), flush=True)
    clock = "CPU second" if jax.default_backend() == "cpu" else "second"
    record(
        "throughput",
        "Throughput and memory",
        f"Evaluations of the guided network (SDA, with its gradient) by the sampler, each of one "
        f"member's whole trajectory, per {clock}; working memory by the compiled program's own "
        "account. A draw takes as many evaluations as `sda.count_evaluations` says.\n\n"
        + table(records),
        records=records,
    )


if __name__ == "__main__":
    main()
