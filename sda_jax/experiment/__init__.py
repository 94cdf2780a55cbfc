"""What an experiment is made of, and its pipeline."""

from sda_jax.core._registry import register
from sda_jax.experiment._config import Assimilation, Case, Data, Evaluation, Experiment, load_config

__all__ = [
    "Assimilation",
    "Case",
    "Data",
    "Evaluation",
    "Experiment",
    "load_config",
]

register(Assimilation, Case, Data, Evaluation, Experiment)
