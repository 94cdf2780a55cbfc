"""Dynamical systems, one a file."""

from typing import TYPE_CHECKING

from sda_jax.core._lazy import exports

if TYPE_CHECKING:
    from sda_jax.systems._base import GaussianTransition
    from sda_jax.systems._kolmogorov import KolmogorovFlow
    from sda_jax.systems._linear_gaussian import DampedSpring, LinearGaussian, VectorAutoregression
    from sda_jax.systems._lorenz63 import Lorenz63
    from sda_jax.systems._lorenz96 import Lorenz96
    from sda_jax.systems._lotka_volterra import LotkaVolterra

__all__ = [
    "DampedSpring",
    "GaussianTransition",
    "KolmogorovFlow",
    "LinearGaussian",
    "Lorenz63",
    "Lorenz96",
    "LotkaVolterra",
    "VectorAutoregression",
]
COMPONENTS = [
    "DampedSpring",
    "KolmogorovFlow",
    "Lorenz63",
    "Lorenz96",
    "LotkaVolterra",
    "VectorAutoregression",
]

__getattr__, __dir__ = exports(__name__)
