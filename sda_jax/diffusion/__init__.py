"""Noise schedules, parameterisations, denoisers, Gaussian laws and the composition of windows."""

from sda_jax.diffusion._composition import Blanket, LongRange
from sda_jax.diffusion._denoisers import (
    LogNormalRatio,
    NetworkDenoiser,
    NoisePrediction,
    Parameterisation,
    Preconditioned,
    UniformTime,
    denoising_loss,
    with_measured_errors,
)
from sda_jax.diffusion._gaussian import GaussianDenoiser
from sda_jax.diffusion._schedules import (
    Concentrated,
    Cosine,
    EvenLogRatio,
    EvenTime,
    Exponential,
    Karras,
    Linear,
    RectifiedFlow,
    VarianceExploding,
)
from sda_jax.diffusion._spectral import LinearDenoiser, SpectralPreconditioned

__all__ = [
    "Blanket",
    "Concentrated",
    "Cosine",
    "EvenLogRatio",
    "EvenTime",
    "Exponential",
    "GaussianDenoiser",
    "Karras",
    "Linear",
    "LinearDenoiser",
    "LogNormalRatio",
    "LongRange",
    "NetworkDenoiser",
    "NoisePrediction",
    "Parameterisation",
    "Preconditioned",
    "RectifiedFlow",
    "SpectralPreconditioned",
    "UniformTime",
    "VarianceExploding",
    "denoising_loss",
    "with_measured_errors",
]
