"""What evaluate does with a posterior of a user's own states: scores and a page."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sda_jax.cli.common import Arguments, the_prior
from sda_jax.cli.own import ASKED, columns_of, sources_of
from sda_jax.core._errors import ConfigError, SDAError, StorageError
from sda_jax.core._json import loads
from sda_jax.core._keys import stream
from sda_jax.core._registry import registry
from sda_jax.data._archive import differing, open_archive
from sda_jax.data._conventions import Files, open_dataset, time_numbers
from sda_jax.data._layout import Layout
from sda_jax.evaluation._diagnostics import held_out_ranks, innovation_chi_square
from sda_jax.evaluation._metrics import crps, ranks, rmse, spread
from sda_jax.figures import _files as draw
from sda_jax.figures import _page as report
from sda_jax.observations._interpolation import Interpolate
from sda_jax.observations._observation import Observation
from sda_jax.observations._reading import Points, read_all
from sda_jax.posterior._cf import from_xarray
from sda_jax.posterior._to_file import digest
from sda_jax.prior._prior import Prior

Row = tuple[str, str, str]
TABLES = 8  # channels at most that a report scores and draws one by one


def options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of posteriors of one's own states."""
    group = parser.add_argument_group("a posterior of your own states")
    group.add_argument("--posterior", default=None, help="its file: writes a report beside it")
    group.add_argument("--held-out", nargs="+", default=[], help="tables that were not assimilated")
    group.add_argument("--truth", default=None, help="a file of the true states, if there is one")
    group.add_argument("--std", type=float, default=None, help="noise, where a table has none")
    group.add_argument("--columns", nargs="+", default=[], help="such as value=temp")


def points_scores(
    key: jax.Array, prior: Prior, held_out: Observation, ensemble: np.ndarray
) -> tuple[dict[str, dict[str, float]], np.ndarray]:
    """Scores of an ensemble at observed values that it was not given, by variable, and their ranks.

    The members' predictions get noise as the observations have it. Beside them the climate that
    the prior was standardised with: its mean.
    """
    assert prior.layout is not None
    predict = jax.jit(lambda o, x: jax.lax.map(o.operator, x))
    predicted = np.asarray(predict(held_out, ensemble), np.float64)
    y = np.asarray(held_out.y, np.float64)
    std = np.broadcast_to(np.asarray(held_out.std, np.float64), y.shape)
    climate = np.broadcast_to(np.asarray(prior.standardisation.mean, float), ensemble.shape[1:])
    usual = np.asarray(held_out.operator(climate.astype(np.float32)), np.float64)
    key_noise, key_ranks = jax.random.split(key)
    noisy = predicted + std * np.asarray(jax.random.normal(key_noise, predicted.shape))
    place = np.asarray(held_out_ranks(key_ranks, held_out, jnp.asarray(ensemble)))
    n, found = len(ensemble), {}
    channel = _channel_of(held_out, prior.layout)
    for name in dict.fromkeys(c.name for c in prior.layout.channels):
        own = [i for i, c in enumerate(prior.layout.channels) if c.name == name]
        here = np.isin(channel, own)
        if not here.any():
            continue
        error = predicted[:, here].mean(axis=0) - y[here]
        variance = (1 + 1 / n) * predicted[:, here].var(axis=0, ddof=1) + std[here] ** 2
        inside = (place[here] > 0.05 * n) & (place[here] < 0.95 * n + 1)
        found[f"{name} ({prior.layout.channels[own[0]].units or 'no unit'})"] = {
            "values": float(here.sum()),
            "rmse": float(np.sqrt((error**2).mean())),
            "climate_rmse": float(np.sqrt(((usual - y)[here] ** 2).mean())),
            "bias": float(error.mean()),
            "crps": crps(noisy[:, here], y[here]),
            "spread_skill": float(np.sqrt(variance.mean() / (error**2).mean())),
            "inside_90": float(np.mean(inside)),
        }
    return found, place


def _channel_of(observation: Observation, layout: Layout) -> np.ndarray:
    """The channel of every value of points; those of several tables follow each other."""
    operators = getattr(observation.operator, "operators", (observation.operator,))
    flat = np.concatenate([np.asarray(o.indices)[:, 0] for o in operators])
    return flat % len(layout.channels)


def _truth(path: str, layout: Layout, start: float, length: int) -> np.ndarray:
    """The states of a file at the trajectory's times.

    Raises:
        StorageError: Its variables, units, grid or calendar are not the prior's, a time is not
            there, or it has several trajectories.
    """
    names = tuple(dict.fromkeys(c.name for c in layout.channels))
    space = tuple(axis.name for axis in layout.axes)
    archive = open_archive(Files((path,), variables=names, time=layout.time, space=space))
    if (other := differing(layout, archive.layout)) is not None:
        raise StorageError(
            path, other[1], f"{other[0]} of the prior: {other[2]}", "Put it on the prior's grid."
        )
    if len(archive.times) != 1:
        raise StorageError(
            path, f"{len(archive.times)} trajectories", "one, the truth", "Select one of them."
        )
    there, wanted = archive.times[0], layout.times(start, length)
    place = np.clip(np.searchsorted(there, wanted - 0.06 * layout.step), 0, len(there) - 1)
    bad = np.abs(there[place] - wanted) > 0.06 * layout.step
    if bad.any():
        first = layout.written(float(wanted[int(np.argmax(bad))]))
        raise StorageError(path, f"no state at {first}", "all of the posterior's", "Add it.")
    return archive.read(0, int(place[0]), int(place[-1]) + 1)[place - place[0]]


def _fields_table(prior: Prior, ensemble: np.ndarray, truth: np.ndarray | None) -> str:
    """Spread, and errors where the truth is known, channel by channel."""
    assert prior.layout is not None
    means, stds = (np.atleast_1d(np.asarray(v, float)) for v in
                   (prior.standardisation.mean, prior.standardisation.std))  # fmt: skip
    header = ["variable", "spread", "of the climate's std"]
    header += ["RMSE of the mean", "climate's RMSE", "CRPS", "spread / skill"] * (truth is not None)
    rows = []
    for c, channel in enumerate(prior.layout.channels):
        seen = prior.layout.valid[..., c]
        x = ensemble[..., c][:, :, seen]
        width = spread(x)
        row = [draw.named(channel), f"{width:.3g}", f"{width / stds[c]:.1%}"]
        if truth is not None:
            true = truth[..., c][:, seen]
            error = rmse(x, true)
            usual = float(np.sqrt(((means[c] - true) ** 2).mean()))
            ratio = width * np.sqrt(1 + 1 / len(x)) / error
            row += [f"{error:.3g}", f"{usual:.3g}", f"{crps(x, true):.3g}", f"{ratio:.2f}"]
        rows.append(row)
    return report.table(header, rows)


def _assimilated(
    said: dict[str, Any], layout: Layout, start: float, length: int
) -> Observation | None:
    """What the posterior was given, if its files still hold it; otherwise that is printed."""
    given = argparse.Namespace(**{k: v for k, v in said.items() if k != "experiment"})
    given.columns = list(given.columns)
    try:
        found = read_all(sources_of(given), layout, start, length).observation
    except SDAError as error:
        print(f"innovation chi-square: left out, {error}")
        return None
    if digest(found) == said["assimilated"]:
        return found
    print("innovation chi-square: left out, for the files of observations have changed since")
    return None


def _seen_at(observation: Observation | None, layout: Layout, start: float) -> list[Any]:
    """For each panel over time, what was observed at just that place."""
    panels = draw.chosen(layout)
    if observation is None or not isinstance(observation.operator, Interpolate):
        return [None] * len(panels)
    operator = observation.operator
    indices, weights = np.asarray(operator.indices), np.asarray(operator.weights)
    near = indices[np.arange(len(indices)), weights.argmax(axis=1)]
    places = np.stack(np.unravel_index(near, operator.shape), axis=1)
    steps = np.unravel_index(indices, operator.shape)[0]
    times = layout.times(start, operator.shape[0])
    when = (weights * times[steps]).sum(axis=1)
    # of one place and channel only: interpolated values are of no panel
    pure = np.array([
        len({tuple(p[1:]) for p, w in zip(np.stack(np.unravel_index(i, operator.shape), 1), ws,
                                          strict=True) if w > 0}) == 1
        for i, ws in zip(indices, weights, strict=True)
    ])  # fmt: skip
    y, std = np.asarray(observation.y), np.broadcast_to(np.asarray(observation.std), len(near))
    found = []
    for place, c in panels:
        here = pure & (places[:, 1:] == [*place, c]).all(axis=1)
        found.append((when[here], y[here], std[here]) if here.any() else None)
    return found


def evaluate_own(arguments: Arguments) -> None:
    """Prints scores of a posterior file and writes `<posterior>_report.html` beside it."""
    config, given = arguments.config, arguments.options
    path = Path(given.posterior or given.output / "posterior.nc")
    prior = the_prior(config, given.output)
    layout = prior.layout
    if layout is None:
        raise ConfigError(
            "prior", "one of a simulated system", "one trained on files", "Leave out --posterior."
        )
    with open_dataset(path) as dataset:
        ensemble = from_xarray(dataset, layout)
        attributes = {k: str(v) for k, v in dataset.attrs.items()}
        start = float(time_numbers(str(path), dataset.coords[layout.time])[0][0])
    if "sda_config" not in attributes or ensemble.ndim != 2 + len(layout.state_shape):
        raise StorageError(str(path), "another file", "a posterior of `sda-jax assimilate`", "-")
    said = loads(attributes["sda_config"], registry())
    length = ensemble.shape[1]
    filled = np.where(layout.valid, ensemble, np.asarray(prior.standardisation.mean, np.float32))
    observation = _assimilated(said, layout, start, length)
    columns = columns_of(given)
    truth = None if given.truth is None else _truth(given.truth, layout, start, length)

    rows: list[Row] = []
    pictures, held = [], ""
    if observation is not None and observation.noise is None:
        fit = innovation_chi_square(observation, jnp.asarray(filled))
        rows.append(
            (
                "innovation chi-square",
                f"{fit.members.mean():.2f}",
                f"How far members are from what was assimilated, in units of its noise, squared: "
                f"1 give or take {fit.std:.2f} for draws of the true posterior. Well above 1, the "
                "noise was set too small or the prior cannot make what was seen; well below, "
                "members fit the noise.",
            )
        )
    if given.held_out:
        tables = [Points(p, given.std, columns) for p in given.held_out]
        used = read_all(tables, layout, start, length)
        print(used.report)
        scores, place = points_scores(
            stream(config.seed, "held-out noise"), prior, used.observation, filled
        )
        held = _held_out_table(scores)
        pictures.append(
            report.drawn(
                draw.rank_histogram(np.asarray(place), len(ensemble)),
                "Ranks of held-out values among the members' predictions of them, noise included. "
                "Level: calibrated. A valley: too narrow. A hill: too wide. A slope: biased.",
            )
        )
    if truth is not None:
        flat = ranks(ensemble, truth)[:, layout.valid]
        pictures.append(
            report.drawn(
                draw.rank_histogram(flat, len(ensemble)),
                "Ranks of the true values among the members.",
            )
        )
    for name, value, _ in rows:
        print(f"{name}: {value}")
    out = path.with_name(f"{path.stem}_report.html")
    first, last = (layout.written(float(t)) for t in layout.times(start, length)[[0, -1]])
    summary = report.paragraph(
        f"{len(ensemble)} trajectories of {length} states, {first} to {last}, that explain what "
        "was observed: draws of the posterior under the prior that was learned from the files."
    ) + report.table(
        ["", ""],
        [
            ("posterior", str(path)),
            ("prior", attributes["sda_prior"]),
            ("variables", ", ".join(draw.named(c) for c in layout.channels[:TABLES])),
            ("observations", attributes["sda_observations"]),
            ("seed", attributes["sda_seed"]),
            ("versions", attributes["source"]),
        ],
    )
    scored = (
        report.table(["score", "value", "what it means"], rows)
        if rows
        else report.paragraph(
            "Neither the observations' files nor any that were held out are there to compare with."
        )
    )
    sections = [
        ("Summary", summary),
        ("Scores", scored + held + _fields_table(prior, ensemble, truth) + "".join(pictures)),
        ("Figures", _figures(ensemble, layout, start, truth, observation)),
        ("How to reproduce", _reproduce(said, str(path), attributes)),
        ("Configuration", report.code(json.dumps(json.loads(attributes["sda_config"]), indent=1))),
    ]
    report.write_page(out, f"Posterior {path.name}", sections)
    print(f"report: {out}")


def _held_out_table(scores: dict[str, dict[str, float]]) -> str:
    """Scores at held-out values, printed too."""
    rows = []
    for name, s in scores.items():
        cells = [f"{s['values']:.0f}"]
        cells += [f"{s[k]:.3g}" for k in ("rmse", "climate_rmse", "bias", "crps", "spread_skill")]
        rows.append([name, *cells, f"{s['inside_90']:.1%}"])
        print(
            f"held-out {name}: {cells[0]} values, RMSE {cells[1]} (climate {cells[2]}), CRPS "
            f"{cells[4]}, spread/skill {cells[5]}, {rows[-1][-1]} in the central 90 %"
        )
    header = [
        "held out", "values", "RMSE of the mean", "climate's RMSE", "bias", "CRPS",
        "spread / skill", "inside the central 90 %",
    ]  # fmt: skip
    meaning = (
        "Held-out values were not assimilated; their noise is part of the errors and of what is "
        "expected. The climate is the mean of what was trained on. CRPS, the continuous ranked "
        "probability score, rewards being sharp and right: smaller is better. Spread over skill "
        "is the expected over the actual error: 1 is calibrated, less is too sure."
    )
    return report.table(header, rows) + report.paragraph(meaning)


def _figures(
    ensemble: np.ndarray,
    layout: Layout,
    start: float,
    truth: np.ndarray | None,
    observation: Observation | None,
) -> str:
    beside = ", the truth in black" if truth is not None else ""
    found = [
        report.drawn(
            draw.over_time(ensemble, layout, start, truth, _seen_at(observation, layout, start)),
            f"The members' median and central 50 and 90 per cent{beside}.",
        )
    ]
    for c in range(min(len(layout.channels), TABLES) if layout.axes else 0):
        name = layout.channels[c].label
        if len(layout.axes) == 1:
            found.append(
                report.drawn(draw.lines(ensemble, layout, start, c, truth), f"{name} over time.")
            )
            continue
        caption = (
            f"{name} at some times: the ensemble's mean, one member and the spread{beside[:11]}."
        )
        found.append(report.drawn(draw.maps(ensemble, layout, start, c, truth), caption))
        moving = draw.animation(ensemble, layout, start, c, truth)
        found.append(report.picture(moving, "gif", f"{name} over time."))
    return "".join(found)


def _reproduce(said: dict[str, Any], path: str, attributes: dict[str, str]) -> str:
    words = ["sda-jax assimilate"]
    for name in ASKED:
        value = said[name]
        if value is None or value == ():
            continue
        listed = value if isinstance(value, tuple) else (value,)
        words.append(f"--{name} " + " ".join(map(str, listed)))
    words += [f"--seed {attributes['sda_seed']}", f"--posterior {path}"]
    words.append(f"--prior {attributes['sda_prior']}")
    return report.paragraph(
        "With the versions above and the same files, in the folder where it was run; other "
        "settings are in the configuration below."
    ) + report.code(" \\\n    ".join(words))
