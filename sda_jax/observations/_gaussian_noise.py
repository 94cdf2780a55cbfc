"""Whether numbers can be those of Gaussian noise, in the precision that computes with them."""

from __future__ import annotations

import numpy as np
import scipy.linalg

from sda_jax.core._errors import ObservationError
from sda_jax.observations._noise_models import broadcasts

SINGLE = np.finfo(np.float32)
LEAST, MOST = np.sqrt(SINGLE.tiny), np.sqrt(SINGLE.max)  # whose squares single precision holds
ASYMMETRY = 1e-4  # of a correlation
ACCURACY = 0.1  # of the variances that the factor stands for
JITTERS = 10.0 ** np.arange(-7, -1)  # shares of the variances


def check_std(std: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raises `ObservationError` unless `std` is that of a y of that shape."""
    if not broadcasts(std.shape, shape):
        raise ObservationError(
            "std", f"shape {std.shape}", f"() or the shape of y, {shape}", "Reshape it."
        )
    if not (np.isfinite(std).all() and (std > 0).all()):
        worst = std[~(np.isfinite(std) & (std > 0))].flat[0]
        raise ObservationError(
            "std", worst, "positive and finite", "Give the noise of every element."
        )
    wrong = (std < LEAST) | (std > MOST)
    if wrong.any():
        raise ObservationError(
            "std",
            std[wrong].flat[0],
            f"between {LEAST:.1g} and {MOST:.1g}: single precision holds no other variances",
            "Choose other units for y and what the operator gives.",
        )


def check_covariance(covariance: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raises `ObservationError` unless `covariance` is that of a flattened y of that shape, and
    single precision can factor it."""
    size = int(np.prod(shape))
    if covariance.shape != (size, size):
        raise ObservationError(
            "covariance",
            f"shape {covariance.shape}",
            f"({size}, {size}), the flattened y's",
            "Reshape it.",
        )
    covariance = covariance.astype(np.float64)
    variances = np.diagonal(covariance)
    scale = np.sqrt(np.abs(np.outer(variances, variances)))
    if not np.isfinite(covariance).all():
        got, remedy = "values that are missing or not finite", "Give the noise of every pair."
    elif not (np.abs(covariance - covariance.T) <= ASYMMETRY * scale).all():
        got, remedy = "a matrix that is not symmetric", "Take (covariance + covariance.T) / 2."
    elif _is_factored(covariance):
        return
    else:
        got, remedy = "a matrix that is not", _with_jitter(covariance)
    expected = "symmetric positive definite, in the single precision that computes"
    raise ObservationError("covariance", got, expected, remedy)


def _is_factored(covariance: np.ndarray) -> bool:
    """Whether the factor that single precision finds stands for the matrix."""
    try:
        factor = np.linalg.cholesky(covariance.astype(np.float32)).astype(np.float64)
    except np.linalg.LinAlgError:
        return False
    half = scipy.linalg.solve_triangular(factor, covariance, lower=True)
    white = scipy.linalg.solve_triangular(factor, half.T, lower=True)
    return bool(np.abs(white - np.eye(len(white))).max(initial=0) <= ACCURACY)


def _with_jitter(covariance: np.ndarray) -> str:
    """What would make a matrix positive definite that is nearly so."""
    variances = np.diag(np.diagonal(covariance))
    for jitter in JITTERS:
        if _is_factored(covariance + jitter * variances):
            return (
                f"Jitter would do: add {jitter:.0e} * numpy.diag(numpy.diagonal(covariance)), "
                "that share of every variance."
            )
    return "Correct it: it has directions of negative or no variance."
