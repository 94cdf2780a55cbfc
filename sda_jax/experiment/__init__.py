"""What an experiment is made of, and its pipeline."""

from sda_jax.core._registry import register
from sda_jax.experiment._cases import (
    TestCase,
    case_of_file,
    configured_prior,
    cost_of,
    draw_case,
    sample_posterior,
)
from sda_jax.experiment._comparison import (
    compare_cases,
    reference_ensembles,
    score_case,
    summary,
    summary_rows,
)
from sda_jax.experiment._config import Assimilation, Case, Data, Evaluation, Experiment, load_config
from sda_jax.experiment._data import TrainingData, simulate_dataset
from sda_jax.experiment._demo import demo_experiment
from sda_jax.experiment._describe import describe
from sda_jax.experiment._files import ObservationFiles, assimilate_files
from sda_jax.experiment._flow import check_forward, flow_scores
from sda_jax.experiment._report import comparison_page, posterior_page
from sda_jax.experiment._scores import PosteriorScores, score_case_posterior, score_posterior
from sda_jax.experiment._sharpening import sharpened
from sda_jax.experiment._train import train_prior

__all__ = [
    "Assimilation",
    "Case",
    "Data",
    "Evaluation",
    "Experiment",
    "ObservationFiles",
    "PosteriorScores",
    "TestCase",
    "TrainingData",
    "assimilate_files",
    "case_of_file",
    "check_forward",
    "compare_cases",
    "comparison_page",
    "configured_prior",
    "cost_of",
    "demo_experiment",
    "describe",
    "draw_case",
    "flow_scores",
    "load_config",
    "posterior_page",
    "reference_ensembles",
    "sample_posterior",
    "score_case",
    "score_case_posterior",
    "score_posterior",
    "sharpened",
    "simulate_dataset",
    "summary",
    "summary_rows",
    "train_prior",
]

register(Assimilation, Case, Data, Evaluation, Experiment)
