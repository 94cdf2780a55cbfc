"""The figures of one posterior, written to a folder."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from sda_jax.figures._common import save
from sda_jax.figures._flow import flow_animation, flow_panels, spectra
from sda_jax.figures._states import modes, phase_space, posterior_over_time
from sda_jax.observations._observation import Observation
from sda_jax.observations._operators import Channels, Every


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
    figure = posterior_over_time(ensemble, dt, truth, reference, points, title)
    paths = [save(figure, folder / "posterior.png")]
    if ensemble.shape[-1] == 3:
        shown = [("posterior", ensemble)]
        shown += [("smoother", reference)] if reference is not None else []
        paths.append(save(phase_space(shown, truth), folder / "phase_space.png"))
    if ensemble.shape[-1] == 3 and points is not None and points[3] == 2:
        paths.append(save(modes(ensemble, dt, *points), folder / "modes.png"))
    return paths


def observed_fields(
    observation: Observation, length: int, shape: tuple[int, ...]
) -> tuple[np.ndarray, str]:
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
    seen, label = observed_fields(observation, ensemble.shape[1], ensemble.shape[2:])
    numbers = np.size(observation.y)
    members = "1 member" if len(ensemble) == 1 else f"{len(ensemble)} members"
    title = f"{name}: posterior of {members} given {numbers} numbers"
    panels = flow_panels(ensemble, dt, truth, seen, label, title=title)
    energies = {"truth": truth[None]} if truth is not None else {}
    return [
        save(panels, folder / "panels.png"),
        flow_animation(folder / "posterior.gif", ensemble, dt, truth),
        save(spectra(energies | {"posterior": ensemble}, name), folder / "spectra.png"),
    ]
