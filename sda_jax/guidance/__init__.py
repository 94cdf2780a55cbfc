"""Guidance methods, one a file: (denoiser, observation) -> denoiser of the posterior."""

from sda_jax.guidance.base import Guided
from sda_jax.guidance.dps import DPS
from sda_jax.guidance.gaussian import GaussianCovariance
from sda_jax.guidance.mmps import MMPS
from sda_jax.guidance.pigdm import PiGDM
from sda_jax.guidance.sda import SDA
from sda_jax.guidance.tmpd import TMPD
from sda_jax.guidance.tweedie import TweedieCovariance

__all__ = [
    "DPS",
    "MMPS",
    "SDA",
    "TMPD",
    "GaussianCovariance",
    "Guided",
    "PiGDM",
    "TweedieCovariance",
]
