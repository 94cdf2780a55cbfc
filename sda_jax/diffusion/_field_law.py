"""The Gaussian distribution of windows of fields: empirical orthogonal functions whose amplitudes
are correlated in time, and a remainder."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError
from sda_jax.diffusion._series_law import (
    FLOOR,
    Gain,
    GaussianLaw,
    Ratio,
    decomposed,
    regressed,
)

Fields = Float[Array, "..."]  # (*batch, length, *S)
PARTS = 5  # of a record, of which each is held out once
MOST = 120  # functions
SNAPSHOTS = 1024  # that they are taken from at most


class Functions(NamedTuple):
    """Empirical orthogonal functions.

    Attributes:
        basis: `(points, k)`, orthonormal in the columns, of falling variance.
        variances: Of their amplitudes, `(k,)`, as they are of states that they were not taken from.
        rest: The variance that is left at each point, in the mean over points.
        persistence: Correlation of what is left from one state to the next, not below 0.
    """

    basis: Float[np.ndarray, "points k"]
    variances: Float[np.ndarray, " k"]
    rest: float
    persistence: float


def orthogonal_functions(
    x: Float[np.ndarray, "states points"], rows: Float[np.ndarray, "states p"]
) -> Functions:
    """Functions of the anomalies of states in the order of time.

    Mean and functions that were taken from few states leave more elsewhere than there: each of five
    parts of the record is projected on the functions of the others, around their mean, and the
    variances found there are taken (Lam 2016, Annals of Statistics 44, on splitting the data for
    eigenvectors and eigenvalues). Kept are the first functions that so vary more than what would be
    left without them.

    Args:
        x: States.
        rows: What their mean is regressed on.
    """
    x = np.asarray(x, np.float64)
    most = min(MOST, x.shape[1] - 1)
    found, left, next_to = [], [], []
    for held in np.array_split(np.arange(len(x)), PARTS):
        others = np.delete(np.arange(len(x)), held)
        slopes = regressed(x[others], rows[others])
        anomalies = x[held] - rows[held] @ slopes
        basis = leading(x[others] - rows[others] @ slopes, most)
        amplitudes = anomalies @ basis
        beyond = anomalies - amplitudes @ basis.T
        next_to.append(((beyond[1:] * beyond[:-1]).sum(), (beyond[1:] ** 2).sum()))
        variances = np.zeros(most)
        variances[: amplitudes.shape[1]] = (amplitudes**2).mean(axis=0)
        found.append(variances)
        left.append((anomalies**2).sum(axis=1).mean())
    variances, total = np.mean(found, axis=0), float(np.mean(left))
    after = total - np.cumsum(variances)  # variance beyond the first k + 1 functions
    real = int((x != 0).any(axis=0).sum())  # masked points are zero
    points = np.maximum(real - 1 - np.arange(most), 1)
    kept = variances > np.maximum(after, 0.0) / points
    count = int(np.argmin(kept)) if not kept.all() else most
    basis = leading(x - rows @ regressed(x, rows), max(count, 1))
    count = basis.shape[1]
    rest = max(total - variances[:count].sum(), 0.0) / max(real - count, 1)
    smallest = FLOOR * total / real
    falling = np.sort(np.maximum(variances[:count], smallest))[::-1]
    product, square = np.sum(next_to, axis=0)
    persistence = float(np.clip(product / max(square, 1e-30), 0.0, 0.99))
    return Functions(basis, falling, max(rest, smallest), persistence)


def leading(x: Float[np.ndarray, "states points"], most: int) -> Float[np.ndarray, "points k"]:
    """The first eigenvectors of the covariance of states around zero, at most `most`."""
    x = x[np.unique(np.linspace(0, len(x) - 1, SNAPSHOTS, dtype=int))]
    if len(x) > x.shape[1]:
        _, vectors = np.linalg.eigh(x.T @ x)
        return vectors[:, ::-1][:, :most]
    values, vectors = np.linalg.eigh(x @ x.T)
    good = np.flatnonzero(values > 1e-9 * values.max())[::-1][:most]
    return x.T @ (vectors[:, good] / np.sqrt(values[good]))


@component
class FieldLaw(GaussianLaw):
    """A Gaussian distribution of windows of fields, of mean zero. Its variances are those of the
    amplitudes over states and functions, then those of what is left at a point over states.

    Attributes:
        modes: Eigenvectors of the amplitudes' covariance in the columns.
        times: Of that of what is left.
        functions: `(*S, k)`, orthonormal.
    """

    modes: Float[Array, "m m"]
    times: Float[Array, "states states"]
    functions: Float[Array, "*state k"]

    @classmethod
    def of(
        cls,
        lags: Float[Array, "lags k k"] | None,
        left: Float[Array, " lags"] | None,
        functions: Float[Array, "*state k"] | None,
        length: int,
    ) -> FieldLaw:
        """Of windows of `length` states, at most as many as there are lags; computed on the host.

        Raises:
            ConfigError: See `decomposed`.
        """
        own, modes = decomposed(lags, length)
        rest, times = decomposed(np.asarray(left)[:, None, None], length)
        basis = np.asarray(functions, np.float64)
        channels, k = basis.shape[-2:]
        by_channel = basis.reshape(-1, channels, k)
        real = np.maximum((by_channel != 0).any(axis=-1).sum(axis=0), 1)  # points without a mask
        gram = np.einsum("pck,pcl->ckl", by_channel, by_channel) / real[:, None, None]
        each = modes.reshape(len(times), k, -1)
        carried = np.einsum("ikm,ckl,ilm->cm", each, gram, each) / len(times)
        lost = np.repeat((1 - np.einsum("ckk->c", gram))[:, None], len(times), axis=1) / len(times)
        shares = np.maximum(np.concatenate([carried, lost], axis=1), 0.0)
        measured = (np.concatenate([own, rest]), shares, modes, times, functions)
        return cls(*(jnp.asarray(a, jnp.float32) for a in measured))

    @property
    def states(self) -> int:
        """Of a window."""
        return len(self.times)

    def require_fit(self, shape: tuple[int, ...]) -> None:
        """Raises `ConfigError` unless it is the law of fields of this shape."""
        own = (self.states, *self.functions.shape[:-1])
        if shape[-len(own) :] != own:
            raise ConfigError(
                "parameterisation",
                f"a covariance of windows of shape {own}",
                f"one of windows of shape {shape[-len(own) :]}",
                "Take it for that many states (of_length), fitted to such fields.",
            )

    def _filtered(self, x: Fields, gain: Gain, ratio: Ratio) -> Fields:
        gains = gain(self.variances, jnp.asarray(ratio).reshape(-1, 1))
        own, left = jnp.split(gains, [len(self.modes)], axis=-1)
        basis = self.functions.reshape(-1, self.functions.shape[-1])
        with jax.default_matmul_precision("highest"):
            flat = x.reshape(-1, self.states, len(basis))
            amplitudes = flat @ basis
            rest = flat - amplitudes @ basis.T
            rest = jnp.einsum("ij,bjp->bip", self.times, left[..., None] * (self.times.T @ rest))
            found = own * (amplitudes.reshape(len(flat), -1) @ self.modes)
            found = (found @ self.modes.T).reshape(amplitudes.shape)
            return (found @ basis.T + rest).reshape(x.shape)
