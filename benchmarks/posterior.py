"""Posteriors against the truth: systems x methods x budgets.

    python benchmarks/posterior.py                 # all that is not yet recorded
    python benchmarks/posterior.py --quick         # one observation, 128 samples, under 5 minutes

Lorenz observations are compared with the particle smoother's posterior, the damped spring's (exact
denoiser) with the Kalman smoother's. Records go to results/posterior.jsonl; run again, it goes on
where it stopped.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from common import RESULTS, measured, record
from matplotlib.figure import Figure
from posterior_methods import METHODS
from posterior_scores import (
    COLUMNS,
    OF_A_FILTER,
    PARTICLES,
    cases,
    draw,
    references,
    scores,
    summary,
)

from sda_jax.core._errors import DivergenceError
from sda_jax.runtime._records import append_record, read_records, write_records

SAMPLES = 256  # other numbers are recorded by themselves
# what a metric is where nothing is wrong, and how far the figure goes
AIMS: dict[str, tuple[float | None, float, float]] = {
    "W1 / floor": (1, 0.6, 6),
    "log prior gap": (0, -12, 6),
    "log likelihood gap": (0, -4, 4),
    "spread ratio": (1, 0.7, 1.3),
    "CRPS ratio": (1, 0.7, 1.5),
    "flatness ratio": (1, 0.6, 4),
    "spread / skill": (None, 0, 3),  # of one truth: what the posterior's is differs
    "in 50 %": (50, 35, 65),
    "in 90 %": (90, 80, 100),
    "C2ST": (0.5, 0.4, 0.9),
    "seconds": (None, 1, 4096),
}
LOGARITHMIC = ("W1 / floor", "flatness ratio", "seconds")
QUICK = ("fast", "default", "SDA 1e-2, default's sampler")


def figure(records: list[dict[str, Any]]) -> Figure:
    """All metrics against evaluations of the network, and seconds too, a column for each case; what
    is beyond a panel is drawn at its edge, the aim is the line."""
    records = [r for r in records if r["forwards"]]
    names = list(dict.fromkeys(r["case"] for r in records))
    methods = list(dict.fromkeys(r["method"] for r in records))
    made = Figure(figsize=(2.6 * len(names) + 1.8, 1.7 * len(AIMS)), layout="constrained")
    axes = made.subplots(len(AIMS), len(names), sharex=True, sharey="row", squeeze=False)
    markers = "osD^v<>PX*hpd8"
    for row, (column, (aim, low, high)) in zip(axes, AIMS.items(), strict=True):
        for ax, case in zip(row, names, strict=True):
            if aim is not None:
                ax.axhline(aim, color="0.7", lw=1)
            for k, method in enumerate(methods):
                rows = [r for r in records if (r["case"], r["method"]) == (case, method)]
                rows = [r for r in rows if not r["diverged"]]
                if rows:
                    value = np.median([COLUMNS[column](r) for r in rows])
                    cost = rows[0]["forwards"] + rows[0]["vjps"]
                    ax.plot(
                        cost, np.clip(value, low, high), markers[k], color=f"C{k}", ms=6,
                        clip_on=False, label=method,
                    )  # fmt: skip
            if column in LOGARITHMIC:
                ax.set_yscale("log", base=2)
                ax.yaxis.set_major_formatter("{x:g}")
            ax.set_ylim(low, high)
            ax.set_xscale("log", base=2)
            ax.xaxis.set_major_formatter("{x:.0f}")
            ax.margins(x=0.15)
        row[0].set_ylabel(column)
    for ax, case in zip(axes[0], names, strict=True):
        ax.set_title(case)
    for ax in axes[-1]:
        ax.set_xlabel("forwards + VJPs")
    handles = {h.get_label(): h for ax in axes.flat for h in ax.get_lines()}
    shown = [m for m in methods if m in handles]
    made.legend([handles[m] for m in shown], shown, loc="outside right upper", fontsize=8)
    return made


def main() -> None:
    """Scores every method that is not yet recorded."""
    known = cases()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--observations", type=int, default=8)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--cases", nargs="*", choices=known, default=list(known))
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--chunk", type=int, default=64)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    name = "posterior" if options.samples == SAMPLES else f"posterior_{options.samples}"
    if options.quick:
        name, options.observations, options.samples = "posterior_quick", 1, 128
        options.cases, options.methods = ["spring", "lo", "hi"], list(QUICK)
    path = RESULTS / f"{name}.jsonl"
    settings = {
        (name, label): method.settings(case)
        for name, case in known.items()
        for label, method in METHODS.items()
    }
    every = read_records(path)
    write_records(path, every)  # without a line that was cut
    records = [r for r in every if settings.get((r["case"], r["method"])) == r["settings"]]
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
                costs = METHODS[method].cost(case, observation, options.samples)
                found: dict[str, Any] = {
                    "case": label,
                    "method": method,
                    "index": index,
                    "samples": options.samples,
                    "settings": settings[label, method],
                    **dict(zip(("forwards", "vjps"), costs, strict=True)),
                    **measured(),
                }
                start = time.perf_counter()
                try:
                    ensemble = METHODS[method].draw(
                        key, case, observation, options.samples, options.chunk
                    )
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
    order = [(case, method) for case in known for method in METHODS]
    records.sort(key=lambda r: (order.index((r["case"], r["method"])), r["index"]))
    figure(records).savefig(RESULTS / f"{name}.png", dpi=120)
    record(
        name,
        "Posteriors against the truth",
        "Medians over the observations that did not diverge (a member not finite, or a spread over "
        "ten times the truth's). Gaps are posterior minus truth, ratios posterior over truth; "
        "`in 90 %` is the share of the truth's members inside the ensemble's central 90 %; "
        "evaluations are for one member, of a population with one search; `all bounds` counts the "
        "observations that meet at once: "
        "W1 / floor within 0.05 of 1, gaps below 1 and below 0.3 or three standard errors, spread "
        "within 3 %, energy p above 0.01, 88 to 92 in 90 %, C2ST at most 0.55; what the truth "
        "redrawn misses of them is chance. Smoother with "
        f"{PARTICLES} particles, {OF_A_FILTER} members of each run at most; "
        f"{options.samples} samples. Behind the seconds the machine, where they are several. "
        "A row alone: `--cases CASE --methods METHOD` with its n as `--observations`.\n\n"
        + summary(records),
        script="posterior",
        records=records,
    )


if __name__ == "__main__":
    main()
