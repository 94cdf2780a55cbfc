"""Diffusion posterior sampling: a step against the residual, of length set by its norm."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sda_jax.core._arrays import Time, Trajectory
from sda_jax.core._component import component
from sda_jax.core._errors import require_positive
from sda_jax.core._protocols import Denoiser
from sda_jax.guidance._base import GuidanceMethod
from sda_jax.observations._linear import row_norms_squared
from sda_jax.observations._observation import Observation


@component
class DPS(GuidanceMethod):
    """`grad log p(y | x_t) = - zeta grad |r|^2 / |r|`, `r` the residual `y - A(x_hat)` of one
    sample in units of the standardised state (divided by the operator's row norms).

    Chung et al. (2023), algorithm 1, as compared with in Rozet & Louppe (2023). The noise of the
    observation does not enter, so the spread of its samples means nothing.

    Attributes:
        zeta: Step size.
    """

    zeta: float = 1.0

    def __post_init__(self) -> None:
        require_positive("zeta", self.zeta)

    def twist(
        self, denoiser: Denoiser, observation: Observation, x: Trajectory, t: Time
    ) -> tuple[Array, Array]:
        """`x_hat` and the gradient that stands for that of `log p(y | x_t)`."""
        observation.require_gaussian(
            "DPS follows the residual, whatever its distribution", "Use another guidance."
        )

        def squared(x: Array) -> tuple[Array, Array]:
            x_hat = denoiser(x, t)
            scale = row_norms_squared(observation.operator, jax.lax.stop_gradient(x_hat))
            residual = observation.residual(observation.operator(x_hat))
            tiny = jnp.finfo(residual.dtype).tiny
            return jnp.sum(residual**2 / jnp.maximum(scale, tiny)), x_hat

        (value, x_hat), gradient = jax.value_and_grad(squared, has_aux=True)(x)
        norm = jnp.sqrt(jnp.maximum(value, jnp.finfo(value.dtype).tiny))
        return x_hat, -self.zeta * gradient / norm
