"""Guidance methods, one a file: (denoiser, observation) -> denoiser of the posterior."""

from typing import TYPE_CHECKING

from sda_jax.core._lazy import exports

if TYPE_CHECKING:
    from sda_jax.guidance._base import GuidanceMethod, Guided
    from sda_jax.guidance._dps import DPS
    from sda_jax.guidance._gaussian import GaussianCovariance
    from sda_jax.guidance._mmps import MMPS
    from sda_jax.guidance._pigdm import PiGDM
    from sda_jax.guidance._sda import SDA
    from sda_jax.guidance._statistical import StatisticalLinearization
    from sda_jax.guidance._tmpd import TMPD
    from sda_jax.guidance._tweedie import TweedieCovariance

__all__ = [
    "DPS",
    "MMPS",
    "SDA",
    "TMPD",
    "GaussianCovariance",
    "GuidanceMethod",
    "Guided",
    "PiGDM",
    "StatisticalLinearization",
    "TweedieCovariance",
]
COMPONENTS = [
    "DPS",
    "GaussianCovariance",
    "MMPS",
    "PiGDM",
    "SDA",
    "StatisticalLinearization",
    "TMPD",
    "TweedieCovariance",
]

__getattr__, __dir__ = exports(__name__)
