"""Records of climate, short and long, from packages that carry them.

`temperature`: yearly mean temperature over North America, 1860 to 2099, of two runs of one climate
model (iris-sample-data, Open Government Licence). A prior is trained on the run of one scenario; of
the other, in which it warms less, twelve places a decade are seen and sixty are hidden.

`elnino`: monthly sea surface temperature off Peru (statsmodels, public domain) and the southern
oscillation index (iris-sample-data). A prior is trained on 1950 to 1985; of each year from 1986 on
the temperature is hidden, with the year before and after it and the index of all three seen.

`ostia`: monthly sea surface temperature between 5 S and 5 N, 2006 to 2010, an analysis of
satellites and ships (OSTIA, Met Office, in iris-sample-data), in means over 4 longitudes and 2
latitudes of its grid; land is masked. Each third of the 54 months is held out once, and a prior is
trained on the others. Of months there and two before and after them forty points each are seen with
noise of 0.3 K, and the middle month is scored at 200 others.

All next to climatology, interpolation in time and optimal interpolation with mean and covariance
of what the prior was trained on, at what was hidden. With `--share` that is the last share of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
import xarray as xr
from common import RESULTS, record, train

import sda_jax as sda
from sda_jax.data._layout import Layout
from sda_jax.evaluation import baseline_scores, held_out_scores
from sda_jax.observations._interpolation import Interpolate

POSTERIOR = "posterior"
YEARS, PLACES, HIDDEN, NOISE = 10, 12, 60, 0.3  # of temperature
SINCE, SURROUNDING = 1986, 36  # of El Nino
BLOCK, MONTHS, HELD, SEEN, SCORED = 6, 5, 18, 40, 200  # of OSTIA
COARSE = {"latitude": 2, "longitude": 4}
FIELD = ("--training.batch", "8", "--training.checkpoint-every", "32", "--training.keep", "best")
FIELD += ("--training.patience", "4")
APART = ("--data.files.each", "trajectory", "--data.files.split", "trajectory")


class Window(NamedTuple):
    """A trajectory of which a part is seen.

    Attributes:
        start: Of its first state, as the layout's number.
        length: Its states.
        seen, hidden: What is assimilated, and what is scored.
    """

    start: float
    length: int
    seen: sda.Observation
    hidden: sda.Observation


def installed(package: str) -> Path:
    """The folder of a package, which is not imported."""
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise SystemExit(f"{package} is not installed: pip install sda_jax[examples]")
    return Path(found.submodule_search_locations[0])


def sample(name: str) -> Path:
    """A file of iris-sample-data."""
    return installed("iris_sample_data") / "sample_data" / name


def points(index: np.ndarray, states: np.ndarray, std: Any, rng: Any) -> sda.Observation:
    """Noisy values of elements of states."""
    std = np.broadcast_to(np.asarray(std, np.float32), states.shape).ravel()[index]
    operator = Interpolate(index[:, None], np.ones((len(index), 1)), states.shape)
    y = states.ravel()[index] + std * rng.standard_normal(len(index))
    return sda.Observation(y.astype(np.float32), operator, std=std)


def temperature(prior: sda.Prior, windows: int, fold: int) -> Iterator[Window]:
    """Decades of the scenario that was not trained on."""
    layout = prior.layout
    assert layout is not None
    with xr.open_dataset(sample("E1_north_america.nc")) as file:
        states = file.air_temperature.values[..., None].astype(np.float64)
        dates = file.time.values
    first = layout.numbers(dates, "time")
    grid = states[0].size
    for w in range(windows):
        rng = np.random.default_rng(w)
        part = states[w * YEARS : (w + 1) * YEARS]
        places = rng.choice(grid, PLACES + HIDDEN, replace=False)
        index = np.arange(YEARS)[:, None] * grid + places
        seen = points(index[:, :PLACES].ravel(), part, NOISE, rng)
        # stations' noise is not the truth's: hidden values are scored as they are
        hidden = points(index[:, PLACES:].ravel(), part, 1e-3, rng)
        yield Window(float(first[w * YEARS]), YEARS, seen, hidden)


def elnino_record() -> xr.Dataset:
    """Both series of months that both have."""
    wide = pd.read_csv(installed("statsmodels") / "datasets" / "elnino" / "elnino.csv")
    wide.columns = [str(c).strip() for c in wide.columns]
    months = pd.date_range(f"{int(wide.iloc[0, 0])}-01-01", periods=12 * len(wide), freq="MS")
    sst = xr.DataArray(wide.iloc[:, 1:].to_numpy(np.float32).ravel(), {"time": months}, ("time",))
    with xr.open_dataset(sample("SOI_Darwin.nc")) as file:
        soi = file.SOI_Darwin.load()
    both = xr.Dataset({"sst": sst.assign_attrs(units="degC"), "soi": soi.assign_attrs(units="1")})
    return both.dropna("time")


def elnino(prior: sda.Prior, windows: int, fold: int) -> Iterator[Window]:
    """Years of which the temperature is hidden."""
    layout, data = prior.layout, elnino_record()
    assert layout is not None
    names = [c.name for c in layout.channels]
    states = np.stack([data[name].values for name in names], axis=-1).astype(np.float64)
    for w in range(windows):
        rng = np.random.default_rng(w)
        year = np.datetime64(f"{SINCE + w - 1}-01-01")
        begin = int(np.flatnonzero(data.time.values == year)[0])
        part = states[begin : begin + SURROUNDING]
        month = np.arange(len(part))
        middle = (month // 12 == 1)[:, None] & (np.array(names) == "sst")
        noise = np.where(np.array(names) == "sst", 0.1, 0.2)
        seen = points(np.flatnonzero(~middle), part, noise, rng)
        hidden = points(np.flatnonzero(middle), part, 1e-3, rng)
        start = layout.number(str(data.time.values[begin])[:10], "start")
        yield Window(float(start), len(part), seen, hidden)


def ostia_record() -> xr.Dataset:
    """Means over blocks of the grid; blocks with land have none."""
    with xr.open_dataset(sample("ostia_monthly.nc")) as file:
        field = file.surface_temperature.load()
    # means of blocks leave out what is NaN, not what is infinite
    coarse = field.fillna(np.inf).coarsen(COARSE).mean()
    coarse = coarse.where(np.isfinite(coarse)).astype("f4")
    coarse = coarse.drop_vars(["forecast_reference_time", "forecast_period"])
    return coarse.assign_attrs(units="K").to_dataset(name="sst")


def ostia_others(fold: int) -> list[xr.Dataset]:
    """Half-years that are not held out, records of their own, of which one is for validation."""
    data = ostia_record()
    starts = range(0, data.sizes["time"], BLOCK)
    return [data.isel(time=slice(a, a + BLOCK)) for a in starts if a // HELD != fold]


def ostia(prior: sda.Prior, windows: int, fold: int) -> Iterator[Window]:
    """Months of a third, each between its neighbours."""
    layout, data = prior.layout, ostia_record()
    assert layout is not None
    states = data.sst.values[..., None].astype(np.float64)
    first, grid, middle = layout.numbers(data.time.values, "time"), states[0].size, MONTHS // 2
    there, last = np.flatnonzero(~np.isnan(states).any(axis=0).ravel()), HELD - MONTHS
    for begin in np.linspace(0, last, min(windows, last + 1), dtype=int) + fold * HELD:
        rng, part = np.random.default_rng(begin), states[begin : begin + MONTHS]
        places = [rng.choice(there, SEEN + SCORED, replace=False) for _ in part]
        index = np.concatenate([i * grid + p[:SEEN] for i, p in enumerate(places)])
        seen = points(index, part, NOISE, rng)
        hidden = points(middle * grid + places[middle][SEEN:], part, 1e-3, rng)
        yield Window(float(first[begin]), MONTHS, seen, hidden)


def scored(
    prior: sda.Prior, window: Window, drawn: Path, samples: int, stride: int
) -> tuple[int, dict[str, dict[str, float]]]:
    """Scores of the posterior and the baselines; members are kept, so that a run goes on."""
    layout = prior.layout
    assert isinstance(layout, Layout)
    context = None
    if layout.context_channels:
        context = layout.context(layout.times(window.start, window.length))
    if not drawn.exists():
        memory = sda.Memory(samples, window_stride=stride)
        ensemble = sda.assimilate(
            jax.random.key(0),
            prior,
            window.seen,
            window.length,
            samples,
            None,
            None,
            memory,
            context,
        )
        np.save(drawn, np.asarray(ensemble))
    members, _ = held_out_scores(jax.random.key(1), prior, window.hidden, np.load(drawn))
    found = baseline_scores(prior, window.seen, window.hidden, window.length, context)
    (variable,) = found.scores
    return int(members[variable]["values"]), {
        POSTERIOR: members[variable],
        **found.scores[variable],
    }


def pooled(cases: list[tuple[int, dict[str, dict[str, float]]]]) -> str:
    """One table of all windows, and how often the posterior's error is the smaller one."""
    counts = np.array([n for n, _ in cases], float)
    share = counts / counts.sum()
    lines = [
        "| | RMSE | CRPS | spread / skill | in central 90 % | CRPS less the posterior's |",
        "|---|---|---|---|---|---|",
    ]
    crps = {m: np.array([s[m]["crps"] for _, s in cases]) for m in cases[0][1]}
    for method, own in crps.items():
        each: dict[str, np.ndarray] = {
            k: np.array([s[method].get(k, np.nan) for _, s in cases])
            for k in ("rmse", "spread_skill", "inside_90")
        }
        rmse = np.sqrt(share @ each["rmse"] ** 2)
        spread = np.sqrt(share @ (each["spread_skill"] * each["rmse"]) ** 2) / rmse
        gap = own - crps[POSTERIOR]
        error = gap.std(ddof=1) / np.sqrt(len(gap))
        cells = [f"{rmse:.3f}", f"{share @ own:.3f}"]
        known = not np.isnan(spread)
        cells += [f"{spread:.2f}", f"{share @ each['inside_90']:.1%}"] if known else ["", ""]
        cells.append("" if method == POSTERIOR else f"{gap.mean():+.3f} +- {error:.3f}")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def written(folder: Path, fold: int, records: list[xr.Dataset], share: float) -> list[str]:
    """Files of records, or of the last share of each."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{fold}_{i}.nc" for i in range(len(records))]
    for path, data in zip(paths, records, strict=True):
        if not path.exists():
            last = data.isel(time=slice(-round(share * data.sizes["time"]), None))
            last.to_netcdf(path, engine="h5netcdf")
    return [str(path) for path in paths]


class Case(NamedTuple):
    """A record.

    Attributes:
        trained_on: The records that a fold's prior learns.
        windows: Of a prior and a fold, as many as wanted: what is assimilated and scored.
        options: Of training.
        title: Of the table.
        folds: How often another part is held out.
    """

    trained_on: Callable[[int], list[xr.Dataset]]
    windows: Callable[[sda.Prior, int, int], Iterator[Window]]
    options: tuple[str, ...]
    title: str
    folds: int = 1


CASES = {
    "temperature": Case(
        lambda _: [xr.open_dataset(sample("A1B_north_america.nc"))],
        temperature,
        ("--data.files.split", "time", *FIELD),
        "Temperature of North America (K)",
    ),
    "elnino": Case(
        lambda _: [elnino_record().sel(time=slice(None, f"{SINCE - 1}-12-31"))],
        elnino,
        ("--data.files.cycles", "year"),
        "Sea surface temperature off Peru (degC)",
    ),
    "ostia": Case(
        ostia_others,
        ostia,
        ("--data.files.cycles", "year", *APART, *FIELD),
        "Sea surface temperature at the equator (K)",
        folds=3,
    ),
}


def main() -> None:
    """Trains, assimilates and scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=tuple(CASES))
    parser.add_argument("--folder", type=Path, default=RESULTS.parent.parent / "runs" / "climate")
    parser.add_argument("--steps", type=int, default=1024)
    parser.add_argument("--windows", type=int, default=24)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--stride", type=int, default=1, help="between windows of the network")
    parser.add_argument("--share", type=float, default=1.0, help="of the record of training")
    options = parser.parse_args()
    case, name = CASES[options.case], f"{options.case}_{options.share:.2g}".removesuffix("_1")
    folder: Path = options.folder / name
    found, learnt = [], 0
    for fold in range(case.folds):
        sources = written(folder, fold, case.trained_on(fold), options.share)
        learnt = sum(xr.open_dataset(path).sizes["time"] for path in sources)
        out = folder / f"run_{fold}"
        given = ["--output", str(out), "--training.steps", str(options.steps)]
        given += ["--data.files.test", "0", *case.options]  # the test is elsewhere
        train("--data", *sources, *given)
        prior = sda.load_prior(out / "prior")
        for w, window in enumerate(case.windows(prior, options.windows // case.folds, fold)):
            drawn = folder / f"{fold}_{w}_{options.samples}.npy"
            found.append(scored(prior, window, drawn, options.samples, options.stride))
            print(w, {m: round(s["rmse"], 3) for m, s in found[-1][1].items()}, flush=True)
    doc = next(p for p in str(__doc__).split("\n\n") if p.startswith(f"`{options.case}`"))
    head = f"{len(found)} windows, {options.samples} members, {learnt} states to learn from:"
    record(f"climate_{name}", case.title, f"{doc}\n\n{head}\n\n{pooled(found)}", "climate")


if __name__ == "__main__":
    main()
