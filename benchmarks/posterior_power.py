"""What the posterior benchmark's metrics make of a spoilt truth, at its own sizes.

    python benchmarks/posterior_power.py --observations 8

Three independent ensembles of the particle smoother: two to compare with, one to spoil.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import jax
import numpy as np
from common import record
from posterior_scores import cases, draw, exact, references, rejected, scores, summary


def smoothed(x: np.ndarray) -> np.ndarray:
    """Running mean over three states, the ends as they are."""
    inner = (x[:, :-2] + x[:, 1:-1] + x[:, 2:]) / 3
    return np.concatenate([x[:, :1], inner, x[:, -1:]], axis=1)


SPOILT: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "truth": lambda x: x,
    "shrunk by 20 %": lambda x: x.mean(0) + 0.8 * (x - x.mean(0)),
    "widened by 20 %": lambda x: x.mean(0) + 1.2 * (x - x.mean(0)),
    "smoothed over 3 states": smoothed,
    "noised by 0.05": lambda x: x + 0.05 * np.random.default_rng(0).standard_normal(x.shape),
    "shifted by 0.3": lambda x: x + 0.3,
}


def main() -> None:
    """Scores truth and spoilt truth, and says how often the bounds reject each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--observations", type=int, default=4)
    parser.add_argument("--samples", type=int, default=1024)
    options = parser.parse_args()
    found = []
    for name in ("lo", "hi"):
        case = cases()[name]
        for index in range(options.observations):
            truth, observation, _, key = draw(case, name, index)
            known = references(case, observation, key, options.samples)
            again = jax.random.fold_in(key, 2)  # the references have 0 and 1
            third = exact(case, observation, again, options.samples)
            for label, spoil in SPOILT.items():
                r = scores(case, observation, truth, spoil(third), known)
                found.append(
                    {"case": name, "method": label, "diverged": False, "seconds": 0.0}
                    | {"forwards": 0, "vjps": 0}
                    | {**r, "rejected": rejected(r)}
                )
                print(f"{name} {index} {label}: rejected {found[-1]['rejected']}", flush=True)
    shares = [
        f"- {label}: rejected in {sum(bool(r['rejected']) for r in rows)} of {len(rows)}"
        for label in SPOILT
        if (rows := [r for r in found if r["method"] == label])
    ]
    record(
        "posterior_power",
        f"What the metrics make of a spoilt truth, Lorenz 1963, {options.samples} samples",
        "\n".join(shares) + "\n\n" + summary(found),
    )


if __name__ == "__main__":
    main()
