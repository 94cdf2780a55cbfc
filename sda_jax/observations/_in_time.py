"""Observations that a smoother can step through."""

from __future__ import annotations

import jax.numpy as jnp

from sda_jax.core._errors import ObservationError
from sda_jax.observations._observation import Observation
from sda_jax.observations._operators import Every


def local_in_time(observation: Observation, length: int) -> Every:
    """The operator of an observation that a smoother can step through.

    Raises:
        ObservationError: The operator is no `Every`, the noise is correlated, or y has another
            number of observed states than `length` states give.
    """
    operator = observation.operator
    if not isinstance(operator, Every) or observation.covariance is not None:
        raise ObservationError(
            "observation",
            f"operator {operator}",
            "an Every operator with independent noise",
            "A smoother steps through time: write the operator as Every(n, of).",
        )
    rows, expected = jnp.shape(observation.y)[0], -(-length // operator.n)
    if rows != expected:
        raise ObservationError(
            "y", f"{rows} observed states", f"{expected} for length {length}", "Reshape y."
        )
    return operator
