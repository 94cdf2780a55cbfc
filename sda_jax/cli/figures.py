"""Draws what the other commands left in the output folder."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from sda_jax import figures as draw
from sda_jax.cli.common import Arguments, run
from sda_jax.core._errors import StorageError
from sda_jax.experiment._config import Experiment
from sda_jax.observations._files import load_observation
from sda_jax.observations._observation import Observation
from sda_jax.observations._operators import Channels, Every
from sda_jax.posterior._files import load_posterior
from sda_jax.runtime._records import read_records


def observed_points(
    observation: Observation,
) -> tuple[np.ndarray, np.ndarray, float, int] | None:
    """State indices, values, std and channel, where one channel of every n-th state is seen."""
    operator = observation.operator
    if not isinstance(operator, Every) or not isinstance(operator.operator, Channels):
        return None
    if (
        len(operator.operator.indices) != 1
        or np.ndim(observation.std) != 0
        or observation.noise is not None
    ):
        return None
    values = np.asarray(observation.y).reshape(-1)
    index = operator.n * np.arange(len(values))
    return index, values, float(observation.std), operator.operator.indices[0]


def draw_posterior(
    folder: Path, observation: Observation, dt: float, arrays: dict[str, np.ndarray], title: str
) -> list[Path]:
    """The figures of one posterior; returns their paths."""
    ensemble, truth, reference = arrays["ensemble"], arrays.get("truth"), arrays.get("reference")
    points = observed_points(observation)
    figure = draw.posterior_over_time(ensemble, dt, truth, reference, points, title)
    paths = [draw.save(figure, folder / "posterior.png")]
    if ensemble.shape[-1] == 3:
        shown = [("posterior", ensemble)]
        shown += [("smoother", reference)] if reference is not None else []
        paths.append(draw.save(draw.phase_space(shown, truth), folder / "phase_space.png"))
    if ensemble.shape[-1] == 3 and points is not None and points[3] == 2:
        paths.append(draw.save(draw.modes(ensemble, dt, *points), folder / "modes.png"))
    return paths


def shown(observation: Observation, length: int, shape: tuple[int, ...]) -> tuple[np.ndarray, str]:
    """An observation as images `(length, x, y)`: y itself, or its first component, where each
    observed state is a field, otherwise the grid points that it depends on."""
    operator, y = observation.operator, np.asarray(observation.y)
    if isinstance(operator, Every) and y.ndim == 4:
        picture = np.full((length, *y.shape[1:3]), np.nan)
        picture[:: operator.n] = y[..., 0]
        return picture, "observed value" if y.shape[-1] == 1 else "observed velocity along x"
    x = jax.random.normal(jax.random.key(0), (length, *shape))
    _, pull = jax.vjp(operator, x)
    (gradient,) = pull(jax.random.normal(jax.random.key(1), y.shape))
    seen = np.asarray(jnp.abs(gradient).sum(axis=-1) > 0)
    return np.where(seen, 1.0, np.nan), "1: y depends on this point"


def draw_flow(
    folder: Path, observation: Observation, dt: float, arrays: dict[str, np.ndarray], name: str
) -> list[Path]:
    """The figures of one posterior of a flow; returns their paths."""
    ensemble, truth = arrays["ensemble"], arrays.get("truth")
    seen, label = shown(observation, ensemble.shape[1], ensemble.shape[2:])
    numbers = np.size(observation.y)
    members = "1 member" if len(ensemble) == 1 else f"{len(ensemble)} members"
    title = f"{name}: posterior of {members} given {numbers} numbers"
    panels = draw.flow_panels(ensemble, dt, truth, seen, label, title=title)
    energies = {"truth": truth[None]} if truth is not None else {}
    return [
        draw.save(panels, folder / "panels.png"),
        draw.flow_animation(folder / "posterior.gif", ensemble, dt, truth),
        draw.save(draw.spectra(energies | {"posterior": ensemble}, name), folder / "spectra.png"),
    ]


def figures(arguments: Arguments) -> None:
    """Writes PNG files below `figures/`."""
    config, output = arguments.config, arguments.options.output
    paths: list[Path] = []
    metrics = read_records(output / "train" / "metrics.jsonl")
    if metrics:
        paths.append(draw.save(draw.training_curves(metrics), output / "figures" / "training.png"))
    records = read_records(output / "evaluation" / "records.jsonl")
    if records:
        figure = draw.accuracy_curves(records)
        paths.append(draw.save(figure, output / "figures" / "accuracy.png"))
    for case in config.cases:
        paths += _case_figures(config, output, case)
    if not paths:
        raise StorageError(
            str(output), "nothing to draw", "a folder that other commands wrote", "Run them first."
        )
    print("\n".join(f"figure: {path}" for path in paths))


def _case_figures(config: Experiment, output: Path, case: str) -> list[Path]:
    if not (output / case / "posterior.h5").exists():
        return []
    observation, _ = load_observation(output / case / "observation.h5")
    arrays = load_posterior(output / case / "posterior.h5")
    folder = output / "figures" / case
    if arrays["ensemble"].ndim == 5:
        return draw_flow(folder, observation, config.system.dt, arrays, case)
    return draw_posterior(folder, observation, getattr(config.system, "dt", 1.0), arrays, case)


def main(arguments: list[str] | None = None) -> int:
    """Entry point of scripts/figures.py."""
    return run(figures, str(__doc__), arguments)
