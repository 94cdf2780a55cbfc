"""The Gaussian likelihood that stands for a noise model where the prediction is likely."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sda_jax.core._arrays import Scalar
from sda_jax.observations._noise_models import NoiseModel

FLAT = 1e-6  # least precision of a neighbour, relative to that of the prediction
OFFSETS = np.concatenate([-(2.0 ** np.arange(5, -6, -1)), [0.0], 2.0 ** np.arange(-5, 6)])
REFINEMENTS, SHRINK = 6, 8.0


class Neighbour(NamedTuple):
    """`scale N(y; prediction, std^2)`, which stands for a noise model where the prediction is
    likely."""

    y: Float[Array, ...]
    std: Float[Array, ...]
    log_scale: Float[Array, ...]


def gaussian_neighbour(
    noise: NoiseModel,
    y: Float[Array, ...],
    prediction: Float[Array, ...],
    variance: Float[Array, ...],
) -> Neighbour:
    """The Gaussian likelihood with the noise's slope and curvature at the most probable value of a
    prediction that is normal around `prediction`: Laplace's approximation, exact for Gaussian
    noise.

    Where the noise curves the wrong way, as far from an outlier, the neighbour is nearly flat and
    has the noise's slope.

    Args:
        noise: Of y.
        y: What was observed, without missing values.
        prediction: Mean of the prediction before y is known.
        variance: Its variance.
    """

    def total(p: Array) -> Array:
        return jnp.sum(noise.log_prob(y, p))

    slope_of = jax.grad(total)
    # a search at falling distances finds the mode of heavy tails too, where Newton's steps do not
    width = jnp.sqrt(variance)
    offsets = jnp.asarray(OFFSETS, prediction.dtype).reshape(-1, *(1,) * prediction.ndim)

    def refine(p: Array, i: Scalar) -> tuple[Array, None]:
        candidates = p + offsets * width / SHRINK**i

        def value(q: Array) -> Array:
            log_prob = noise.log_prob(y, q) - (q - prediction) ** 2 / (2 * variance)
            # NaN where a noise model is not defined
            return jnp.where(jnp.isnan(log_prob), -jnp.inf, log_prob)

        best = jnp.argmax(jax.vmap(value)(candidates), axis=0)
        return jnp.take_along_axis(candidates, best[None], axis=0)[0], None

    mode, _ = jax.lax.scan(refine, prediction, jnp.arange(REFINEMENTS))
    slope, curvature = jax.jvp(slope_of, (mode,), (jnp.ones_like(mode),))
    precision = jnp.maximum(-curvature, FLAT / variance)
    # equal to the noise's at the mode
    log_scale = (
        noise.log_prob(y, mode) + (slope**2 / precision + jnp.log(2 * jnp.pi / precision)) / 2
    )
    return Neighbour(mode + slope / precision, 1 / jnp.sqrt(precision), log_scale)
