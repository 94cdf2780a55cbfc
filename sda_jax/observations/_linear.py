"""Whether operators are linear, and the norms of their Jacobian's rows."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sda_jax.core._arrays import Operator, Trajectory
from sda_jax.core._component import component

EXACT_LIMIT = 256  # observed elements up to which row norms are computed exactly
PROBES = 32  # random directions beyond that


def is_linear(operator: Operator, x: Trajectory) -> bool:
    """Whether the operator has the same Jacobian everywhere, as far as JAX sees."""
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    y = jax.eval_shape(operator, shape)
    try:
        jax.eval_shape(lambda v: jax.linear_transpose(operator, shape)(v), y)
    except Exception:
        # whatever a nonlinear operator's rules raise when they are transposed
        return False
    return True


@component
class WithRowNorms:
    """A linear operator, and the squared norms of its rows."""

    operator: Any
    norms_squared: Any

    def __call__(self, x: Trajectory) -> Float[Array, ...]:
        return self.operator(x)


def with_row_norms(operator: Operator, shape: tuple[int, ...]) -> Operator:
    """An operator on trajectories of this shape that knows the norms of its rows, where they are
    the same for every trajectory; any other as it is. XLA would compute them in every step of a
    sampler."""
    x = jnp.zeros(shape)
    if isinstance(operator, WithRowNorms) or not is_linear(operator, x):
        return operator
    return WithRowNorms(operator, row_norms_squared(operator, x))


def row_norms_squared(operator: Operator, x: Trajectory) -> Float[Array, ...]:
    """`diag(J J^T)` with J the operator's Jacobian at `x`: the variance that independent unit
    errors of x cause in each element of the prediction.

    Exact, a VJP an element, up to 256 elements; beyond, the mean over 32 fixed Rademacher
    directions d of `(J d)^2`, which is exact where each element sees one entry of x.
    """
    if isinstance(operator, WithRowNorms):
        return operator.norms_squared
    shape = jax.eval_shape(operator, x)
    if shape.size <= EXACT_LIMIT:
        _, vjp = jax.vjp(operator, x)
        basis = jnp.eye(shape.size, dtype=shape.dtype).reshape(shape.size, *shape.shape)
        (rows,) = jax.vmap(vjp)(basis)
        return jnp.sum(rows.reshape(shape.size, -1) ** 2, axis=1).reshape(shape.shape)
    directions = jax.random.rademacher(jax.random.key(0), (PROBES, *x.shape), x.dtype)
    _, push = jax.linearize(operator, x)
    return jnp.mean(jax.vmap(push)(directions) ** 2, axis=0)
