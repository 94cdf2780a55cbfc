"""Posteriors of observations that nobody tuned for: operators drawn from a grammar.

    python benchmarks/operators.py --system lorenz63 --seeds 60 --presets default fast

The reference is a particle smoother run twice, and once with a quarter of its particles: two runs
alike may be wrong alike. Operators on which its runs do not agree are left out. Records go to
results/operators.jsonl (operators_N.jsonl for N members), references to a cache; run again, it goes
on where it stopped. Seeds from 1000 on are for choosing settings, those below for reporting.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from common import RESULTS, measured, record
from operators_grammar import Generated, generate, mirrored, observations
from operators_reference import smoother

import sda_jax as sda
from sda_jax import evaluation as metrics
from sda_jax.posterior._diagnosis import ASTRAY, COPIES, DISAGREEMENT, FARTHER, MISFIT
from sda_jax.runtime._records import append_record, read_records
from sda_jax.samplers import Evaluations
from sda_jax.samplers._gathering import LARGEST

SAMPLES, PARTICLES = 256, 131072
LENGTHS = {"lorenz63": 65, "lorenz96": 33}
ASTRAY_NATS = 5.0  # below the smoother's worst member's fit
PARTINGS = 4  # of the smoother's members into sets, over which distances are averaged
BOUNDS = {
    "astray": (0.0, 0.01),
    "w1": (0.0, 1.25),
    "log_prior": (-4.0, 4.0),
    "fit": (-1.5, 1.5),
    "spread": (0.9, 1.1),
}


SIGNALS = ("misfit", "disagreement", "effective", "distinct", "error", "distance", "searches")


class Reference(NamedTuple):
    """An observation of a truth and two ensembles of its posterior, each of twice as many members
    (`samples`) as are compared with them; `fewer` is one of a quarter of the particles."""

    samples: int
    made: Generated
    truth: np.ndarray
    observation: sda.Observation
    first: np.ndarray
    second: np.ndarray
    fewer: np.ndarray
    mirror: bool

    @property
    def both(self) -> np.ndarray:
        """The members of both runs."""
        return np.concatenate([self.first, self.second])

    def folded(self, x: np.ndarray) -> np.ndarray:
        """Members brought to one side where nothing is seen of the sign of the first two
        coordinates."""
        if not self.mirror:
            return x
        weights = np.cos(np.arange(x.shape[1]) * 0.37) + 1.1
        side = np.sign((x[..., 0] * weights).sum(axis=1))
        return x * np.where(np.arange(3) < 2, side[:, None, None], 1.0)

    def positive(self, x: np.ndarray) -> float:
        """Share of the members on one side."""
        return float(np.mean(self.folded(x)[:, 0, 0] == x[:, 0, 0]))


def cache_folder() -> Path:
    """Where references are kept."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "sda_jax" / "operators"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def reference(label: str, system: Any, seed: int, samples: int) -> Reference:
    """Of a seed, from the cache where it is there."""
    length, drawn = LENGTHS[label], 2 * samples
    made = generate(system, seed, length)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(2600), seed), 4)
    truth = sda.simulate(keys[0], system, length=length)
    observation, parts = observations(keys[1], made, truth)
    path = cache_folder() / f"{label}_{seed}_{PARTICLES}_{drawn}.npz"
    runs = None
    if path.exists():
        with np.load(path) as file:
            if file["name"].item() == made.name and np.array_equal(
                file["y"], np.asarray(observation.y), equal_nan=True
            ):
                runs = tuple(file["runs"])
    if runs is None:
        given = system, parts, length
        runs = (
            *(smoother(k, *given, PARTICLES, drawn) for k in keys[2:]),
            smoother(jax.random.fold_in(keys[2], 1), *given, PARTICLES // 4, drawn),
        )
        np.savez(path, name=made.name, y=np.asarray(observation.y), runs=np.stack(runs))
    return Reference(samples, made, np.asarray(truth), observation, *runs, mirrored(made, system))


def scores(system: Any, known: Reference, ensemble: np.ndarray) -> dict[str, float]:
    """What the bounds are on, of an ensemble."""
    return scores_beside(system, known, ensemble, known.both)


def scores_beside(
    system: Any, known: Reference, ensemble: np.ndarray, exact: np.ndarray
) -> dict[str, float]:
    """The same, beside draws of the posterior that are at least twice as many.

    One pair of exact sets says little of the floor: where a posterior has several modes, distances
    of pairs differ by a quarter.
    """
    fit, fit_exact = (
        np.asarray(metrics.log_likelihood(known.observation, jnp.asarray(x)))
        for x in (ensemble, exact)
    )
    x, exact_x = known.folded(ensemble), known.folded(exact)
    size, rng = len(x), np.random.default_rng(0)
    distances, floors = [], []
    for _ in range(PARTINGS):
        order = rng.permutation(len(exact_x))
        one, other = exact_x[order[:size]], exact_x[order[size : 2 * size]]
        floors.append(metrics.wasserstein1(one, other))
        distances += [metrics.wasserstein1(x, one), metrics.wasserstein1(x, other)]
    prior = metrics.log_prior(system, ensemble).mean() - metrics.log_prior(system, exact).mean()
    return {
        "astray": float(np.mean(~(fit >= fit_exact.min() - ASTRAY_NATS))),
        "w1": float(np.mean(distances) / np.mean(floors)),
        "log_prior": float(prior),
        "fit": float(fit.mean() - fit_exact.mean()),
        "spread": metrics.spread(x) / metrics.spread(exact_x),
        "positive": known.positive(ensemble),
    }


def exact_scores(system: Any, known: Reference) -> dict[str, float]:
    """Of members that one run of the smoother drew, beside all others."""
    some = known.samples
    rest = np.concatenate([known.first, known.second[some:]])
    return scores_beside(system, known, known.second[:some], rest)


def settled(known: Reference, exact: dict[str, float]) -> bool:
    """Whether the reference's runs agree; `exact` are the scores of its own draws."""
    runs = known.first, known.second, known.fewer
    first, *others = map(known.folded, runs)
    some = slice(known.samples)
    alike = all(
        metrics.energy_test(first[some], other[some]) > 0.005
        and 0.92 < metrics.spread(other) / metrics.spread(first) < 1.08
        for other in others
    )
    return alike and abs(exact["log_prior"]) < 2 and abs(exact["fit"]) < 0.75


def broken(found: dict[str, Any]) -> list[str]:
    """The bounds that do not hold."""
    return [k for k, (low, high) in BOUNDS.items() if not low <= found[k] <= high]


def prior_of(label: str) -> sda.Prior:
    """The shipped prior, or for Lorenz 1996 of 8 variables one trained for this benchmark."""
    return sda.load_prior(label)


def cost(prior: sda.Prior, preset: str) -> Evaluations:
    """Of a preset."""
    some = sda.Observation(np.zeros((3, *prior.state_shape)), sda.Every(4, lambda x: x), std=1.0)
    return sda.count_evaluations(prior, some, 9, *sda.presets(prior)[preset])


def warned(r: dict[str, Any]) -> bool:
    """Whether an ensemble with these signals is warned of."""
    wrong = abs(r["misfit"]) > MISFIT or r["unlikely"] > ASTRAY
    far = r["distance"] > FARTHER or r["error"] > LARGEST * r["members"] ** -0.5
    return wrong or far or r["disagreement"] > DISAGREEMENT or r["distinct"] < COPIES


def table(records: list[dict[str, Any]]) -> str:
    """The share of operators for which all bounds hold, by system and preset, and the worst."""
    lines = [
        "| system | preset | operators | all bounds hold | "
        + " | ".join(f"{b} broken" for b in BOUNDS)
        + " | warned of those that miss one | of those that hold | forwards | VJPs | seconds |",
        "|---" * (9 + len(BOUNDS)) + "|",
    ]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for r in records:
        groups.setdefault((r["system"], r["preset"]), []).append(r)
    for (system, preset), rows in groups.items():
        held = sum(not broken(r) for r in rows)
        cells = [str(sum(b in broken(r) for r in rows)) for b in BOUNDS]
        for wrong in (True, False):
            some = [r for r in rows if bool(broken(r)) == wrong]
            cells.append(f"{sum(map(warned, some))} of {len(some)}")
        cells += [f"{np.median([r[c] for r in rows]):.0f}" for c in ("forwards", "vjps", "seconds")]
        share = f"{held} ({100 * held / len(rows):.0f} %)"
        lines.append(f"| {system} | {preset} | {len(rows)} | {share} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def listed(records: list[dict[str, Any]]) -> str:
    """Every operator on which a bound is broken."""
    lines = [
        "| system | preset | seed | operator | " + " | ".join(BOUNDS) + " | warned |",
        "|---" * (5 + len(BOUNDS)) + "|",
    ]
    for r in records:
        if broken(r):
            cells = " | ".join(f"{r[b]:.3g}" for b in BOUNDS)
            lines.append(
                f"| {r['system']} | {r['preset']} | {r['seed']} | {r['operator']} | {cells} "
                f"| {'yes' if warned(r) else 'no'} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Scores every operator and preset that is not yet recorded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--system", choices=LENGTHS, default="lorenz63")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--presets", nargs="*", default=["fast", "default", "accurate"])
    parser.add_argument("--samples", type=int, default=SAMPLES, help="members")
    parser.add_argument("--name", help="of the records")
    options = parser.parse_args()
    usual = "operators" if options.samples == SAMPLES else f"operators_{options.samples}"
    name = options.name or usual
    path = RESULTS / f"{name}.jsonl"
    prior = prior_of(options.system)
    costs = {name: cost(prior, name) for name in options.presets}
    settings = {name: repr(sda.presets(prior)[name]) for name in options.presets}
    records = [
        r
        for r in read_records(path)
        if r["settings"] == settings.get(r["preset"]) and r.get("particles") == PARTICLES
    ]
    for seed in range(options.first, options.first + options.seeds):
        known = reference(options.system, prior.system, seed, options.samples)
        exact = exact_scores(prior.system, known)
        if not settled(known, exact):
            print(f"{options.system} {seed} {known.made.name}: not settled", flush=True)
            continue
        for preset in options.presets:
            this = (options.system, seed, preset)
            if any((r["system"], r["seed"], r["preset"]) == this for r in records):
                continue
            guidance, sampler = sda.presets(prior)[preset]
            key = jax.random.fold_in(jax.random.key(2626), seed)
            start = time.perf_counter()
            posterior = sda.draw_posterior(
                key, prior, known.observation, known.made.length, known.samples, guidance, sampler
            )
            diagnosis = posterior.diagnosis
            evaluations = costs[preset].searched(diagnosis.searches)
            found = {
                "system": options.system,
                "seed": seed,
                "preset": preset,
                "members": known.samples,
                "particles": PARTICLES,
                "operator": known.made.name,
                "family": known.made.family,
                "settings": settings[preset],
                "seconds": round(time.perf_counter() - start, 1),
                **scores(prior.system, known, np.asarray(posterior.ensemble)),
                **{k: float(getattr(diagnosis, k)) for k in SIGNALS},
                "unlikely": diagnosis.astray,
                "exact": broken(exact),
                "forwards": evaluations.forwards,
                "vjps": evaluations.vjps,
                **measured(),
            }
            records.append(found)
            append_record(path, found)
            print(*this, known.made.name, broken(found) or "held", flush=True)
    if not records:
        return
    every = sorted({r["seed"] for r in records})
    control = {r["seed"]: not r["exact"] for r in records}
    body = (
        f"{options.samples} members against a particle smoother of {PARTICLES} particles, run "
        "twice, and once with a quarter of them; operators on which its runs differ are left out. "
        "Bounds: at most 1 % of members astray (a fit 5 nats below the smoother's worst), W1 at "
        "most 1.25 times its floor, mean log prior within 4 nats and mean fit within 1.5 of the "
        "smoother's, spread within 10 %; "
        "where nothing is seen of the sign of x and y, members are compared up to it. Floor: the "
        f"mean of {PARTINGS} pairs of sets of the smoother's members. Of the smoother's own draws "
        f"{sum(control.values())} of {len(control)} hold all bounds. Seeds: "
        f"{', '.join(map(str, every))}."
    )
    parts = (body, table(records), "Where a bound does not hold:", listed(records))
    record(name, "Operators nobody tuned for", "\n\n".join(parts), "operators", records)


if __name__ == "__main__":
    main()
