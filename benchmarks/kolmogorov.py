"""The zero-shot experiments with the shipped Kolmogorov prior over many truths: std(A(x) - y) of a
few members for each truth, beside the observation's, for the configs' guidance, SDA, DPS and the
paper's sampler.

Truths are fresh simulations. Records go to results/kolmogorov.jsonl; run again, it goes on where it
stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, latest, measured, record, weights

import sda_jax as sda
from sda_jax.core._json import encode
from sda_jax.experiment import (
    Experiment,
    cost_of,
    draw_case,
    flow_scores,
    load_config,
    sample_posterior,
)
from sda_jax.runtime._records import append_record, read_records, write_records

EXPERIMENTS = ("extrapolation", "saturation", "subsampling", "assimilation", "loop")
ROOT = Path(__file__).parent.parent


def settings(config: Experiment, method: str, members: int) -> Experiment:
    """The experiment with one of the methods: the configs' own, the paper's, or another guidance
    with as many predictor steps and a Langevin step after each."""
    chosen = dataclasses.replace(config.assimilation, samples=members)
    if method == "paper":
        paper = load_config(ROOT / "configs" / "kolmogorov_paper.py")[0].assimilation
        chosen = dataclasses.replace(chosen, guidance=paper.guidance, sampler=paper.sampler)
    elif method != "config":
        sampler = sda.PredictorCorrector(
            chosen.sampler.steps, chosen.sampler.grid, corrector=sda.Langevin(1, 0.3)
        )
        guidance = {"SDA": sda.SDA(gamma=0.1), "DPS": sda.DPS()}[method]
        chosen = dataclasses.replace(chosen, sampler=sampler, guidance=guidance)
    return dataclasses.replace(config, assimilation=chosen)


def identity(config: Experiment, prior: sda.Prior) -> str:
    """What a record is of: the settings and the weights."""
    return json.dumps([encode(config.assimilation), weights(prior)])


def summary(records: list[dict[str, Any]]) -> str:
    """A row for each case and method: means over the truths with their standard errors."""
    lines = [
        "| case | method | truths | members | std(A(x) - y) | observation std | ratio | "
        "(ratio - 1) / SE | (ratio - 1) / SE of exact draws | RMSE | spectrum distance | "
        "forwards + VJPs | seconds |",
        "|---" * 13 + "|",
    ]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for r in records:
        groups.setdefault((r["case"], r["method"]), []).append(r)
    for (case, method), rows in groups.items():
        # the mean square has the noise's variance as expectation
        squares = np.array([(r["residual_std"] / r["observation_std"]) ** 2 for r in rows])
        ratio = float(np.sqrt(squares.mean()))
        error = squares.std(ddof=1) / np.sqrt(len(rows)) / (2 * ratio) if len(rows) > 1 else np.nan
        # y - A(x) of one exact draw of the posterior has the distribution of the noise
        exact = 1 / np.sqrt(2 * sum(r["observed"] for r in rows))
        std = rows[0]["observation_std"]
        rmse = np.mean([r["rmse"] for r in rows]) if "rmse" in rows[0] else np.nan
        lines.append(
            f"| {case} | {method} | {len(rows)} | {rows[0]['members']} | {ratio * std:.4f} | "
            f"{std:.4f} | {ratio:.3f} +- {error:.3f} | {(ratio - 1) / error:+.1f} | "
            f"{(ratio - 1) / exact:+.1f} | {rmse:.3f} | "
            f"{np.mean([r['spectrum_distance'] for r in rows]):.3f} | "
            f"{rows[0]['forwards']} + {rows[0]['vjps']} | "
            f"{np.median([r['seconds'] for r in rows]):.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Runs what is not yet recorded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--truths", type=int, default=16)
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--experiments", nargs="*", default=EXPERIMENTS)
    parser.add_argument("--methods", nargs="*", default=["config", "DPS"])
    options = parser.parse_args()
    path = RESULTS / "kolmogorov.jsonl"
    records = read_records(path)
    write_records(path, records)
    for method in options.methods:
        for experiment in options.experiments:
            base, _ = load_config(ROOT / "configs" / f"kolmogorov_{experiment}.py")
            config = settings(base, method, options.members)
            prior = sda.load_prior("kolmogorov")
            known = identity(config, prior)
            done = {(r["case"], r["truth"]) for r in records if r["settings"] == known}
            for name in config.cases:
                for index in range(options.truths):
                    if (name, index) in done:
                        continue
                    test = draw_case(config, name, index)
                    cost = cost_of(prior, test, config.assimilation)
                    start = time.perf_counter()
                    ensemble, _ = sample_posterior(prior, test, config.assimilation)
                    found = {
                        "case": name,
                        "method": method,
                        "truth": index,
                        "members": options.members,
                        "observed": int(np.size(test.observation.y)),
                        "forwards": cost.forwards,
                        "vjps": cost.vjps,
                        **flow_scores(test, ensemble),
                        "seconds": round(time.perf_counter() - start, 2),
                        "settings": known,
                        **measured(),
                    }
                    records.append(found)
                    append_record(path, found)
                    print(f"{method} {name} {index}: {found['residual_std']:.4f}", flush=True)
    shown = latest(records, "case", "method")
    record(
        "kolmogorov",
        "Kolmogorov flow on 32 x 32, shipped prior: residuals of the zero-shot experiments",
        "Evaluations and VJPs of the network are for one member. Standard errors are over the "
        "truths, and those that single exact draws of the posterior would have: their residuals "
        "have the distribution of the noise. The loop's y is imposed, not drawn.\n\n"
        + summary(shown),
        records=shown,
    )


if __name__ == "__main__":
    main()
