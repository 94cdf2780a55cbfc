"""Where a posterior's error comes from: network, guidance, or discretisation.

    python benchmarks/attribution.py

Exact draws are given the noise of one level, from which the sampler goes on. Without an observation
(simulated trajectories, the prior's score) what goes wrong below that level is the network's and
the sampler's. With one (the particle smoother's draws), one ingredient at a time is changed. On the
damped spring score and guidance are exact: what is left is discretisation.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import record
from posterior_methods import FIRST, even
from posterior_scores import COLUMNS, Case, cases, draw, exact, references, scores

import sda_jax as sda
from sda_jax import evaluation as metrics
from sda_jax.core._protocols import SamplerState
from sda_jax.diffusion._denoisers import predicted_noise
from sda_jax.diffusion._schedules import noise_ratio
from sda_jax.posterior._assimilate import posterior_denoiser
from sda_jax.posterior._presets import INDEPENDENT_GUIDANCE, INDEPENDENT_SAMPLER, PRIOR_SAMPLER
from sda_jax.prior._trajectory_denoiser import trajectory_denoiser
from sda_jax.samplers._driver import Progress, advance

LEVELS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 1000.0)
FROM = 1.0
GAIN_LEVELS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.2, 1.0)

EVERYWHERE = dataclasses.replace(PRIOR_SAMPLER.corrector, above=0.0)
SAMPLERS = {
    "exponential integrator": even(64, FIRST, sda.Langevin(0)),
    "Heun": even(64, sda.Heun(), sda.Langevin(0)),
    "Langevin 7, 0.1": even(64, FIRST, sda.Langevin(7, 0.1)),
    "Leimkuhler-Matthews 7, 0.5 at all levels": dataclasses.replace(
        PRIOR_SAMPLER, corrector=EVERYWHERE
    ),
    "of `sample`": PRIOR_SAMPLER,
}
STEPPING = INDEPENDENT_SAMPLER.sampler
FINER = dataclasses.replace(STEPPING.corrector, steps=14, tau=0.25)
Going = tuple[float, Any, sda.PredictorCorrector]  # from sigma/mu, with guidance and sampler
STARTS: dict[str, Going] = {
    f"from {level:g}": (level, INDEPENDENT_GUIDANCE, STEPPING) for level in LEVELS
}
CHANGES: dict[str, Going] = {
    "default": (FROM, INDEPENDENT_GUIDANCE, STEPPING),
    "guidance: MMPS, two iterations": (FROM, sda.MMPS(above=INDEPENDENT_GUIDANCE), STEPPING),
    "guidance: MMPS, five iterations": (FROM, sda.MMPS(5, above=INDEPENDENT_GUIDANCE), STEPPING),
    "discretisation: half tau, 14 corrections": (
        FROM,
        INDEPENDENT_GUIDANCE,
        dataclasses.replace(STEPPING, corrector=FINER),
    ),
    "discretisation: 64 steps": (
        FROM,
        INDEPENDENT_GUIDANCE,
        dataclasses.replace(STEPPING, steps=64),
    ),
}


def gone_on(
    key: jax.Array, prior: sda.Prior, denoiser: Any, sampler: Any, given: jax.Array, level: float
) -> tuple[jax.Array, float]:
    """Exact draws in physical units, given noise of a level of the sampler's grid near `level` and
    sampled down again; and that level."""
    schedule = denoiser.schedule
    times = sampler.grid(schedule, sampler.steps)
    ratios = np.asarray(noise_ratio(schedule, times))
    i = int(np.argmin(np.abs(np.log(ratios / level))))
    z = prior.standardisation.forward(given)
    key_noise, key = jax.random.split(key)
    noise = jax.random.normal(key_noise, z.shape)
    start = schedule.mu(times[i]) * z + schedule.sigma(times[i]) * noise

    @jax.jit
    def down(keys: jax.Array, start: jax.Array) -> jax.Array:
        def one(given: tuple[jax.Array, jax.Array]) -> jax.Array:
            key, x = given
            state = SamplerState(x, jnp.asarray(ratios[i]), sampler.predictor.init(x))
            progress = Progress(state, jnp.zeros(()))
            progress = advance(key, denoiser, sampler, progress, i, sampler.steps - i)
            return sampler.finish(denoiser, progress.state)

        return jax.lax.map(one, (keys, start), batch_size=64)

    drawn = down(jax.random.split(key, len(start)), start)
    return prior.standardisation.inverse(drawn), float(ratios[i])


def of_the_prior(prior: sda.Prior, length: int, samples: int) -> str:
    """Log prior gaps of samples without an observation."""
    simulated = sda.simulate(jax.random.key(5), prior.system, length, samples)
    denoiser = trajectory_denoiser(prior, length)
    truth = np.asarray(metrics.log_prior(prior.system, simulated))
    lines = [f"| from sigma/mu | {' | '.join(SAMPLERS)} |", "|---" * (len(SAMPLERS) + 1) + "|"]
    for level in LEVELS:
        cells = []
        for sampler in SAMPLERS.values():
            drawn, at = gone_on(jax.random.key(6), prior, denoiser, sampler, simulated, level)
            gap = np.asarray(metrics.log_prior(prior.system, drawn)) - truth
            cells.append(f"{gap.mean():+.1f} +- {gap.std() / np.sqrt(samples):.1f}")
        lines.append(f"| {at:.2g} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def gains(prior: sda.Prior, length: int) -> str:
    """How the true noise regresses on the predicted: 1 where the network is a conditional mean."""
    x = sda.simulate(jax.random.key(7), prior.system, length, 2048)
    z, schedule = prior.standardisation.forward(x), prior.denoiser.schedule
    denoiser = trajectory_denoiser(prior, length)

    @jax.jit
    def moments(key: jax.Array, t: jax.Array) -> jax.Array:
        noise = jax.random.normal(key, z.shape)
        noisy = schedule.mu(t) * z + schedule.sigma(t) * noise
        found = jax.lax.map(lambda x: predicted_noise(denoiser, x, t), noisy, batch_size=64)
        pairs = (noise * found, found**2, (noise - found) ** 2)
        return jnp.stack([jnp.mean(p) for p in pairs])

    lines = ["| sigma/mu | gain | mean square of the predicted noise |", "|---|---|---|"]
    for k, level in enumerate(GAIN_LEVELS):
        t = schedule.time(jnp.float32(level))
        cross, power, error = np.asarray(moments(jax.random.key(k), t), np.float64)
        uncertain = np.sqrt(error / power / z.size)
        lines.append(f"| {level:g} | {cross / power:.4f} +- {uncertain:.4f} | {power:.4f} |")
    return "\n".join(lines)


SHOWN = ("W1 / floor", "log prior gap", "log likelihood gap", "spread ratio", "in 90 %", "C2ST")


def of_a_posterior(
    case: Case, name: str, goings: dict[str, Going], samples: int, observations: int
) -> str:
    """Scores of exact draws, and of what each way of going on makes of them."""
    lines = [f"| | {' | '.join(SHOWN)} |", "|---" * (len(SHOWN) + 1) + "|"]
    found: dict[str, list] = {label: [] for label in ("exact draws themselves", *goings)}
    for index in range(observations):
        truth, observation, key, key_reference = draw(case, name, index)
        known = references(case, observation, key_reference, samples)
        given = exact(case, observation, jax.random.fold_in(key_reference, 2), samples)
        for label, rows in found.items():
            drawn = given
            if label in goings:
                level, guidance, sampler = goings[label]
                denoiser, _ = posterior_denoiser(case.prior, observation, case.length, guidance)
                start = jnp.asarray(given)
                drawn = gone_on(key, case.prior, denoiser, sampler, start, level)[0]
            row = scores(case, observation, truth, np.asarray(drawn), known)
            rows.append([COLUMNS[column](row) for column in SHOWN])
            print(name, index, label, np.round(rows[-1], 3), flush=True)
    for label, rows in found.items():
        cells = np.median(rows, axis=0)
        lines.append(f"| {label} | " + " | ".join(f"{c:.3f}" for c in cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """All tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--observations", type=int, default=2)
    names = ("spring", "lo", "hi")
    parser.add_argument("--cases", nargs="*", choices=names, default=list(names))
    options = parser.parse_args()
    known = cases()
    lorenz, length = known["lo"].prior, known["lo"].length
    parts = [
        "The network is told whole trajectories, so nothing is composed: what no change of "
        "guidance or sampler changes is the network's.",
        "## The prior, without an observation\n\n"
        f"Log prior of {options.samples} samples less that of the simulations they went on from.",
        of_the_prior(lorenz, length, options.samples),
        "## The network's gain\n\nRegression of the true noise on the predicted one.",
        gains(lorenz, length),
    ]
    for name in options.cases:
        goings, what = CHANGES, f"one ingredient changed, from sigma/mu = {FROM:g}"
        if name == "spring":
            goings, what = STARTS, "exact score and guidance, by the sigma/mu gone on from"
        parts += [
            f"## Posterior of {name}: {what}\n\nMedians over {options.observations} observations; "
            f"{options.samples} samples.",
            of_a_posterior(known[name], name, goings, options.samples, options.observations),
        ]
    record("attribution", "Where a posterior's error comes from", "\n\n".join(parts))


if __name__ == "__main__":
    main()
