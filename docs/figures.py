"""Draws the figures of the documentation: `python docs/figures.py [NAME ...]`, all without a name.

A tutorial's picture is drawn from what the code of its page leaves behind; the page is run in
`build/figures/NAME`, where its trained priors stay, so that a second call only draws.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.dates import DateFormatter, DayLocator

import sda_jax as sda
from sda_jax.cli.main import main
from sda_jax.diffusion import LogSNR
from sda_jax.figures import save
from sda_jax.figures._common import OBSERVED, POSTERIOR, REFERENCE, SECOND, TRUTH, new_figure
from sda_jax.figures._states import band
from sda_jax.prior import trajectory_denoiser

DOCS = Path(__file__).resolve().parent
WORK = DOCS.parent / "build" / "figures"
BLOCK = re.compile(r"^```(python|console)(?: file=(\S+))?\n(.*?)^```$", re.M | re.S)
NOISE = "0.7"  # grey of noisy states
LEVELS = (30.0, 10.0, 1.0, 0.1)  # sigma/mu of the columns of the concepts' figure


def follow(page: str) -> dict[str, Any]:
    """Runs a tutorial in a folder of its own, the working folder from then on; returns its
    names."""
    folder = WORK / page
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    names: dict[str, Any] = {}
    for kind, name, text in BLOCK.findall((DOCS / "tutorials" / f"{page}.md").read_text()):
        if name:
            Path(name).write_text(text)
        elif kind == "python":
            exec(compile(text, page, "exec"), names)
        else:
            for line in text.splitlines():
                words = shlex.split(line)[2:] if line.startswith("$ sda-jax ") else []
                if words and not trained(words) and main(words):
                    raise SystemExit(f"{page}: {line}")
    return names


def trained(words: list[str]) -> bool:
    """Whether the command is a training that is done already."""
    return words[0] == "train" and Path(words[words.index("--output") + 1], "prior").exists()


def legend_below(figure: Any, axes: Any, columns: int = 4) -> None:
    handles: dict[str, Any] = {}
    for axis in np.ravel(axes):
        lines, labels = axis.get_legend_handles_labels()
        handles |= dict(zip(labels, lines, strict=True))
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=columns, fontsize=9)


def concepts() -> Any:
    """Noise, the network's estimate, the estimate given an observation, and draws."""
    prior = sda.load_prior("lorenz63")
    length, dt, members = 65, prior.system.dt, 12
    truth = sda.simulate(jax.random.key(3), prior.system, length=length)
    obs = sda.observe(jax.random.key(1), truth, lambda x: x[::8, :1], std=0.4)
    alone = trajectory_denoiser(prior, length)
    given = sda.GaussianCovariance()(alone, obs.standardised(prior.standardisation))
    schedule = alone.schedule
    physical = jax.jit(lambda z: prior.standardisation.inverse(z)[..., 0])
    estimate = jax.jit(lambda denoiser, x, t: physical(denoiser(x, t)))
    z = prior.standardisation.forward(truth)
    noise = jax.random.normal(jax.random.key(2), z.shape)

    grid = LogSNR()(schedule, 64)
    ratios = np.asarray(jax.vmap(lambda t: schedule.sigma(t) / schedule.mu(t))(grid))

    @jax.jit
    def draw(key: jax.Array) -> jax.Array:
        """The estimates along one draw, at every time of the grid but the first: a step of the
        exponential integrator, then Langevin steps."""

        def step(x: jax.Array, now: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
            t, s, key = now
            mean, sigma = given(x, t), schedule.sigma(s)
            x = schedule.mu(s) * mean + sigma / schedule.sigma(t) * (x - schedule.mu(t) * mean)
            for random in jax.random.split(key, 3):
                eps = (x - schedule.mu(s) * given(x, s)) / sigma
                size = jnp.minimum(0.3 / jnp.mean(eps**2), 0.3)
                kick = jnp.sqrt(2 * size) * jax.random.normal(random, x.shape)
                x = x - sigma * (size * eps + kick)
            return x, given(x, s)

        keys = jax.random.split(key, len(grid))
        x = schedule.sigma(1.0) * jax.random.normal(keys[0], z.shape)
        return jax.lax.scan(step, x, (grid[:-1], grid[1:], keys[1:]))[1]

    draws = np.asarray(jax.lax.map(draw, jax.random.split(jax.random.key(5), members)))
    figure, axes = new_figure(3, 4, (12, 7.6), sharex=True, sharey=True)
    time = dt * np.arange(length)
    for column, level in enumerate(LEVELS):
        t = schedule.time(level)
        x = schedule.mu(t) * z + schedule.sigma(t) * noise
        top, middle, bottom = axes[:, column]
        top.set_title(f"noise-to-signal ratio {level:g}")
        noisy = physical(x / schedule.mu(t))
        top.plot(time, noisy, ".", ms=4, color=NOISE, label="noisy trajectory")
        top.plot(time, estimate(alone, x, t), color=SECOND, lw=2, label="estimate")
        middle.plot(time, estimate(alone, x, t), color=SECOND, lw=1.2, ls="--")
        middle.plot(
            time, estimate(given, x, t), color=POSTERIOR, lw=2,
            label="estimate given the observation",
        )  # fmt: skip
        place = int(np.argmin(np.abs(np.log(ratios[1:] / level))))
        for i, path in enumerate(draws[:, place]):
            label = f"estimates of {members} draws" if i == 0 else None
            bottom.plot(time, physical(path), color=POSTERIOR, lw=0.7, alpha=0.6, label=label)
        for axis in (middle, bottom):
            axis.errorbar(
                time[::8], obs.y[:, 0], yerr=0.4, fmt="o", ms=4, color=OBSERVED, zorder=3,
                label="observation",
            )  # fmt: skip
        for axis in axes[:, column]:
            axis.plot(time, truth[:, 0], color=TRUTH, lw=0.9, label="truth")
        bottom.set_xlabel("time (model time units)")
    rows = (
        "training: take the noise away",
        "guidance: add the observation",
        "sampling: from noise",
    )
    for row, text in zip(axes, rows, strict=True):
        row[0].set_ylabel(f"{text}\nx (model units)")
    axes[0, 0].set_ylim(-20, 22)
    axes[0, 0].margins(x=0.02)
    legend_below(figure, axes[:, 0], 6)
    return figure


def lorenz() -> Any:
    names = follow("lorenz")
    dt, truth = names["prior"].system.dt, np.asarray(names["truth"])
    time = dt * np.arange(65)
    figure, axes = new_figure(2, 2, (11, 5.6), sharex=True, sharey="row")
    titles = ("x seen every 8th state", "a forecast: the first half seen")
    for column, (key, title) in enumerate(zip(("ensemble", "forecast"), titles, strict=True)):
        members = np.asarray(names[key])
        for axis, c, name in zip(axes[:, column], (0, 2), "xz", strict=True):
            band(axis, time, members[..., c], POSTERIOR, "posterior")
            axis.plot(time, truth[:, c], color=TRUTH, lw=1.0, label="truth")
            axis.set_ylabel(f"{name} (model units)")
            axis.margins(x=0.01)
        axes[0, column].set_title(title)
        axes[1, column].set_xlabel("time (model time units)")
    reference = np.quantile(names["reference"], [0.05, 0.5, 0.95], axis=0)
    for axis, c in zip(axes[:, 0], (0, 2), strict=True):
        for values, look in zip(reference[..., c], (":", "--", ":"), strict=True):
            label = "smoother, median" if look == "--" else "smoother, 90 %"
            axis.plot(time, values, color=REFERENCE, lw=1.0, ls=look, label=label)
    style: dict[str, Any] = {"fmt": "o", "ms": 4, "color": OBSERVED, "label": "observation"}
    axes[0, 0].errorbar(time[::8], names["obs"].y[:, 0], yerr=0.4, **style)
    axes[0, 1].errorbar(time[:33], names["seen"][:33, 0], yerr=0.4, **style)
    axes[1, 1].errorbar(time[:33:16], names["other"].y[:, 0], yerr=1.0, **style)
    legend_below(figure, axes, 6)
    return figure


def choosing() -> Any:
    names = follow("choosing")
    prior, truth, obs = names["prior"], np.asarray(names["truth"]), names["obs"]
    time = prior.system.dt * np.arange(33)
    shown = {}
    for name in ("fast", "default"):
        setting = sda.presets(prior)[name]
        shown[name] = sda.assimilate(jax.random.key(2), prior, obs, 33, 16, *setting)
    shown |= {"SDA": names["sharper"], "a sampler of one's own": names["quick"]}
    shown |= {"the same with candidates": names["several"]}
    figure, axes = new_figure(2, 5, (14, 5.2), sharex=True, sharey="row")
    for column, (title, members) in enumerate(shown.items()):
        for axis, c, letter in zip(axes[:, column], (0, 2), "xz", strict=True):
            for i, path in enumerate(np.asarray(members)):
                label = None if i else "members"
                axis.plot(time, path[:, c], color=POSTERIOR, lw=0.8, alpha=0.5, label=label)
            axis.plot(time, truth[:, c], color=TRUTH, lw=1.2, label="truth")
            axis.margins(x=0.02)
            if column == 0:
                axis.set_ylabel(f"{letter} (model units)")
        axes[0, column].errorbar(
            time[::8], obs.y[:, 0], yerr=0.4, fmt="o", ms=4, color=OBSERVED, zorder=3,
            label="observation",
        )  # fmt: skip
        axes[0, column].set_title(title, fontsize=10)
        axes[1, column].set_xlabel("time (model time units)")
    legend_below(figure, axes)
    return figure


def own_ode() -> None:
    follow("own_ode")
    return Path("runs/pendulum/figures/angle/posterior.png")


def own_operator() -> Any:
    names = follow("own_operator")
    members, truth = np.asarray(names["ensemble"]), np.asarray(names["truth"])
    time = names["prior"].system.dt * np.arange(33)
    seen = np.asarray(jax.vmap(names["energy"])(members))
    figure, axes = new_figure(2, 1, (9, 5.6), sharex=True)
    top, bottom = axes[:, 0]
    side = members[..., 0].mean(axis=1) > 0
    for chosen, color, sign in ((side, POSTERIOR, ">"), (~side, SECOND, "<")):
        label = f"members with mean x {sign} 0: {chosen.sum()} of {len(members)}"
        for path, values in zip(members[chosen], seen[chosen], strict=True):
            bottom.plot(time, path[:, 0], color=color, lw=0.8, alpha=0.6, label=label)
            top.plot(time[::4], values, color=color, lw=0.8, alpha=0.6, label=label)
            label = None
    top.errorbar(
        time[::4], names["obs"].y, yerr=0.02, fmt="o", ms=4, color=OBSERVED, label="observation",
        zorder=3,
    )  # fmt: skip
    top.set_ylabel("the detector (no unit)")
    bottom.plot(time, truth[:, 0], color=TRUTH, lw=1.2, label="truth")
    bottom.set_ylabel("x, never seen (model units)")
    bottom.set_xlabel("time (model time units)")
    legend_below(figure, axes)
    return figure


def own_netcdf() -> Any:
    follow("own_netcdf")
    posterior = xr.load_dataset("runs/t2m/posterior.nc", engine="h5netcdf").t2m
    truth = xr.load_dataset("truth.nc", engine="h5netcdf").t2m
    stations = pd.read_csv("stations.csv", parse_dates=["time"])
    when = pd.Timestamp("2010-01-05")
    here = stations[stations.time == when]
    spread = posterior.sel(time=when).std("member", ddof=1)
    shown = [("truth", truth.sel(time=when)), ("mean", posterior.sel(time=when).mean("member"))]
    shown += [("member 1", posterior.sel(time=when).isel(member=0))]
    low, high = float(shown[0][1].min()), float(shown[0][1].max())
    figure, axes = new_figure(2, 2, (11, 5.4), sharex=True, sharey=True)
    for axis, (title, values) in zip(axes.flat, shown, strict=False):
        image = axis.pcolormesh(
            values.lon, values.lat, values.transpose("lat", "lon"), vmin=low, vmax=high,
            cmap="viridis",
        )  # fmt: skip
        axis.set_title(title)
    figure.colorbar(image, ax=axes[:, 0], location="left", label="temperature (degC)", shrink=0.8)
    last = axes[1, 1]
    image = last.pcolormesh(
        spread.lon, spread.lat, spread.transpose("lat", "lon"), vmin=0, cmap="magma"
    )
    last.plot(here.lon, here.lat, "o", ms=4, mfc="white", mec="black", mew=0.6, label="stations")
    last.set_title("spread, and the stations")
    last.legend(fontsize=8, loc="lower right")
    last.set_xlim(-7.5, 352.5)
    figure.colorbar(image, ax=axes[:, 1], location="right", label="spread (degC)", shrink=0.8)
    for axis in axes[1]:
        axis.set_xlabel("longitude (degrees east)")
    for axis in axes[:, 0]:
        axis.set_ylabel("latitude (degrees north)")
    return figure


def weather() -> Any:
    names = follow("weather")
    rows = names["rows"]
    figure, axes = new_figure(2, 2, (12, 6.4), sharex=True, sharey="row")
    files = ("posterior.nc", "forecast.nc")
    titles = ("Kennedy, hidden; two other airports seen", "a forecast from two days of all three")
    for column, (file, title) in enumerate(zip(files, titles, strict=True)):
        data = xr.load_dataset(f"runs/weather/{file}", engine="h5netcdf")
        for axis, name in zip(axes[:, column], ("temp", "dewp"), strict=True):
            values = data[name].sel(station="JFK").transpose("member", "time").to_numpy()
            band(axis, data.time.to_numpy(), values, POSTERIOR, "posterior")
            known = rows[(rows.station == "JFK") & (rows.variable == name)]
            hidden = known if column == 0 else known[known.time >= "2013-11-17"]
            axis.plot(
                hidden.time, hidden.value, "o", ms=3, mfc="none", color=REFERENCE,
                label="report at Kennedy, held out",
            )  # fmt: skip
            if column:
                used = known[known.time < "2013-11-17"]
                axis.plot(used.time, used.value, "o", ms=3, color=OBSERVED, label="report, used")
            label = "temperature" if name == "temp" else "dew point"
            axis.set_ylabel(f"{label} (degC)")
            axis.xaxis.set_major_locator(DayLocator())
            axis.xaxis.set_major_formatter(DateFormatter("%d %b %Y"))
        axes[0, column].set_title(title)
        axes[1, column].set_xlabel("time (UTC)")
    legend_below(figure, axes)
    return figure


FIGURES = {
    "concepts": (concepts, "concepts.png"),
    **{
        page.__name__: (page, f"tutorials/{page.__name__}.png")
        for page in (lorenz, own_ode, own_netcdf, own_operator, weather, choosing)
    },
}


def draw(names: list[str]) -> None:
    for name in names or FIGURES:
        make, path = FIGURES[name]
        figure = make()
        if isinstance(figure, Path):
            shutil.copyfile(figure, DOCS / path)
        else:
            save(figure, DOCS / path)
        print(DOCS / path)


if __name__ == "__main__":
    draw(sys.argv[1:])
