"""The modes of an ambiguous posterior, each once: Lorenz 1963, z observed every 4th state."""

from __future__ import annotations

import argparse

import jax
import numpy as np
from common import RESULTS, record
from matplotlib.figure import Figure

import sda_jax as sda
from sda_jax import evaluation as metrics

LENGTH, STD = 49, 0.86


def figure(found: sda.Modes, ensemble: np.ndarray, truth: np.ndarray, dt: float) -> Figure:
    """x over time: members, modes and the truth."""
    time = dt * np.arange(LENGTH)
    made = Figure(figsize=(8, 4), layout="constrained")
    ax = made.subplots()
    ax.plot(time, ensemble[:, :, 0].T, color="0.85", lw=0.7)
    for k, (mode, share) in enumerate(zip(found.trajectories, found.members, strict=True)):
        label = f"mode {k + 1}: {100 * share / len(ensemble):.0f} % of the members"
        ax.plot(time, mode[:, 0], color=f"C{k}", lw=2, label=label)
    ax.plot(time, truth[:, 0], "k--", lw=1.2, label="truth")
    ax.set(xlabel="time (units of the system)", ylabel="x")
    made.legend(loc="outside upper center", ncols=3, fontsize=8)
    return made


def main() -> None:
    """Draws an ensemble, climbs to its modes and compares them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    prior = sda.load_prior("lorenz63")
    operator = sda.Every(4, sda.Channels((2,)))
    keys = jax.random.split(jax.random.key(options.seed), 3)
    truth = sda.simulate(keys[0], prior.system, LENGTH)
    observation = sda.observe(keys[1], truth, operator, std=STD)
    ensemble = sda.assimilate(keys[2], prior, observation, LENGTH, options.samples)
    found = sda.find_modes(prior, observation, ensemble)
    lines = ["| mode | members | log likelihood | log prior | mean x |", "|---" * 5 + "|"]
    priors = metrics.log_prior(prior.system, found.trajectories)
    for k, mode in enumerate(found.trajectories):
        lines.append(
            f"| {k + 1} | {found.members[k]} | {found.log_likelihood[k]:.2f} | "
            f"{float(priors[k]):.1f} | {mode[:, 0].mean():+.2f} |"
        )
    scale = np.asarray(prior.standardisation.std)
    flat = (found.trajectories / scale).reshape(len(found.trajectories), -1)
    apart = np.sqrt(((flat[:, None] - flat[None]) ** 2).mean(-1))
    apart = apart[np.triu_indices(len(flat), 1)]
    nearest = f"{apart.min():.2f}" if len(apart) else "-"
    figure(found, np.asarray(ensemble), np.asarray(truth), prior.system.dt).savefig(
        RESULTS / "modes.png", dpi=120
    )
    record(
        "modes",
        "Modes of an ambiguous posterior: Lorenz 1963, z every 4th state",
        f"{options.samples} members; the two closest modes differ by {nearest} (root mean "
        "square, standardised units). A simulation has a log prior of 61 on average.\n\n"
        + "\n".join(lines),
    )


if __name__ == "__main__":
    main()
