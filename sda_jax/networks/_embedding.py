"""The noise level as an input of networks."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from sda_jax.core._errors import (
    ConfigError,
    require_at_least,
    require_at_most,
    require_positive,
    require_whole,
)

DEEPEST = 256  # residual blocks: more are not compiled in an hour
WIDEST = 256  # points or states that a kernel sees, and those between two of them


def require_sizes(width: int, blocks: Sequence[int], embedding: int, frequency: float) -> None:
    """Raises `ConfigError` for sizes of a network that are impossible.

    Args:
        width: Its least number of channels.
        blocks: Residual blocks of each level.
        embedding: Size of the noise-level embedding.
        frequency: See `NoiseEmbedding`.
    """
    for name, value, least in (("width", width, 1), ("embedding", embedding, 1)):
        require_whole(name, value)
        require_at_least(name, value, least)
    for value in blocks:
        require_whole("blocks", value)
        require_at_least("blocks", value, 0)
    require_at_most("blocks in all", sum(blocks), DEEPEST)
    require_positive("max_frequency", frequency)


def require_kernel(kernel: int) -> None:
    """Raises `ConfigError` unless a kernel has an odd size that is not absurd."""
    require_whole("kernel", kernel)
    if not 1 <= kernel < WIDEST or kernel % 2 == 0:
        raise ConfigError("kernel", kernel, f"an odd number below {WIDEST}", "Use 3 or 5.")


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
