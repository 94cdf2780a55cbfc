"""Stations of a field that is known from a file alone: the posterior at stations that were held
out, against interpolation between the others, and the exact posterior of the linear system that the
file came from.

A temperature on a globe of 12 x 24 points, stirred by a jet and forced at random, is written as
NetCDF; a prior is trained on it by `sda-jax train`; stations between the grid's points report every
fourth state.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import scipy.interpolate
import xarray as xr
from common import RESULTS, record, train

import sda_jax as sda
from sda_jax.evaluation import coverage
from sda_jax.observations._linear_rows import linear_rows
from sda_jax.observations._reading import read
from sda_jax.observations._tables import Points

LAT, LON, HOURS = 12, 24, 6
DAMPING, NOISE = 0.93, 1.0
STATIONS, HELD_OUT, STD, EVERY, LENGTH = 60, 30, 0.3, 4, 33


def transition() -> tuple[np.ndarray, np.ndarray]:
    """The matrices of `x' = M x + F noise`: turning with the latitude's wind, mixing, damping, and
    a forcing that is smooth in space."""
    lat = np.linspace(-55, 55, LAT)
    k = np.fft.fftfreq(LON, 1 / LON)
    turn = 1.5 * np.cos(np.deg2rad(lat)) ** 2  # grid points a step
    shift = np.exp(-2j * np.pi * np.outer(turn, k) / LON)
    eye = np.eye(LAT * LON).reshape(LAT * LON, LAT, LON)
    moved = np.fft.ifft(np.fft.fft(eye, axis=2) * shift, axis=2).real
    up, down = moved.copy(), moved.copy()
    up[:, 1:], down[:, :-1] = moved[:, :-1], moved[:, 1:]
    mixed = 0.9 * moved + 0.05 * (up + down)
    distance = np.minimum(np.arange(LON), LON - np.arange(LON))
    along = np.exp(-0.5 * (distance / 2.5) ** 2)
    circulant = np.array([np.roll(along, i) for i in range(LON)])
    across = np.exp(-0.5 * ((np.arange(LAT)[:, None] - np.arange(LAT)) / 1.5) ** 2)
    covariance = np.kron(across, circulant)
    values, vectors = np.linalg.eigh(covariance)
    factor = vectors * np.sqrt(np.maximum(values, 0))
    return DAMPING * mixed.reshape(LAT * LON, -1).T, NOISE * np.sqrt(1 - DAMPING**2) * factor


def climate() -> np.ndarray:
    """The mean temperature, warm at the equator."""
    lat = np.linspace(-55, 55, LAT)
    return np.repeat(25 - 0.3 * np.abs(lat), LON).reshape(LAT, LON)


def simulate(states: int, seed: int) -> np.ndarray:
    """Deviations from the climate after a spin-up."""
    m, f = transition()
    rng = np.random.default_rng(seed)
    x, out = np.zeros(LAT * LON), np.empty((states, LAT, LON), np.float32)
    for i in range(-200, states):
        x = m @ x + f @ rng.standard_normal(len(x))
        if i >= 0:
            out[i] = x.reshape(LAT, LON)
    return out


def dataset(states: int, seed: int, start: str) -> xr.Dataset:
    """As a model would write it."""
    return xr.Dataset(
        {
            "t2m": (
                ("time", "lat", "lon"),
                (climate() + 3 * simulate(states, seed)).astype(np.float32),
                {"units": "degC", "standard_name": "air_temperature"},
            )
        },
        {
            "time": pd.date_range(start, periods=states, freq=f"{HOURS}h"),
            "lat": ("lat", np.linspace(-55, 55, LAT), {"units": "degrees_north"}),
            "lon": ("lon", np.arange(LON) * 360 / LON, {"units": "degrees_east"}),
        },
    )


def around(data: xr.Dataset) -> xr.DataArray:
    """With the first meridian again at the end, for xarray's own interpolation."""
    return xr.concat([data.t2m, data.t2m.isel(lon=[0]).assign_coords(lon=[360.0])], "lon")


def stations(data: xr.Dataset, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables of stations that are assimilated and of others, with their true values."""
    rng = np.random.default_rng(seed)
    count = STATIONS + HELD_OUT
    lat, lon = rng.uniform(-55, 55, count), rng.uniform(0, 360, count)
    places = {"lat": xr.DataArray(lat, dims="p"), "lon": xr.DataArray(lon, dims="p")}
    true = around(data).astype(float).interp(places).values
    rows = [
        {
            "time": str(data.time.values[i])[:19],
            "lat": lat[p],
            "lon": lon[p],
            "station": p,
            "state": i,
            "true": true[i, p],
            "value": true[i, p] + STD * rng.standard_normal(),
            "std": STD,
        }
        for i in range(0, LENGTH, EVERY)
        for p in range(count)
    ]
    table = pd.DataFrame(rows)
    seen = table.station < STATIONS
    return table[seen], table[~seen]


def interpolated(seen: pd.DataFrame, held: pd.DataFrame) -> np.ndarray:
    """Linear interpolation between the stations of the same time, on the globe; the nearest beyond
    them."""
    out = np.empty(len(held))
    for i, part in held.groupby("state"):
        now = seen[seen.state == i]
        lon = np.concatenate([now.lon + turn for turn in (-360, 0, 360)])
        places = np.stack([np.tile(now.lat, 3), lon], axis=1)
        values, wanted = np.tile(now.value, 3), np.stack([part.lat, part.lon], axis=1)
        linear = scipy.interpolate.LinearNDInterpolator(places, values)(wanted)
        nearest = scipy.interpolate.NearestNDInterpolator(places, values)(wanted)
        out[held.state == i] = np.where(np.isnan(linear), nearest, linear)
    return out


def exact(operator: sda.Observation, held: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the exact posterior at rows `held` of trajectories (the
    Gaussian distribution of all states, conditioned on the observation)."""
    m, f = transition()
    size = LAT * LON
    distribution = np.zeros((size, size))
    for _ in range(400):
        distribution = m @ distribution @ m.T + f @ f.T
    lags = [distribution]
    for _ in range(LENGTH - 1):
        lags.append(m @ lags[-1])
    joint = np.block(
        [[lags[i - j] if i >= j else lags[j - i].T for j in range(LENGTH)] for i in range(LENGTH)]
    )
    joint *= 9.0
    a, mean = rows_of(operator.operator), np.tile(climate().ravel(), LENGTH)
    gain = joint @ a.T
    inner = a @ gain + STD**2 * np.eye(len(a))
    towards = held @ gain
    update = np.linalg.solve(inner, np.asarray(operator.y) - a @ mean)
    variance = np.einsum("ij,ij->i", held @ joint, held) - np.einsum(
        "ij,ji->i", towards, np.linalg.solve(inner, towards.T)
    )
    return held @ mean + towards @ update, np.sqrt(variance)


def rows_of(operator: Any) -> np.ndarray:
    """A sparse operator as a matrix."""
    return linear_rows(operator, np.zeros((LENGTH, LAT, LON, 1)))[1].toarray()


def main() -> None:
    """Writes the file, trains, assimilates and scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=RESULTS.parent.parent / "runs" / "stations")
    parser.add_argument("--steps", type=int, default=16384)
    parser.add_argument("--networks", type=int, default=4, help="draws of stations")
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--preset", choices=("fast", "default", "accurate"), default="default")
    options = parser.parse_args()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "t2m.nc"
    if not source.exists():
        dataset(12000, 0, "2000-01-01").to_netcdf(source, engine="h5netcdf")
    steps = ["--training.steps", str(options.steps)]
    train("--data", str(source), "--output", str(folder / "run"), *steps)
    prior = sda.load_prior(folder / "run" / "prior")
    layout = prior.layout
    assert layout is not None
    errors: dict[str, list[np.ndarray]] = {}
    spent: list[float] = []
    for draw in range(options.networks):
        data = dataset(LENGTH, 100 + draw, "2010-01-01")
        seen, held = stations(data, draw)
        first = layout.number("2010-01-01", "start")
        used = []
        for table, name in ((seen, "seen"), (held, "held")):
            table.to_csv(folder / f"{name}.csv", index=False)
            used.append(
                read(Points(str(folder / f"{name}.csv")), layout, first, LENGTH).observation
            )
        context = layout.context(layout.times(first, LENGTH))
        started = time.perf_counter()
        guidance, sampler = sda.presets(prior, used[0], LENGTH)[options.preset]
        ensemble = sda.assimilate(
            jax.random.key(draw), prior, used[0], LENGTH, options.samples, guidance, sampler,
            context=context,
        )  # fmt: skip
        spent.append(time.perf_counter() - started)
        at = np.asarray(jax.vmap(used[1].operator)(ensemble))
        true = held.true.to_numpy()
        mean, spread = exact(used[0], rows_of(used[1].operator))
        found = {
            "error": at.mean(axis=0) - true,
            "variance": at.var(axis=0, ddof=1),
            "interpolated": interpolated(seen, held) - true,
            "climate": np.asarray(
                rows_of(used[1].operator) @ np.tile(climate().ravel(), LENGTH)
            ) - true,
            "exact": mean - true,
            "exact_variance": spread**2,
            "inside": np.array(coverage(at, true[None], 0.9)),
        }  # fmt: skip
        for name, values in found.items():
            errors.setdefault(name, []).append(values)
        print(
            draw, {n: round(float(np.sqrt((v**2).mean())), 3) for n, v in found.items()}, flush=True
        )

    def rms(name: str) -> tuple[float, float]:
        each = np.array([np.sqrt(np.mean(v**2)) for v in errors[name]])
        return float(each.mean()), float(each.std(ddof=1) / np.sqrt(len(each)))

    n = options.samples
    ratio = np.array(
        [
            np.sqrt((1 + 1 / n) * v.mean() / (e**2).mean())
            for v, e in zip(errors["variance"], errors["error"], strict=True)
        ]
    )
    inside = np.mean(errors["inside"])
    optimal = np.sqrt(
        np.mean(np.concatenate(errors["exact_variance"]))
        / np.mean(np.concatenate(errors["exact"]) ** 2)
    )
    rows = [
        f"| {label} | {rms(name)[0]:.3f} +- {rms(name)[1]:.3f} |"
        for label, name in (
            ("posterior mean", "error"),
            ("exact posterior mean of the linear system", "exact"),
            ("interpolation between stations of the time", "interpolated"),
            ("climate of the place", "climate"),
        )
    ]
    body = "\n".join(
        [
            f"{options.networks} draws of {STATIONS} stations with noise {STD} that report every "
            f"{EVERY}th of {LENGTH} states, {HELD_OUT} held out; {n} members by the preset "
            f"{options.preset!r}, {min(spent):.0f} s a draw; prior of at most {options.steps} "
            "steps. RMSE at held-out stations, "
            "degrees Celsius:\n",
            "| | RMSE |",
            "|---|---|",
            *rows,
            f"\nSpread/skill {ratio.mean():.3f} +- {ratio.std(ddof=1) / np.sqrt(len(ratio)):.3f} "
            f"(exact posterior {optimal:.3f}); {inside:.1%} of the true values inside the members' "
            "central 90 %.",
        ]
    )
    record("stations", "Held-out stations of a field known from a file", body)


if __name__ == "__main__":
    main()
