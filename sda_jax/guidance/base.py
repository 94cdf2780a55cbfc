"""What the guidance methods share."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sda_jax.types import Operator, Schedule, Time, Trajectory, component

EXACT_LIMIT = 256  # observed elements up to which row norms are computed exactly
PROBES = 32  # random directions beyond that


@component
class Guided:
    """The posterior's denoiser: the prior's, moved along the gradient of `log p(y | x_t)`.

    `E[x | x_t, y] = E[x | x_t] + sigma^2/mu grad log p(y | x_t)`, Tweedie's formula for the
    posterior score.

    Attributes:
        denoiser: Of the prior's trajectories, in standardised units.
        observation: With its operator on standardised trajectories.
        method: The guidance; its `twist` gives `x_hat` and the gradient.
    """

    denoiser: Any
    observation: Any
    method: Any

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, x: Trajectory, t: Time) -> Trajectory:
        x_hat, gradient = self.method.twist(self.denoiser, self.observation, x, t)
        return x_hat + self.schedule.sigma(t) ** 2 / self.schedule.mu(t) * gradient


def row_norms_squared(operator: Operator, x: Trajectory) -> Float[Array, ...]:
    """`diag(J J^T)` with J the operator's Jacobian at `x`: the variance that independent unit
    errors of x cause in each element of the prediction.

    Exact, a VJP an element, up to 256 elements; beyond, the mean over 32 fixed Rademacher
    directions d of `(J d)^2`, which is exact where each element sees one entry of x.
    """
    shape = jax.eval_shape(operator, x)
    if shape.size <= EXACT_LIMIT:
        _, vjp = jax.vjp(operator, x)
        basis = jnp.eye(shape.size, dtype=shape.dtype).reshape(shape.size, *shape.shape)
        (rows,) = jax.vmap(vjp)(basis)
        return jnp.sum(rows.reshape(shape.size, -1) ** 2, axis=1).reshape(shape.shape)
    directions = jax.random.rademacher(jax.random.key(0), (PROBES, *x.shape), x.dtype)
    _, push = jax.linearize(operator, x)
    return jnp.mean(jax.vmap(push)(directions) ** 2, axis=0)
