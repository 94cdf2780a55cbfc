"""Normal distributions that are stationary in time: their covariance's products and draws by
FFT."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from sda_jax.core._arrays import PRNGKey

Lags = Float[Array, "lags channel channel"]


def autocovariance(e: Float[Array, "batch length channel"]) -> Lags:
    """`K_l = mean_i e_i e_{i+l}^T` over all i of a series, pairs beyond its end counting as zero,
    averaged over the batch. Dividing by the whole length keeps the distribution's spectrum
    positive."""
    length = e.shape[1]
    waves = jnp.fft.rfft(e, 2 * length, axis=1)
    power = jnp.mean(jnp.conj(waves)[..., :, None] * waves[..., None, :], axis=0)
    return jnp.fft.irfft(power, 2 * length, axis=0)[:length] / length


def _spectrum(lags: Lags, n: int) -> Complex[Array, "f channel channel"]:
    """Covariance of the Fourier coefficients of a series of period n, which must exceed the length
    by the number of lags."""
    ahead = jnp.zeros((n, *lags.shape[1:])).at[: len(lags)].set(lags)
    behind = jnp.roll(ahead[::-1], 1, axis=0).at[0].set(0.0)
    both = ahead + jnp.swapaxes(behind, 1, 2)
    return jnp.conj(jnp.fft.rfft(both, n, axis=0))


def times_covariance(
    lags: Lags, w: Float[Array, "length channel"]
) -> Float[Array, "length channel"]:
    """The covariance of a series, `E e_i e_j^T = K_{j-i}`, times `w`.

    Long series are cut into blocks of as many states as there are lags, each with its two
    neighbours, so that no state needs to know of others than those in reach.
    """
    m, length = len(lags), len(w)
    if length > 3 * m:
        blocks = jnp.pad(w, ((0, -length % m), (0, 0))).reshape(-1, m, w.shape[1])
        around = jnp.pad(blocks, ((1, 1), (0, 0), (0, 0)))
        around = jnp.concatenate([around[:-2], blocks, around[2:]], axis=1)
        return jnp.einsum("ijab,njb->nia", _band(lags), around).reshape(-1, w.shape[1])[:length]
    n = length + m
    waves = jnp.fft.rfft(w, n, axis=0)
    return jnp.fft.irfft(jnp.einsum("fij,fj->fi", _spectrum(lags, n), waves), n, axis=0)[: len(w)]


def _band(lags: Lags) -> Float[Array, "lags around channel channel"]:
    """Covariances of a block's states with those of the block before, itself and the one after."""
    m = len(lags)
    ahead = np.arange(-m, 2 * m) - np.arange(m)[:, None]
    apart = np.abs(ahead)
    near = jnp.where((apart < m)[..., None, None], lags[np.minimum(apart, m - 1)], 0.0)
    return jnp.where((ahead < 0)[..., None, None], jnp.swapaxes(near, -1, -2), near)


def draw_series(key: PRNGKey, lags: Lags, length: int) -> Float[Array, "length channel"]:
    """A draw of the series of mean zero with that covariance (circulant embedding)."""
    n = length + len(lags)
    values, vectors = jnp.linalg.eigh(_spectrum(lags, n))
    white = jnp.fft.rfft(jax.random.normal(key, (n, lags.shape[1])), axis=0)
    scaled = jnp.sqrt(jnp.maximum(values, 0.0)) * jnp.einsum("fji,fj->fi", jnp.conj(vectors), white)
    return jnp.fft.irfft(jnp.einsum("fij,fj->fi", vectors, scaled), n, axis=0)[:length]
