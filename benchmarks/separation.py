"""How far from their posterior members are that are worth few independent draws.

    python benchmarks/separation.py

Of the particle smoother's draws of generated operators, for choosing (seeds from 1000 on; see
operators.py, whose references it takes): n of them, copied to 256 members, beside sets of 256
others, and what `samplers._gathering.distance` foresees.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from common import record
from operators import prior_of, reference, scores_beside

import sda_jax as sda
from sda_jax.samplers._gathering import distance, separation

SEEDS = (1019, 1028, 1104, 1112, 1177, 1237, 3715)
MEMBERS, DRAWS, TRIALS = 256, (40, 70, 128), 5


def main() -> None:
    """A line for each operator."""
    prior: sda.Prior = prior_of("lorenz63")
    lines = [
        "| seed | operator | separation | " + " | ".join(f"{n} draws" for n in DRAWS) + " |",
        "|---" * (3 + len(DRAWS)) + "|",
    ]
    for seed in SEEDS:
        known = reference("lorenz63", prior.system, seed, MEMBERS)
        draws = np.concatenate([known.both, known.fewer])
        rng = np.random.default_rng(0)
        some = known.folded(draws[rng.permutation(len(draws))[:MEMBERS]])
        some = prior.standardisation.forward(jnp.asarray(some))
        apart = float(separation(some, jnp.arange(MEMBERS), 0.0))
        cells = []
        for n in DRAWS:
            found = []
            for _ in range(TRIALS):
                order = rng.permutation(len(draws))
                members = draws[order[:n]][np.arange(MEMBERS) % n]
                rest = draws[order[MEMBERS:]]
                found.append(scores_beside(prior.system, known, members, rest)["w1"])
            foreseen = float(distance(apart, 1 / n, MEMBERS))
            cells.append(f"{np.mean(found):.2f} ({foreseen:.2f})")
        row = (str(seed), known.made.name, f"{apart:.1f}", *cells)
        lines.append("| " + " | ".join(row) + " |")
        print(lines[-1], flush=True)
    body = (
        f"{MEMBERS} members that are copies of n draws of a posterior: Wasserstein distance to "
        f"{MEMBERS} others, over that of {MEMBERS} draws (mean of {TRIALS}), and in brackets what "
        "is foreseen from the separation of modes. Where that is large, more draws are needed."
    )
    record("separation", "Draws that a posterior needs", body + "\n\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
