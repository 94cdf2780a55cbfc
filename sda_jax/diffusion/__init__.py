"""Noise schedules, parameterisations, denoisers, Gaussian distributions and the composition of
windows in time and of tiles in space."""

from typing import TYPE_CHECKING

from sda_jax.core._lazy import exports

if TYPE_CHECKING:
    from sda_jax.diffusion._composition import ComposedDenoiser, LongRange
    from sda_jax.diffusion._denoisers import NetworkDenoiser
    from sda_jax.diffusion._fields import FieldPreconditioned
    from sda_jax.diffusion._gaussian import GaussianDenoiser
    from sda_jax.diffusion._grids import Concentrated, EvenTime, Karras, LogSNR, Piecewise
    from sda_jax.diffusion._loss import LogNormalRatio, UniformTime, denoising_loss
    from sda_jax.diffusion._measured_errors import with_measured_errors
    from sda_jax.diffusion._parameterisations import (
        NoisePrediction,
        Parameterisation,
        Preconditioned,
    )
    from sda_jax.diffusion._schedules import (
        Cosine,
        Exponential,
        Linear,
        RectifiedFlow,
        VarianceExploding,
    )
    from sda_jax.diffusion._series import SeriesPreconditioned
    from sda_jax.diffusion._spectral import LinearDenoiser, SpectralPreconditioned
    from sda_jax.diffusion._tiles import TiledDenoiser

__all__ = [
    "ComposedDenoiser",
    "Concentrated",
    "Cosine",
    "EvenTime",
    "Exponential",
    "FieldPreconditioned",
    "GaussianDenoiser",
    "Karras",
    "Linear",
    "LinearDenoiser",
    "LogNormalRatio",
    "LogSNR",
    "LongRange",
    "NetworkDenoiser",
    "NoisePrediction",
    "Parameterisation",
    "Piecewise",
    "Preconditioned",
    "RectifiedFlow",
    "SeriesPreconditioned",
    "SpectralPreconditioned",
    "TiledDenoiser",
    "UniformTime",
    "VarianceExploding",
    "denoising_loss",
    "with_measured_errors",
]
COMPONENTS = [
    "Concentrated",
    "Cosine",
    "EvenTime",
    "Exponential",
    "FieldPreconditioned",
    "Karras",
    "Linear",
    "LogNormalRatio",
    "LogSNR",
    "NoisePrediction",
    "Piecewise",
    "Preconditioned",
    "RectifiedFlow",
    "SeriesPreconditioned",
    "SpectralPreconditioned",
    "UniformTime",
    "VarianceExploding",
]

__getattr__, __dir__ = exports(__name__)
