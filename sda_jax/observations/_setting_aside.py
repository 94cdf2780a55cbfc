"""Observations that are withheld, so that a posterior can be judged by them."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from sda_jax.core._arrays import PRNGKey
from sda_jax.core._errors import ObservationError, require_at_least, require_below
from sda_jax.observations._observation import Observation


def set_aside(
    key: PRNGKey, observation: Observation, share: float, numbers: np.ndarray | None = None
) -> tuple[Observation, Observation | None]:
    """An observation without a share of its values, chosen at random, and those values; each is
    missing (NaN) in the other.

    Args:
        key: Random key of the choice.
        observation: With independent noise.
        share: Of the values that were observed, from 0, which withholds none, to less than 1.
        numbers: Which observed number each element of y is of, of which all are withheld or none:
            an angle's cosine tells its sine but for the sign. None where each is of its own.

    Raises:
        ConfigError: A share that is none.
        ObservationError: Correlated noise, or so few values that none is withheld or left.
    """
    require_at_least("--set-aside", share, 0.0)
    require_below("--set-aside", share, 1.0)
    if not share:
        return observation, None
    if observation.covariance is not None:
        raise ObservationError(
            "covariance", "correlated noise", "independent noise", "Give std, or set none aside."
        )
    y = np.asarray(observation.y, np.float32)
    numbers = np.arange(y.size) if numbers is None else numbers
    seen = np.unique(numbers[~np.isnan(y.reshape(-1))])
    count = round(share * len(seen))
    if not 0 < count < len(seen):
        raise ObservationError(
            "--set-aside",
            f"{share:g} of {len(seen)} observed values",
            "some values to withhold, and some to assimilate",
            "Choose another share, or set none aside.",
        )
    chosen = seen[np.asarray(jax.random.permutation(key, len(seen)))[:count]]
    withheld = np.isin(numbers, chosen).reshape(y.shape)
    missing = np.float32(np.nan)
    kept, aside = (np.where(out, missing, y) for out in (withheld, ~withheld))
    return dataclasses.replace(observation, y=kept), dataclasses.replace(observation, y=aside)
