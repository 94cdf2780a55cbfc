"""Score-based data assimilation in JAX: priors, observations and posteriors of trajectories."""

from sda_jax.classical import kalman_smoother, particle_smoother
from sda_jax.core._units import Standardisation
from sda_jax.data._conventions import Files
from sda_jax.data._simulation import simulate
from sda_jax.diffusion._schedules import Concentrated, Cosine, EvenTime, Karras, LogSNR
from sda_jax.experiment import (
    Assimilation,
    Case,
    Data,
    Evaluation,
    Experiment,
    load_config,
    train_prior,
)
from sda_jax.guidance import DPS, MMPS, SDA, TMPD, GaussianCovariance, PiGDM, TweedieCovariance
from sda_jax.observations._noise_models import Poisson, StudentT
from sda_jax.observations._observation import Observation, combine, observe
from sda_jax.observations._operators import (
    At,
    Chain,
    Channels,
    Coarsen,
    Crop,
    Every,
    FirstMinusLast,
    Mask,
    Ring,
    Saturate,
    Subsample,
    Vorticity,
)
from sda_jax.posterior._assimilate import assimilate, sample
from sda_jax.posterior._modes import Modes, find_modes
from sda_jax.posterior._presets import presets
from sda_jax.posterior._smc import twisted_smc
from sda_jax.posterior._to_file import assimilate_to_file
from sda_jax.prior._log_density import log_prob
from sda_jax.prior._prior import Prior, load_prior, save_prior
from sda_jax.prior._training import Training
from sda_jax.runtime._devices import use_mesh
from sda_jax.samplers import (
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
from sda_jax.systems import (
    DampedSpring,
    KolmogorovFlow,
    Lorenz63,
    Lorenz96,
    LotkaVolterra,
    VectorAutoregression,
)

__all__ = [
    "DPS",
    "MMPS",
    "SDA",
    "TMPD",
    "Ancestral",
    "Assimilation",
    "At",
    "Candidates",
    "Case",
    "Chain",
    "Channels",
    "Coarsen",
    "Concentrated",
    "Correctors",
    "Cosine",
    "Crop",
    "DPMSolverPP2M",
    "DampedSpring",
    "Data",
    "Evaluation",
    "EvenTime",
    "Every",
    "Experiment",
    "ExponentialIntegrator",
    "Files",
    "FirstMinusLast",
    "GaussianCovariance",
    "Gibbs",
    "Heun",
    "Karras",
    "KolmogorovFlow",
    "Langevin",
    "LeimkuhlerMatthews",
    "LogSNR",
    "Lorenz63",
    "Lorenz96",
    "LotkaVolterra",
    "Mask",
    "Modes",
    "Observation",
    "PiGDM",
    "Poisson",
    "PredictorCorrector",
    "Prior",
    "Ring",
    "Saturate",
    "Standardisation",
    "StudentT",
    "Subsample",
    "Training",
    "TweedieCovariance",
    "VectorAutoregression",
    "Vorticity",
    "assimilate",
    "assimilate_to_file",
    "combine",
    "find_modes",
    "kalman_smoother",
    "load_config",
    "load_prior",
    "log_prob",
    "observe",
    "particle_smoother",
    "presets",
    "sample",
    "save_prior",
    "simulate",
    "train_prior",
    "twisted_smc",
    "use_mesh",
]
