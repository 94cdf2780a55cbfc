"""Dynamical systems, one a file."""

from sda_jax.systems.kolmogorov import KolmogorovFlow
from sda_jax.systems.linear_gaussian import DampedSpring, LinearGaussian, VectorAutoregression
from sda_jax.systems.lorenz63 import Lorenz63
from sda_jax.systems.lorenz96 import Lorenz96
from sda_jax.systems.lotka_volterra import LotkaVolterra

__all__ = [
    "DampedSpring",
    "KolmogorovFlow",
    "LinearGaussian",
    "Lorenz63",
    "Lorenz96",
    "LotkaVolterra",
    "VectorAutoregression",
]
