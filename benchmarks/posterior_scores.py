"""What the posterior benchmarks share: cases, references, and how an ensemble is scored."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import sda_jax as sda
from sda_jax import evaluation as metrics
from sda_jax.classical import exact_prior
from sda_jax.diffusion._gaussian import GaussianDenoiser

PARTICLES = 131072
OF_A_FILTER = 256  # members that share a particle filter, and so its error
REFERENCE = {"particles": PARTICLES, "of a filter": OF_A_FILTER}  # by which records know it


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


def cases() -> dict[str, Case]:
    """By name."""
    lorenz, spring = sda.load_prior("lorenz63"), exact_prior(sda.DampedSpring(), 16)

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


def draw(case: Case, name: str, index: int) -> tuple[Any, sda.Observation, jax.Array, jax.Array]:
    """The index-th truth of a case, its observation and keys for what follows."""
    key = jax.random.fold_in(jax.random.key(zlib.crc32(name.encode())), index)
    keys = jax.random.split(key, 4)
    truth = sda.simulate(keys[0], case.system, case.length)
    observation = sda.observe(keys[1], truth, case.operator, std=case.std)
    return truth, observation, keys[2], keys[3]


def exact(case: Case, observation: sda.Observation, key: jax.Array, samples: int) -> np.ndarray:
    """An ensemble of the true posterior."""
    system, length = case.system, case.length
    if not isinstance(case.prior.denoiser, GaussianDenoiser):
        filters = -(-samples // OF_A_FILTER)
        parts = [
            sda.particle_smoother(
                k, system, observation, length, PARTICLES, min(OF_A_FILTER, samples)
            )
            for k in (jax.random.split(key, filters) if filters > 1 else [key])
        ]
        return np.concatenate(parts)[:samples]
    distribution = sda.kalman_smoother(system, observation, length)
    root = np.linalg.cholesky(distribution.covariance)
    white = np.asarray(jax.random.normal(key, (samples, len(root))), np.float64)
    flat = distribution.mean.reshape(-1) + white @ root.T
    return flat.reshape(samples, *distribution.mean.shape).astype(np.float32)


def references(case: Case, observation: sda.Observation, key: jax.Array, samples: int) -> list:
    """Two independent ensembles of the true posterior."""
    return [exact(case, observation, k, samples) for k in jax.random.split(key)]


def c2st(x: np.ndarray, y: np.ndarray) -> float:
    """Accuracy of quadratic discriminant analysis (shrinkage 0.1, standardised inputs, two
    folds of cross-validation) at telling two ensembles apart: 0.5 if they have one distribution."""
    # the tolerance is below what is left of the truth's variance where x has wild members
    quadratic = QuadraticDiscriminantAnalysis(solver="eigen", shrinkage=0.1, tol=1e-12)
    classifier = make_pipeline(StandardScaler(), quadratic)
    both = np.concatenate([x, y]).reshape(len(x) + len(y), -1).astype(np.float64)
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
    "spread / skill": lambda r: r["spread_skill"],
    "in 50 %": lambda r: 100 * r["coverage_50"],
    "in 90 %": lambda r: 100 * r["coverage_90"],
    "C2ST": lambda r: r["c2st"],
    "seconds": lambda r: r["seconds"],
}


def summary(records: list[dict[str, Any]]) -> str:
    """Medians over the observations, a row for each case and method; beside the seconds the number
    of the machine, in alphabetical order, if there were several."""
    names = list(COLUMNS)
    lines = [
        "| case | method | n | diverged | forwards | VJPs | "
        f"{' | '.join(names)} | energy p > 0.01 | all bounds |",
        "|---" * (8 + len(names)) + "|",
    ]
    machines = sorted({r["machine"] for r in records})
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for r in records:
        groups.setdefault((r["case"], r["method"]), []).append(r)
    for (case, method), rows in groups.items():
        whole = [r for r in rows if not r["diverged"]]
        cost = " | ".join(str(rows[0][name]) for name in ("forwards", "vjps"))
        head = f"| {case} | {method} | {len(rows)} | {len(rows) - len(whole)} | {cost} | "
        if not whole:
            lines.append(head + " | ".join([""] * (len(names) + 2)) + " |")
            continue
        cells = [f"{np.median([COLUMNS[name](r) for r in whole]):.3f}" for name in names]
        if len(machines) > 1:  # the last of COLUMNS is of time
            used = sorted({machines.index(r["machine"]) + 1 for r in whole})
            cells[-1] += f" ({', '.join(map(str, used))})"
        accepted = f"{sum(r['energy_p'] > 0.01 for r in whole)}/{len(rows)}"
        held = f"{sum(not rejected(r) for r in whole)}/{len(rows)}"
        lines.append(head + " | ".join([*cells, accepted, held]) + " |")
    return "\n".join(lines)


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
