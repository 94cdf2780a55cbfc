"""The noise level as an input of networks."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float


class NoiseEmbedding(nn.Module):
    """Fourier features of the noise level, then a small perceptron.

    `features` sines and cosines with frequencies spaced geometrically from pi/2 to
    `pi/2 * max_frequency`, then Dense(hidden), SiLU, Dense(out).

    Attributes:
        out: Size of the embedding.
        features: Fourier features, even.
        hidden: Width of the hidden layer.
        max_frequency: Ratio of the highest to the lowest frequency: the finest difference in
            noise level that the network can tell is about its inverse.
    """

    out: int = 32
    features: int = 32
    hidden: int = 256
    max_frequency: float = 1e3

    @nn.compact
    def __call__(self, level: Float[Array, "*batch"]) -> Float[Array, "*batch out"]:
        half = self.features // 2
        frequencies = jnp.pi / 2 * self.max_frequency ** jnp.linspace(0.0, 1.0, half)
        phase = level[..., None] * frequencies
        h = jnp.concatenate([jnp.cos(phase), jnp.sin(phase)], axis=-1)
        h = nn.silu(nn.Dense(self.hidden)(h))
        return nn.Dense(self.out)(h)
