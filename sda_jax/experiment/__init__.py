"""What an experiment is made of, and its pipeline."""

from sda_jax.core._registry import register
from sda_jax.experiment._config import Assimilation, Case, Data, Evaluation, Experiment, load_config
from sda_jax.experiment._data import TrainingData, simulate_dataset
from sda_jax.experiment._train import train_prior

__all__ = [
    "Assimilation",
    "Case",
    "Data",
    "Evaluation",
    "Experiment",
    "TrainingData",
    "load_config",
    "simulate_dataset",
    "train_prior",
]

register(Assimilation, Case, Data, Evaluation, Experiment)
