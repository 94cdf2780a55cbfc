"""Distances between two ensembles, `(samples, L, *S)` in physical units."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from sda_jax.core._errors import ConfigError
from sda_jax.core._numbers import real_array
from sda_jax.systems._fields import energy_spectrum

Ensemble = Float[np.ndarray, "samples length *state"] | Float[Array, "samples length *state"]


def numbers(x: Any, argument: str = "ensemble") -> np.ndarray:
    """Real numbers in double precision, NaN where one is masked; see `real_array`.

    Raises:
        ConfigError: They are none, or JAX traces them.
    """
    if isinstance(x, Tracer):
        remedy = "Call it outside of compiled functions."
        raise ConfigError(argument, "what JAX traces", "numbers, looked at on the host", remedy)
    return np.asarray(real_array(argument, x, dtype=np.float64), np.float64)


def members(x: Any, least: int = 1) -> np.ndarray:
    """The `numbers` of an ensemble of at least so many members.

    Raises:
        ConfigError: See `numbers`; or they are fewer.
    """
    found = numbers(x)
    if found.ndim < 1 or len(found) < least or not found.size:
        expected = f"at least {least} members (samples, length, *state)"
        raise ConfigError("ensemble", f"shape {found.shape}", expected, "Give one of `assimilate`.")
    return found


def require_shape(argument: str, x: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raises `ConfigError` where NumPy would make up for another shape by repeating numbers."""
    if x.shape != shape:
        raise ConfigError(argument, f"shape {x.shape}", f"shape {shape}", "Reshape it.")


def _both(x: Ensemble, y: Ensemble, least: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Two ensembles of one kind of trajectories, flattened."""
    a, b = members(x, least), members(y, least)
    require_shape("a member of the second ensemble", b[0], a.shape[1:])
    return a.reshape(len(a), -1), b.reshape(len(b), -1)


def wasserstein1(x: Ensemble, y: Ensemble) -> float:
    """Wasserstein-1 distance of two ensembles of one size: exact optimal transport with the
    euclidean cost of flattened trajectories.

    Raises:
        ConfigError: Ensembles of different sizes.
    """
    a, b = _both(x, y, 1)
    if len(a) != len(b):
        raise ConfigError("ensembles", (len(a), len(b)), "the same size", "Take as many of each.")
    cost = cdist(a, b)
    return float(cost[linear_sum_assignment(cost)].mean())


def energy_distance(x: Ensemble, y: Ensemble) -> float:
    """`2 E|X - Y| - E|X - X'| - E|Y - Y'|`, unbiased. Szekely & Rizzo (2013)."""
    joint = np.concatenate(_both(x, y))
    return _energy(cdist(joint, joint), np.arange(len(joint)), len(x))


def _energy(distances: np.ndarray, order: np.ndarray, n: int) -> float:
    a, b = order[:n], order[n:]
    m = len(b)
    within_a = distances[np.ix_(a, a)].sum() / (n * (n - 1))
    within_b = distances[np.ix_(b, b)].sum() / (m * (m - 1))
    return float(2 * distances[np.ix_(a, b)].mean() - within_a - within_b)


def energy_test(x: Ensemble, y: Ensemble, permutations: int = 199, seed: int = 0) -> float:
    """p-value of the permutation test that both ensembles have one distribution."""
    joint = np.concatenate(_both(x, y))
    distances, n = cdist(joint, joint), len(x)
    rng = np.random.default_rng(seed)
    observed = _energy(distances, np.arange(len(joint)), n)
    shuffled = [_energy(distances, rng.permutation(len(joint)), n) for _ in range(permutations)]
    return (1 + sum(s >= observed for s in shuffled)) / (1 + permutations)


def mmd(x: Ensemble, y: Ensemble) -> float:
    """Squared maximum mean discrepancy, unbiased, with a Gaussian kernel whose width is the median
    distance. Gretton et al. (2012)."""
    n, joint = len(x), np.concatenate(_both(x, y))
    squared = cdist(joint, joint, "sqeuclidean")
    kernel = np.exp(-squared / np.median(squared[np.triu_indices(len(joint), 1)]))
    np.fill_diagonal(kernel, 0.0)
    m = len(joint) - n
    within = kernel[:n, :n].sum() / (n * (n - 1)) + kernel[n:, n:].sum() / (m * (m - 1))
    return float(within - 2 * kernel[:n, n:].mean())


def spectrum_distance(x: np.ndarray | Array, y: np.ndarray | Array) -> float:
    """Root mean square over wavenumbers 1 to n/2 of the difference in log10 of the mean energy
    spectra of two sets of velocities `(..., x, y, 2)`; 0.3 is a factor of two."""
    logs = []
    for velocity in (x, y):
        energy = np.asarray(energy_spectrum(jnp.asarray(velocity)))
        logs.append(np.log10(energy.reshape(-1, energy.shape[-1])[:, 1:].mean(axis=0)))
    return float(np.sqrt(np.mean((logs[0] - logs[1]) ** 2)))
