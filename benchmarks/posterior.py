"""Posteriors against the truth: systems x methods x budgets.

    python benchmarks/posterior.py                 # all that is not yet recorded
    python benchmarks/posterior.py --quick         # one observation, 128 samples, under 5 minutes
    python benchmarks/posterior.py --power         # what the metrics make of a spoilt truth

Lorenz observations are compared with the particle smoother's posterior, the damped spring's (exact
denoiser) with the Kalman smoother's. Records go to results/posterior.jsonl; run again, it goes on
where it stopped.
"""

from __future__ import annotations

import argparse
import json
import time
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from common import RESULTS, record
from matplotlib.figure import Figure
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import sda_jax as sda
from sda_jax import metrics
from sda_jax.assimilate import LADDER
from sda_jax.errors import DivergenceError
from sda_jax.gaussian import GaussianDenoiser
from sda_jax.serialize import encode
from sda_jax.storage import append_record, read_records, write_records
from sda_jax.truth import trajectory_law

PARTICLES = 32768


class Case(NamedTuple):
    """A system, what is seen of it, and for how long."""

    system: Any
    prior: sda.Prior
    length: int
    operator: Any
    std: float


def arctan(state: jax.Array) -> jax.Array:
    """An instrument that saturates, of the first coordinate in units of its spread."""
    return jnp.arctan(state[:1] / 8)


def spring_prior(length: int) -> sda.Prior:
    """The exact denoiser of the damped spring's trajectories."""
    chain = sda.DampedSpring()
    law = trajectory_law(chain, length)
    mean = law.mean - np.asarray(chain.standardisation.mean)
    std = np.broadcast_to(np.asarray(chain.standardisation.std), law.mean.shape)
    scale = std.reshape(-1)
    denoiser = GaussianDenoiser.of(
        jnp.asarray(mean / std, jnp.float32),
        jnp.asarray(law.covariance / np.outer(scale, scale), jnp.float32),
        sda.Cosine(),
    )
    return sda.Prior(denoiser, chain.standardisation, (4,), None, chain)


def cases() -> dict[str, Case]:
    """By name."""
    lorenz, spring = sda.load_prior("lorenz63"), spring_prior(16)

    def of(length: int, operator: Any, std: float) -> Case:
        return Case(lorenz.system, lorenz, length, operator, std)

    first, third = sda.Channels((0,)), sda.Channels((2,))
    return {
        "spring": Case(spring.system, spring, 16, sda.Every(2, first), 0.2),
        "lo": of(65, sda.Every(8, first), 0.4),
        "hi": of(65, sda.Every(1, first), 2.0),
        "multimodal": of(49, sda.Every(4, third), 0.86),
        "atan": of(65, sda.Every(4, arctan), 0.05),
        "rare": of(65, sda.Every(16, sda.Channels((0, 1, 2))), 0.5),
    }


def paper(corrections: int) -> sda.PredictorCorrector:
    """The paper's sampler of the Lorenz evaluation."""
    corrector = sda.Langevin(corrections, 0.25)
    return sda.PredictorCorrector(256, sda.EvenTime(), sda.ExponentialIntegrator(), corrector)


def even(steps: int, predictor: Any, corrector: Any) -> sda.PredictorCorrector:
    """A sampler on the grid even in log(sigma/mu)."""
    return sda.PredictorCorrector(steps, sda.EvenLogRatio(), predictor, corrector)


FIRST = sda.ExponentialIntegrator()
METHODS = {
    **LADDER,
    "paper C=1": (sda.SDA(3e-2), paper(1)),
    "SDA 1e-2, EI 64, C=3": (sda.SDA(), even(64, FIRST, sda.Langevin(3, 0.15))),
    "SDA 1e-2, EI 64, C=7": (sda.SDA(), even(64, FIRST, sda.Langevin(7, 0.15))),
    "DPS C=1": (sda.DPS(), paper(1)),
    "PiGDM, EI 64, C=3": (sda.PiGDM(), even(64, FIRST, sda.Langevin(3, 0.15))),
    "TMPD, EI 64, C=3": (sda.TMPD(), even(64, FIRST, sda.Langevin(3, 0.15))),
    "MMPS, EI 64, C=3": (sda.MMPS(), even(64, FIRST, sda.Langevin(3, 0.15))),
    "measured, 2M 128": (sda.GaussianCovariance(), even(128, sda.DPMSolverPP2M(), sda.Langevin(0))),
}
QUICK = ("fast", "default", "SDA 1e-2, EI 64, C=3")


def draw(case: Case, name: str, index: int) -> tuple[Any, sda.Observation, jax.Array, jax.Array]:
    """The index-th truth of a case, its observation and keys for what follows."""
    key = jax.random.fold_in(jax.random.key(zlib.crc32(name.encode())), index)
    keys = jax.random.split(key, 4)
    truth = sda.simulate(keys[0], case.system, case.length)
    observation = sda.observe(keys[1], truth, case.operator, std=case.std)
    return truth, observation, keys[2], keys[3]


def references(case: Case, observation: sda.Observation, key: jax.Array, samples: int) -> list:
    """Two independent ensembles of the true posterior."""
    found = []
    for k in jax.random.split(key):
        if isinstance(case.prior.denoiser, GaussianDenoiser):
            exact = sda.kalman_smoother(case.system, observation, case.length)
            root = np.linalg.cholesky(exact.covariance)
            white = np.asarray(jax.random.normal(k, (samples, len(root))), np.float64)
            flat = exact.mean.reshape(-1) + white @ root.T
            found.append(flat.reshape(samples, *exact.mean.shape).astype(np.float32))
        else:
            found.append(
                np.asarray(
                    sda.particle_smoother(
                        k, case.system, observation, case.length, PARTICLES, samples
                    )
                )
            )
    return found


def c2st(x: np.ndarray, y: np.ndarray) -> float:
    """Accuracy of quadratic discriminant analysis (shrinkage 0.1, standardised inputs, two
    folds of cross-validation) at telling two ensembles apart: 0.5 if they have one law."""
    classifier = make_pipeline(
        StandardScaler(), QuadraticDiscriminantAnalysis(solver="eigen", shrinkage=0.1)
    )
    both = np.concatenate([x, y]).reshape(len(x) + len(y), -1)
    labels = np.repeat([0, 1], [len(x), len(y)])
    folds = StratifiedKFold(2, shuffle=True, random_state=0)
    return float(cross_val_score(classifier, both, labels, cv=folds).mean())


def scores(
    case: Case, observation: sda.Observation, truth: Any, ensemble: np.ndarray, known: list
) -> dict[str, Any]:
    """All metrics of an ensemble against two of the truth."""
    first, second = known
    found: dict[str, Any] = metrics.compare(
        ensemble, first, second, case.system, observation
    )._asdict()
    found["log_likelihood_error"] = float(
        np.std(metrics.log_likelihood(observation, jnp.asarray(first))) * np.sqrt(1.5 / len(first))
    )
    found["crps"] = metrics.crps(ensemble, truth)
    found["crps_truth"] = metrics.crps(first, truth)
    found["coverage_50"] = metrics.coverage(ensemble, second, 0.5)
    found["coverage_90"] = metrics.coverage(ensemble, second, 0.9)
    bins = 16
    part = ensemble[: len(ensemble) // bins * bins - 1]
    found["flatness"] = metrics.rank_flatness(part, second, bins)
    found["flatness_truth"] = metrics.rank_flatness(first[: len(part)], second, bins)
    found["spread_skill"] = metrics.spread_skill(ensemble, truth)
    found["c2st"] = c2st(ensemble, first)
    return found


COLUMNS: dict[str, Callable[[dict[str, Any]], float]] = {
    "W1 / floor": lambda r: r["w1"] / r["w1_floor"],
    "log prior gap": lambda r: r["log_prior"] - r["log_prior_truth"],
    "log likelihood gap": lambda r: r["log_likelihood"] - r["log_likelihood_truth"],
    "spread ratio": lambda r: r["spread_ratio"],
    "CRPS ratio": lambda r: r["crps"] / r["crps_truth"],
    "flatness ratio": lambda r: r["flatness"] / r["flatness_truth"],
    "in 50 %": lambda r: 100 * r["coverage_50"],
    "in 90 %": lambda r: 100 * r["coverage_90"],
    "C2ST": lambda r: r["c2st"],
    "seconds": lambda r: r["seconds"],
}


def summary(records: list[dict[str, Any]]) -> str:
    """Medians over the observations, a row for each case and method."""
    names = list(COLUMNS)
    lines = [
        "| case | method | n | diverged | forwards | VJPs | JVPs | "
        f"{' | '.join(names)} | energy p > 0.01 |",
        "|---" * (8 + len(names)) + "|",
    ]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for r in records:
        groups.setdefault((r["case"], r["method"]), []).append(r)
    for (case, method), rows in groups.items():
        whole = [r for r in rows if not r["diverged"]]
        cost = " | ".join(str(rows[0][name]) for name in ("forwards", "vjps", "jvps"))
        head = f"| {case} | {method} | {len(rows)} | {len(rows) - len(whole)} | {cost} | "
        if not whole:
            lines.append(head + " | ".join([""] * (len(names) + 1)) + " |")
            continue
        cells = [f"{np.median([COLUMNS[name](r) for r in whole]):.3f}" for name in names]
        accepted = f"{sum(r['energy_p'] > 0.01 for r in whole)}/{len(rows)}"
        lines.append(head + " | ".join([*cells, accepted]) + " |")
    return "\n".join(lines)


def figure(records: list[dict[str, Any]]) -> Figure:
    """Gaps to the truth against evaluations of the network, a column for each case."""
    chosen = ("W1 / floor", "log prior gap", "log likelihood gap", "spread ratio")
    aims = {"W1 / floor": 1, "log prior gap": 0, "log likelihood gap": 0, "spread ratio": 1}
    limits = {
        "W1 / floor": (0.8, 1.8),
        "log prior gap": (-30, 10),
        "log likelihood gap": (-4, 4),
        "spread ratio": (0.5, 1.5),
    }
    names = list(dict.fromkeys(r["case"] for r in records))
    methods = list(dict.fromkeys(r["method"] for r in records))
    made = Figure(figsize=(2.6 * len(names) + 1.8, 8), layout="constrained")
    axes = made.subplots(len(chosen), len(names), sharex=True, squeeze=False)
    markers = "osD^v<>PX*hp"
    for row, column in zip(axes, chosen, strict=True):
        for ax, case in zip(row, names, strict=True):
            ax.axhline(aims[column], color="0.7", lw=1)
            for k, method in enumerate(methods):
                rows = [r for r in records if (r["case"], r["method"]) == (case, method)]
                rows = [r for r in rows if not r["diverged"]]
                if rows:
                    value = np.median([COLUMNS[column](r) for r in rows])
                    cost = rows[0]["forwards"] + rows[0]["vjps"]
                    ax.plot(
                        cost, np.clip(value, *limits[column]), markers[k], color=f"C{k}", ms=6,
                        label=method,
                    )  # fmt: skip
            ax.set_ylim(*limits[column])
            ax.set_xscale("log")
        row[0].set_ylabel(column)
    for ax, case in zip(axes[0], names, strict=True):
        ax.set_title(case)
    for ax in axes[-1]:
        ax.set_xlabel("forwards + VJPs")
    handles = {h.get_label(): h for ax in axes.flat for h in ax.get_lines()}
    shown = [m for m in methods if m in handles]
    made.legend([handles[m] for m in shown], shown, loc="outside right upper", fontsize=8)
    return made


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


def rejected(r: dict[str, Any]) -> bool:
    """Whether the bounds that an ensemble is held to find it different from the truth."""
    return not (
        0.95 <= COLUMNS["W1 / floor"](r) <= 1.05
        and abs(COLUMNS["log prior gap"](r)) <= 1
        and abs(COLUMNS["log likelihood gap"](r)) <= max(0.3, 3 * r["log_likelihood_error"])
        and 0.97 <= r["spread_ratio"] <= 1.03
        and r["energy_p"] > 0.01
        and 0.88 <= r["coverage_90"] <= 0.92
        and r["c2st"] <= 0.55
    )


def power(samples: int, observations: int) -> None:
    """Scores truth and spoilt truth, and says how often the bounds reject each."""
    found = []
    for name in ("lo", "hi"):
        case = cases()[name]
        for index in range(observations):
            truth, observation, _, key = draw(case, name, index)
            known = references(case, observation, key, samples)
            third = references(case, observation, jax.random.fold_in(key, 1), samples)[0]
            for label, spoil in SPOILT.items():
                r = scores(case, observation, truth, spoil(third), known)
                found.append(
                    {"case": name, "method": label, "diverged": False, "seconds": 0.0}
                    | {"forwards": 0, "vjps": 0, "jvps": 0}
                    | {**r, "rejected": rejected(r)}
                )
                print(f"{name} {index} {label}: rejected {found[-1]['rejected']}", flush=True)
    shares = [
        f"- {label}: rejected in {sum(r['rejected'] for r in rows)} of {len(rows)}"
        for label in SPOILT
        if (rows := [r for r in found if r["method"] == label])
    ]
    record(
        "posterior_power",
        f"What the metrics make of a spoilt truth, Lorenz 1963, {samples} samples",
        "\n".join(shares) + "\n\n" + summary(found),
        script="posterior",
    )


def main() -> None:
    """Scores every method that is not yet recorded."""
    known = cases()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--observations", type=int, default=8)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--cases", nargs="*", choices=known, default=list(known))
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--chunk", type=int, default=64)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--power", action="store_true")
    options = parser.parse_args()
    if options.power:
        power(options.samples, options.observations)
        return
    name = "posterior_quick" if options.quick else "posterior"
    if options.quick:
        options.observations, options.samples = 1, 128
        options.cases, options.methods = ["spring", "lo", "hi"], list(QUICK)
    path = RESULTS / f"{name}.jsonl"
    settings = {m: json.dumps([encode(part) for part in METHODS[m]]) for m in METHODS}
    records = [r for r in read_records(path) if settings.get(r["method"]) == r["settings"]]
    write_records(path, records)
    for index in range(options.observations):
        for label in options.cases:
            case = known[label]
            this = (label, index, options.samples)
            done = {r["method"] for r in records if (r["case"], r["index"], r["samples"]) == this}
            todo = [m for m in options.methods if m not in done]
            if not todo:
                continue
            truth, observation, key, key_reference = draw(case, label, index)
            reference = references(case, observation, key_reference, options.samples)
            for method in todo:
                guidance, sampler = METHODS[method]
                forwards = sampler.evaluations(case.prior.denoiser.schedule)
                found: dict[str, Any] = {
                    "case": label,
                    "method": method,
                    "index": index,
                    "samples": options.samples,
                    "settings": settings[method],
                    "forwards": forwards,
                    "vjps": forwards * guidance.vjps(int(np.size(observation.y))),
                    "jvps": 0,
                }
                start = time.perf_counter()
                try:
                    ensemble = sda.assimilate(
                        key, case.prior, observation, case.length, options.samples,
                        guidance, sampler, options.chunk,
                    )  # fmt: skip
                    found["seconds"] = round(time.perf_counter() - start, 2)
                    found |= scores(case, observation, truth, np.asarray(ensemble), reference)
                    found["diverged"] = bool(
                        not np.isfinite(found["log_prior"]) or found["spread_ratio"] > 10
                    )
                except DivergenceError as error:
                    found |= {"diverged": True, "error": str(error.value)}
                records.append(found)
                append_record(path, found)
                shown = "diverged" if found["diverged"] else f"{COLUMNS['W1 / floor'](found):.3f}"
                print(f"{label} {index} {method}: {shown}", flush=True)
    figure(records).savefig(RESULTS / f"{name}.png", dpi=120)
    record(
        name,
        "Posteriors against the truth",
        "Medians over the observations that did not diverge (a member not finite, or a spread over "
        "ten times the truth's). Gaps are posterior minus truth, ratios posterior over truth; "
        "`in 90 %` is the share of the truth's members inside the ensemble's central 90 %; "
        "evaluations are for one member. Smoother with "
        f"{PARTICLES} particles; {options.samples} samples.\n\n" + summary(records),
        script="posterior",
    )


if __name__ == "__main__":
    main()
