"""Side by side with what others would take: training and sampling of the same networks in PyTorch,
guidance by azula, the simulator as bare jax-cfd and as a spectral solver in NumPy.

    python benchmarks/peers.py                       # all that is not yet recorded, on this device
    python benchmarks/peers.py --parts sampling-flow simulator --rounds 3
    python benchmarks/peers.py --seconds 500         # nothing is begun that would not end in time
    python benchmarks/peers.py --tiny                # a rehearsal, of sizes that say nothing

PyTorch is needed, `pip install torch`; without azula, `pip install azula`, its parts are not run.
Weights are copied from Flax, and nothing is timed of networks whose posterior means differ by more
than 1e-4 of their standard deviation in float32, with and without guidance. Records go to
results/peers.jsonl, a line as soon as it is measured; run again, it goes on where it stopped, on
another machine anew; a compilation that did not end is a line, too. On a machine with other work
`taskset -c 0 python benchmarks/peers.py` gives all one core, and counts processor time.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import os
import signal
import statistics
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from importlib.metadata import version
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.4")  # PyTorch has the rest

import jax
import jax.numpy as jnp
import numpy as np
from common import RESULTS, machine, measured, record
from peers_numpy import CORES, Spectral
from simulator import direct

import sda_jax as sda
from sda_jax.runtime._records import append_record, read_records

if importlib.util.find_spec("torch") is None:
    raise SystemExit("The package torch is not installed: pip install torch")

from peers_works import Both, Contest, Entry, Problem, guidance, problem, sampling, training

AZULA = importlib.util.find_spec("azula") is not None
MISSING = "the package azula is not installed: pip install azula"
# part: what it takes from both networks
NETWORKS: dict[str, Callable[..., Iterator[Contest]]] = {
    "training": training,
    "sampling": sampling,
    "gradient": functools.partial(sampling, through=True),
    "guidance": guidance,
}
PARTS = [f"{part}-{name}" for part in NETWORKS for name in ("flow", "lorenz")] + ["simulator"]
COMPILED = ("compiled", "CUDA graphs")  # contests with torch.compile
NEEDED, SHORT = 60, 25  # seconds that must be left to begin a contest, and that most take


def simulator(tiny: bool) -> Iterator[Contest]:
    """Inner steps of the flow's simulator, of one trajectory each."""
    gpu = jax.default_backend() != "cpu"
    sizes = ((256, 1), (256, 16), (256, 64)) if gpu else ((128, 1), (128, 8))
    for size, count in ((16, 2),) if tiny else sizes:
        system = sda.KolmogorovFlow(size=size)
        made = functools.partial(simulators, system, count, 0.5 if tiny else 0.1)
        yield f"{count} of {size}", count * system.inner_steps, made


def simulators(system: sda.KolmogorovFlow, count: int, close: float) -> list[Entry]:
    """Ours and others, of flows that differ by less than `close` after a state."""
    work = f"inner step of a trajectory, {count} of {system.size} x {system.size}"
    v = jax.jit(jax.vmap(system.init))(jax.random.split(jax.random.key(0), count))
    ours = jax.jit(jax.vmap(functools.partial(system.step, jax.random.key(0))))
    bare, start = direct(system)
    theirs = jax.jit(jax.vmap(bare))
    many = jax.tree.map(lambda a: jnp.stack([a] * count), start)
    found: list[Entry] = [
        (work, "sda_jax", lambda: jax.block_until_ready(ours(v))),
        (work, "jax-cfd", lambda: jax.block_until_ready(theirs(many))),
    ]
    if count <= 8:  # NumPy gains nothing by more
        spectral = Spectral(system)
        w = spectral.vorticity(np.asarray(v))
        after = np.asarray(ours(v))
        gap = np.sqrt(np.mean((spectral.faces(spectral.step(w)) - after) ** 2)) / after.std()
        print(f"{work}: NumPy's velocity differs by {gap:.3f} after a state", flush=True)
        if not gap < close:
            raise ValueError(f"the solvers are not of the same flow: they differ by {gap:.3f}")
        label = "NumPy and SciPy, spectral" + ("" if jax.default_backend() == "cpu" else ", CPU")
        found.append((work, label, lambda: spectral.step(w)))
    return found


def contests(part: str, tiny: bool, both: Callable[[Problem], Both]) -> Iterator[Contest]:
    """Those of a part."""
    if part == "simulator":
        return simulator(tiny)
    what, name = part.split("-")
    given = problem(name, tiny)
    return NETWORKS[what](given, functools.partial(both, given))


class Late(BaseException):
    """Time is up: not an `Exception`, which compilers catch."""


@contextlib.contextmanager
def within(seconds: float) -> Generator[None]:
    """Raises `Late` in what takes longer."""

    def late(*_: Any) -> None:
        raise Late(f"did not end in {seconds:.0f} s")

    if seconds == float("inf"):
        yield
        return
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def place() -> str:
    """The machine, and how much of it this process has."""
    few = jax.default_backend() == "cpu" and (os.cpu_count() or 1) > CORES
    return f"{machine()}, {CORES} used" if few else machine()


def clock() -> float:
    """Seconds: with one core of processor time, which other programs leave alone."""
    alone = jax.default_backend() == "cpu" and CORES == 1
    return time.process_time() if alone else time.perf_counter()


def race(entries: list[Entry], count: int, rounds: int) -> list[dict[str, Any]]:
    """Milliseconds of each, medians of rounds in turns, and seconds of its first run."""
    first, found = [], [[] for _ in entries]
    for _, competitor, run in entries:
        start = time.perf_counter()
        run()
        first.append(time.perf_counter() - start)
        print(f"    {competitor}: first run {first[-1]:.1f} s", flush=True)
    for i in range(rounds + 1):
        for (_, _, run), times in zip(entries, found, strict=True):
            start = clock()
            run()
            if i:  # the first round warms up
                times.append(1e3 * (clock() - start) / count)
    return [
        {
            "work": work,
            "competitor": competitor,
            "ms": statistics.median(times),
            "least": min(times),
            "first": seconds,
        }
        for (work, competitor, _), times, seconds in zip(entries, found, first, strict=True)
    ]


def table(records: list[dict[str, Any]], missing: list[tuple[str, str]]) -> str:
    """A row for each competitor; `missing` are parts without a time, with the reason."""
    lines = [
        "| part | work | competitor | ms | ratio to ours | least ms | first run, s |",
        "|---" * 7 + "|",
    ]
    rows: dict[tuple[str, str, str], str] = {}
    for r in sorted(records, key=lambda r: PARTS.index(r["part"])):
        ours = {s["work"]: s["ms"] for s in r["times"] if s["competitor"].startswith("sda_jax")}
        # one work after the other; ours stays as it was where it ran again, beside a compiled one
        for s in sorted(r["times"], key=lambda s: list(ours).index(s["work"])):
            name = r["part"], s["work"], s["competitor"]
            ratio = s["ms"] / ours[s["work"]]
            row = f"{s['ms']:.3g} | {ratio:.2f} | {s['least']:.3g} | {s['first']:.1f}"
            rows.setdefault(name, row)
        if "reason" in r:
            rows[r["part"], r["contest"], f"no time: {r['reason']}"] = " | | |"
    lines += [f"| {' | '.join(name)} | {row} |" for name, row in rows.items()]
    lines += [f"| {part} | | not run: {reason} |" + " |" * 4 for part, reason in missing]
    return "\n".join(lines)


def packages() -> dict[str, str]:
    """`measured()`, with the versions of what is compared with."""
    names = ["torch", "jax-cfd", "scipy", *(["azula"] if AZULA else [])]
    found = measured() | {"machine": place()}
    others = [f"{name} {version(name)}" for name in names]
    return found | {"versions": ", ".join([found["versions"], *others])}


def main() -> None:
    """Runs what is not yet recorded of this machine, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="*", default=PARTS, choices=PARTS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for all of it")
    parser.add_argument("--tiny", action="store_true", help="sizes that say nothing")
    options = parser.parse_args()
    began, name = time.monotonic(), "peers_tiny" if options.tiny else "peers"
    path = RESULTS / f"{name}.jsonl"
    RESULTS.mkdir(parents=True, exist_ok=True)
    records = [r for r in read_records(path) if r["machine"] == place()]
    done = {(r["part"], r["contest"]) for r in records}
    missing: list[tuple[str, str]] = []

    both = functools.cache(Both)
    todo, failed = [], False
    for part in options.parts:
        if part.startswith("guidance") and not AZULA:
            missing.append((part, MISSING))
            continue
        found = contests(part, options.tiny, both)
        todo += [(part, *contest) for contest in found if (part, contest[0]) not in done]
    for i, (part, kind, count, entries) in enumerate(todo):
        left = options.seconds - (time.monotonic() - began)
        if kind in COMPILED:  # which may take long, and leaves the others their time
            left -= SHORT * sum(other not in COMPILED for _, other, *_ in todo[i:])
        if left < (0 if options.tiny else NEEDED):
            missing.append((f"{part}, {kind}", f"{left:.0f} s were left for it"))
            continue
        print(f"{part}, {kind}", flush=True)
        made: dict[str, Any] = {"part": part, "contest": kind, "rounds": options.rounds}
        try:
            with within(left):
                made |= {"times": race(entries(), count, options.rounds)}
        except Late as late:
            if kind not in COMPILED:
                missing.append((f"{part}, {kind}", str(late)))
                missing += [(f"{p}, {k}", "no time was left") for p, k, *_ in todo[i + 1 :]]
                break
            made |= {"times": [], "reason": str(late)}
        except Exception as error:  # of a compiler, say: the others are still to be timed
            traceback.print_exc()
            missing.append((f"{part}, {kind}", f"{type(error).__name__}: {error}".splitlines()[0]))
            failed = True
            continue
        records.append(made | packages())
        append_record(path, records[-1])
        print(table(records[-1:], []), flush=True)
    record(
        name,
        "Training, sampling and simulation beside what others would take",
        "Milliseconds of a training step, of an evaluation of all members, of an inner step of one "
        "trajectory: medians of runs in turns, after warm-up, by the clock, or of processor time "
        "where one core is used. Ratios are to ours in the same turns. First run: with what is "
        "compiled in it.\n\n" + table(records, missing),
        script="peers",
        records=records or [packages()],
    )
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
