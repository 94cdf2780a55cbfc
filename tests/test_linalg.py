"""Factorizations and solves that may run side by side."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sda_jax.core._linalg import cholesky, solve_factored, solve_lower, solve_lower_transposed


@pytest.fixture(scope="module")
def matrices():
    root = jax.random.normal(jax.random.key(0), (6, 5, 5))
    return root @ root.transpose(0, 2, 1) + 5 * jnp.eye(5)


def test_batches_are_what_lapack_makes_of_one_matrix_after_the_other(matrices):
    factors = jax.jit(jax.vmap(cholesky))(matrices)
    np.testing.assert_array_equal(factors, [jnp.linalg.cholesky(a) for a in matrices])
    nested = jax.vmap(jax.vmap(cholesky))(matrices.reshape(2, 3, 5, 5))
    np.testing.assert_array_equal(nested.reshape(factors.shape), factors)


@pytest.mark.parametrize("shape", [(5,), (5, 2)])
@pytest.mark.parametrize("axes", [(0, 0), (None, 0), (0, None)])
def test_solves_undo_products(matrices, shape, axes):
    factors = jax.vmap(cholesky)(matrices)
    b = jax.random.normal(jax.random.key(1), (6, *shape))
    factor, right = (a if axis == 0 else a[0] for a, axis in zip((factors, b), axes, strict=True))
    full = np.broadcast_to(factor, factors.shape), np.broadcast_to(right, b.shape)
    for solve, product in (
        (solve_lower, lambda f, x: f @ x),
        (solve_lower_transposed, lambda f, x: f.T @ x),
        (solve_factored, lambda f, x: f @ (f.T @ x)),
    ):
        found = np.asarray(jax.vmap(solve, axes)(factor, right))
        again = [product(f, x) for f, x in zip(full[0], found, strict=True)]
        np.testing.assert_allclose(again, full[1], atol=2e-5)


def test_gradients_are_those_of_the_matrix(matrices):
    factors = jax.vmap(cholesky)(matrices)
    b = jax.random.normal(jax.random.key(1), (6, 5))

    def half_square(factor, b):
        white = solve_lower(factor, b)
        return white @ white / 2

    found = jax.jit(jax.vmap(jax.grad(half_square, 1)))(factors, b)
    np.testing.assert_allclose(found, np.linalg.solve(matrices, b[..., None])[..., 0], atol=1e-5)


SIDE_BY_SIDE = """
import jax, jax.numpy as jnp
from sda_jax.core._linalg import cholesky, solve_factored
root = jax.random.normal(jax.random.key(0), (256, 16, 16))
matrices = root @ root.transpose(0, 2, 1) + 16 * jnp.eye(16)

@jax.jit
def many(a):
    def body(i, total):
        for k in range(8):
            scaled = a * (1 + k + i)
            factors = jax.vmap(cholesky)(scaled)
            total += jnp.sum(jax.vmap(solve_factored)(factors, scaled))
        return total
    return jax.lax.fori_loop(0, 20, body, 0.0)

print(float(many(matrices)))
"""


def test_many_at_once_do_not_wait_for_each_other():
    done = subprocess.run(
        [sys.executable, "-c", SIDE_BY_SIDE], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    # A^-1 A summed, 8 times 20 times for 256 matrices of 16 rows
    assert float(done.stdout) == pytest.approx(8 * 20 * 256 * 16, rel=1e-3)
