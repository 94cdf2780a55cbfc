"""Residual perceptron on a window of states: the paper's local score network."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from sda_jax.networks._embedding import NoiseEmbedding, require_sizes


class ResidualMLP(nn.Module):
    """Dense residual network on a flattened window, the noise level concatenated to it.

    Rozet & Louppe (2023), appendix D: blocks `h + Dense(SiLU(Dense(LayerNorm(h))))`, LayerNorm
    without affine.

    Attributes:
        width: Channels of the hidden layers.
        blocks: Residual blocks.
        embedding: Size of the noise-level embedding.
        max_frequency: See `NoiseEmbedding`.
    """

    width: int = 256
    blocks: int = 5
    embedding: int = 32
    max_frequency: float = 1e3

    def __post_init__(self) -> None:
        super().__post_init__()
        require_sizes(self.width, (self.blocks,), self.embedding, self.max_frequency)

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "*batch window *state"],
        level: Float[Array, "*batch"],
        context: Float[Array, "*batch window *context"] | None = None,
    ) -> Float[Array, "*batch window *state"]:
        e = NoiseEmbedding(self.embedding, max_frequency=self.max_frequency)(level)
        flat = x.reshape(*level.shape, -1)
        known = [] if context is None else [context.reshape(*level.shape, -1)]
        h = nn.Dense(self.width)(jnp.concatenate([flat, *known, e], axis=-1))
        for _ in range(self.blocks):
            r = nn.LayerNorm(use_bias=False, use_scale=False)(h)
            r = nn.silu(nn.Dense(self.width)(r))
            h = h + nn.Dense(self.width)(r)
        return nn.Dense(flat.shape[-1])(h).reshape(x.shape)
