"""Samplers: predictors and correctors, one a file."""

from typing import TYPE_CHECKING

from sda_jax.core._lazy import exports

if TYPE_CHECKING:
    from sda_jax.samplers._candidates import Candidates
    from sda_jax.samplers._corrector import Correctors, RepeatedMoves
    from sda_jax.samplers._counting import Evaluations
    from sda_jax.samplers._dpm import DPMSolverPP2M
    from sda_jax.samplers._driver import draw
    from sda_jax.samplers._evaluated import EvaluatesOnce
    from sda_jax.samplers._exponential import Ancestral, ExponentialIntegrator, Memoryless
    from sda_jax.samplers._gibbs import Gibbs
    from sda_jax.samplers._heun import Heun
    from sda_jax.samplers._langevin import Langevin
    from sda_jax.samplers._leimkuhler import LeimkuhlerMatthews
    from sda_jax.samplers._population import Population
    from sda_jax.samplers._predictor_corrector import PredictorCorrector

__all__ = [
    "Ancestral",
    "Candidates",
    "Correctors",
    "DPMSolverPP2M",
    "EvaluatesOnce",
    "Evaluations",
    "ExponentialIntegrator",
    "Gibbs",
    "Heun",
    "Langevin",
    "LeimkuhlerMatthews",
    "Memoryless",
    "Population",
    "PredictorCorrector",
    "RepeatedMoves",
    "draw",
]
COMPONENTS = [
    "Ancestral",
    "Candidates",
    "Correctors",
    "DPMSolverPP2M",
    "ExponentialIntegrator",
    "Gibbs",
    "Heun",
    "Langevin",
    "LeimkuhlerMatthews",
    "Population",
    "PredictorCorrector",
]

__getattr__, __dir__ = exports(__name__)
