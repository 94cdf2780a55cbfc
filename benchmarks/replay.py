"""How many states a replay buffer simulates per second, against the plain simulation of as many
trajectories at once.

    python benchmarks/replay.py

Every draw is one after which trajectories are due (`refresh=1`) and cuts a single segment, so that
what is timed is the refreshing, of many trajectories together. Both are compiled first and run in
turns; medians are compared.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import jax
from common import record
from guidance_cost import spent

import sda_jax as sda
from sda_jax.data import Replay
from sda_jax.data._simulation import advance

# trajectories in the buffer, states of each
CASES: dict[str, tuple[Any, int, int]] = {
    "Lorenz 1963": (sda.Lorenz63(spinup=16), 256, 64),
    "Lorenz 1996": (sda.Lorenz96(spinup=16), 256, 64),
    "flow, 64 x 64 on 128 x 128": (
        sda.KolmogorovFlow(size=128, coarsening=2, spinup=1),
        32,
        8,
    ),
}


def row(name: str, rounds: int) -> str:
    """A line of the table."""
    system, trajectories, length = CASES[name]
    source = Replay(system, trajectories, length, refresh=1)
    count = source.together
    draws = 2 * count
    state = jax.jit(lambda key: source.init(key, 1))(jax.random.key(0))

    def onward(key: Any, s: Any) -> Any:
        return advance(key, system, s, length)

    @jax.jit
    def plain(key: Any) -> Any:
        """As many simulations at once, as often."""

        def step(s: Any, key: Any) -> Any:
            s, x = jax.vmap(onward)(jax.random.split(key, count), s)
            return s, x

        start = jax.tree.map(lambda a: a[:count], state[1])
        return jax.lax.scan(step, start, jax.random.split(key, draws // count))

    @jax.jit
    def replayed(key: Any) -> Any:
        def step(state: Any, key: Any) -> Any:
            return source.draw(key, state, 1, 2)

        return jax.lax.scan(step, state, jax.random.split(key, draws))

    seconds: dict[Any, list[float]] = {plain: [], replayed: []}
    for i in range(rounds + 1):
        for run, found in seconds.items():
            start = spent()
            jax.block_until_ready(run(jax.random.key(i)))
            found.append(spent() - start)
    rates = [draws * length / statistics.median(found[1:]) for found in seconds.values()]
    return (
        f"| {name} | {trajectories} x {length} | {count} | {rates[0]:.0f} | {rates[1]:.0f} | "
        f"{rates[1] / rates[0]:.2f} |"
    )


def main() -> None:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    lines = [
        "| system | buffer | refreshed together | plain, states/s | replay, states/s | ratio |",
        "|---" * 6 + "|",
    ]
    for name in options.cases:
        lines.append(row(name, options.rounds))
        print(lines[-1], flush=True)
    clock = "user CPU second" if jax.default_backend() == "cpu" else "second"
    record("replay", "Replay in bulk", f"States per {clock}.\n\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
