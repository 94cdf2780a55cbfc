"""What a posterior is to be compared with: climatology, interpolation in time, and optimal
interpolation, given the same observations."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy import stats

from sda_jax.classical import (
    GaussianEstimate,
    climate_of,
    interpolation_in_time,
    optimal_interpolation,
)
from sda_jax.core._errors import ConfigError, ObservationError
from sda_jax.evaluation._channels import by_variable
from sda_jax.evaluation._metrics import normal_crps
from sda_jax.observations._interpolation import Interpolate
from sda_jax.observations._observation import Observation
from sda_jax.prior._prior import Prior

CLIMATE, IN_TIME, OPTIMAL = "climatology", "interpolation in time", "optimal interpolation"
CENTRAL = stats.norm.ppf(0.95)  # standard deviations on each side of the central 90 %
TINY = np.finfo(float).tiny
EXACT = 1e-4  # noise of a truth, in standard deviations of its channel


class BaselineScores(NamedTuple):
    """Scores of methods that need no network.

    Attributes:
        scores: For each variable with its unit and each method: `rmse`, `crps` (the mean absolute
            error of a method that gives no distribution) and, of distributions, `spread_skill` and
            `inside_90`.
        left_out: Why a method is not among them.
    """

    scores: dict[str, dict[str, dict[str, float]]]
    left_out: dict[str, str]


def baseline_scores(
    prior: Prior,
    observation: Observation,
    held_out: Observation,
    length: int,
    context: Any = None,
) -> BaselineScores:
    """Scores, at values that were not assimilated, of methods that are given what was.

    Climatology and optimal interpolation have mean and covariance of the training data, as the
    prior's parameterisation measured them; without any, climatology has the standardisation's.

    Args:
        prior: With a layout.
        observation: What was assimilated.
        held_out: As `read` makes it; missing values are left out.
        length: States of the trajectory.
        context: Of the trajectory, in physical units.
    """
    assert prior.layout is not None
    found, left_out = {}, {}
    usual = np.asarray(prior.standardisation.inverse(jnp.zeros((length, *prior.state_shape))))
    found[CLIMATE] = _usual(prior, held_out, usual)
    try:
        climate = climate_of(prior, length, context)
        usual = climate.usual
        found[CLIMATE] = optimal_interpolation(climate, None, held_out.operator)
        found[OPTIMAL] = optimal_interpolation(climate, observation, held_out.operator)
    except (ConfigError, ObservationError) as error:
        left_out[OPTIMAL] = str(error)
    try:
        values = interpolation_in_time(observation, held_out.operator, prior.layout, usual)
        found[IN_TIME] = GaussianEstimate(values, np.full(len(values), np.nan))
    except ObservationError as error:
        left_out[IN_TIME] = str(error)
    seen = np.asarray(held_out.observed)
    y = np.asarray(held_out.y, np.float64)
    noise = np.broadcast_to(np.asarray(held_out.std, np.float64), y.shape)[seen]
    y = y[seen]
    here = seen.ravel()
    found = {m: GaussianEstimate(e.mean[here], e.std[here]) for m, e in found.items()}
    scores = {
        variable: {
            method: _scores(estimate.mean[here], estimate.std[here], y[here], noise[here])
            for method, estimate in found.items()
        }
        for variable, here in by_variable(held_out, prior.layout).items()
    }
    return BaselineScores(scores, left_out)


def _usual(prior: Prior, held_out: Observation, usual: np.ndarray) -> GaussianEstimate:
    """The standardisation's mean and standard deviation at the values of points."""
    std = prior.standardisation.scale(jnp.asarray(usual))
    mean, std = (np.asarray(held_out.operator(a), float).ravel() for a in (usual, std))
    return GaussianEstimate(mean, std)


def _scores(mean: np.ndarray, std: np.ndarray, y: np.ndarray, noise: np.ndarray) -> dict[str, Any]:
    error = mean - y
    rmse = float(np.sqrt((error**2).mean()))
    if np.isnan(std).any():
        return {"rmse": rmse, "crps": float(np.abs(error).mean())}
    total = np.sqrt(std**2 + noise**2)
    return {
        "rmse": rmse,
        "crps": float(normal_crps(mean, total, y).mean()),
        "spread_skill": float(np.sqrt((total**2).mean())) / max(rmse, TINY),
        "inside_90": float(np.mean(np.abs(error) < CENTRAL * total)),
    }


def truth_as_points(truth: Float[np.ndarray, " length *state"], prior: Prior) -> Observation:
    """The values of true states as an observation without noise worth speaking of."""
    assert prior.layout is not None
    there = np.broadcast_to(prior.layout.valid, truth.shape).ravel() & ~np.isnan(truth.ravel())
    index = np.flatnonzero(there)
    std = EXACT * np.broadcast_to(np.asarray(prior.standardisation.std, float), truth.shape)
    operator = Interpolate(index[:, None], np.ones((len(index), 1)), truth.shape)
    return Observation(truth.ravel()[index].astype(np.float32), operator, std=std.ravel()[index])
