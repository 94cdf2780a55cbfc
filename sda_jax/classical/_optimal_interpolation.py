"""Optimal interpolation: the posterior under a Gaussian distribution of trajectories that was
measured from what a prior was trained on.

Double precision on the host.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.linalg
import scipy.sparse as sparse
from jaxtyping import Array, Float

from sda_jax.core._arrays import Operator
from sda_jax.core._errors import ConfigError, ObservationError
from sda_jax.core._units import Standardisation
from sda_jax.diffusion._fields import FieldPreconditioned
from sda_jax.diffusion._series import SeriesPreconditioned
from sda_jax.diffusion._series_law import decomposed
from sda_jax.observations._linear_rows import linear_rows
from sda_jax.observations._observation import Observation
from sda_jax.prior._prior import Prior

AT_ONCE = 1024  # values that are estimated together
STEPS, CLOSE = 20, 0.01  # of Gauss-Newton; what linearisation may lack, in units of the noise


class GaussianEstimate(NamedTuple):
    """What optimal interpolation says of some values.

    Attributes:
        mean: Of each value, in physical units.
        std: Its standard deviation, without the noise of a measurement.
    """

    mean: Float[np.ndarray, ...]
    std: Float[np.ndarray, ...]


class GaussianClimate(NamedTuple):
    """A Gaussian distribution of trajectories, stationary around a mean: of amplitudes that are
    correlated in time, and of a remainder at each number of a state.

    Attributes:
        mean: `(L, *S)` in standardised units.
        functions: That the amplitudes belong to, `(d, k)`, orthonormal; None where they are the
            numbers of a state themselves.
        amplitudes: `(lags, k, k)`, autocovariance `E a_i a_{i+l}^T`; beyond the lags, none.
        law: Eigenvalues and eigenvectors of the covariance of amplitudes of trajectories as long
            as these, at most as the lags; None for longer ones.
        rest: `(L, L)`, covariance of the remainder over states.
        standardisation: To physical units.
    """

    mean: Float[np.ndarray, " length *state"]
    functions: Float[np.ndarray, "d k"] | None
    amplitudes: Float[np.ndarray, "lags k k"]
    law: tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n n"]] | None
    rest: Float[np.ndarray, "length length"]
    standardisation: Standardisation

    @classmethod
    def of(
        cls,
        known: Any,
        standardisation: Standardisation,
        length: int,
        context: Float[Array, " length *known"] | None = None,
    ) -> GaussianClimate:
        """Of what a parameterisation measured. Up to the length of the lags the covariance is
        theirs without negative eigenvalues; that of longer trajectories is tapered to zero at the
        last lag.

        Args:
            known: A parameterisation, fitted.
            standardisation: That it was fitted in.
            length: States of a trajectory.
            context: Of the trajectory, in standardised units.

        Raises:
            ConfigError: It knows of no covariance.
        """
        if not isinstance(known, SeriesPreconditioned | FieldPreconditioned) or known.lags is None:
            raise ConfigError(
                "parameterisation",
                f"{type(known).__name__}, which knows no covariance of states",
                "one fitted to training data: SeriesPreconditioned or FieldPreconditioned",
                "Train with it, or leave optimal interpolation out.",
            )
        lags = np.asarray(known.lags, np.float64)
        count, size = lags.shape[:2]
        law = decomposed(known.lags, length) if length <= count else None
        taper = np.ones(count)
        if law is None:
            taper = 0.5 + 0.5 * np.cos(np.pi * np.arange(count) / count)
        functions, state, rest = None, (size,), np.zeros((length, length))
        if isinstance(known, FieldPreconditioned):
            every = np.asarray(known.functions, np.float64)
            functions, state = every.reshape(-1, size), every.shape[:-1]
            left = np.zeros(max(length, count))
            left[:count] = np.asarray(known.left, np.float64) * taper
            rest = scipy.linalg.toeplitz(left[:length])
            if law is not None:
                values, basis = decomposed(np.asarray(known.left)[:, None, None], length)
                rest = (basis * values) @ basis.T
        told = known.conditioned(context).mean
        mean = np.broadcast_to(0.0 if told is None else np.asarray(told, float), (length, *state))
        lags = lags * taper[:, None, None]
        return cls(mean, functions, lags, law, rest, standardisation)

    @property
    def usual(self) -> Float[np.ndarray, " length *state"]:
        """The mean in physical units; of a transformed variable, its median."""
        return np.asarray(self.standardisation.inverse(jnp.asarray(self.mean)), np.float64)

    def between(self, a: sparse.csr_array, b: sparse.csr_array) -> Float[np.ndarray, "a b"]:
        """The covariance of weighted sums of the numbers of a trajectory, in standardised units: a
        row of `a` and `b` each."""
        ours, theirs = self._amplitudes_of(a), self._amplitudes_of(b)
        found = ours @ self._times(theirs).T
        if self.functions is None:
            return found
        length, k = len(self.mean), self.functions.shape[1]
        moved = np.einsum("ij,bjk->bik", self.rest, theirs.reshape(-1, length, k))
        points = sparse.eye_array(len(self.functions))
        spread = b @ sparse.kron(sparse.csr_array(self.rest), points, "csr")
        return found + (a @ spread.T).toarray() - ours @ moved.reshape(len(theirs), -1).T

    def along(self, weights: Float[np.ndarray, " n"]) -> Float[np.ndarray, " length *state"]:
        """The covariance times the numbers of a flattened trajectory."""
        length = len(self.mean)
        w = weights.reshape(length, -1)
        if self.functions is None:
            return self._times(w.reshape(1, -1)).reshape(self.mean.shape)
        amplitudes = w @ self.functions
        found = self._times(amplitudes.reshape(1, -1)).reshape(length, -1) @ self.functions.T
        found += self.rest @ (w - amplitudes @ self.functions.T)
        return found.reshape(self.mean.shape)

    def _amplitudes_of(self, rows: sparse.csr_array) -> Float[np.ndarray, "m n"]:
        if self.functions is None:
            return rows.toarray()
        blocks = np.split(np.arange(rows.shape[1]), len(self.mean))
        each = [rows[:, block[0] : block[-1] + 1] @ self.functions for block in blocks]
        return np.concatenate(each, axis=1)

    def _times(self, w: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "m n"]:
        """The covariance of flattened amplitudes times each row of `w`."""
        if self.law is not None:
            variances, basis = self.law
            return ((w @ basis) * variances) @ basis.T
        w = w.reshape(len(w), len(self.mean), -1)
        out = w @ self.amplitudes[0]
        for lag, covariance in enumerate(self.amplitudes[1:], 1):
            out[:, :-lag] += w[:, lag:] @ covariance.T
            out[:, lag:] += w[:, :-lag] @ covariance
        return out.reshape(len(w), -1)


def climate_of(prior: Prior, length: int, context: Any = None) -> GaussianClimate:
    """The Gaussian distribution that a prior's network starts from.

    Args:
        prior: Whose parameterisation measured a covariance.
        length: States of a trajectory.
        context: In physical units, as `assimilate` takes it.

    Raises:
        ConfigError: It knows of no covariance.
    """
    told = None if prior.context is None or context is None else prior.context.forward(context)
    known = getattr(prior.denoiser, "parameterisation", None)
    return GaussianClimate.of(known, prior.standardisation, length, told)


def optimal_interpolation(
    climate: GaussianClimate, observation: Observation | None, at: Operator | None = None
) -> GaussianEstimate:
    """The mean and standard deviations of trajectories given an observation.

    For an affine operator the exact posterior under the climate (Daley 1991, Atmospheric Data
    Analysis, chapter 4); others are linearised anew around each estimate (Gauss-Newton).

    Args:
        climate: Distribution before the observation.
        observation: In physical units; NaN = missing; None for the climate itself.
        at: Operator whose values are wanted, None for the whole trajectory.

    Raises:
        ObservationError: Noise that is not Gaussian, an operator that is too large or around which
            no linearisation settles.
    """
    x = climate.mean
    if observation is None:
        return _estimate(climate, x, at, None, None)
    observation.require_gaussian("optimal interpolation knows no other", "Give std.")
    seen = np.flatnonzero(np.asarray(observation.observed))
    y = np.asarray(observation.y, np.float64).ravel()[seen]
    noise = np.asarray(observation.noise_covariance(), np.float64)[np.ix_(seen, seen)]
    values, rows = _rows(climate, observation.operator, x, seen)
    for _ in range(STEPS):
        factor = scipy.linalg.cho_factor(climate.between(rows, rows) + noise)
        innovation = y - values + rows @ (x - climate.mean).ravel()
        new = climate.mean + climate.along(rows.T @ scipy.linalg.cho_solve(factor, innovation))
        foreseen = values + rows @ (new - x).ravel()
        values, next_rows = _rows(climate, observation.operator, new, seen)
        x = new
        if np.all(np.abs(values - foreseen) <= CLOSE * np.sqrt(np.diag(noise))):
            return _estimate(climate, x, at, rows, factor)
        rows = next_rows
    raise ObservationError(
        "operator",
        f"one around which no linearisation settles in {STEPS} steps",
        "an operator that is nearly affine where the climate is",
        "Leave optimal interpolation out.",
    )


def _rows(
    climate: GaussianClimate, operator: Operator | None, x: np.ndarray, kept: Any = slice(None)
) -> tuple[np.ndarray, sparse.csr_array]:
    """Values of an operator at a trajectory in standardised units, flat, and its Jacobian there;
    None for the trajectory itself."""
    physical = np.asarray(climate.standardisation.inverse(jnp.asarray(x)), np.float64)
    slope = np.asarray(climate.standardisation.scale(jnp.asarray(physical)), np.float64)
    scale = sparse.diags_array(slope.ravel(), format="csr")
    if operator is None:
        return physical.ravel()[kept], scale[kept]
    values, rows = linear_rows(operator, physical)
    return values[kept], sparse.csr_array(rows[kept] @ scale)


def _estimate(
    climate: GaussianClimate,
    x: np.ndarray,
    at: Operator | None,
    seen: sparse.csr_array | None,
    factor: Any,
) -> GaussianEstimate:
    """Of the values of `at`, a part of them at a time."""
    mean, rows = _rows(climate, at, x)
    variances = []
    for first in range(0, rows.shape[0], AT_ONCE):
        some = rows[first : first + AT_ONCE]
        left = np.diag(climate.between(some, some)).copy()
        if seen is not None:
            towards = climate.between(some, seen)
            left -= np.einsum("ij,ji->i", towards, scipy.linalg.cho_solve(factor, towards.T))
        variances.append(left)
    std = np.sqrt(np.maximum(np.concatenate(variances), 0.0))
    shape = x.shape if at is None else mean.shape
    return GaussianEstimate(mean.reshape(shape), std.reshape(shape))
