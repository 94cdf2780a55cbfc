"""Metrics, and diagnostics that need no truth."""

from sda_jax.evaluation._channels import channel_scores, held_out_scores
from sda_jax.evaluation._diagnostics import (
    ChiSquare,
    held_out_ranks,
    innovation_chi_square,
    simulation_based_calibration,
)
from sda_jax.evaluation._distances import (
    energy_distance,
    energy_test,
    mmd,
    spectrum_distance,
    wasserstein1,
)
from sda_jax.evaluation._fidelity import (
    Calibration,
    Fidelity,
    calibration,
    describe_fidelity,
    fidelity,
    kept_spectrum,
)
from sda_jax.evaluation._metrics import (
    Comparison,
    compare,
    coverage,
    crps,
    log_prior,
    rank_flatness,
    ranks,
    residual_std,
    rmse,
    spread,
    spread_skill,
)
from sda_jax.observations._observation import log_likelihood

__all__ = [
    "Calibration",
    "ChiSquare",
    "Comparison",
    "Fidelity",
    "calibration",
    "channel_scores",
    "compare",
    "coverage",
    "crps",
    "describe_fidelity",
    "energy_distance",
    "energy_test",
    "fidelity",
    "held_out_ranks",
    "held_out_scores",
    "innovation_chi_square",
    "kept_spectrum",
    "log_likelihood",
    "log_prior",
    "mmd",
    "rank_flatness",
    "ranks",
    "residual_std",
    "rmse",
    "simulation_based_calibration",
    "spectrum_distance",
    "spread",
    "spread_skill",
    "wasserstein1",
]
