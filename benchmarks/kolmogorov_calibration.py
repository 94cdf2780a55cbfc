"""Calibration of ensembles from the shipped Kolmogorov prior: ranks, spread/skill, CRPS.

    python benchmarks/kolmogorov_calibration.py --experiment saturation --steps 32 64 128

Steps are half, all and twice the predictor steps of the configs' own samplers, say. Truths are
fresh simulations, or samples of the prior itself (simulation-based calibration, Talts et
al. 2018), which separates the sampler's error from the network's. Records go to
results/kolmogorov_calibration.jsonl; run again, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

import jax
import matplotlib.ticker
import numpy as np
from common import RESULTS, latest, measured, record
from kolmogorov import ROOT, identity
from matplotlib.figure import Figure

import sda_jax as sda
from sda_jax.evaluation import _metrics as metrics
from sda_jax.experiment import cost_of, draw_case, load_config, sample_posterior
from sda_jax.runtime._records import append_record, read_records, write_records

BINS = 11
Group = dict[tuple[str, str, int], list[dict[str, Any]]]


def grouped(records: list[dict[str, Any]]) -> Group:
    """Records by case, where truths are from, and predictor steps."""
    groups: Group = {}
    for r in sorted(records, key=lambda r: (r["case"], r["truths"], r["steps"])):
        groups.setdefault((r["case"], r["truths"], r["steps"]), []).append(r)
    return groups


def shares(rows: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Of the bins in the rank histogram, in per cent, and their standard errors over truths."""
    found = np.array([r["ranks"] for r in rows], float)
    found *= 100 / found.sum(axis=1, keepdims=True)
    return found.mean(axis=0), found.std(axis=0, ddof=1) / np.sqrt(len(rows))


def figure(groups: Group) -> Figure:
    """Rank histograms, a panel for each case and source of truths, a line for each sampler."""
    panels = list(dict.fromkeys((case, source) for case, source, _ in groups))
    made = Figure(figsize=(3.4 * len(panels) + 0.4, 3.2), layout="constrained")
    axes = made.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    every = sorted({steps for _, _, steps in groups})
    centres = (np.arange(BINS) + 0.5) / BINS
    for ax, panel in zip(axes, panels, strict=True):
        ax.axhline(100 / BINS, color="0.6", lw=1)
        for k, steps in enumerate(every):
            if (*panel, steps) in groups:
                mean, error = shares(groups[*panel, steps])
                ax.errorbar(
                    centres + 0.012 * (k - 1), mean, error, marker="osD"[k % 3], ms=4, lw=1.2,
                    capsize=2, color=f"C{k}", label=f"{steps} steps",
                )  # fmt: skip
        ax.set(
            title=f"{panel[0]},\ntruths from the {panel[1]}", xlabel="rank of the truth / members"
        )
        ax.xaxis.set_major_locator(matplotlib.ticker.MultipleLocator(0.25))
        ax.legend(fontsize=8, loc="lower center")
    axes[0].set(ylabel="share of the values (%)", ylim=(0, None))
    return made


def summary(groups: Group) -> str:
    """Means over the truths with standard errors, then the rank histograms."""
    lines = [
        "| case | truths from | steps | evaluations | n | members | residual / noise | "
        "RMSE of the mean | spread | spread/skill | CRPS | CRPS / RMSE |",
        "|---" * 12 + "|",
    ]
    for (case, source, steps), rows in groups.items():

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
            f"| {case} | {source} | {steps} | {rows[0]['forwards']} | {len(rows)} | {n} | "
            f"{pooled('residual_ratio'):.3f} | {pooled('rmse'):.4f} | {pooled('spread'):.4f} | "
            f"{skill:.3f} +- {error:.3f} | {crps:.4f} | {crps / pooled('rmse'):.3f} |"
        )
    lines += [
        "",
        f"Rank of the truth among the members, shares of {BINS} equal bins in per cent",
        "(calibrated: each 9.1), with the standard error over truths of the outermost bins:",
        "",
    ]
    for (case, source, steps), rows in groups.items():
        mean, error = shares(rows)
        cells = " ".join(f"{share:.1f}" for share in mean)
        lines.append(f"- {case}, {source}, {steps}: {cells} (+- {error[0]:.1f}, {error[-1]:.1f})")
    return "\n".join(lines)


def main() -> None:
    """Runs what is not yet recorded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", default="extrapolation")
    parser.add_argument("--case", default=None)
    parser.add_argument("--source", choices=["simulation", "prior"], default="simulation")
    parser.add_argument("--steps", type=int, nargs="*", default=[64])
    parser.add_argument("--truths", type=int, default=16)
    parser.add_argument("--members", type=int, default=32)
    options = parser.parse_args()
    if (options.members + 1) % BINS:
        parser.error(f"--members: one less than a multiple of {BINS}, for equal bins")
    config, _ = load_config(ROOT / "configs" / f"kolmogorov_{options.experiment}.py")
    prior, name = sda.load_prior("kolmogorov"), options.case or options.experiment
    case = config.cases[name]
    if case.imposed is not None:
        parser.error("--case: one whose truth is known")
    path = RESULTS / "kolmogorov_calibration.jsonl"
    records = read_records(path)
    write_records(path, records)
    for steps in options.steps:
        sampler = dataclasses.replace(config.assimilation.sampler, steps=steps)
        chosen = dataclasses.replace(config.assimilation, samples=options.members, sampler=sampler)
        config = dataclasses.replace(config, assimilation=chosen)
        known = identity(config, prior)
        this = (name, options.source, known)
        done = {r["truth"] for r in records if (r["case"], r["truths"], r["settings"]) == this}
        drawn = None
        if options.source == "prior":
            key = jax.random.key(1)
            drawn = sda.sample(key, prior, case.length, options.truths, sampler, chosen.memory)
        for index in range(options.truths):
            if index in done:
                continue
            test = draw_case(config, name, index)
            if drawn is not None:
                key = jax.random.fold_in(jax.random.key(2), index)
                observation = sda.observe(key, drawn[index], case.operator, std=case.std)
                test = test._replace(truth=drawn[index], observation=observation)
            assert test.truth is not None
            ensemble, _ = sample_posterior(prior, test, config.assimilation)
            ranks = metrics.ranks(ensemble, test.truth) * BINS // (options.members + 1)
            found = {
                "case": name,
                "truths": options.source,
                "steps": steps,
                "forwards": cost_of(prior, test, config.assimilation).forwards,
                "truth": index,
                "members": options.members,
                "residual_ratio": metrics.residual_std(test.observation, ensemble) / case.std,
                "rmse": metrics.rmse(ensemble, test.truth),
                "spread": metrics.spread(ensemble),
                "spread_skill": metrics.spread_skill(ensemble, test.truth),
                "crps": metrics.crps(ensemble, test.truth),
                "ranks": np.bincount(ranks.ravel(), minlength=BINS).tolist(),
                "settings": known,
                **measured(),
            }
            records.append(found)
            append_record(path, found)
            print(f"{name} {steps} {index}: {found['spread_skill']:.3f}", flush=True)
    shown = latest(records, "case", "truths", "steps")
    groups = grouped(shown)
    figure(groups).savefig(RESULTS / "kolmogorov_calibration.png", dpi=120)
    record(
        "kolmogorov_calibration",
        "Kolmogorov flow on 32 x 32, shipped prior: calibration",
        summary(groups),
        records=shown,
    )


if __name__ == "__main__":
    main()
