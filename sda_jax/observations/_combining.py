"""Several observations of one trajectory as one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sda_jax.core._errors import ObservationError
from sda_jax.core._loaded import is_open
from sda_jax.observations._noise_models import Normal, join
from sda_jax.observations._observation import Observation, require_observation
from sda_jax.observations._operators import Joined


def combine(*observations: Observation) -> Observation:
    """One observation that holds several of the same trajectory, with independent noise."""
    if not observations:
        raise ObservationError("observations", "none", "at least one", "Pass observations.")
    for observation in observations:
        require_observation(observation)
    parts = [o.y for o in observations]
    # NumPy's where it can be, for JAX_DEBUG_NANS: missing values are NaN
    like: Any = jnp if any(map(is_open, parts)) else np
    y = like.concatenate([like.reshape(like.asarray(part, np.float32), -1) for part in parts])
    operator = Joined(tuple(o.operator for o in observations))
    if any(o.noise is not None for o in observations):
        if any(o.covariance is not None for o in observations):
            raise ObservationError(
                "covariance",
                "correlated noise beside a noise model that is not Gaussian",
                "independent noise",
                "Give std= instead.",
            )
        models = [Normal(o.std) if o.noise is None else o.noise for o in observations]
        return Observation(y, operator, noise=join(models, [jnp.shape(o.y) for o in observations]))
    if all(o.covariance is None for o in observations):
        std = [
            jnp.broadcast_to(jnp.asarray(o.std), jnp.shape(o.y)).reshape(-1) for o in observations
        ]
        return Observation(y, operator, std=jnp.concatenate(std))
    blocks = [o.noise_covariance() for o in observations]
    return Observation(y, operator, covariance=jax.scipy.linalg.block_diag(*blocks))
