"""Score networks: Linen modules from (noisy segment, noise level) to an array like the segment.

Flax is imported in this folder only.
"""

from typing import TYPE_CHECKING

from sda_jax.core._lazy import exports

if TYPE_CHECKING:
    from sda_jax.networks._network import Network
    from sda_jax.networks._residual_mlp import ResidualMLP
    from sda_jax.networks._temporal_conv import TemporalConv
    from sda_jax.networks._unet import UNet

__all__ = ["Network", "ResidualMLP", "TemporalConv", "UNet"]
COMPONENTS = [
    "ResidualMLP",
    "TemporalConv",
    "UNet",
]

__getattr__, __dir__ = exports(__name__)
