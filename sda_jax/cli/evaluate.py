"""Compares posteriors with the particle smoother's over many observations, or scores a posterior
file of your own states."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from sda_jax.cli.common import Arguments, Draw, described, draw_case, posterior, run, the_prior
from sda_jax.cli.report import evaluate_own, options
from sda_jax.config import Experiment
from sda_jax.errors import ConfigError
from sda_jax.metrics import compare, crps, rmse
from sda_jax.prior import Prior
from sda_jax.processes import by_first
from sda_jax.samplers import Correctors, PredictorCorrector
from sda_jax.serialize import dumps
from sda_jax.storage import append_record, claim, read_records, write_records
from sda_jax.truth import particle_smoother


def with_corrections(sampler: PredictorCorrector, steps: int) -> PredictorCorrector:
    """The same sampler with another number of corrector steps."""
    corrector = dataclasses.replace(sampler.corrector, steps=steps)
    return dataclasses.replace(sampler, corrector=corrector)


def samplers(config: Experiment) -> list[PredictorCorrector]:
    """The configured sampler, once for each number of corrections."""
    base = config.assimilation.sampler
    corrections = config.evaluation.corrections
    if corrections and isinstance(base.corrector, Correctors):
        raise ConfigError(
            "evaluation.corrections",
            corrections,
            "none: the sampler has several correctors",
            "Leave it out, or configure one corrector.",
        )
    return [with_corrections(base, c) for c in corrections] if corrections else [base]


def reference_ensembles(config: Experiment, test: Draw) -> tuple[np.ndarray, np.ndarray]:
    """Two independent ensembles of the true posterior."""
    first, second = (
        np.asarray(
            particle_smoother(
                key,
                config.system,
                test.observation,
                len(test.truth),
                config.evaluation.particles,
                config.assimilation.samples,
            )
        )
        for key in jax.random.split(test.reference)
    )
    return first, second


def score(
    config: Experiment,
    prior: Prior,
    test: Draw,
    sampler: PredictorCorrector,
    references: tuple[np.ndarray, np.ndarray],
    progress: bool = False,
) -> tuple[np.ndarray, dict[str, Any]]:
    """An ensemble and its record: the comparison with the truth, cost and calibration."""
    settings = dataclasses.replace(config.assimilation, sampler=sampler)
    start = time.perf_counter()
    ensemble = posterior(prior, test, settings, progress)
    seconds = time.perf_counter() - start
    comparison = compare(ensemble, *references, config.system, test.observation)
    forwards = sampler.evaluations(prior.denoiser.schedule)
    vjps = settings.guidance.vjps(int(np.size(test.observation.y))) * forwards
    record: dict[str, Any] = {
        **comparison._asdict(),
        "rmse": rmse(ensemble, test.truth),
        "rmse_reference": rmse(references[0], test.truth),
        "crps": crps(ensemble, test.truth),
        "crps_reference": crps(references[0], test.truth),
        "corrections": sampler.corrector.steps,
        "forwards": forwards,
        "vjps": vjps,
        "jvps": 0,
        "seconds": round(seconds, 2),
    }
    return ensemble, record


def summary(records: Iterable[dict[str, Any]], by: str = "corrections") -> str:
    """Medians over the observations, a row for each case and value of `by` (Markdown)."""
    lines = [
        f"| case | {by} | n | forwards | VJPs | JVPs | sum | W1 / floor | log prior gap | "
        "log likelihood gap | spread ratio | CRPS / smoother's | energy p > 0.01 | seconds |",
        "|---" * 14 + "|",
    ]
    groups: dict[tuple[str, Any], list[dict[str, Any]]] = {}
    for r in records:
        groups.setdefault((r["case"], r[by]), []).append(r)
    for (case, label), rows in groups.items():
        columns = [
            [r["w1"] / r["w1_floor"] for r in rows],
            [r["log_prior"] - r["log_prior_truth"] for r in rows],
            [r["log_likelihood"] - r["log_likelihood_truth"] for r in rows],
            [r["spread_ratio"] for r in rows],
            [r["crps"] / r["crps_reference"] for r in rows],
            [r["seconds"] for r in rows],
        ]
        ratio, prior, likelihood, width, score, seconds = (float(np.median(c)) for c in columns)
        cost = [rows[0][name] for name in ("forwards", "vjps", "jvps")]
        accepted = sum(r["energy_p"] > 0.01 for r in rows)
        lines.append(
            f"| {case} | {label} | {len(rows)} | {' | '.join(map(str, cost))} | {sum(cost)} | "
            f"{ratio:.3f} | {prior:+.1f} | {likelihood:+.2f} | {width:.3f} | {score:.3f} | "
            f"{accepted}/{len(rows)} | {seconds:.0f} |"
        )
    return "\n".join(lines)


def evaluate(arguments: Arguments) -> None:
    """Appends to `evaluation/records.jsonl`, skipping what is there, and prints the table."""
    config, output = arguments.config, arguments.options.output
    if arguments.options.posterior is not None or config.system is None:
        evaluate_own(arguments)
        return
    prior = the_prior(config, output)
    folder = claim(output / "evaluation", dumps(described(config)))
    path = folder / "records.jsonl"
    by_first(lambda: write_records(path, read_records(path)))
    records = read_records(path)
    done = {(r["case"], r["observation"], r["corrections"]) for r in records}
    for index in range(config.evaluation.observations):
        for case in config.evaluation.cases:
            todo = [s for s in samplers(config) if (case, index, s.corrector.steps) not in done]
            if not todo:
                continue
            test = draw_case(config, case, index)
            references = reference_ensembles(config, test)
            for sampler in todo:
                _, scores = score(config, prior, test, sampler, references)
                record = {"case": case, "observation": index, **scores}
                records.append(record)
                append_record(path, record)
                print(
                    f"{case} {index} C={record['corrections']}: W1/floor "
                    f"{scores['w1'] / scores['w1_floor']:.3f}, log prior "
                    f"{record['log_prior']:.1f} ({record['log_prior_truth']:.1f}), "
                    f"{record['seconds']:.1f} s",
                    flush=True,
                )
    print(summary(records))


def main(arguments: list[str] | None = None) -> int:
    """Entry point of scripts/evaluate.py."""
    return run(evaluate, str(__doc__), arguments, add_options=options, own_data=True)
