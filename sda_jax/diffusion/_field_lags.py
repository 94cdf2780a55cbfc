"""How the amplitudes of orthogonal functions vary together in time."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
from jaxtyping import Float

from sda_jax.diffusion._calibration import less_chance
from sda_jax.diffusion._series_law import decomposed

Amplitudes = Float[np.ndarray, "m length k"]
Lags = Float[np.ndarray, "lags k k"]
PARTS = 5  # of a record, of which each is held out once
PENALTIES = (1e-4, 1e-3, 1e-2, 0.1, 0.3, 1.0, 3.0, 1e6)  # of ridge regression; the last leaves none
SLOWEST = 0.999  # factor from state to state of what is forgotten last
MIXTURES = (0.0, 0.25, 0.5, 0.75, 1.0)
RESOLVED = 0.05  # standard deviation of the noise that parts are seen with, of a field's
TINY = 1e-12  # variance of what does not vary
LARGEST = 300  # numbers of a window whose probability is asked


def amplitude_lags(amplitudes: Amplitudes, variances: Float[np.ndarray, " k"], count: int) -> Lags:
    """Autocovariance `E a_i a_{i+l}^T` of amplitudes with these variances.

    Of lags that are each measured by themselves and of those of a linear inverse model the mixture
    with which parts of the record are most probable under the others, as they are seen with noise
    of a twentieth of a field's standard deviation (five-fold cross-validation). Lags measured by
    themselves keep a long memory; but together they belong to no process, and what they say cannot
    vary does. Those of a model belong to one, which forgets as fast as from one state to the next.
    """
    length, k = amplitudes.shape[1:]
    if min(count, length) == 1:
        return np.diag(variances)[None]
    longest = min(count, length)
    # all functions over a few states, and the first ones over as many as lags reach
    views = {(k, max(2, min(longest, LARGEST // k))), (min(k, LARGEST // longest), longest)}
    likelihood = sum(
        _likelihoods(amplitudes[..., :first], variances[:first], size) for first, size in views
    )
    return _mixed(_both(amplitudes, variances, count), MIXTURES[int(np.argmax(likelihood))])


def _likelihoods(
    amplitudes: Amplitudes, variances: Float[np.ndarray, " k"], size: int
) -> Float[np.ndarray, " mixtures"]:
    """Of windows of so many states by every mixture, each part by the lags of the others."""
    _, length, k = amplitudes.shape
    cut = amplitudes[:, : length // size * size].reshape(-1, size, k)
    parts = np.array_split(np.arange(len(cut)), min(PARTS, len(cut)))
    found = np.zeros(len(MIXTURES))
    for held in parts if len(parts) > 1 else ():
        pair = _both(np.delete(cut, held, axis=0), variances, size)
        found += [_log_likelihood(_mixed(pair, share), cut[held]) for share in MIXTURES]
    return found


def _both(
    amplitudes: Amplitudes, variances: Float[np.ndarray, " k"], count: int
) -> tuple[Lags, Lags]:
    """Lags by themselves, and a model's."""
    std = np.sqrt(np.maximum((amplitudes**2).mean(axis=(0, 1)), 1e-30))
    z, scale = amplitudes / std, np.sqrt(np.outer(variances, variances))
    return measured_lags(z, count) * scale, model_lags(z, count) * scale


def _mixed(pair: tuple[Lags, Lags], share: float) -> Lags:
    return (1 - share) * pair[0] + share * pair[1]


def _log_likelihood(lags: Lags, windows: Amplitudes) -> float:
    """Of windows, up to a constant."""
    variances, basis = decomposed(lags, windows.shape[1])
    variances = variances + RESOLVED**2
    found = windows.reshape(len(windows), -1) @ basis
    return float(-np.sum(found**2 / variances + np.log(variances)) / 2)


def measured_lags(z: Amplitudes, count: int) -> Lags:
    """Correlations of amplitudes of unit variance, each less what chance makes of it; at one time
    functions do not vary together."""
    m, length, k = z.shape
    own, found = np.eye(k, dtype=bool), []
    for lag in range(count):
        pairs = m * (length - lag)
        r = np.einsum("mia,mib->ab", z[:, : length - lag], z[:, lag:], optimize=True) / pairs
        found.append(np.where(own, 1.0, 0.0) if lag == 0 else less_chance(r, 1 / pairs))
    return np.stack(found)


def model_lags(z: Amplitudes, count: int) -> Lags:
    """Correlations of amplitudes of unit variance by a linear inverse model, `z_{i+1} = A z_i + e`
    (Penland and Sardeshmukh 1995, J. Climate 8). A is a ridge regression with the penalty that
    predicts parts of the record best from the others, and e varies as its errors do there. At one
    time functions vary together a little then, where the record's do not."""
    k = z.shape[-1]
    before, after = (a.reshape(-1, k) for a in (z[:, :-1], z[:, 1:]))
    pairs = len(before)
    parts = [
        [a[held].T @ b[held] for a, b in ((before, before), (before, after), (after, after))]
        for held in np.array_split(np.arange(pairs), min(PARTS, pairs))
    ]
    total = [sum(each) for each in zip(*parts, strict=True)]

    def step(squares: Any, products: Any, penalty: float) -> np.ndarray:
        return np.linalg.solve(squares + penalty * pairs * np.eye(k), products).T

    def errors(penalty: float) -> np.ndarray:
        """Of what parts are predicted to be by the others, squared."""
        found = np.zeros((k, k))
        for own in parts:
            a = step(total[0] - own[0], total[1] - own[1], penalty)
            both = a @ own[1]
            found += own[2] - both - both.T + a @ own[0] @ a.T
        return found / pairs

    left, penalty = min(((errors(p), p) for p in PENALTIES), key=lambda found: np.trace(found[0]))
    left = _less_correlated(left, pairs) + TINY * np.eye(k)
    a = step(*total[:2], penalty)
    a *= min(1.0, SLOWEST / max(np.abs(np.linalg.eigvals(a)).max(), 1e-30))
    lags = [scipy.linalg.solve_discrete_lyapunov(a, left)]
    for _ in range(count - 1):
        lags.append(lags[-1] @ a.T)
    scale = np.sqrt(1 / np.diag(lags[0]))
    return np.stack(lags) * np.outer(scale, scale)


def _less_correlated(covariance: Float[np.ndarray, "k k"], count: int) -> Float[np.ndarray, "k k"]:
    """With correlations shrunk by the share of their squares that chance makes of `count` draws
    (Schaefer and Strimmer 2005, Stat. Appl. Genet. Mol. Biol. 4)."""
    std = np.sqrt(np.diag(covariance))
    apart = ~np.eye(len(std), dtype=bool)
    squares = np.sum((covariance / np.outer(std, std))[apart] ** 2)
    by_chance = apart.sum() / count
    return covariance * np.where(apart, max(0.0, 1 - by_chance / max(squares, 1e-30)), 1.0)
