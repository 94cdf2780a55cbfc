"""Figures of two-dimensional flows. Arrays are velocities `(..., L, x, y, 2)`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from sda_jax.figures._common import (
    OBSERVED,
    POSTERIOR,
    REFERENCE,
    SECOND,
    TRUTH,
    new_figure,
    write_gif,
)
from sda_jax.runtime._files import atomic
from sda_jax.systems._fields import energy_spectrum, vorticity

VORTICITY = "vorticity $\\partial u/\\partial y - \\partial v/\\partial x$ (1 / time unit)"
DIVERGING, SEQUENTIAL, OBSERVED_MAP = "RdBu_r", "viridis", "PuOr_r"


def _physical_vorticity(velocity: np.ndarray) -> np.ndarray:
    return np.asarray(vorticity(jnp.asarray(velocity))) * velocity.shape[-2] / (2 * np.pi)


class _Rows:
    """What a figure of a posterior shows, a row each, with the colour scales they share."""

    def __init__(
        self,
        ensemble: np.ndarray,
        truth: np.ndarray | None,
        seen: np.ndarray | None,
        members: int,
        truth_label: str = "truth",
        member_label: str = "member",
    ):
        curls = _physical_vorticity(ensemble)
        self.fields: dict[str, np.ndarray] = {}
        if seen is not None:
            self.fields["observed"] = seen
        if truth is not None:
            self.fields[truth_label] = _physical_vorticity(truth)
        for i in range(min(members, len(curls))):
            self.fields[f"{member_label} {i + 1}"] = curls[i]
        self.fields["mean"] = curls.mean(axis=0)
        if len(curls) > 1:
            self.fields["spread"] = curls.std(axis=0, ddof=1)
        self.limit = float(np.quantile(np.abs(self.fields.get(truth_label, curls[0])), 0.995))

    def draw(self, axis: Any, name: str, state: int) -> Any:
        """Image of one state; x runs to the right, y upwards."""
        field = self.fields[name][state]
        axis.set_xticks([])
        axis.set_yticks([])
        if name == "observed":
            bound = float(np.nanmax(np.abs(self.fields[name])))
            axis.set_facecolor("0.85")
            scale: dict[str, Any] = {"cmap": OBSERVED_MAP, "vmin": -bound, "vmax": bound}
        elif name == "spread":
            top = float(np.quantile(self.fields["spread"], 0.995))
            scale = {"cmap": SEQUENTIAL, "vmin": 0.0, "vmax": max(top, 1e-9)}
        else:
            scale = {"cmap": DIVERGING, "vmin": -self.limit, "vmax": self.limit}
        return axis.imshow(field.T, origin="lower", interpolation="nearest", **scale)


def flow_panels(
    ensemble: np.ndarray,
    dt: float,
    truth: np.ndarray | None = None,
    seen: np.ndarray | None = None,
    seen_label: str = "",
    members: int = 3,
    columns: int = 8,
    truth_label: str = "truth",
    member_label: str = "member",
    title: str = "",
) -> Figure:
    """Vorticity of the truth, what was observed, some members, the ensemble's mean and spread.

    Args:
        ensemble: `(samples, L, x, y, 2)` in physical units.
        dt: Time units between states.
        truth: `(L, x, y, 2)`.
        seen: `(L, x', y')`, NaN where nothing was observed; grey in the figure.
        seen_label: What `seen` is, with its unit.
        members: Members shown.
        columns: States shown, evenly spaced over the trajectory, first and last among them.
        truth_label, member_label: What `truth` and the members are called.
        title: Of the figure.
    """
    rows = _Rows(ensemble, truth, seen, members, truth_label, member_label)
    states = np.unique(np.linspace(0, ensemble.shape[1] - 1, columns).round().astype(int))
    size = (1.35 * len(states) + 1.6, 1.4 * len(rows.fields) + 0.8)
    figure, axes = new_figure(len(rows.fields), len(states), size)
    images: dict[str, Any] = {}
    for r, name in enumerate(rows.fields):
        for c, state in enumerate(states):
            images[name] = rows.draw(axes[r, c], name, int(state))
            if r == 0:
                axes[r, c].set_title(f"t = {state * dt:.1f}", fontsize=9)
        axes[r, 0].set_ylabel(name)
    names = list(rows.fields)
    labels = {"mean": VORTICITY, "spread": "spread (1 / time unit)", "observed": seen_label}
    for name, label in labels.items():
        if name in images:
            shared = [i for i, n in enumerate(names) if n not in ("spread", "observed")]
            where = shared if name == "mean" else [names.index(name)]
            bar = figure.colorbar(
                images[name], ax=axes[where].ravel().tolist(), aspect=12 * len(where)
            )
            bar.set_label(label, fontsize=8)
            bar.ax.tick_params(labelsize=7)
    figure.supxlabel(
        "time (time units) above; in each panel x to the right, y upwards, 0 to 2$\\pi$",
        fontsize=9,
    )
    figure.suptitle(title)
    return figure


def flow_animation(
    path: str | Path,
    ensemble: np.ndarray,
    dt: float,
    truth: np.ndarray | None = None,
) -> Path:
    """Writes a GIF: vorticity of truth, two members, mean and spread over time."""
    path = Path(path)
    rows = _Rows(ensemble, truth, None, 2)
    figure, axes = new_figure(1, len(rows.fields), (2.2 * len(rows.fields), 2.7))
    images = []
    for axis, (name, values) in zip(axes[0], rows.fields.items(), strict=True):
        images.append((rows.draw(axis, name, 0), values.swapaxes(1, 2)))
        axis.set_title(name, fontsize=10)
    titles = [f"vorticity, t = {i * dt:.1f} time units" for i in range(ensemble.shape[1])]
    with atomic(path) as temporary:
        write_gif(temporary, figure, images, titles)
    return path


def spectra(named: dict[str, np.ndarray], title: str = "") -> Figure:
    """Energy spectra of several sets of velocities `(..., x, y, 2)`: the mean, and as a band the
    range of 90 % of the trajectories where there is a first axis of them."""
    figure, axes = new_figure(1, 1, (6.5, 4.5))
    axis, colors = axes[0, 0], [TRUTH, POSTERIOR, REFERENCE, OBSERVED, SECOND]
    if len(named) == 1:
        colors.remove(TRUTH)
    for (label, velocity), color in zip(named.items(), colors, strict=False):
        energy = np.asarray(energy_spectrum(jnp.asarray(velocity)))
        energy = energy.reshape(energy.shape[0], -1, energy.shape[-1]).mean(axis=1)[:, 1:]
        k = np.arange(1, energy.shape[-1] + 1)
        axis.loglog(k, energy.mean(axis=0), "o-", ms=3, color=color, label=label)
        if len(energy) > 1:
            low, high = np.quantile(energy, [0.05, 0.95], axis=0)
            axis.fill_between(k, low, high, color=color, alpha=0.2, lw=0)
    axis.set_xlabel("wavenumber (1 / length unit)")
    axis.set_ylabel("kinetic energy in the shell (velocity units squared)")
    axis.legend(title="mean, and 90 % of trajectories")
    axis.set_title(title)
    return figure


def forecast_errors(curves: dict[str, Sequence[float]], dt: float, title: str = "") -> Figure:
    """Root mean square differences against lead time."""
    figure, axes = new_figure(1, 1, (6.5, 4.5))
    axis, colors = axes[0, 0], (POSTERIOR, REFERENCE, TRUTH, OBSERVED)
    for (label, values), color in zip(curves.items(), colors, strict=False):
        axis.plot(dt * np.arange(len(values)), values, "o-", ms=3, color=color, label=label)
    axis.set_xlabel("lead time (time units)")
    axis.set_ylabel("RMS velocity difference (velocity units)")
    axis.set_ylim(bottom=0)
    axis.legend()
    axis.set_title(title)
    return figure
