"""What a training on crops of a grid asks of its experiment."""

from __future__ import annotations

from collections.abc import Sequence

from sda_jax.core._errors import ConfigError
from sda_jax.core._units import Standardisation
from sda_jax.data._tiling import Tiling, written
from sda_jax.diffusion._linear_base import LinearPreconditioned
from sda_jax.diffusion._spectral import SpectralPreconditioned
from sda_jax.experiment._config import Experiment
from sda_jax.networks import UNet
from sda_jax.prior._prior import require_everywhere

Grid = Sequence[tuple[int, bool]]  # of each axis of space: its points, and whether it is periodic


def tiling_of(experiment: Experiment, grid: Grid) -> Tiling | None:
    """The crops that an experiment trains on, of states on this grid; None for whole states. An
    axis that is as long as a crop is not cut.

    Raises:
        ConfigError: The grid has other axes or fewer points; a parameterisation or a network of
            whole fields.
    """
    crop = experiment.training.crop
    if crop is None:
        return None
    if len(crop) != len(grid):
        raise ConfigError(
            "training.crop",
            crop,
            f"points along each of the {len(grid)} axes of space that states have",
            "Leave it out for states without space; None is an axis that is not cut.",
        )
    points = [n for n, _ in grid]
    sizes = [None if n == m else n for n, m in zip(crop, points, strict=True)]
    if not any(n is not None for n in sizes):
        return None
    tiling = Tiling.of(sizes, [wraps for _, wraps in grid])
    tiling.shape(points)
    law = experiment.parameterisation
    if isinstance(law, SpectralPreconditioned | LinearPreconditioned):
        raise ConfigError(
            "parameterisation",
            type(law).__name__,
            f"Preconditioned or NoisePrediction: it is of whole fields, not of crops of "
            f"{written(sizes)} in any place",
            "Choose one of these, or leave training.crop out.",
        )
    _require_ends(experiment, tiling)
    return tiling


def require_statistics(tiling: Tiling | None, statistics: Standardisation) -> None:
    """Raises `ConfigError` if crops are to be standardised by numbers that differ from point to
    point."""
    if tiling is not None:
        require_everywhere("training.crop", written(tiling.crop), statistics)


def _require_ends(experiment: Experiment, tiling: Tiling) -> None:
    """Raises `ConfigError` if a U-Net takes crops for periodic, or takes their points for places of
    the whole grid."""
    network = experiment.network
    if not isinstance(network, UNet):
        return
    wraps = (True,) * len(tiling.crop) if network.periodic is None else network.periodic
    ends = tuple(n is None and w for n, w in zip(tiling.crop, wraps, strict=False))
    if ends != tuple(wraps):
        raise ConfigError(
            "network.periodic",
            network.periodic,
            f"{ends}: crops have ends along the axes that are cut",
            "Set it.",
        )
    if network.forcing is not None and tiling.crop[-1] is not None:
        raise ConfigError(
            "network.forcing",
            network.forcing,
            "None: a crop does not know where in the grid it is",
            "Where the place matters, give it as context, the last channels of the data.",
        )
