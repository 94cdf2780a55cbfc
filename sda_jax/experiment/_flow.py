"""Flow experiments: the scores of fields, and members simulated forward."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from sda_jax.core._keys import stream
from sda_jax.data._simulation import forecast
from sda_jax.evaluation import _metrics as metrics
from sda_jax.evaluation._distances import spectrum_distance
from sda_jax.experiment._cases import TestCase
from sda_jax.experiment._config import Experiment


def flow_scores(test: TestCase, ensemble: np.ndarray) -> dict[str, float]:
    """What an ensemble of a flow is judged by.

    Returns:
        `residual_std` and, of Gaussian noise, `observation_std`; `spectrum_distance` to a
        simulation, where the test has one; `spread`; where the truth is known, `rmse` of the mean,
        `crps` and `spread_skill`.
    """
    record: dict[str, float] = {"residual_std": metrics.residual_std(test.observation, ensemble)}
    several = len(ensemble) > 1
    if test.simulation is not None:
        record["spectrum_distance"] = spectrum_distance(ensemble, test.simulation)
    if test.observation.std is not None:  # other noise has none
        square = np.mean(np.asarray(test.observation.std) ** 2)
        record["observation_std"] = float(np.sqrt(square))
    if several:
        record["spread"] = metrics.spread(ensemble)
    if test.truth is not None:
        record["rmse"] = metrics.rmse(ensemble, test.truth)
        if several:
            record["crps"] = metrics.crps(ensemble, test.truth)
            record["spread_skill"] = metrics.spread_skill(ensemble, test.truth)
    return record


class ForwardCheck(NamedTuple):
    """Members beside simulations from their first states.

    Attributes:
        members, simulations: `(samples, L, *S)`.
        errors: Root mean square difference by state.
        observed: The mean of A over the members, over the simulations, and the mean of y.
    """

    members: np.ndarray
    simulations: np.ndarray
    errors: np.ndarray
    observed: tuple[float, float, float]


def check_forward(
    config: Experiment, test: TestCase, ensemble: np.ndarray, most: int = 4
) -> ForwardCheck:
    """Simulates at most so many members forward from their first states."""
    key = stream(config.seed, "forecast")
    members, length = ensemble[:most], ensemble.shape[1]
    ahead = np.stack([forecast(key, config.system, jnp.asarray(m[0]), length) for m in members])
    errors = np.sqrt(((ahead - members) ** 2).mean(axis=(0, 2, 3, 4)))
    of_members, of_simulations = (
        float(np.mean([test.observation.operator(jnp.asarray(x)) for x in paths]))
        for paths in (members, ahead)
    )
    asked = float(np.nanmean(np.asarray(test.observation.y)))
    return ForwardCheck(members, ahead, errors, (of_members, of_simulations, asked))


LABELS = {
    "residual_std": "std(A(x) - y)",
    "observation_std": "std of the observation",
    "rmse": "RMSE of the mean against the truth",
    "spread": "spread",
    "crps": "CRPS",
    "spread_skill": "spread / skill",
    "spectrum_distance": "energy spectrum distance (RMS of log10)",
    "seconds": "seconds",
}


def flow_table(record: dict[str, Any]) -> str:
    """The scores, a line each."""
    return "\n".join(f"{LABELS[key]:40s} {record[key]:.4f}" for key in LABELS if key in record)
