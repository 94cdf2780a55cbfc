"""What of a posterior's error is the network's: the Lorenz prior against the exact denoiser.

    python benchmarks/lorenz_network.py

Trajectories plus noise of one level are an observation of all of them, so that the particle
smoother's mean is `E[x | x_t]`, which no denoiser can beat. The mean over draws and the particles
are finite: the first is corrected, the second grows towards low noise and is seen where the network
would beat the exact denoiser.
"""

from __future__ import annotations

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from common import record

import sda_jax as sda


def main() -> None:
    """Measures every level on the same trajectories."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trajectories", type=int, default=16)
    parser.add_argument("--length", type=int, default=65)
    parser.add_argument("--particles", type=int, default=65536)
    parser.add_argument("--draws", type=int, default=256)
    parser.add_argument("--levels", type=float, nargs="*", default=[0.2, 0.4, 0.8, 1.6, 3.2])
    parser.add_argument("--prior", default="lorenz63")
    options = parser.parse_args()
    prior = sda.load_prior(options.prior)
    n, draws, units = options.trajectories, options.draws, prior.standardisation
    x = sda.simulate(jax.random.key(99), prior.system, options.length, n)
    every_coordinate = sda.Every(1, sda.Channels((0, 1, 2)))
    rows = []
    for level in options.levels:
        t = prior.denoiser.schedule.time(jnp.float32(level))
        denoise = jax.jit(lambda x, t=t: prior.denoiser(prior.denoiser.schedule.mu(t) * x, t))
        found = []
        for i in range(n):
            clean = units.forward(x[i])
            noisy = clean + level * jax.random.normal(jax.random.key(i), clean.shape)
            std = jnp.broadcast_to(level * jnp.asarray(units.std), clean.shape)
            observation = sda.Observation(units.inverse(noisy), every_coordinate, std=std)
            drawn = sda.particle_smoother(
                jax.random.key(n + i), prior.system, observation, len(clean), options.particles,
                draws,
            )  # fmt: skip
            z = np.asarray(units.forward(drawn), np.float64)
            mean, variance = z.mean(axis=0), z.var(axis=0, ddof=1).mean()
            ours = np.asarray(denoise(noisy))
            found.append(
                [
                    ((mean - clean) ** 2).mean() - variance / draws,
                    ((ours - clean) ** 2).mean(),
                    ((ours - mean) ** 2).mean() - variance / draws,
                ]
            )
        exact, network, apart = np.transpose(found)
        excess = network - exact
        error = excess.std(ddof=1) / np.sqrt(n)
        rows.append(
            f"| {level:g} | {exact.mean():.3e} | {network.mean():.3e} | "
            f"{excess.mean() / exact.mean():+.3f} +- {error / exact.mean():.3f} | "
            f"{apart.mean() / exact.mean():.3f} |"
        )
        print(rows[-1], flush=True)
    body = "\n".join(
        [
            f"{n} trajectories of {options.length} states, standardised units squared.\n",
            "| sigma/mu | exact denoiser's squared error | network's | excess, relative | "
            "squared distance to the exact mean, relative |",
            "|---" * 5 + "|",
            *rows,
        ]
    )
    record("lorenz_network", "The Lorenz network against the exact denoiser", body)


if __name__ == "__main__":
    main()
