"""What rounding a flow prior's weights to float16 costs: denoising errors before and after.

    python benchmarks/half_precision.py --full FOLDER

FOLDER holds the prior in float32. Windows of fresh simulations are noised to a few levels and
denoised by both; the difference of the estimates stands beside their error.
"""

from __future__ import annotations

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import record
from jaxtyping import Array

import sda_jax as sda

WINDOW = 5  # states, as the flow priors take
LEVELS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


def denoised(denoiser: Any, noisy: Array, t: Array) -> Array:
    """One window after the other."""
    return jax.lax.map(lambda x: denoiser(x, t), noisy)


def main() -> None:
    """Simulates, denoises and compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", required=True)
    parser.add_argument("--prior", default="kolmogorov64")
    parser.add_argument("--trajectories", type=int, default=4)
    options = parser.parse_args()
    half, full = sda.load_prior(options.prior), sda.load_prior(options.full)
    windows = sda.simulate(
        jax.random.key(5), half.system, WINDOW, batch=options.trajectories, chunk=2
    )
    x = half.standardisation.forward(windows)
    noise = jax.random.normal(jax.random.key(6), x.shape)
    schedule, rows = half.denoiser.schedule, []
    for ratio in LEVELS:
        t = schedule.time(jnp.asarray(ratio))
        noisy = schedule.mu(t) * x + schedule.sigma(t) * noise
        first, second = (np.asarray(denoised(p.denoiser, noisy, t)) for p in (full, half))
        errors = [np.sqrt(np.mean((found - x) ** 2)) for found in (first, second)]
        apart = np.sqrt(np.mean((first - second) ** 2))
        rows.append(
            f"| {ratio:g} | {errors[0]:.5f} | {errors[1]:.5f} | {errors[1] / errors[0] - 1:+.1e} | "
            f"{apart / errors[0]:.1e} |"
        )
    body = "\n".join(
        [
            f"{options.trajectories} windows of {WINDOW} states; RMS over all values, in",
            "units of the data's.\n",
            "| sigma/mu | error, float32 | error, float16 | change | difference / error |",
            "|---" * 5 + "|",
            *rows,
        ]
    )
    record("half_precision", f"Weights of {options.prior} in half precision", body)


if __name__ == "__main__":
    main()
