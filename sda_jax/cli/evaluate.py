"""Compares posteriors with the particle smoother's over many observations, or scores a posterior
file of your own states."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sda_jax.classical import particle_smoother
from sda_jax.cli.common import Arguments, TestCase, described, draw_case, posterior, run, the_prior
from sda_jax.cli.report import evaluate_own, options
from sda_jax.core._errors import ConfigError
from sda_jax.core._json import dumps
from sda_jax.evaluation._metrics import compare, crps, rmse
from sda_jax.experiment._config import Experiment
from sda_jax.figures import _page as report
from sda_jax.figures import accuracy_curves
from sda_jax.prior._prior import Prior
from sda_jax.runtime._claims import claim
from sda_jax.runtime._processes import on_process_zero
from sda_jax.runtime._records import append_record, read_records, write_records
from sda_jax.runtime._versions import versions
from sda_jax.samplers import Candidates, Correctors, PredictorCorrector


def stepping(sampler: PredictorCorrector | Candidates) -> PredictorCorrector:
    """What steps and corrects, of a sampler that may choose among candidates of it."""
    return sampler.sampler if isinstance(sampler, Candidates) else sampler


def with_corrections(
    sampler: PredictorCorrector | Candidates, steps: int
) -> PredictorCorrector | Candidates:
    """The same sampler with another number of corrector steps."""
    if isinstance(sampler, Candidates):
        return dataclasses.replace(sampler, sampler=with_corrections(sampler.sampler, steps))
    corrector = dataclasses.replace(sampler.corrector, steps=steps)
    return dataclasses.replace(sampler, corrector=corrector)


def samplers(config: Experiment) -> list[PredictorCorrector | Candidates]:
    """The configured sampler, once for each number of corrections."""
    base = config.assimilation.sampler
    corrections = config.evaluation.corrections
    if corrections and isinstance(stepping(base).corrector, Correctors):
        raise ConfigError(
            "evaluation.corrections",
            corrections,
            "none: the sampler has several correctors",
            "Leave it out, or configure one corrector.",
        )
    return [with_corrections(base, c) for c in corrections] if corrections else [base]


def reference_ensembles(config: Experiment, test: TestCase) -> tuple[np.ndarray, np.ndarray]:
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
    test: TestCase,
    sampler: PredictorCorrector | Candidates,
    references: tuple[np.ndarray, np.ndarray],
    progress: bool = False,
) -> tuple[np.ndarray, dict[str, Any]]:
    """An ensemble and its record: the comparison with the truth, cost and calibration."""
    settings = dataclasses.replace(config.assimilation, sampler=sampler)
    start = time.perf_counter()
    ensemble = posterior(prior, test, settings, progress)
    seconds = time.perf_counter() - start
    comparison = compare(ensemble, *references, config.system, test.observation)
    schedule = prior.denoiser.schedule
    observed = int(np.size(test.observation.y))
    record: dict[str, Any] = {
        **comparison._asdict(),
        "rmse": rmse(ensemble, test.truth),
        "rmse_reference": rmse(references[0], test.truth),
        "crps": crps(ensemble, test.truth),
        "crps_reference": crps(references[0], test.truth),
        "corrections": stepping(sampler).corrector.steps,
        "forwards": sampler.evaluations(schedule),
        "vjps": settings.guidance.vjps(observed, sampler.levels(schedule).guided),
        "jvps": 0,
        "seconds": round(seconds, 2),
    }
    return ensemble, record


HEADER = (
    "case", "", "n", "forwards", "VJPs", "JVPs", "sum", "W1 / floor", "log prior gap",
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
     "smoother's: below 1 is luck, above is worse."),
    ("energy p > 0.01", "all", "In how many observations an energy-distance test does not tell "
     "members from the smoother's."),
)  # fmt: skip


def summary_rows(records: Iterable[dict[str, Any]], by: str = "corrections") -> list[list[str]]:
    """Medians over the observations, a row for each case and value of `by`; under `HEADER`."""
    groups: dict[tuple[str, Any], list[dict[str, Any]]] = {}
    for r in records:
        groups.setdefault((r["case"], r[by]), []).append(r)
    found = []
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
        found.append(
            [
                case, str(label), str(len(rows)), *map(str, cost), str(sum(cost)), f"{ratio:.3f}",
                f"{prior:+.1f}", f"{likelihood:+.2f}", f"{width:.3f}", f"{score:.3f}",
                f"{accepted}/{len(rows)}", f"{seconds:.0f}",
            ]
        )  # fmt: skip
    return found


def summary(records: Iterable[dict[str, Any]], by: str = "corrections") -> str:
    """The same as Markdown."""
    lines = [[by if cell == "" else cell for cell in HEADER], ["---"] * len(HEADER)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [*lines, *summary_rows(records, by)])


def _page(config: Experiment, records: list[dict[str, Any]], given: str, path: Path) -> None:
    """One page of the whole evaluation."""
    seen = len({(r["case"], r["observation"]) for r in records})
    header = ["corrections" if cell == "" else cell for cell in HEADER]
    sections = [
        (
            "Summary",
            report.paragraph(
                f"{seen} test observations of {type(config.system).__name__}, "
                f"{config.assimilation.samples} members each, against a particle smoother with "
                f"{config.evaluation.particles} particles. Medians; evaluations of the network "
                "are for one member."
            )
            + report.table(header, summary_rows(records)),
        ),
        ("What it means", report.table(["score", "best", "meaning"], MEANING)),
        (
            "Figures",
            report.drawn(accuracy_curves(records), "Accuracy against the number of corrections."),
        ),
        (
            "How to reproduce",
            report.paragraph("With these versions and the configuration below:")
            + report.code(f"sda-jax evaluate {given}")
            + report.code(", ".join(f"{k} {v}" for k, v in versions().items())),
        ),
        ("Configuration", report.code(dumps(config))),
    ]
    report.write_page(path, "Evaluation against the particle smoother", sections)


def evaluate(arguments: Arguments) -> None:
    """Appends to `evaluation/records.jsonl`, skipping what is there, prints the table and writes
    `evaluation/report.html`."""
    config, output = arguments.config, arguments.options.output
    if arguments.options.posterior is not None or config.system is None:
        evaluate_own(arguments)
        return
    prior = the_prior(config, output)
    folder = claim(output / "evaluation", dumps(described(config)))
    path = folder / "records.jsonl"
    on_process_zero(lambda: write_records(path, read_records(path)))
    records = read_records(path)
    done = {(r["case"], r["observation"], r["corrections"]) for r in records}
    for index in range(config.evaluation.observations):
        for case in config.evaluation.cases:
            todo = [
                s
                for s in samplers(config)
                if (case, index, stepping(s).corrector.steps) not in done
            ]
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
    page = folder / "report.html"
    given = f"--config {arguments.options.config} --output {output}"
    on_process_zero(lambda: _page(config, records, given, page))
    print(f"report: {page}")


def main(arguments: list[str] | None = None) -> int:
    """Entry point of scripts/evaluate.py."""
    return run(evaluate, str(__doc__), arguments, add_options=options, own_data=True)
