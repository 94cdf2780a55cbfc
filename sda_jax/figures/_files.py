"""Figures of states that came from files, with their names, units, coordinates and times."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from sda_jax.data._layout import Channel, Layout
from sda_jax.evaluation._baselines import CLIMATE
from sda_jax.figures._common import (
    OBSERVED,
    POSTERIOR,
    REFERENCE,
    SECOND,
    TRUTH,
    new_figure,
    write_gif,
)
from sda_jax.figures._states import band

BARS = (POSTERIOR, SECOND, REFERENCE)
SHOWN = 6  # channels or places that a figure shows at most


def named(channel: Channel) -> str:
    """A channel with its unit, for an axis."""
    return f"{channel.label} ({channel.units or 'no unit'})"


def _time_axis(layout: Layout, numbers: np.ndarray) -> tuple[np.ndarray, str]:
    if (dates := layout.dates(numbers)).dtype.kind == "M":
        return dates, layout.time
    since = f" since {layout.written(float(numbers[0]))}" if layout.calendar else ""
    unit = "s" if layout.calendar else layout.time_units or "its own unit"
    start = numbers[0] if layout.calendar else 0.0
    return numbers - start, f"{layout.time} ({unit}{since})"


def chosen(layout: Layout) -> list[tuple[tuple[int, ...], int]]:
    """The places and channels that a figure over time shows: the first channels, or, of fields,
    places evenly over the grid."""
    channels = len(layout.channels)
    if not layout.axes:
        return [((), c) for c in range(min(channels, SHOWN))]
    space = layout.state_shape[:-1]
    found: list[tuple[tuple[int, ...], int]] = []
    for c in range(min(channels, 2)):
        valid = np.argwhere(layout.valid[..., c])
        places = valid[np.linspace(0, len(valid) - 1, 2 + SHOWN // 2, dtype=int)[1:-1]]
        found += [(tuple(map(int, place)), c) for place in places]
    assert all(len(place) == len(space) for place, _ in found)
    return found[:SHOWN]


def over_time(
    ensemble: np.ndarray,
    layout: Layout,
    start: float,
    truth: np.ndarray | None = None,
    observed: list[tuple[np.ndarray, np.ndarray, np.ndarray] | None] | None = None,
) -> Figure:
    """The posterior at some channels or places over time.

    Args:
        ensemble: `(samples, L, *S)` in physical units.
        layout: Of the states.
        start: Time of the first.
        truth: `(L, *S)`, where it is known.
        observed: For each of `chosen`, times as numbers, values and std of what was seen there.
    """
    panels = chosen(layout)
    figure, axes = new_figure(len(panels), 1, (9, 1.1 + 1.7 * len(panels)), sharex=True)
    numbers = layout.times(start, ensemble.shape[1])
    time, label = _time_axis(layout, numbers)
    for k, ((place, c), axis) in enumerate(zip(panels, axes[:, 0], strict=True)):
        here = (slice(None), slice(None), *place, c)
        band(axis, time, ensemble[here], POSTERIOR, "posterior")
        if truth is not None:
            axis.plot(time, truth[here[1:]], color=TRUTH, lw=1.0, label="truth")
        if observed is not None and (seen := observed[k]) is not None:
            when, values, std = seen
            axis.errorbar(
                _time_axis(layout, np.append(numbers[0], when))[0][1:], values, yerr=std, fmt="o",
                ms=3.5, color=OBSERVED, label="observation",
            )  # fmt: skip
        axis.set_ylabel(named(layout.channels[c]), fontsize=8)
        if place:
            at = ", ".join(
                f"{a.name} {a.coordinates[i]:g}" for a, i in zip(layout.axes, place, strict=True)
            )
            axis.set_title(at, fontsize=9, loc="left")
    handles: dict[str, Any] = {}
    for axis in axes[:, 0]:
        lines, labels = axis.get_legend_handles_labels()
        handles.update(zip(labels, lines, strict=True))
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=4, fontsize=8)
    axes[-1, 0].set_xlabel(label)
    return figure


def _draw_map(axis: Any, layout: Layout, values: np.ndarray, **scale: Any) -> Any:
    x, y = layout.axes[1], layout.axes[0]
    image = axis.pcolormesh(x.coordinates, y.coordinates, values, shading="nearest", **scale)
    axis.tick_params(labelsize=7)
    axis.set_facecolor("0.85")
    return image


def _columns(
    ensemble: np.ndarray, truth: np.ndarray | None, channel: int
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
    """What maps of a channel show, `(L, *space)` each, and their colour scales."""
    ensemble = ensemble[..., channel]
    spread = ensemble.std(axis=0, ddof=1) if len(ensemble) > 1 else np.zeros_like(ensemble[0])
    shown = {"truth": truth[..., channel]} if truth is not None else {}
    shown |= {"mean": ensemble.mean(axis=0), "member 1": ensemble[0]}
    low, high = np.nanquantile(np.concatenate([*shown.values()]), [0.005, 0.995])
    scales = {name: {"vmin": low, "vmax": high, "cmap": "viridis"} for name in shown}
    top = float(np.nanquantile(spread, 0.995)) or 1.0
    return shown | {"spread": spread}, scales | {
        "spread": {"vmin": 0.0, "vmax": top, "cmap": "magma"}
    }


def maps(
    ensemble: np.ndarray,
    layout: Layout,
    start: float,
    channel: int,
    truth: np.ndarray | None = None,
    rows: int = 4,
) -> Figure:
    """Maps of the ensemble's mean, one member and spread at some times, beside the truth's."""
    shown, scales = _columns(ensemble, truth, channel)
    states = np.unique(np.linspace(0, ensemble.shape[1] - 1, rows, dtype=int))
    figure, axes = new_figure(
        len(states),
        len(shown),
        (3.0 * len(shown), 0.8 + 1.9 * len(states)),
        sharex=True,
        sharey=True,
    )
    images = {}
    for row, state in zip(axes, states, strict=True):
        for axis, (name, values) in zip(row, shown.items(), strict=True):
            images[name] = _draw_map(axis, layout, values[state], **scales[name])
        when = layout.written(float(layout.times(start, ensemble.shape[1])[state]))
        row[0].set_ylabel(f"{when}\n{_axis_label(layout, 0)}", fontsize=8)
    for axis, name in zip(axes[0], shown, strict=True):
        axis.set_title(name, fontsize=10)
    for axis in axes[-1]:
        axis.set_xlabel(_axis_label(layout, 1), fontsize=8)
    unit = named(layout.channels[channel])
    left = [axis for row in axes for axis in row[:-1]]
    figure.colorbar(images["mean"], ax=left, label=unit, location="bottom", shrink=0.6, aspect=40)
    figure.colorbar(
        images["spread"], ax=[row[-1] for row in axes], label=f"spread {unit}", location="bottom",
        aspect=20,
    )  # fmt: skip
    return figure


def _axis_label(layout: Layout, k: int) -> str:
    axis = layout.axes[k]
    return f"{axis.name} ({axis.units})" if axis.units else axis.name


def animation(
    ensemble: np.ndarray,
    layout: Layout,
    start: float,
    channel: int,
    truth: np.ndarray | None = None,
    frames: int = 40,
) -> bytes:
    """A GIF of the maps over time."""
    shown, scales = _columns(ensemble, truth, channel)
    states = np.unique(np.linspace(0, ensemble.shape[1] - 1, frames, dtype=int))
    times, unit = layout.times(start, ensemble.shape[1]), named(layout.channels[channel])
    figure, axes = new_figure(1, len(shown), (2.8 * len(shown), 2.3))
    images = []
    for axis, (name, values) in zip(axes[0], shown.items(), strict=True):
        image = _draw_map(axis, layout, values[states[0]], **scales[name])
        images.append((image, values[states]))
        axis.set_title(name, fontsize=9)
    out = io.BytesIO()
    titles = [f"{unit}, {layout.written(float(times[state]))}" for state in states]
    write_gif(out, figure, images, titles)
    return out.getvalue()


def lines(
    ensemble: np.ndarray,
    layout: Layout,
    start: float,
    channel: int,
    truth: np.ndarray | None = None,
) -> Figure:
    """Of states on a line: mean, one member and spread against place and time."""
    shown, scales = _columns(ensemble, truth, channel)
    figure, axes = new_figure(1, len(shown), (3.2 * len(shown), 4), sharey=True)
    time, label = _time_axis(layout, layout.times(start, ensemble.shape[1]))
    for axis, (name, values) in zip(axes[0], shown.items(), strict=True):
        image = axis.pcolormesh(
            layout.axes[0].coordinates, time, values, shading="nearest", **scales[name]
        )
        axis.set_title(name, fontsize=10)
        axis.set_xlabel(_axis_label(layout, 0), fontsize=8)
        figure.colorbar(image, ax=axis, location="bottom", label=named(layout.channels[channel]))
    axes[0, 0].set_ylabel(label, fontsize=8)
    return figure


def rank_histogram(ranks: np.ndarray, members: int, bins: int = 10) -> Figure:
    """How often what was held out had each rank among the members; level where it could be one of
    them."""
    figure, axes = new_figure(1, 1, (6, 3))
    axis = axes[0, 0]
    bins = min(bins, members + 1)
    edges = np.linspace(0, members + 1, bins + 1)
    counts, _ = np.histogram(ranks.ravel() + 0.5, edges)
    share = 100 * counts / max(counts.sum(), 1)
    axis.bar(np.arange(bins) + 0.5, share, 0.9, color=POSTERIOR)
    axis.axhline(100 / bins, color=SECOND, lw=1.5, label="level: calibrated")
    axis.set_xticks([0, bins / 2, bins], ["below all members", "middle", "above all members"])
    axis.set_ylabel("share of values (%)")
    axis.margins(y=0.25)
    axis.legend(fontsize=8, loc="upper center")
    return figure


def beside_baselines(scores: dict[str, dict[str, dict[str, float]]]) -> Figure:
    """RMSE and CRPS of the posterior and of baselines by variable, in units of climatology's.

    Args:
        scores: By variable and method, the posterior's first; see `baseline_scores`.
    """
    figure, axes = new_figure(1, 2, (9, 1.2 + 0.8 * len(scores)), sharey=True)
    methods = [m for m in next(iter(scores.values())) if m != CLIMATE]
    height = 0.8 / len(methods)
    for axis, score, title in zip(axes[0], ("rmse", "crps"), ("RMSE", "CRPS"), strict=True):
        for k, method in enumerate(methods):
            shares = [s[method][score] / s[CLIMATE][score] for s in scores.values()]
            place = np.arange(len(scores)) + (k - (len(methods) - 1) / 2) * height
            axis.barh(place, shares, 0.9 * height, color=BARS[k], label=method)
        axis.axvline(1.0, color=TRUTH, lw=1.0, ls="--", label=CLIMATE)
        axis.set_xlabel(f"{title} (climatology's = 1)")
    axes[0, 0].set_yticks(range(len(scores)), list(scores), fontsize=8)
    axes[0, 0].invert_yaxis()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, fontsize=8)
    return figure
