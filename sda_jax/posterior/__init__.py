"""Posteriors: ensembles that explain observations, in memory or in files."""

from typing import TYPE_CHECKING

from sda_jax.core._lazy import exports

if TYPE_CHECKING:
    from sda_jax.posterior._assimilate import assimilate, draw_posterior, posterior_denoiser, sample
    from sda_jax.posterior._cf import to_xarray
    from sda_jax.posterior._cost import count_evaluations
    from sda_jax.posterior._diagnosis import Diagnosis, Posterior, diagnose
    from sda_jax.posterior._export import write_posterior
    from sda_jax.posterior._files import load_diagnosis, load_posterior, save_posterior
    from sda_jax.posterior._modes import Modes, find_modes
    from sda_jax.posterior._presets import presets
    from sda_jax.posterior._refinement import Refined, refine
    from sda_jax.posterior._smc import Particles, twisted_smc
    from sda_jax.posterior._summary import summarise
    from sda_jax.posterior._to_file import assimilate_to_file

__all__ = [
    "Diagnosis",
    "Modes",
    "Particles",
    "Posterior",
    "Refined",
    "assimilate",
    "assimilate_to_file",
    "count_evaluations",
    "diagnose",
    "draw_posterior",
    "find_modes",
    "load_diagnosis",
    "load_posterior",
    "posterior_denoiser",
    "presets",
    "refine",
    "sample",
    "save_posterior",
    "summarise",
    "to_xarray",
    "twisted_smc",
    "write_posterior",
]

__getattr__, __dir__ = exports(__name__)
