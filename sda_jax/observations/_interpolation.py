"""From states on a grid to values at any place and time: a sparse linear operator."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from sda_jax.core._arrays import Trajectory
from sda_jax.core._component import component
from sda_jax.core._errors import ObservationError
from sda_jax.core._numbers import real_array
from sda_jax.core._record import static
from sda_jax.data._conventions import turn
from sda_jax.data._layout import Axis, Layout, rounding

METHODS = ("linear", "nearest")
CLOSE = 1e-6  # in steps or spacings, of what counts as on a point or on the edge
NEGLIGIBLE = 1e-3  # weight of a point without values that coordinates in single precision may give
SHARE = 0.1  # of a spacing that rounding of coordinates may be at most


@component
class Interpolate:
    """Weighted sums of elements of a trajectory, one for each point.

    Attributes:
        indices: Of the flattened trajectory, `(points, corners)`.
        weights: Likewise.
        shape: Of the trajectory, `(L, *S)`.
    """

    indices: Any
    weights: Any
    shape: tuple[int, ...] = static()

    def __post_init__(self) -> None:
        for name, dtype in (("indices", np.int32), ("weights", np.float32)):
            value = real_array(name, getattr(self, name), ObservationError, np.float64)
            if isinstance(value, (np.ndarray, float)):
                kept = np.asarray(value, dtype)
                if not np.allclose(kept, value, rtol=1e-6):
                    expected = "finite numbers" if name == "weights" else "whole numbers"
                    raise ObservationError(name, "others", expected, "Correct them.")
                object.__setattr__(self, name, kept)

    def __call__(self, x: Trajectory) -> Float[Array, " points"]:
        if x.shape != self.shape:
            raise ObservationError(
                "observation",
                f"points of trajectories of shape {self.shape}",
                f"this trajectory's, {x.shape}",
                "Read them for trajectories of this prior and length.",
            )
        return jnp.sum(jnp.asarray(self.weights) * x.reshape(-1)[jnp.asarray(self.indices)], axis=1)


class InterpolationWeights(NamedTuple):
    """Where points lie between the grid's.

    Attributes:
        indices, weights: Of the flattened trajectory, for every point, `(points, corners)`.
        reasons: Why points cannot be used, each with where it applies, in this order.
    """

    indices: Int[np.ndarray, "points corners"]
    weights: Float[np.ndarray, "points corners"]
    reasons: list[tuple[str, Bool[np.ndarray, " points"]]]


def _between(
    place: Float[np.ndarray, " points"], size: int, method: str, wraps: bool
) -> tuple[list[tuple[np.ndarray, np.ndarray]], Bool[np.ndarray, " points"]]:
    """Neighbours and their weights of places counted in grid points, and which lie outside."""
    outside = ~np.isfinite(place)
    if not wraps:
        outside |= (place < -CLOSE) | (place > size - 1 + CLOSE)
    place = np.where(outside, 0.0, place)
    if method == "nearest":
        nearest = np.floor(place + 0.5).astype(int)
        nearest = nearest % size if wraps else np.clip(nearest, 0, size - 1)
        return [(nearest, np.ones(len(place)))], outside
    if not wraps:
        place = np.clip(place, 0, size - 1)
    below = np.floor(place).astype(int)
    share = place - below
    if wraps:
        return [(below % size, 1 - share), ((below + 1) % size, share)], outside
    return [(below, 1 - share), (np.minimum(below + 1, size - 1), share)], outside


def require_around(
    axis: Axis, x: Float[np.ndarray, " points"], where: Callable[[int], str]
) -> None:
    """Raises `ObservationError` if a coordinate of a circle is not the grid's or once around: what
    is farther away is no place by another name, but a mistake.

    Args:
        axis: Of the grid.
        x: Coordinates.
        where: Names a point, for people.
    """
    circle = turn(axis.units) if axis.is_longitude else axis.period
    if circle is None:
        return
    low, high = min(axis.coordinates), max(axis.coordinates)
    ends = (-circle, circle) if axis.is_longitude else (low - circle, high + circle)
    low, high = min(low, ends[0]), max(high, ends[1])
    near = CLOSE + rounding(x)
    wrong = ~((x >= low - near) & (x <= high + near))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ObservationError(
            f"{where(row)}, {axis.name}",
            x[row],
            f"from {low:g} to {high:g} {axis.units}".rstrip(),
            "Correct or remove the row.",
        )


def place_on(axis: Axis, x: Float[np.ndarray, " points"]) -> Float[np.ndarray, " points"]:
    """Where coordinates lie, counted in grid points from the first; below 0 or beyond the last
    outside of an axis with two ends."""
    grid = np.asarray(axis.coordinates)
    near = np.maximum(rounding(x), rounding(grid).max())
    near = np.minimum(near, SHARE * np.abs(np.diff(grid)).min())
    if axis.period is not None:
        spacing = (grid[-1] - grid[0]) / (len(grid) - 1)
        place = ((x - grid[0]) % np.copysign(axis.period, spacing)) / spacing
        return _on_points(place, near / abs(spacing))
    if axis.is_longitude:  # the same meridian by another name
        circle = turn(axis.units)
        x = x - circle * np.floor((x - grid.min() + near) / circle)
    order = 1 if grid[-1] > grid[0] else -1
    rising = grid[::order]
    k = np.clip(np.searchsorted(rising, x, side="right") - 1, 0, len(grid) - 2)
    spacing = rising[k + 1] - rising[k]
    place = _on_points(k + (x - rising[k]) / spacing, near / spacing)
    return place if order == 1 else len(grid) - 1 - place


def _on_points(place: Float[np.ndarray, " points"], near: Any) -> Float[np.ndarray, " points"]:
    """Places counted in grid points; on a point where they differ from it by rounding alone."""
    nearest = np.round(place)
    return np.where(np.abs(place - nearest) <= near + CLOSE, nearest, place)


def interpolation(
    layout: Layout,
    start: float,
    length: int,
    times: Float[np.ndarray, " points"],
    coordinates: list[Float[np.ndarray, " points"]],
    channels: Int[np.ndarray, " points"],
    method: str = "linear",
) -> InterpolationWeights:
    """Weights for values at points, multilinear in space and time or those of the nearest.

    Args:
        layout: Of the states.
        start: Time of the first state.
        length: States of the trajectory.
        times: As the layout's numbers.
        coordinates: For each axis of space.
        channels: Indices.
        method: "linear" or "nearest", in space and time.
    """
    shape = (length, *layout.state_shape)
    near = np.zeros(1) if layout.calendar is not None else rounding(times) / layout.step
    steps = _on_points(layout.places(times, start, length), np.minimum(near, SHARE))
    step, outside = _between(steps, length, method, wraps=False)
    last = layout.written(float(layout.times(start, length)[-1]))
    reasons = [(f"outside {layout.written(start)} to {last}", outside)]
    corners = [step]
    for axis, x in zip(layout.axes, coordinates, strict=True):
        size, wraps = len(axis.coordinates), axis.period is not None
        found, outside = _between(place_on(axis, x), size, method, wraps)
        ends = f"{min(axis.coordinates):g} to {max(axis.coordinates):g} {axis.units}".rstrip()
        reasons.append((f"outside {axis.name} {ends}", outside))
        corners.append(found)
    valid = layout.valid.reshape(-1)
    indices, weights = [], []
    on_mask = np.zeros(len(times), bool)
    state = np.prod(shape[1:], dtype=int)
    for corner in itertools.product(*corners):
        index = np.ravel_multi_index((*(i for i, _ in corner), channels), shape)
        weight = np.prod([w for _, w in corner], axis=0)
        masked = ~valid[index % state]
        on_mask |= (weight > NEGLIGIBLE) & masked
        weight = np.where(masked, 0.0, weight)
        if (weight > 0).any() or not indices:  # one at least, where nothing can be used
            indices.append(index)
            weights.append(weight)
    reasons.append(("next to points without values", on_mask))
    total = np.sum(weights, axis=0)
    shares = np.stack(weights, axis=1) / np.where(total > 0, total, 1.0)[:, None]
    return InterpolationWeights(np.stack(indices, axis=1), shares, reasons)
