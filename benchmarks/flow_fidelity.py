"""Where a prior of fields loses energy, and whether its denoiser is calibrated, scale by scale.

    python benchmarks/flow_fidelity.py --prior kolmogorov --windows 96
    python benchmarks/flow_fidelity.py --prior kolmogorov64 --fit runs/kolmogorov64

Held-out simulations are noised to a level and taken down by the probability-flow ODE: the ratio of
their spectrum to their own is 1 where draws from that level on lose nothing. The denoiser is
compared with the data by noise level and wavenumber: slope of x on D(x_t), correlation of x - D
with x_t, error over the linear estimate's. A prior whose network's part was multiplied after
training is measured without that too.

Writes results/flow_fidelity.md, or flow_fidelity_PRIOR.md for other priors.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
from common import record

import sda_jax as sda
from sda_jax.evaluation import describe_fidelity, fidelity
from sda_jax.experiment import sharpened

WAVENUMBERS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15)


def main() -> None:
    """Simulates what no prior has seen, and compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prior", default="kolmogorov", help="shipped name or folder")
    parser.add_argument("--windows", type=int, default=96)
    parser.add_argument("--seed", type=int, default=29)
    parser.add_argument("--fit", help="fits the gains anew, saves the prior in this folder")
    options = parser.parse_args()
    prior = sda.load_prior(options.prior)
    window, system = prior.window or 5, prior.system

    def simulated(seed: int) -> jax.Array:
        x = sda.simulate(jax.random.key(seed), system, window, batch=options.windows, chunk=16)
        return prior.standardisation.forward(jnp.asarray(x))

    x = simulated(options.seed)
    if options.fit:
        # chosen on others than those reported on
        found = sharpened(jax.random.key(1), prior.denoiser, simulated(options.seed + 1))
        prior = dataclasses.replace(prior, denoiser=found)
        notes = {"gains": f"of {options.windows} windows for the network of {options.prior}"}
        sda.save_prior(options.fit, prior, notes)
    last = min(x.shape[2:4]) // 2
    shown = [*(k for k in WAVENUMBERS if k <= last), *range(20, last + 1, 5)]
    body = [f"{options.windows} simulated windows of {window} states."]
    denoisers = {"The prior": prior.denoiser}
    law = prior.denoiser.parameterisation
    if isinstance(law, sda.SpectralPreconditioned) and law.gains is not None:
        plain = dataclasses.replace(law, gains=None, errors=None)
        without = dataclasses.replace(prior.denoiser, parameterisation=plain)
        denoisers["Its network alone, without the gains found after training"] = without
    for title, denoiser in denoisers.items():
        found = fidelity(jax.random.key(0), denoiser, x)
        body.append(f"## {title}\n\n{describe_fidelity(found, shown)}")
    name = Path(options.prior).name
    record(
        "flow_fidelity" if name == "kolmogorov" else f"flow_fidelity_{name}",
        f"Fidelity of the prior {name}, by noise level and wavenumber",
        "\n\n".join(body),
        script="flow_fidelity",
    )


if __name__ == "__main__":
    main()
