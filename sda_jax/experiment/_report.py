"""Pages of HTML that say how good posteriors are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sda_jax.core._json import dumps, parse
from sda_jax.data._layout import Layout
from sda_jax.experiment._comparison import HEADER, MEANING, summary_rows
from sda_jax.experiment._config import Experiment
from sda_jax.experiment._files import ObservationFiles
from sda_jax.experiment._scores import PosteriorFile, PosteriorScores
from sda_jax.figures import _files as draw
from sda_jax.figures import _page as page
from sda_jax.figures import accuracy_curves
from sda_jax.observations._interpolation import Interpolate
from sda_jax.observations._observation import Observation
from sda_jax.runtime._versions import versions

TABLES = 8  # channels at most that a page draws one by one
HELD_OUT = (
    "held out", "values", "RMSE of the mean", "climate's RMSE", "bias", "CRPS",
    "spread / skill", "inside the central 90 %",
)  # fmt: skip
BASELINES = ("variable", "method", "RMSE", "CRPS", "spread / skill", "inside the central 90 %")


def posterior_page(path: str | Path, scores: PosteriorScores) -> Path:
    """Writes a page about a posterior file: what it is, how it scores, pictures, how to make it
    again.

    Raises:
        StorageError: It cannot be written.
    """
    posterior = scores.posterior
    sections = [
        ("Summary", _summary(posterior)),
        ("Scores", _scores(scores)),
        ("Figures", _figures(scores)),
        ("How to reproduce", _reproduce(posterior)),
        (
            "Configuration",
            page.code(json.dumps(parse(posterior.attributes["sda_config"]), indent=1)),
        ),
    ]
    return page.write_page(path, f"Posterior {posterior.path.name}", sections)


def comparison_page(
    path: str | Path, config: Experiment, records: Sequence[dict[str, Any]], command: str
) -> Path:
    """Writes a page about an experiment's posteriors against the particle smoother's.

    Args:
        path: Of the page.
        config: The experiment.
        records: See `compare_cases`.
        command: That makes them.

    Raises:
        StorageError: It cannot be written.
    """
    seen = len({(r["case"], r["observation"]) for r in records})
    sections = [
        (
            "Summary",
            page.paragraph(
                f"{seen} test observations of {type(config.system).__name__}, "
                f"{config.assimilation.samples} members each, against a particle smoother with "
                f"{config.evaluation.particles} particles. Medians; evaluations of the network "
                "are for one member, with all searches made."
            )
            + page.table(HEADER, summary_rows(records)),
        ),
        ("What it means", page.table(["score", "best", "meaning"], MEANING)),
        (
            "Figures",
            page.drawn(accuracy_curves(records), "Accuracy against the number of corrections."),
        ),
        (
            "How to reproduce",
            page.paragraph("With these versions and the configuration below:")
            + page.code(command)
            + page.code(", ".join(f"{k} {v}" for k, v in versions().items())),
        ),
        ("Configuration", page.code(dumps(config))),
    ]
    return page.write_page(path, "Evaluation against the particle smoother", sections)


def held_out_rows(scores: PosteriorScores) -> list[list[str]]:
    """Scores at held-out values, under `HELD_OUT`."""
    rows = []
    for name, s in scores.held_out.items():
        cells = [f"{s['values']:.0f}"]
        cells += [f"{s[k]:.3g}" for k in ("rmse", "climate_rmse", "bias", "crps", "spread_skill")]
        rows.append([name, *cells, f"{s['inside_90']:.1%}"])
    return rows


def baseline_rows(scores: PosteriorScores) -> list[list[str]]:
    """Scores of the posterior and of baselines, under `BASELINES`."""
    rows = []
    for variable, methods in scores.baselines.items():
        for method, s in methods.items():
            cells = [f"{s[name]:.3g}" for name in ("rmse", "crps")]
            cells.append(f"{s['spread_skill']:.2f}" if "spread_skill" in s else "none")
            cells.append(f"{s['inside_90']:.1%}" if "inside_90" in s else "none")
            rows.append([variable, method, *cells])
    return rows


def _summary(posterior: PosteriorFile) -> str:
    ensemble, layout, attributes = posterior.ensemble, posterior.layout, posterior.attributes
    length = ensemble.shape[1]
    times = layout.times(posterior.start, length)
    first, last = (layout.written(float(t)) for t in times[[0, -1]])
    return page.paragraph(
        f"{len(ensemble)} trajectories of {length} states, {first} to {last}, that explain what "
        "was observed: draws of the posterior under the prior that was learned from the files."
    ) + page.table(
        ["", ""],
        [
            ("posterior", str(posterior.path)),
            ("prior", attributes["sda_prior"]),
            ("variables", ", ".join(draw.named(c) for c in layout.channels[:TABLES])),
            ("observations", attributes["sda_observations"]),
            ("verdict when it was drawn", attributes.get("sda_diagnosis", "none")),
            ("seed", attributes["sda_seed"]),
            ("versions", attributes["source"]),
        ],
    )


def _scores(scores: PosteriorScores) -> str:
    members, parts = len(scores.posterior.ensemble), []
    if (fit := scores.chi_square) is not None:
        meaning = (
            f"How far members are from what was assimilated, in units of its noise, squared: "
            f"1 give or take {fit.std:.2f} for draws of the true posterior. Well above 1, the "
            "noise was set too small or the prior cannot make what was seen; well below, "
            "members fit the noise."
        )
        row = ("innovation chi-square", f"{fit.members.mean():.2f}", meaning)
        parts.append(page.table(["score", "value", "what it means"], [row]))
    elif scores.held_out:
        reason = scores.left_out or "for its noise is not Gaussian"
        parts.append(page.paragraph(f"Innovation chi-square: left out, {reason}."))
    else:
        parts.append(
            page.paragraph(
                "Neither the observations' files nor any that were held out are there to compare "
                "with."
            )
        )
    if scores.held_out:
        parts.append(page.table(HELD_OUT, held_out_rows(scores)) + page.paragraph(_HELD_OUT_MEANS))
    parts += _baselines(scores)
    parts.append(_channels_table(scores))
    if scores.held_out_ranks is not None:
        parts.append(
            page.drawn(
                draw.rank_histogram(scores.held_out_ranks, members),
                "Ranks of held-out values among the members' predictions of them, noise included. "
                "Level: calibrated. A valley: too narrow. A hill: too wide. A slope: biased.",
            )
        )
    if scores.ranks is not None:
        parts.append(
            page.drawn(
                draw.rank_histogram(scores.ranks, members),
                "Ranks of the true values among the members.",
            )
        )
    return "".join(parts)


_HELD_OUT_MEANS = (
    "Held-out values were not assimilated; their noise is part of the errors and of what is "
    "expected. The climate is the mean of what was trained on. CRPS, the continuous ranked "
    "probability score, rewards being sharp and right: smaller is better. Spread over skill "
    "is the expected over the actual error: 1 is calibrated, less is too sure."
)


def _baselines(scores: PosteriorScores) -> list[str]:
    """The posterior beside what is done without it."""
    if not scores.baselines:
        return []
    where = "held-out values" if scores.held_out else "the true values"
    caption = (
        f"Errors at {where}, each in units of climatology's: shorter is better. CRPS of "
        "interpolation in time, which gives no distribution, is its mean absolute error."
    )
    parts = [
        page.table(BASELINES, baseline_rows(scores)),
        page.drawn(draw.beside_baselines(scores.baselines), caption),
    ]
    return parts + [
        page.paragraph(f"{method[:1].upper()}{method[1:]}: left out, {reason}")
        for method, reason in scores.baselines_left_out.items()
    ]


def _channels_table(scores: PosteriorScores) -> str:
    """Spread, and errors where the truth is known, channel by channel."""
    header = ["variable", "spread", "of the climate's std"]
    if scores.truth is not None:
        header += ["RMSE of the mean", "climate's RMSE", "CRPS", "spread / skill"]
    rows = []
    for channel, s in zip(scores.posterior.layout.channels, scores.channels, strict=True):
        row = [draw.named(channel), f"{s['spread']:.3g}", f"{s['spread'] / s['climate_std']:.1%}"]
        if scores.truth is not None:
            row += [f"{s[name]:.3g}" for name in ("rmse", "climate_rmse", "crps")]
            row.append(f"{s['spread_skill']:.2f}")
        rows.append(row)
    return page.table(header, rows)


def _figures(scores: PosteriorScores) -> str:
    posterior, truth = scores.posterior, scores.truth
    ensemble, layout, start = posterior.ensemble, posterior.layout, posterior.start
    beside = ", the truth in black" if truth is not None else ""
    seen = _seen_at(scores.observation, layout, start)
    found = [
        page.drawn(
            draw.over_time(ensemble, layout, start, truth, seen),
            f"The members' median and central 50 and 90 per cent{beside}.",
        )
    ]
    for c in range(min(len(layout.channels), TABLES) if layout.axes else 0):
        name = layout.channels[c].label
        if len(layout.axes) == 1:
            found.append(
                page.drawn(draw.lines(ensemble, layout, start, c, truth), f"{name} over time.")
            )
            continue
        caption = (
            f"{name} at some times: the ensemble's mean, one member and the spread{beside[:11]}."
        )
        found.append(page.drawn(draw.maps(ensemble, layout, start, c, truth), caption))
        moving = draw.animation(ensemble, layout, start, c, truth)
        found.append(page.picture(moving, "gif", f"{name} over time."))
    return "".join(found)


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


def _reproduce(posterior: PosteriorFile) -> str:
    words = ["sda-jax assimilate", *_options(posterior.files)]
    words += [f"--seed {posterior.attributes['sda_seed']}", f"--posterior {posterior.path}"]
    words.append(f"--prior {posterior.attributes['sda_prior']}")
    return page.paragraph(
        "With the versions above and the same files, in the folder where it was run; other "
        "settings are in the configuration below."
    ) + page.code(" \\\n    ".join(words))


def _options(files: ObservationFiles) -> list[str]:
    found = []
    for name, value in vars(files).items():
        if value is None or value == () or (name == "set_aside" and not value):
            continue
        listed = value if isinstance(value, tuple) else (value,)
        found.append(f"--{name.replace('_', '-')} " + " ".join(map(str, listed)))
    return found
