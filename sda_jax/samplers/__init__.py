"""Samplers: predictors and correctors, one a file."""

from sda_jax.core._registry import register
from sda_jax.samplers._candidates import Candidates
from sda_jax.samplers._corrector import Correctors
from sda_jax.samplers._dpm import DPMSolverPP2M
from sda_jax.samplers._exponential import Ancestral, ExponentialIntegrator
from sda_jax.samplers._gibbs import Gibbs
from sda_jax.samplers._heun import Heun
from sda_jax.samplers._langevin import Langevin
from sda_jax.samplers._leimkuhler import LeimkuhlerMatthews
from sda_jax.samplers._predictor_corrector import PredictorCorrector

__all__ = [
    "Ancestral",
    "Candidates",
    "Correctors",
    "DPMSolverPP2M",
    "ExponentialIntegrator",
    "Gibbs",
    "Heun",
    "Langevin",
    "LeimkuhlerMatthews",
    "PredictorCorrector",
]

register(
    Ancestral,
    Candidates,
    Correctors,
    DPMSolverPP2M,
    ExponentialIntegrator,
    Gibbs,
    Heun,
    Langevin,
    LeimkuhlerMatthews,
    PredictorCorrector,
)
