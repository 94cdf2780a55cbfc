"""Autocovariances of a series, tapered as far as parts of the record that were held out ask for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from sda_jax.diffusion._series_law import decomposed, regressed

PARTS = 5  # of a record, of which each is held out once
TAPERS = (np.inf, 4.0, 2.0, 1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32)  # lengths, in numbers of lags
NUMBERS = 1024  # of a window whose likelihood is taken, at most
RESOLVED = 0.05  # noise that it is seen with, in standard deviations: finer is not asked for

Stretches = Sequence[Float[np.ndarray, "states channel"]]


def unbiased_lags(x: Stretches, count: int) -> Float[np.ndarray, "lags c c"]:
    """`E x_i x_{i+l}^T` for `count` lags, the mean over all pairs of states that stretches hold;
    zero for lags that none is long enough for."""
    found, pairs = np.zeros((count, x[0].shape[-1], x[0].shape[-1])), np.zeros(count)
    alike: dict[int, list[np.ndarray]] = {}
    for part in x:
        alike.setdefault(len(part), []).append(part)
    for length, parts in alike.items():
        every = np.stack(parts)
        for lag in range(min(count, length)):
            first, second = every[:, : length - lag], every[:, lag:]
            size = every.shape[-1]
            found[lag] += first.reshape(-1, size).T @ second.reshape(-1, size)
            pairs[lag] += len(parts) * (length - lag)
    return found / np.maximum(pairs, 1)[:, None, None]


def tapered_lags(x: Stretches, rows: Stretches, count: int) -> Float[np.ndarray, "lags c c"]:
    """Autocovariances of the anomalies of a record.

    Lags as long as the record is short are known badly, and a covariance that takes them at face
    value says that it knows what it does not. They are multiplied by `max(1 - l/T, 0)` (Bartlett),
    T the length, or none, with which parts of the record are most probable under mean and lags of
    the other parts (five-fold cross-validation), as they are seen with noise of a twentieth of a
    standard deviation. From no taper on T is halved until parts get less probable.

    Args:
        x: Stretches of the record, in the order of time, in standardised units.
        rows: What their mean is regressed on.
        count: Lags.
    """
    states, known = np.concatenate(x), np.concatenate(rows)
    stretch = np.repeat(np.arange(len(x)), [len(part) for part in x])
    folds = [_fold(states, known, stretch, held, count) for held in _parts(len(states))]
    longest = max((len(part) for _, own in folds for part in own), default=1)
    size = min(count, max(NUMBERS // states.shape[1], 1), longest)
    best, chosen = -np.inf, np.inf
    for taper in TAPERS:
        likelihood = sum(_log_likelihood(lags, own, size, taper) for lags, own in folds)
        if likelihood < best:
            break
        best, chosen = likelihood, taper
    anomalies = states - known @ regressed(states, known)
    every = _pieces(anomalies, stretch, np.arange(len(states)))
    return _with_taper(unbiased_lags(every, count), chosen)


def _parts(count: int) -> list[Int[np.ndarray, " states"]]:
    return [part for part in np.array_split(np.arange(count), PARTS) if 0 < len(part) < count]


def _pieces(
    x: Float[np.ndarray, "n c"], stretch: Int[np.ndarray, " n"], index: Int[np.ndarray, " m"]
) -> list[Float[np.ndarray, "states c"]]:
    """The chosen states, apart where others or a gap lie between them."""
    breaks = (np.diff(index) > 1) | (np.diff(stretch[index]) > 0)
    return [x[part] for part in np.split(index, np.flatnonzero(breaks) + 1)]


def _fold(
    x: np.ndarray, rows: np.ndarray, stretch: np.ndarray, held: np.ndarray, count: int
) -> tuple[Float[np.ndarray, "lags c c"], list[Float[np.ndarray, "states c"]]]:
    """Lags of the states that are not held out, and the anomalies of those that are."""
    others = np.setdiff1d(np.arange(len(x)), held)
    anomalies = x - rows @ regressed(x[others], rows[others])
    lags = unbiased_lags(_pieces(anomalies, stretch, others), count)
    return lags, _pieces(anomalies, stretch, held)


def _with_taper(lags: np.ndarray, taper: float) -> Float[np.ndarray, "lags c c"]:
    length = taper * len(lags)
    return lags * np.maximum(1 - np.arange(len(lags)) / length, 0.0)[:, None, None]


def _log_likelihood(lags: np.ndarray, held: list[np.ndarray], size: int, taper: float) -> float:
    """Of windows of `size` states, beside each other, up to a constant."""
    cut = [part[i : i + size] for part in held for i in range(0, len(part) - size + 1, size)]
    if not cut:
        return 0.0
    variances, basis = decomposed(_with_taper(lags, taper), size)
    variances = variances + RESOLVED**2
    amplitudes = np.stack(cut).reshape(len(cut), -1) @ basis
    return float(-np.sum(amplitudes**2 / variances + np.log(variances)) / 2)
