"""How close an ensemble is to the truth, and how good it is as a forecast.

Ensembles are `(samples, L, *S)` in physical units. No single number suffices: Wasserstein-1 hardly
sees a wrong spread, which log prior, log likelihood and spread do see.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy import stats

from sda_jax.core._errors import ConfigError, require_at_least, require_below, require_positive
from sda_jax.core._protocols import GaussianSystem
from sda_jax.evaluation._distances import (
    Ensemble,
    energy_test,
    members,
    numbers,
    require_shape,
    wasserstein1,
)
from sda_jax.observations._checks import prediction_of
from sda_jax.observations._observation import Observation, log_likelihood, require_observation
from sda_jax.systems._base import require_noise


def log_prior(system: GaussianSystem, x: Ensemble) -> Float[Array, " samples"]:
    """`log p(x_{2:L} | x_1)` of every member.

    Raises:
        ConfigError: The system has no transition noise.
    """
    require_noise(system)
    return _log_prior(system, jnp.asarray(x))


@jax.jit
def _log_prior(system: GaussianSystem, x: Array) -> Float[Array, " samples"]:
    def one(path: Array) -> Array:
        return jnp.sum(jax.vmap(system.log_prob)(path[:-1], path[1:]))

    return jax.vmap(one)(x)


def _against(ensemble: Any, truth: Any, least: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Members and truth.

    Raises:
        ConfigError: They are no numbers, too few members, or the truth has another shape.
    """
    x, true = members(ensemble, least), numbers(truth, "truth")
    require_shape("truth", true, x.shape[1:])
    return x, true


def rmse(ensemble: Ensemble, truth: np.ndarray | Array) -> float:
    """Root mean square error of the ensemble mean."""
    x, true = _against(ensemble, truth)
    return float(np.sqrt(np.mean((x.mean(axis=0) - true) ** 2)))


def spread(ensemble: Ensemble) -> float:
    """Root of the mean variance of the ensemble (unbiased)."""
    return float(np.sqrt(np.mean(np.var(members(ensemble, 2), axis=0, ddof=1))))


def crps(ensemble: Ensemble, truth: np.ndarray | Array) -> float:
    """Continuous ranked probability score, fair version, averaged over all components.

    `E|X - truth| - E|X - X'| / 2` with X, X' different members. Ferro (2014).
    """
    x, true = _against(ensemble, truth, 2)
    x, n = np.sort(x, axis=0), len(x)
    error = np.abs(x - true).mean(axis=0)
    weights = (2 * np.arange(n) - n + 1).reshape(-1, *(1,) * (x.ndim - 1))
    dispersion = (weights * x).sum(axis=0) / (n * (n - 1))
    return float(np.mean(error - dispersion))


def normal_crps(mean: np.ndarray, std: np.ndarray, y: np.ndarray) -> Float[np.ndarray, ...]:
    """Continuous ranked probability score of normal distributions, elementwise; of std 0 the
    absolute error. Gneiting & Raftery (2007), equation 21."""
    z = (y - mean) / np.where(std > 0, std, 1.0)
    score = z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi)
    return np.where(std > 0, std * score, np.abs(y - mean))


class Comparison(NamedTuple):
    """A posterior against the true one.

    Attributes:
        w1: Wasserstein-1 to the truth's ensemble.
        w1_floor: The same between two independent ensembles of the truth, of the same size.
        log_prior, log_prior_truth: Means over the members.
        log_likelihood, log_likelihood_truth: Means over the members.
        spread_ratio: Spread divided by the truth's.
        energy_p: p-value of the energy-distance test.
    """

    w1: float
    w1_floor: float
    log_prior: float
    log_prior_truth: float
    log_likelihood: float
    log_likelihood_truth: float
    spread_ratio: float
    energy_p: float


def compare(
    ensemble: Ensemble,
    truth: Ensemble,
    truth_again: Ensemble,
    system: GaussianSystem,
    observation: Observation,
) -> Comparison:
    """Scores an ensemble against two independent ensembles of the true posterior.

    Raises:
        ConfigError: Ensembles of different sizes, or of fewer than two members.
    """
    require_at_least("samples", len(ensemble), 2)
    both = np.concatenate([np.asarray(truth), np.asarray(truth_again)])
    return Comparison(
        w1=wasserstein1(ensemble, truth),
        w1_floor=wasserstein1(truth_again, truth),
        log_prior=float(log_prior(system, ensemble).mean()),
        log_prior_truth=float(log_prior(system, both).mean()),
        log_likelihood=float(log_likelihood(observation, ensemble).mean()),
        log_likelihood_truth=float(log_likelihood(observation, both).mean()),
        spread_ratio=spread(ensemble) / spread(both),
        energy_p=energy_test(ensemble, truth),
    )


def coverage(ensemble: Ensemble, reference: Ensemble, share: float) -> float:
    """Share of the reference's members inside the central interval that holds `share` of the
    ensemble, averaged over all components: `share` on average if both have one distribution and the
    ensemble at least `2 / (1 - share) - 1` members.

    Raises:
        ConfigError: `share` not between 0 and 1.
    """
    require_positive("share", share)
    require_below("share", share, 1)
    tails = [(1 - share) / 2, (1 + share) / 2]
    # unbiased: the interval between order statistics i and j holds (j - i)/(n + 1) on average
    low, high = np.quantile(numbers(ensemble), tails, axis=0, method="weibull")
    other = numbers(reference, "reference")
    return float(np.mean((other >= low) & (other <= high)))


def rank_flatness(ensemble: Ensemble, truths: Ensemble, bins: int = 16) -> float:
    """Chi-square per degree of freedom of the ranks of truths among the members, counted in equal
    bins and averaged over components: 1 where truths, independent draws, have the ensemble's
    distribution.

    The ensemble's finite size adds to it: as many members as truths make it 2.

    Raises:
        ConfigError: The members' number plus one is no multiple of `bins`.
    """
    n, count = len(ensemble), len(truths)
    if (n + 1) % bins:
        raise ConfigError("samples", n, f"one less than a multiple of {bins}", "Leave some out.")
    members = np.sort(numbers(ensemble).reshape(n, -1), axis=0)
    others = numbers(truths, "truths").reshape(count, -1)
    found = []
    for a, b in zip(members.T, others.T, strict=True):
        counts = np.bincount(np.searchsorted(a, b) * bins // (n + 1), minlength=bins)
        found.append(((counts - count / bins) ** 2).sum() / (count / bins) / (bins - 1))
    return float(np.mean(found))


def residual_std(observation: Observation, ensemble: Ensemble) -> float:
    """Root mean square of `A(x) - y` over members and observed elements.

    For samples of the posterior of a truth drawn from the prior it equals the noise's standard
    deviation on average, since sample and truth then have one distribution given y.

    Raises:
        ConfigError: `ensemble` is none, or JAX traces it.
        ObservationError: `observation` is none, or its operator does not take the members.
    """
    require_observation(observation)
    drawn = jnp.asarray(members(ensemble), jnp.float32)
    prediction_of(observation.operator, drawn.shape[1:])
    seen = np.asarray(observation.observed)
    residual = np.asarray(jax.vmap(lambda x: observation.residual(observation.operator(x)))(drawn))
    return float(np.sqrt(np.mean(residual[:, seen].astype(np.float64) ** 2)))


def ranks(ensemble: Ensemble, truth: np.ndarray | Array) -> np.ndarray:
    """The number of members below the truth, from 0 to `samples`, for every component: uniform
    where the truth could be one of the members. Talagrand et al. (1997)."""
    x, true = _against(ensemble, truth)
    return (x < true).sum(axis=0)


def spread_skill(ensemble: Ensemble, truth: np.ndarray | Array) -> float:
    """Spread over the RMSE of the mean, corrected for the ensemble's size: 1 on average for a
    calibrated ensemble. Fortin et al. (2014), equation 15."""
    n = len(ensemble)
    return spread(ensemble) * float(np.sqrt((n + 1) / n)) / rmse(ensemble, truth)
