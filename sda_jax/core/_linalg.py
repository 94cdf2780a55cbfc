"""Factorizations that may run side by side on a CPU.

jaxlib 0.10's LAPACK kernels split a batch into tasks for the thread pool that they themselves run
on, and wait: as many of them at once as there are threads wait for ever. One matrix at a time is
not split, and for matrices as small as these no slower.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Float


def _one_by_one(f: Callable[..., Array]) -> Any:
    """`f`, which under `vmap` goes through its batch in turn where the platform is a CPU."""
    safe = custom_vmap(f)

    @safe.def_vmap
    def batched(size: int, is_batched: list[bool], *args: Array) -> tuple[Array, bool]:
        every = [
            a if is_one else jnp.broadcast_to(a, (size, *a.shape))
            for a, is_one in zip(args, is_batched, strict=True)
        ]
        in_turn = lambda *args: jax.lax.map(lambda each: safe(*each), args)  # noqa: E731
        return jax.lax.platform_dependent(*every, cpu=in_turn, default=jax.vmap(f)), True

    return safe


_cholesky = _one_by_one(jnp.linalg.cholesky)
_forwards = _one_by_one(lambda a, b: jax.scipy.linalg.solve_triangular(a, b, lower=True))
_backwards = _one_by_one(lambda a, b: jax.scipy.linalg.solve_triangular(a, b, lower=True, trans=1))


def cholesky(matrix: Float[Array, "m m"]) -> Float[Array, "m m"]:
    """Lower factor L of a positive definite matrix; not to be differentiated."""
    return _cholesky(matrix)


def solve_lower(factor: Float[Array, "m m"], b: Float[Array, "m ..."]) -> Float[Array, "m ..."]:
    """`L^-1 b` for a lower triangular factor; differentiated in b only."""
    return _solved(factor, b, _forwards, _backwards, factor)


def solve_lower_transposed(
    factor: Float[Array, "m m"], b: Float[Array, "m ..."]
) -> Float[Array, "m ..."]:
    """`L^-T b` likewise."""
    return _solved(factor, b, _backwards, _forwards, factor.T)


def solve_factored(factor: Float[Array, "m m"], b: Float[Array, "m ..."]) -> Float[Array, "m ..."]:
    """`(L L^T)^-1 b` likewise."""
    return solve_lower_transposed(factor, solve_lower(factor, b))


def _solved(factor: Array, b: Array, solve: Any, transposed: Any, matrix: Array) -> Array:
    factor, matrix = jax.lax.stop_gradient((factor, matrix))
    return jax.lax.custom_linear_solve(
        lambda x: matrix @ x,
        b,
        solve=lambda _, b: solve(factor, b),
        transpose_solve=lambda _, b: transposed(factor, b),
    )
