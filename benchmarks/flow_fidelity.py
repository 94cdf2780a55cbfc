"""Where a prior of fields loses energy, and whether its denoiser is calibrated, scale by scale.

    python benchmarks/flow_fidelity.py --prior kolmogorov --windows 96

Held-out simulations are noised to a level and taken down by the probability-flow ODE: the ratio of
their spectrum to their own is 1 where draws from that level on lose nothing. The denoiser is
compared with the data by noise level and wavenumber: slope of x on D(x_t), correlation of x - D
with x_t, error over the linear estimate's.

Writes results/flow_fidelity.md, or flow_fidelity_PRIOR.md for other priors.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from common import record

import sda_jax as sda
from sda_jax.evaluation import describe_fidelity, fidelity

WAVENUMBERS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15)


def main() -> None:
    """Simulates what no prior has seen, and compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prior", default="kolmogorov", help="shipped name or folder")
    parser.add_argument("--windows", type=int, default=96)
    parser.add_argument("--seed", type=int, default=29)
    options = parser.parse_args()
    prior = sda.load_prior(options.prior)
    window, system = prior.window or 5, prior.system
    x = sda.simulate(jax.random.key(options.seed), system, window, batch=options.windows, chunk=16)
    x = prior.standardisation.forward(jnp.asarray(x))
    found = fidelity(jax.random.key(0), prior.denoiser, x)
    shown = [k for k in WAVENUMBERS if k < found.kept.shape[1]]
    shown += [k for k in np.arange(20, found.kept.shape[1], 5)]
    name = Path(options.prior).name
    record(
        "flow_fidelity" if name == "kolmogorov" else f"flow_fidelity_{name}",
        f"Fidelity of the prior {name}, by noise level and wavenumber",
        f"{options.windows} simulated windows of {window} states.\n\n"
        + describe_fidelity(found, shown),
        script="flow_fidelity",
    )


if __name__ == "__main__":
    main()
