"""An operator as a matrix: its Jacobian, sparse where it is known to be."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sparse
from jaxtyping import Float

from sda_jax.core._arrays import Operator
from sda_jax.core._errors import ObservationError
from sda_jax.observations._interpolation import Interpolate
from sda_jax.observations._operators import Joined

LARGEST = 2**27  # numbers of a matrix that is not known to be sparse


def linear_rows(
    operator: Operator, x: Float[np.ndarray, " length *state"]
) -> tuple[Float[np.ndarray, " m"], sparse.csr_array]:
    """What an operator gives at a trajectory, and its Jacobian there: a row for each value, a
    column for each element of the flattened trajectory.

    Raises:
        ObservationError: A dense matrix of more than 2^27 numbers.
    """
    x = np.asarray(x)
    if isinstance(operator, Joined):
        each = [linear_rows(one, x) for one in operator.operators]
        return np.concatenate([v for v, _ in each]), sparse.vstack([m for _, m in each], "csr")
    if isinstance(operator, Interpolate):
        indices, weights = np.asarray(operator.indices), np.asarray(operator.weights, np.float64)
        place = (np.repeat(np.arange(len(indices)), indices.shape[1]), indices.ravel())
        shape = (len(indices), x.size)
        matrix = sparse.csr_array((weights.ravel(), place), shape=shape)
        return matrix @ x.ravel().astype(np.float64), matrix

    def flat(x: Any) -> Any:
        return jnp.ravel(operator(x))

    at = jnp.asarray(x, jnp.float32)
    values = np.asarray(flat(at), np.float64)
    if values.size * x.size > LARGEST:
        raise ObservationError(
            "operator",
            f"{values.size} values of {x.size} numbers",
            f"a matrix of at most {LARGEST} numbers",
            "Observe fewer values, or points (Interpolate).",
        )
    jacobian = np.asarray(jax.jacrev(flat)(at), np.float64)
    return values, sparse.csr_array(jacobian.reshape(values.size, x.size))
