"""Bias of each guidance where the exact answer is known: the damped spring, exact denoiser."""

from __future__ import annotations

import jax
import numpy as np
from common import record

import sda_jax as sda
from sda_jax.classical import exact_prior, kalman_smoother
from sda_jax.core._errors import DivergenceError

LENGTH, SAMPLES = 16, 16384
OPERATORS = {
    "x_1, every 2nd": sda.Every(2, sda.Channels((0,))),
    "x_1 and x_4, every 5th": sda.Every(5, sda.Channels((0, 3))),
}
ODE = sda.PredictorCorrector(256, sda.LogSNR(), sda.DPMSolverPP2M(), sda.Langevin(0))
LANGEVIN = sda.PredictorCorrector(
    256, sda.LogSNR(), sda.ExponentialIntegrator(), sda.Langevin(4, 0.1)
)
METHODS = {
    "exact covariance": (sda.TweedieCovariance(), ODE),
    "gamma 1e-2": (sda.SDA(1e-2), ODE),
    "gamma 1e-2, C = 4": (sda.SDA(1e-2), LANGEVIN),
    "gamma 1e-1": (sda.SDA(1e-1), ODE),
    "gamma 1e-1, C = 4": (sda.SDA(1e-1), LANGEVIN),
    "gamma 1": (sda.SDA(1.0), ODE),
    "DPS": (sda.DPS(), ODE),
}


def main() -> None:
    """Largest mean error in standard errors and in posterior standard deviations, and the extreme
    eigenvalues of the sample covariance whitened by the exact one."""
    chain = sda.DampedSpring()
    prior = exact_prior(chain, LENGTH)
    rows = [
        "| operator | guidance | worst mean error (standard errors) | (posterior std) | "
        "smallest eigenvalue | largest |",
        "|---" * 6 + "|",
    ]
    for label, operator in OPERATORS.items():
        truth = sda.simulate(jax.random.key(1), chain, LENGTH)
        observation = sda.observe(jax.random.key(2), truth, operator, std=0.2)
        exact = kalman_smoother(chain, observation, LENGTH)
        mean, factor = exact.mean.reshape(-1), np.linalg.cholesky(exact.covariance)
        for name, (guidance, sampler) in METHODS.items():
            try:
                x = sda.assimilate(
                    jax.random.key(3),
                    prior,
                    observation,
                    LENGTH,
                    SAMPLES,
                    guidance,
                    sampler,
                    sda.Memory(1024),
                )
            except DivergenceError as error:
                rows.append(f"| {label} | {name} | {error.value} | | | |")
                continue
            flat = np.asarray(x, np.float64).reshape(SAMPLES, -1)
            error = np.abs(flat.mean(0) - mean) / np.sqrt(np.diag(exact.covariance))
            white = np.linalg.solve(factor, (flat - mean).T)
            values = np.linalg.eigvalsh(np.cov(white))
            rows.append(
                f"| {label} | {name} | {error.max() * np.sqrt(SAMPLES):.1f} | {error.max():.3f} | "
                f"{values[0]:.3f} | {values[-1]:.3f} |"
            )
    low, high = (1 + np.array([-1, 1]) * np.sqrt(4 * LENGTH / SAMPLES)) ** 2
    record(
        "guidance_bias",
        f"Guidance on the damped spring, exact denoiser, {LENGTH} states, {SAMPLES} samples",
        f"Sampling alone spreads the eigenvalues over {low:.3f} to {high:.3f} "
        "(Marchenko-Pastur).\n\n" + "\n".join(rows),
    )


if __name__ == "__main__":
    main()
