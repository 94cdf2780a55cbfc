"""Samplers: predictors and correctors, one a file."""

from sda_jax.samplers.candidates import Candidates
from sda_jax.samplers.corrector import Correctors
from sda_jax.samplers.dpm import DPMSolverPP2M
from sda_jax.samplers.exponential import Ancestral, ExponentialIntegrator
from sda_jax.samplers.gibbs import Gibbs
from sda_jax.samplers.heun import Heun
from sda_jax.samplers.langevin import Langevin
from sda_jax.samplers.leimkuhler import LeimkuhlerMatthews
from sda_jax.samplers.predictor_corrector import PredictorCorrector

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
