"""Posteriors of an experiment's cases against the particle smoother's."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sda_jax.classical import particle_smoother
from sda_jax.core._errors import ConfigError
from sda_jax.core._json import dumps
from sda_jax.core._protocols import Sampler
from sda_jax.evaluation._metrics import compare, crps, rmse
from sda_jax.experiment._cases import TestCase, cost_of, describe_run, draw_case, sample_posterior
from sda_jax.experiment._config import Experiment
from sda_jax.prior._prior import Prior
from sda_jax.runtime._claims import claim
from sda_jax.runtime._processes import on_process_zero
from sda_jax.runtime._records import append_record, read_records, write_records
from sda_jax.samplers import (
    Candidates,
    Correctors,
    Evaluations,
    Population,
    PredictorCorrector,
    RepeatedMoves,
)

# fields of a record that its readers use
RECORD = {
    **dict.fromkeys(("observation", "corrections", "forwards", "vjps"), int),
    **dict.fromkeys(("w1", "w1_floor", "log_prior", "log_prior_truth"), float),
    **dict.fromkeys(("log_likelihood", "log_likelihood_truth", "spread_ratio"), float),
    **dict.fromkeys(("energy_p", "seconds"), float),
    **dict.fromkeys(("crps", "crps_reference"), float | None),
    "case": str,
}


def corrections_of(sampler: Sampler) -> int:
    """Corrector steps after every predictor step; 0 of a sampler that has no correctors."""
    if isinstance(sampler, Population):
        return sampler.corrections
    inner = sampler.sampler if isinstance(sampler, Candidates) else sampler
    corrector = inner.corrector if isinstance(inner, PredictorCorrector) else None
    parts = corrector.parts if isinstance(corrector, Correctors) else (corrector,)
    return sum(part.steps for part in parts if isinstance(part, RepeatedMoves))


def with_corrections(sampler: Sampler, steps: int) -> Sampler:
    """The same sampler with another number of corrector steps.

    Raises:
        ConfigError: It does not have one corrector, whose steps are repeated.
    """
    if isinstance(sampler, Population):
        return dataclasses.replace(sampler, corrections=steps)
    if isinstance(sampler, Candidates):
        return dataclasses.replace(sampler, sampler=with_corrections(sampler.sampler, steps))
    if not (
        isinstance(sampler, PredictorCorrector) and isinstance(sampler.corrector, RepeatedMoves)
    ):
        raise ConfigError(
            "evaluation.corrections",
            steps,
            "none: the sampler does not have one corrector of a number of steps",
            "Leave it out, or configure one corrector.",
        )
    corrector: Any = dataclasses.replace(sampler.corrector, steps=steps)
    return dataclasses.replace(sampler, corrector=corrector)


def samplers(config: Experiment) -> list[Sampler]:
    """The configured sampler, once for each number of corrections.

    Raises:
        ConfigError: Numbers of corrections for a sampler that does not have one corrector.
    """
    base, corrections = config.assimilation.sampler, config.evaluation.corrections
    return [with_corrections(base, c) for c in corrections] if corrections else [base]


def reference_ensembles(config: Experiment, test: TestCase) -> tuple[np.ndarray, np.ndarray]:
    """Two independent ensembles of the exact posterior, by the particle smoother."""
    first, second = (
        np.asarray(
            particle_smoother(
                key,
                config.system,
                test.observation,
                test.length,
                config.evaluation.particles,
                config.assimilation.samples,
            )
        )
        for key in jax.random.split(test.reference)
    )
    return first, second


def score_case(
    config: Experiment,
    prior: Prior,
    test: TestCase,
    sampler: Sampler,
    references: tuple[np.ndarray, np.ndarray],
    progress: bool = False,
    cost: Evaluations | None = None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Draws an ensemble and compares it with the smoother's, and with the truth where there is one.

    Args:
        config: The experiment.
        prior: To draw with.
        test: What was observed.
        sampler: In place of the configured one.
        references: See `reference_ensembles`.
        progress: Shows a bar.
        cost: Evaluations of the network for a member, see `cost_of`; counted if None.

    Returns:
        The ensemble and its record: the fields of `Comparison`; if the truth is known `rmse`,
        `crps`, and the smoother's `rmse_reference`, `crps_reference`; cost, seconds, and the
        diagnosis in words.
    """
    settings = dataclasses.replace(config.assimilation, sampler=sampler)
    start = time.perf_counter()
    ensemble, diagnosis = sample_posterior(prior, test, settings, progress)
    seconds = time.perf_counter() - start
    record: dict[str, Any] = compare(
        ensemble, *references, config.system, test.observation
    )._asdict()
    if test.truth is not None:
        record |= {
            "rmse": rmse(ensemble, test.truth),
            "rmse_reference": rmse(references[0], test.truth),
            "crps": crps(ensemble, test.truth),
            "crps_reference": crps(references[0], test.truth),
        }
    if cost is None:
        cost = cost_of(prior, test, settings)
    cost = cost.searched(diagnosis.searches)
    record |= {
        "corrections": corrections_of(sampler),
        "forwards": cost.forwards,
        "vjps": cost.vjps,
        "seconds": round(seconds, 2),
        "diagnosis": diagnosis.summary(),
    }
    return ensemble, record


def compare_cases(config: Experiment, prior: Prior, folder: str | Path) -> Iterator[dict[str, Any]]:
    """Compares posteriors of all configured cases with the smoother's: yields each new record as
    it is appended to `records.jsonl` in `folder`, skipping what is there.

    Raises:
        ConfigError: A case that is not configured, or a system without transition density.
        StorageError: The folder is another experiment's.
    """
    path = claim(folder, dumps(describe_run(config))) / "records.jsonl"
    on_process_zero(lambda: write_records(path, read_records(path, RECORD)))
    done = {(r["case"], r["observation"], r["corrections"]) for r in read_records(path, RECORD)}
    costs: dict[tuple[str, int], Evaluations] = {}
    for index in range(config.evaluation.observations):
        for case in config.evaluation.cases:
            todo = [s for s in samplers(config) if (case, index, corrections_of(s)) not in done]
            if not todo:
                continue
            test = draw_case(config, case, index)
            references = reference_ensembles(config, test)
            for sampler in todo:
                this = case, corrections_of(sampler)
                if this not in costs:
                    settings = dataclasses.replace(config.assimilation, sampler=sampler)
                    costs[this] = cost_of(prior, test, settings)
                cost = costs[this]
                _, scores = score_case(config, prior, test, sampler, references, cost=cost)
                record = {"case": case, "observation": index, **scores}
                append_record(path, record)
                yield record


HEADER = (
    "case", "corrections", "n", "forwards", "VJPs", "sum", "W1 / floor", "log prior gap",
    "log likelihood gap", "spread ratio", "CRPS / smoother's", "energy p > 0.01", "seconds",
)  # fmt: skip
MEANING = (
    ("W1 / floor", "1", "Distance of the members to the true posterior's, over that between two "
     "runs of the smoother."),
    ("log prior gap", "0", "Mean log density of the members under the system, less the smoother's: "
     "below 0, members are less plausible trajectories."),
    ("log likelihood gap", "0", "The same of the observation: below 0, members fit it worse."),
    ("spread ratio", "1", "Spread over the smoother's: below 1, members are too sure."),
    ("CRPS / smoother's", "1", "Continuous ranked probability score at the truth, over the "
     "smoother's: below 1 is luck, above is worse. None where the truth is unknown."),
    ("energy p > 0.01", "all", "In how many observations an energy-distance test does not tell "
     "members from the smoother's."),
)  # fmt: skip


def summary_rows(records: Iterable[dict[str, Any]]) -> list[list[str]]:
    """Medians over the observations, a row for each case and number of corrections; under
    `HEADER`."""
    groups: dict[tuple[str, Any], list[dict[str, Any]]] = {}
    for r in records:
        groups.setdefault((r["case"], r["corrections"]), []).append(r)
    found = []
    for (case, label), rows in groups.items():
        columns = [
            [r["w1"] / r["w1_floor"] for r in rows],
            [r["log_prior"] - r["log_prior_truth"] for r in rows],
            [r["log_likelihood"] - r["log_likelihood_truth"] for r in rows],
            [r["spread_ratio"] for r in rows],
            [r["seconds"] for r in rows],
        ]
        ratio, prior, likelihood, width, seconds = (float(np.median(c)) for c in columns)
        scores = [
            r["crps"] / r["crps_reference"] for r in rows if r.keys() >= {"crps", "crps_reference"}
        ]
        score = f"{np.median(scores):.3f}" if scores else ""
        cost = [round(np.median([r[name] for r in rows])) for name in ("forwards", "vjps")]
        accepted = sum(r["energy_p"] > 0.01 for r in rows)
        found.append(
            [
                case, str(label), str(len(rows)), *map(str, cost), str(sum(cost)), f"{ratio:.3f}",
                f"{prior:+.1f}", f"{likelihood:+.2f}", f"{width:.3f}", score,
                f"{accepted}/{len(rows)}", f"{seconds:.0f}",
            ]
        )  # fmt: skip
    return found


def summary(records: Iterable[dict[str, Any]]) -> str:
    """The same as Markdown."""
    lines = [HEADER, ["---"] * len(HEADER), *summary_rows(records)]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)
