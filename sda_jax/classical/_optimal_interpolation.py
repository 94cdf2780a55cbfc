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
from sda_jax.diffusion._series import SeriesPreconditioned
from sda_jax.diffusion._series_law import SeriesLaw
from sda_jax.observations._linear_rows import linear_rows
from sda_jax.observations._observation import Observation
from sda_jax.prior._prior import Prior

AT_ONCE = 4096  # values that are estimated together
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
    """A Gaussian distribution of trajectories, stationary around a mean.

    Attributes:
        mean: `(L, *S)` in standardised units.
        lags: Autocovariance `E e_i e_{i+l}^T` of the flattened states' anomalies, `(lags, d, d)`;
            beyond them, none.
        law: Of trajectories as long as they are, at most as the lags; None for longer ones.
        standardisation: To physical units.
    """

    mean: Float[np.ndarray, " length *state"]
    lags: Float[np.ndarray, "lags d d"]
    law: SeriesLaw | None
    standardisation: Standardisation

    @classmethod
    def of(
        cls,
        known: Any,
        standardisation: Standardisation,
        length: int,
        context: Float[Array, " length known"] | None = None,
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
        if not isinstance(known, SeriesPreconditioned) or known.lags is None:
            raise ConfigError(
                "parameterisation",
                f"{type(known).__name__}, which knows no covariance of states",
                "one that was fitted to training data: SeriesPreconditioned",
                "Train with it, or leave optimal interpolation out.",
            )
        lags = np.asarray(known.lags, np.float64)
        count, size = lags.shape[:2]
        law = SeriesLaw.of(known.lags, length) if length <= count else None
        taper = 1.0 if law is not None else 0.5 + 0.5 * np.cos(np.pi * np.arange(count) / count)
        told = known.conditioned(context).mean
        mean = np.zeros((length, size)) if told is None else np.asarray(told, np.float64)
        lags = lags * np.broadcast_to(taper, count)[:, None, None]
        return cls(mean, lags, law, standardisation)

    def covariance_times(self, w: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "m n"]:
        """The covariance of flattened trajectories in standardised units times each row of `w`."""
        if self.law is not None:
            basis = np.asarray(self.law.basis, np.float64)
            return ((w @ basis) * np.asarray(self.law.variances, np.float64)) @ basis.T
        w = w.reshape(len(w), len(self.mean), -1)
        out = w @ self.lags[0]
        for lag, covariance in enumerate(self.lags[1:], 1):
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
    x, empty = climate.mean, np.zeros((0, climate.mean.size))
    if observation is None:
        return _estimate(climate, x, at, empty, None)
    observation.require_gaussian("optimal interpolation knows no other", "Give std.")
    seen = np.flatnonzero(np.asarray(observation.observed))
    y = np.asarray(observation.y, np.float64).ravel()[seen]
    noise = np.asarray(observation.noise_covariance(), np.float64)[np.ix_(seen, seen)]
    values, rows = _rows(climate, observation.operator, x, seen)
    for _ in range(STEPS):
        gain = climate.covariance_times(rows.toarray())  # (C A^T)^T
        factor = scipy.linalg.cho_factor(rows @ gain.T + noise)
        innovation = y - values + rows @ (x - climate.mean).ravel()
        new = climate.mean + (scipy.linalg.cho_solve(factor, innovation) @ gain).reshape(x.shape)
        foreseen = values + rows @ (new - x).ravel()
        values, next_rows = _rows(climate, observation.operator, new, seen)
        x = new
        if np.all(np.abs(values - foreseen) <= CLOSE * np.sqrt(np.diag(noise))):
            return _estimate(climate, x, at, gain, factor)
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
    climate: GaussianClimate, x: np.ndarray, at: Operator | None, gain: np.ndarray, factor: Any
) -> GaussianEstimate:
    """Of the values of `at`, a part of them at a time."""
    mean, rows = _rows(climate, at, x)
    variances = []
    for first in range(0, rows.shape[0], AT_ONCE):
        some = rows[first : first + AT_ONCE].toarray()
        left = np.einsum("ij,ij->i", climate.covariance_times(some), some)
        if len(gain):
            towards = some @ gain.T
            left -= np.einsum("ij,ji->i", towards, scipy.linalg.cho_solve(factor, towards.T))
        variances.append(left)
    std = np.sqrt(np.maximum(np.concatenate(variances), 0.0))
    shape = x.shape if at is None else mean.shape
    return GaussianEstimate(mean.reshape(shape), std.reshape(shape))
