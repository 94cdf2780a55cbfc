"""The shipped Kolmogorov prior's own samples next to simulations: energy spectrum, divergence,
energy, enstrophy; and how far members are from being simulated. Samples of the probability-flow ODE
and of a composition of windows alone stand beside.

Writes results/kolmogorov_prior.md and the pictures beside it.
"""

from __future__ import annotations

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from common import RESULTS, record
from kolmogorov import ROOT

import sda_jax as sda
from sda_jax import figures
from sda_jax.data._simulation import forecast
from sda_jax.diffusion._composition import ComposedDenoiser
from sda_jax.experiment._config import load_config
from sda_jax.samplers import draw
from sda_jax.systems._fields import divergence, energy_spectrum, vorticity


def per_trajectory(x: np.ndarray) -> np.ndarray:
    """Log10 of each trajectory's mean spectrum, without wavenumber 0."""
    return np.log10(np.asarray(energy_spectrum(jnp.asarray(x))).mean(axis=1)[:, 1:])


def forecast_error(system: sda.KolmogorovFlow, paths: np.ndarray) -> np.ndarray:
    """RMS difference by lead time between trajectories and simulations from their first states."""

    def one(path: jax.Array) -> jax.Array:
        return forecast(jax.random.key(0), system, path[0], paths.shape[1]) - path

    errors = np.asarray(jax.lax.map(one, jnp.asarray(paths)), np.float64)
    return np.sqrt((errors**2).mean(axis=(0, 2, 3, 4)))


def describe(label: str, x: np.ndarray) -> str:
    """Moments of a set of trajectories."""
    curl, div = np.asarray(vorticity(jnp.asarray(x))), np.asarray(divergence(jnp.asarray(x)))
    energy = (x**2).sum(-1).mean(axis=(1, 2, 3)) / 2
    enstrophy = (curl**2).mean(axis=(1, 2, 3)) / 2
    error = 1 / np.sqrt(len(x))
    return (
        f"| {label} | {energy.mean():.4f} +- {energy.std(ddof=1) * error:.4f} | "
        f"{enstrophy.mean():.4f} +- {enstrophy.std(ddof=1) * error:.4f} | "
        f"{np.sqrt((div**2).mean() / (curl**2).mean()):.4f} |"
    )


def windows_alone(
    key: jax.Array, prior: sda.Prior, length: int, n: int, sampler: sda.PredictorCorrector
) -> np.ndarray:
    """Samples of the network's windows without the linear estimate of whole trajectories."""
    denoiser, shape = ComposedDenoiser(prior.denoiser, 5), (length, *prior.state_shape)
    one = jax.jit(lambda i: draw(jax.random.fold_in(key, i), denoiser, sampler, shape))
    drawn = jax.lax.map(one, jnp.arange(n), batch_size=8)
    return np.asarray(prior.standardisation.inverse(drawn))


def main() -> None:
    """Samples, simulates and compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--length", type=int, default=8)
    options = parser.parse_args()
    config, _ = load_config(ROOT / "configs" / "kolmogorov_extrapolation.py")
    prior, system = sda.load_prior("kolmogorov"), config.system
    sampler = config.assimilation.sampler
    n, length = options.samples, options.length
    drawn = np.asarray(sda.sample(jax.random.key(0), prior, length, n, sampler, sda.Memory(8)))
    real = np.asarray(sda.simulate(jax.random.key(5), system, length, batch=n, chunk=8))
    flow = sda.PredictorCorrector(64, sda.LogSNR(), sda.DPMSolverPP2M(), sda.Langevin(0))
    smooth = np.asarray(sda.sample(jax.random.key(0), prior, length, n, flow, sda.Memory(8)))
    alone = windows_alone(jax.random.key(0), prior, length, n, flow)

    theirs = per_trajectory(real)
    levels = np.array([per_trajectory(x).mean(axis=0) for x in (drawn, smooth, alone)])
    gaps = (levels - theirs.mean(axis=0)) / theirs.std(axis=0, ddof=1)
    rows = [
        f"| {k + 1} | {10 ** theirs[:, k].mean():.2e} | {theirs[:, k].std(ddof=1):.3f} | "
        + " | ".join(
            f"{10**a:.2e} ({g:+.2f})" for a, g in zip(levels[:, k], gaps[:, k], strict=True)
        )
        + " |"
        for k in range(levels.shape[1])
    ]

    # for simulated trajectories, what lifting the first state costs
    members, reference = (forecast_error(system, x[:8]) for x in (drawn, real))
    still = np.sqrt(((real - real[:, :1]) ** 2).mean(axis=(0, 2, 3, 4)))
    table = [
        f"| {i * system.dt:.1f} | {members[i]:.3f} | {reference[i]:.3f} | {still[i]:.3f} |"
        for i in range(length)
    ]
    body = "\n".join(
        [
            f"{n} trajectories of {length} states each.\n",
            "| | energy | enstrophy (grid units) | rms divergence / rms vorticity |",
            "|---" * 4 + "|",
            describe("simulated", real),
            describe("sampled, Gibbs steps", drawn),
            describe("sampled, ODE", smooth),
            describe("sampled, ODE, windows alone", alone),
            "\nEnergy spectrum; in brackets the gap of the mean log10 in units of the simulations'",
            "own standard deviation from trajectory to trajectory:\n",
            "| wavenumber | simulated | std of log10 | Gibbs steps | ODE | ODE, windows alone |",
            "|---" * 6 + "|",
            *rows,
            "\nRMS velocity difference by lead time: sampled members against simulations from",
            "their lifted first states; the same for simulated trajectories (what lifting alone",
            "costs); and persistence, a simulation against its own first state:\n",
            "| lead time | members | simulations | persistence |",
            "|---" * 4 + "|",
            *table,
        ]
    )
    record("kolmogorov_prior", "Kolmogorov prior on 32 x 32 against simulations", body)
    both = {"simulated": real, "sampled, Gibbs steps": drawn, "sampled, ODE": smooth}
    figures.save(figures.spectra(both), RESULTS / "kolmogorov_spectra.png")
    title = "samples of the prior, unconditional, and a simulation"
    panels = figures.flow_panels(
        drawn, system.dt, real[0], members=4, truth_label="simulation", title=title
    )
    figures.save(panels, RESULTS / "kolmogorov_samples.png")
    curves = {"sampled members": members, "simulations": reference, "persistence": still}
    errors_figure = figures.forecast_errors(
        {k: list(v) for k, v in curves.items()},
        system.dt,
        "against simulations from the first state",
    )
    figures.save(errors_figure, RESULTS / "kolmogorov_forward.png")


if __name__ == "__main__":
    main()
