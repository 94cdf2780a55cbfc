"""Compares posteriors with the particle smoother's over many observations, or scores a posterior
file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from sda_jax.cli.common import Arguments, nothing_but_files, run
from sda_jax.core._errors import ConfigError

if TYPE_CHECKING:
    from sda_jax.experiment._scores import PosteriorScores


def _options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("a posterior file")
    group.add_argument(
        "--posterior", default=None, help="its name: .nc or .zarr, or the posterior.h5 of a case"
    )
    group.add_argument("--held-out", nargs="+", default=[], help="tables that were not assimilated")
    group.add_argument("--truth", default=None, help="a file of the true states, if there is one")
    group.add_argument(
        "--baselines",
        action="store_true",
        help="also score climatology, interpolation in time and optimal interpolation",
    )
    group.add_argument("--std", type=float, default=None, help="noise, where a table has none")
    group.add_argument("--columns", nargs="+", default=[], help="such as value=temp")
    group.add_argument(
        "--operator", default=None, help="module:function of your own that was assimilated, if any"
    )


def evaluate(arguments: Arguments) -> None:
    """Scores a posterior file, if one is named or the states are from files; else compares."""
    options = arguments.options
    if options.posterior is None and arguments.config.system is not None:
        _compare(arguments)
        return
    path = Path(options.posterior or options.output / "posterior.nc")
    if path.suffix == ".h5":
        if options.held_out or options.truth or options.baselines:
            raise ConfigError(
                "--held-out, --truth, --baselines",
                (options.held_out, options.truth, options.baselines),
                "none: a case's truth is in its posterior.h5",
                "Leave them out.",
            )
        from sda_jax.experiment._scores import score_case_posterior

        for name, value in score_case_posterior(path, arguments.components).items():
            print(f"{name}: {value:g}")
    else:
        _score(arguments, path)


def _score(arguments: Arguments, path: Path) -> None:
    """Prints scores of a posterior file and writes `<posterior>_report.html` beside it."""
    from sda_jax.experiment._cases import configured_prior
    from sda_jax.experiment._report import posterior_page
    from sda_jax.experiment._scores import score_posterior

    config, options = arguments.config, arguments.options
    scores = score_posterior(
        path,
        configured_prior(config, options.output, arguments.components),
        options.held_out,
        options.truth,
        options.std,
        options.columns,
        options.operator,
        config.seed,
        options.baselines,
    )
    _print(scores)
    page = posterior_page(path.with_name(f"{path.stem}_report.html"), scores)
    print(f"report: {page}")


def _print(scores: PosteriorScores) -> None:
    from sda_jax.experiment._report import BASELINES, baseline_rows, held_out_rows

    if scores.left_out:
        print(f"innovation chi-square: left out, {scores.left_out}")
    if scores.held_out_report:
        print(scores.held_out_report)
    for name, count, rmse, climate, _, crps, ratio, inside in held_out_rows(scores):
        print(
            f"held-out {name}: {count} values, RMSE {rmse} (climate {climate}), CRPS {crps}, "
            f"spread/skill {ratio}, {inside} in the central 90 %"
        )
    for cells in baseline_rows(scores):
        said = zip(BASELINES[2:], cells[2:], strict=True)
        print(f"{cells[0]}, {cells[1]}: " + ", ".join(f"{name} {cell}" for name, cell in said))
    for method, reason in scores.baselines_left_out.items():
        print(f"{method}: left out, {reason}")
    if scores.chi_square is not None:
        print(f"innovation chi-square: {scores.chi_square.members.mean():.2f}")


def _compare(arguments: Arguments) -> None:
    """Appends to `evaluation/records.jsonl`, skipping what is there, prints the table and writes
    `evaluation/report.html`."""
    from sda_jax.experiment._cases import configured_prior
    from sda_jax.experiment._comparison import RECORD, compare_cases, summary
    from sda_jax.experiment._report import comparison_page
    from sda_jax.runtime._processes import on_process_zero
    from sda_jax.runtime._records import read_records

    config, output = arguments.config, arguments.options.output
    prior = configured_prior(config, output, arguments.components)
    folder = output / "evaluation"
    for record in compare_cases(config, prior, folder):
        print(
            f"{record['case']} {record['observation']} C={record['corrections']}: W1/floor "
            f"{record['w1'] / record['w1_floor']:.3f}, log prior "
            f"{record['log_prior']:.1f} ({record['log_prior_truth']:.1f}), "
            f"{record['seconds']:.1f} s",
            flush=True,
        )
    records = read_records(folder / "records.jsonl", RECORD)
    print(summary(records))
    page = folder / "report.html"
    command = f"sda-jax evaluate --config {arguments.options.config} --output {output}"
    on_process_zero(lambda: comparison_page(page, config, records, command))
    print(f"report: {page}")


def main(arguments: list[str] | None = None) -> int:
    """Entry point of scripts/evaluate.py."""
    return run(evaluate, str(__doc__), arguments, nothing_but_files, _options)
