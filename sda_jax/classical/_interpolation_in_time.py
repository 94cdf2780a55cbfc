"""What whoever has no model does: interpolation in time at the place that was observed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sda_jax.core._arrays import Operator
from sda_jax.core._errors import ObservationError
from sda_jax.data._layout import Layout
from sda_jax.observations._interpolation import Interpolate
from sda_jax.observations._linear_rows import linear_rows
from sda_jax.observations._observation import Observation
from sda_jax.observations._operators import Joined


class _Places(NamedTuple):
    """Where values lie: the state, which may be a fraction, and the nearest point and channel."""

    states: Float[np.ndarray, " m"]
    points: Int[np.ndarray, "m axes"]
    channels: Int[np.ndarray, " m"]


def interpolation_in_time(
    observation: Observation,
    at: Operator,
    layout: Layout,
    usual: Float[np.ndarray, " length *state"],
) -> Float[np.ndarray, " m"]:
    """Values at points, from what was observed of the same variable at the nearest place: its
    departure from what is usual there, interpolated in time and added to what is usual here; before
    the first and after the last observation, that one (persistence).

    Places are as far apart as their grid points; another channel of the same variable, such as
    another station, is a point away. Where several are nearest, their mean is taken. A variable
    that was not observed is as usual.

    Args:
        observation: Of points.
        at: Operator whose values are wanted, of points.
        layout: Of the states.
        usual: The climate's mean, in physical units.

    Raises:
        ObservationError: One of the two is not of points.
    """
    seen = np.asarray(observation.observed)
    known, wanted = _places(observation.operator, layout), _places(at, layout)
    known = _Places(*(a[seen] for a in known))
    here, there = (linear_rows(of, usual)[0] for of in (at, observation.operator))
    y = np.asarray(observation.y, np.float64)[seen] - there[seen]
    sites, of_row = np.unique(_sites(known), axis=0, return_inverse=True)
    series = []
    for k in range(len(sites)):
        rows = of_row.ravel() == k
        when, of_time = np.unique(known.states[rows], return_inverse=True)
        series.append((when, np.bincount(of_time, y[rows]) / np.bincount(of_time)))
    out = np.array(here, np.float64)
    targets, of_target = np.unique(_sites(wanted), axis=0, return_inverse=True)
    for k, target in enumerate(targets):
        rows = of_target.ravel() == k
        if len(nearest := _nearest(sites, target, layout)):
            found = [np.interp(wanted.states[rows], *series[site]) for site in nearest]
            out[rows] += np.mean(found, axis=0)
    return out


def _sites(places: _Places) -> Int[np.ndarray, "m axes+1"]:
    return np.column_stack([places.points, places.channels])


def _nearest(
    sites: Int[np.ndarray, "n axes+1"], target: Int[np.ndarray, " axes+1"], layout: Layout
) -> Int[np.ndarray, " k"]:
    """The nearest of the sites of a target's variable."""
    names = np.array([channel.name for channel in layout.channels])
    same = np.flatnonzero(names[sites[:, -1]] == names[target[-1]])
    if not len(same):
        return same
    apart = np.abs(sites[same, :-1] - target[:-1]).astype(float)
    for i, axis in enumerate(layout.axes):
        if axis.period is not None:
            apart[:, i] = np.minimum(apart[:, i], len(axis.coordinates) - apart[:, i])
    distance = (apart**2).sum(axis=1) + (sites[same, -1] != target[-1])
    return same[distance == distance.min()]


def _places(operator: Operator, layout: Layout) -> _Places:
    """Where the values of an operator of points lie."""
    if isinstance(operator, Joined):
        each = [_places(one, layout) for one in operator.operators]
        return _Places(*(np.concatenate(parts) for parts in zip(*each, strict=True)))
    if not isinstance(operator, Interpolate):
        raise ObservationError(
            "operator", f"a {type(operator).__name__}", "points (Interpolate)", "Observe points."
        )
    indices, weights = np.asarray(operator.indices), np.asarray(operator.weights, np.float64)
    states = (weights * np.unravel_index(indices, operator.shape)[0]).sum(axis=1)
    nearest = indices[np.arange(len(indices)), weights.argmax(axis=1)]
    _, *points, channels = np.unravel_index(nearest, operator.shape)
    shape = (len(nearest), len(points))
    return _Places(states, np.array(points, int).T.reshape(shape), np.asarray(channels))
