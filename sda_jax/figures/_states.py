"""Figures of systems of a few variables, of accuracy and of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sda_jax.figures._common import OBSERVED, POSTERIOR, REFERENCE, SECOND, TRUTH, new_figure

NAMES = ("x", "y", "z")


def band(axis: Axes, time: np.ndarray, values: np.ndarray, color: str, label: str) -> None:
    """The members' median and central 50 and 90 per cent over time."""
    low, q1, middle, q3, high = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
    axis.fill_between(time, low, high, color=color, alpha=0.2, lw=0, label=f"{label}, 90 %")
    axis.fill_between(time, q1, q3, color=color, alpha=0.35, lw=0, label=f"{label}, 50 %")
    axis.plot(time, middle, color=color, lw=1.2)


def posterior_over_time(
    ensemble: np.ndarray,
    dt: float,
    truth: np.ndarray | None = None,
    reference: np.ndarray | None = None,
    observed: tuple[np.ndarray, np.ndarray, float, int] | None = None,
    title: str = "",
) -> Figure:
    """Posterior of each coordinate over time.

    Args:
        ensemble: `(samples, L, channels)` in physical units.
        dt: Time units between states.
        truth: True trajectory `(L, channels)`.
        reference: The smoother's ensemble, drawn as lines at the same quantiles.
        observed: State indices, values, standard deviation and channel of the observations.
        title: Of the figure.
    """
    channels = ensemble.shape[-1]
    time = dt * np.arange(ensemble.shape[1])
    figure, axes = new_figure(channels, 1, (9, 2.3 * channels), sharex=True)
    for c, axis in enumerate(axes[:, 0]):
        band(axis, time, ensemble[..., c], POSTERIOR, "posterior")
        if reference is not None:
            low, middle, high = np.quantile(reference[..., c], [0.05, 0.5, 0.95], axis=0)
            axis.plot(time, middle, color=REFERENCE, lw=1.2, ls="--", label="smoother, median")
            axis.plot(time, low, color=REFERENCE, lw=0.9, ls=":", label="smoother, 90 %")
            axis.plot(time, high, color=REFERENCE, lw=0.9, ls=":")
        if truth is not None:
            axis.plot(time, truth[:, c], color=TRUTH, lw=1.0, label="truth")
        if observed is not None and observed[3] == c:
            index, values, std, _ = observed
            axis.errorbar(
                dt * index, values, yerr=std, fmt="o", ms=4, color=OBSERVED, label="observation"
            )
        name = NAMES[c] if channels == 3 else f"channel {c}"
        axis.set_ylabel(f"{name} (model units)")
        axis.margins(x=0.01)
    handles: dict[str, Any] = {}
    for axis in axes[:, 0]:
        handles |= dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=9)
    axes[-1, 0].set_xlabel("time (model time units)")
    figure.suptitle(title)
    return figure


def phase_space(
    ensembles: Sequence[tuple[str, np.ndarray]], truth: np.ndarray | None, members: int = 48
) -> Figure:
    """Trajectories in the planes (x, y) and (x, z), a column an ensemble."""
    colors = (POSTERIOR, REFERENCE, OBSERVED, SECOND)
    columns = len(ensembles)
    figure, axes = new_figure(2, columns, (4.2 * columns, 7.6), sharex=True, sharey="row")
    for column, (label, ensemble) in enumerate(ensembles):
        for row, (a, b) in enumerate([(0, 1), (0, 2)]):
            axis = axes[row, column]
            for path in ensemble[:members]:
                axis.plot(path[:, a], path[:, b], color=colors[column], lw=0.5, alpha=0.35)
            if truth is not None:
                axis.plot(truth[:, a], truth[:, b], color=TRUTH, lw=1.2, label="truth")
                axis.plot(*truth[0, [a, b]], "o", color=TRUTH, ms=5, label="its first state")
            axis.set_xlabel(f"{NAMES[a]} (model units)")
            axis.set_ylabel(f"{NAMES[b]} (model units)")
            if row == 0:
                axis.set_title(f"{label}, {min(members, len(ensemble))} members")
    if truth is not None:
        axes[0, 0].legend(fontsize=8)
    return figure


def modes(
    ensemble: np.ndarray, dt: float, index: np.ndarray, values: np.ndarray, std: float, channel: int
) -> Figure:
    """A posterior of several modes, and its posterior predictive of the observed channel.

    Members are coloured by the sign of the mean of the first coordinate, which the flow's symmetry
    (x, y, z) -> (-x, -y, z) leaves open when only z is observed.
    """
    time = dt * np.arange(ensemble.shape[1])
    side = ensemble[..., 0].mean(axis=1) > 0
    figure, axes = new_figure(3, 1, (9, 7.5), sharex=True)
    for axis, c in zip(axes[:2, 0], (0, 1), strict=True):
        for chosen, color, sign in ((side, POSTERIOR, ">"), (~side, SECOND, "<")):
            for i, path in enumerate(ensemble[chosen][:60]):
                label = f"mean of x {sign} 0: {chosen.mean():.0%} of members"
                axis.plot(
                    time, path[:, c], color=color, lw=0.5, alpha=0.5, label=None if i else label
                )
        axis.set_ylabel(f"{NAMES[c]} (model units)")
    legend = axes[0, 0].legend(fontsize=8, loc="center")
    for line in legend.get_lines():
        line.set_linewidth(2)
    rng = np.random.default_rng(0)
    seen = ensemble[:, index, channel]
    predictive = seen + std * rng.standard_normal(seen.shape)
    low, middle, high = np.quantile(predictive, [0.05, 0.5, 0.95], axis=0)
    axis = axes[2, 0]
    spread = [middle - low, high - middle]
    axis.errorbar(
        dt * index, middle, yerr=spread, fmt="s", ms=3, color=POSTERIOR, capsize=3,
        label="posterior predictive, median and 90 %",
    )  # fmt: skip
    axis.plot(dt * index, values, "o", ms=5, mfc="none", color=OBSERVED, label="observation")
    axis.set_ylabel(f"{NAMES[channel]} (model units)")
    axis.set_xlabel("time (model time units)")
    axis.legend(fontsize=8, loc="upper right")
    return figure


def accuracy_curves(records: Sequence[dict[str, Any]]) -> Figure:
    """The paper's figure 2: W1, log prior and log likelihood against the number of corrections,
    medians with quartiles over the observations, the truth as a line. Where a value is not finite
    there is a gap."""
    cases = list(dict.fromkeys(r["case"] for r in records))
    panels = [
        ("w1", "w1_floor", "Wasserstein-1 distance (model units)", "truth against truth"),
        ("log_prior", "log_prior_truth", "expected log prior (nats)", "smoother"),
        ("log_likelihood", "log_likelihood_truth", "expected log likelihood (nats)", "smoother"),
    ]
    figure, axes = new_figure(len(cases), 3, (11, 3.4 * len(cases)))
    for row, case in enumerate(cases):
        rows = [r for r in records if r["case"] == case]
        corrections = sorted({r["corrections"] for r in rows})
        for axis, (name, truth, ylabel, label) in zip(axes[row], panels, strict=True):
            known = np.array([r[name] for r in rows], float)
            known[~np.isfinite(known)] = np.nan  # has no place on an axis
            values = [known[[r["corrections"] == c for r in rows]] for c in corrections]
            low, middle, high = (
                np.array([np.quantile(v, q) for v in values]) for q in (0.25, 0.5, 0.75)
            )
            place = np.arange(len(corrections))
            errors = [middle - low, high - middle]
            axis.errorbar(
                place, middle, errors, fmt="o-", color=POSTERIOR, capsize=3, label="posterior"
            )
            line = np.median([r[truth] for r in rows])
            axis.axhline(line, color=REFERENCE, ls="--", label=label)
            axis.set_xticks(place, [str(c) for c in corrections])
            axis.set_xlabel("Langevin corrections per step")
            axis.set_ylabel(ylabel)
            axis.set_title(case)
            axis.legend(fontsize=8)
    return figure


def training_curves(metrics: Sequence[dict[str, Any]]) -> Figure:
    """Training and validation loss, and the learning rate, against the step."""
    figure, axes = new_figure(2, 1, (8, 5), sharex=True, height_ratios=[3, 1])
    top, bottom = axes[:, 0]
    steps = [m["step"] for m in metrics]
    top.plot(steps, [m["loss"] for m in metrics], color=SECOND, lw=0.8, label="training")
    checked = [m for m in metrics if "validation_loss" in m]
    top.plot(
        [m["step"] for m in checked],
        [m["validation_loss"] for m in checked],
        "o-",
        ms=3,
        color=POSTERIOR,
        label="validation, averaged weights",
    )
    top.set_ylabel("denoising loss")
    top.set_yscale("log")
    top.legend()
    bottom.plot(steps, [m["learning_rate"] for m in metrics], color=TRUTH)
    bottom.set_ylabel("learning rate")
    bottom.set_xlabel("step")
    return figure
