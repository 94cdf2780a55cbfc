"""Calibration of ensembles from the shipped Kolmogorov prior: ranks, spread/skill, CRPS.

Truths are fresh simulations, or samples of the prior itself (simulation-based calibration, Talts et
al. 2018), which separates the sampler's error from the network's. Records go to
results/kolmogorov_calibration.jsonl; run again, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

import jax
import numpy as np
from common import RESULTS, latest, record
from kolmogorov import ROOT, identity

import sda_jax as sda
from sda_jax import metrics
from sda_jax.cli.common import draw_case, posterior
from sda_jax.config import load_config
from sda_jax.storage import append_record, read_records, write_records

BINS = 11


def summary(records: list[dict[str, Any]]) -> str:
    """Means over the truths with standard errors, then the rank histograms."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for r in records:
        groups.setdefault((r["case"], r["truths"]), []).append(r)
    lines = [
        "| case | truths from | n | members | residual / noise | RMSE of the mean | spread | "
        "spread/skill | CRPS | CRPS / RMSE |",
        "|---" * 10 + "|",
    ]
    for (case, source), rows in groups.items():

        def pooled(name: str, rows: list[dict[str, Any]] = rows) -> float:
            return float(np.sqrt(np.mean([r[name] ** 2 for r in rows])))

        n = rows[0]["members"]
        # the pooled ratio's standard error by the jackknife
        left = [[r for r in rows if r is not out] for out in rows] if len(rows) > 1 else []
        ratios = np.array([pooled("spread", part) / pooled("rmse", part) for part in left])
        error = np.sqrt((len(rows) - 1) * ratios.var()) if left else np.nan
        skill = pooled("spread") * np.sqrt((n + 1) / n) / pooled("rmse")
        crps = float(np.mean([r["crps"] for r in rows]))
        lines.append(
            f"| {case} | {source} | {len(rows)} | {n} | {pooled('residual_ratio'):.3f} | "
            f"{pooled('rmse'):.4f} | {pooled('spread'):.4f} | {skill:.3f} +- {error:.3f} | "
            f"{crps:.4f} | {crps / pooled('rmse'):.3f} |"
        )
    lines += [
        "",
        f"Rank of the truth among the members, shares of {BINS} equal bins in per cent",
        "(calibrated: each 9.1), with the standard error over truths of the outermost bins:",
        "",
    ]
    for (case, source), rows in groups.items():
        shares = np.array([r["ranks"] for r in rows], float)
        shares /= shares.sum(axis=1, keepdims=True)
        error = 100 * shares.std(axis=0, ddof=1) / np.sqrt(len(rows))
        cells = " ".join(f"{100 * s:.1f}" for s in shares.mean(axis=0))
        lines.append(f"- {case}, {source}: {cells} (+- {error[0]:.1f}, {error[-1]:.1f})")
    return "\n".join(lines)


def main() -> None:
    """Runs what is not yet recorded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", default="extrapolation")
    parser.add_argument("--case", default="extrapolation")
    parser.add_argument("--source", choices=["simulation", "prior"], default="simulation")
    parser.add_argument("--truths", type=int, default=16)
    parser.add_argument("--members", type=int, default=32)
    options = parser.parse_args()
    config, _ = load_config(ROOT / "configs" / f"kolmogorov_{options.experiment}.py")
    chosen = dataclasses.replace(config.assimilation, samples=options.members)
    config = dataclasses.replace(config, assimilation=chosen)
    if (options.members + 1) % BINS:
        parser.error(f"--members: one less than a multiple of {BINS}, for equal bins")
    prior = sda.load_prior("kolmogorov")
    known = identity(config, prior)
    case = config.cases[options.case]
    path = RESULTS / "kolmogorov_calibration.jsonl"
    records = read_records(path)
    write_records(path, records)
    this = (options.case, options.source, known)
    done = {r["truth"] for r in records if (r["case"], r["truths"], r["settings"]) == this}
    drawn = None
    if options.source == "prior":
        key = jax.random.key(1)
        drawn = sda.sample(key, prior, case.length, options.truths, chosen.sampler, chosen.chunk)
    for index in range(options.truths):
        if index in done:
            continue
        test = draw_case(config, options.case, index)
        if drawn is not None:
            key = jax.random.fold_in(jax.random.key(2), index)
            observation = sda.observe(key, drawn[index], case.operator, std=case.std)
            test = test._replace(truth=drawn[index], observation=observation)
        ensemble = posterior(prior, test, config.assimilation)
        ranks = metrics.ranks(ensemble, test.truth) * BINS // (options.members + 1)
        found = {
            "case": options.case,
            "truths": options.source,
            "truth": index,
            "members": options.members,
            "residual_ratio": metrics.residual_std(test.observation, ensemble) / case.std,
            "rmse": metrics.rmse(ensemble, test.truth),
            "spread": metrics.spread(ensemble),
            "spread_skill": metrics.spread_skill(ensemble, test.truth),
            "crps": metrics.crps(ensemble, test.truth),
            "ranks": np.bincount(ranks.ravel(), minlength=BINS).tolist(),
            "settings": known,
        }
        records.append(found)
        append_record(path, found)
        print(f"{options.case} {index}: spread/skill {found['spread_skill']:.3f}", flush=True)
    record(
        "kolmogorov_calibration",
        "Kolmogorov flow on 32 x 32, shipped prior: calibration",
        summary(latest(records, "case", "truths")),
    )


if __name__ == "__main__":
    main()
