"""Score networks: Linen modules from (noisy segment, noise level) to an array like the segment.

Flax is imported in this folder only.
"""

from __future__ import annotations

from typing import Any, Protocol

from jaxtyping import Array, PyTree

from sda_jax.core._arrays import PRNGKey
from sda_jax.core._registry import register
from sda_jax.networks._residual_mlp import ResidualMLP
from sda_jax.networks._temporal_conv import TemporalConv
from sda_jax.networks._unet import UNet

__all__ = ["Network", "ResidualMLP", "TemporalConv", "UNet"]


class Network(Protocol):
    """What the rest of the package asks of a network; a Linen module has both.

    `x` is `(*batch, L, *S)`, `level`, the noise level, `(*batch,)`, and `context`, what is known of
    each state beside its noisy values, None or `(*batch, L, *space, C)`.
    """

    def init(
        self, rngs: PRNGKey, x: Array, level: Array, context: Array | None
    ) -> PyTree[Array]: ...

    def apply(self, variables: Any, x: Array, level: Array, context: Array | None) -> Any: ...


register(ResidualMLP, TemporalConv, UNet)
