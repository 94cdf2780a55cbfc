"""Normal laws that are stationary in time: their covariance's products and draws by FFT."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from sda_jax.types import PRNGKey

Lags = Float[Array, "lags channel channel"]


def autocovariance(e: Float[Array, "batch length channel"]) -> Lags:
    """`K_l = mean_i e_i e_{i+l}^T` over all i of a series, pairs beyond its end counting as zero,
    averaged over the batch. Dividing by the whole length keeps the law's spectrum positive."""
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
    """The covariance of a series, `E e_i e_j^T = K_{j-i}`, times `w`."""
    n = len(w) + len(lags)
    waves = jnp.fft.rfft(w, n, axis=0)
    return jnp.fft.irfft(jnp.einsum("fij,fj->fi", _spectrum(lags, n), waves), n, axis=0)[: len(w)]


def draw_series(key: PRNGKey, lags: Lags, length: int) -> Float[Array, "length channel"]:
    """A draw of the series of mean zero with that covariance (circulant embedding)."""
    n = length + len(lags)
    values, vectors = jnp.linalg.eigh(_spectrum(lags, n))
    white = jnp.fft.rfft(jax.random.normal(key, (n, lags.shape[1])), axis=0)
    scaled = jnp.sqrt(jnp.maximum(values, 0.0)) * jnp.einsum("fji,fj->fi", jnp.conj(vectors), white)
    return jnp.fft.irfft(jnp.einsum("fij,fj->fi", vectors, scaled), n, axis=0)[:length]
