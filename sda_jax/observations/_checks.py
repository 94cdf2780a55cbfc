"""Whether an operator can be that of a trajectory, found out before anything is computed."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sda_jax.core._errors import ObservationError, SDAError
from sda_jax.core._units import Standardisation
from sda_jax.runtime._memory import run_if_fits


def prediction_of(operator: Any, shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    """Shape and type of what an operator gives for a trajectory `(L, *S)` of this shape.

    Raises:
        ObservationError: It cannot be called with one, or does not give an array of floating-point
            numbers.
    """
    if isinstance(operator, type) or not callable(operator):
        raise ObservationError(
            "operator",
            f"{operator!r}",
            f"a JAX function of a trajectory of shape {shape}, or a component",
            "Pass a function, or an instance such as sda_jax.Every(2).",
        )
    try:
        out = jax.eval_shape(lambda x: operator(x), jax.ShapeDtypeStruct(shape, jnp.float32))
    except SDAError:  # an operator of ours that says what is wrong
        raise
    except Exception as error:
        raise ObservationError(
            "operator",
            f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
            f"a JAX function of a trajectory of shape {shape}",
            f"Check the indices against the state shape {shape[1:]}, and use jax.numpy inside.",
        ) from error
    if not isinstance(out, jax.ShapeDtypeStruct):
        raise ObservationError(
            "operator",
            f"it returns a {type(out).__name__}",
            "one array of floating-point numbers",
            "Flatten and concatenate what it returns, or combine several observations.",
        )
    if not jnp.issubdtype(out.dtype, jnp.floating):
        raise ObservationError(
            "operator",
            f"it returns {out.dtype} of shape {out.shape}",
            "one array of floating-point numbers",
            "A thresholded or integer observation has no gradient: use a smooth one.",
        )
    return out


def require_differentiable(
    operator: Any, standardisation: Standardisation, shape: tuple[int, ...]
) -> None:
    """Raises `ObservationError` unless value and gradient are finite, and the gradient is not zero
    everywhere, at a trajectory with the prior's mean and spread."""
    remedy = f"Shorten the trajectory ({shape[0]} states), or have the operator look at less."
    try:
        finite, moves = run_if_fits(_probe, remedy, operator, standardisation, shape)
    except (TypeError, ValueError) as error:
        raise ObservationError(
            "operator",
            f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
            "a function that jax.vjp can differentiate",
            "Replace while loops and callbacks inside it, or give it a custom derivative.",
        ) from error
    if not finite:
        raise ObservationError(
            "operator",
            "values or gradients that are not finite",
            "finite ones on trajectories of the prior's mean and spread",
            "Guard logarithms, roots and divisions inside it.",
        )
    if not moves:
        raise ObservationError(
            "operator",
            "a gradient of zero everywhere",
            "a differentiable function of the trajectory",
            "Rounding, comparing and stop_gradient inside it cut the gradient.",
        )


@partial(jax.jit, static_argnames="shape")
def _probe(
    operator: Any, standardisation: Standardisation, shape: tuple[int, ...]
) -> tuple[Array, Array]:
    """Whether value and gradient are finite, and whether the gradient is anywhere nonzero."""
    x = standardisation.inverse(jax.random.normal(jax.random.key(0), shape))
    y, pull = jax.vjp(lambda x: jnp.asarray(operator(x)), x)  # which may give a Python number
    (gradient,) = pull(jax.random.normal(jax.random.key(1), y.shape, y.dtype))
    finite = jnp.all(jnp.isfinite(y)) & jnp.all(jnp.isfinite(gradient))
    return finite, jnp.any(gradient != 0)
