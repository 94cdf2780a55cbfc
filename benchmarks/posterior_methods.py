"""The methods that the posterior benchmark compares: what each costs and how it draws."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import jax
import numpy as np
from common import weights
from posterior_scores import REFERENCE, Case, exact

import sda_jax as sda
from sda_jax.core._json import encode
from sda_jax.guidance import GaussianCovariance
from sda_jax.posterior._presets import INDEPENDENT_GUIDANCE, INDEPENDENT_SAMPLER, PRESETS


class Assimilated(NamedTuple):
    """`assimilate` with a guidance and a sampler."""

    guidance: Any
    sampler: Any

    def settings(self, case: Case) -> str:
        """By which records know it."""
        return json.dumps([*map(encode, self), REFERENCE, weights(case.prior)])

    def cost(self, case: Case, observation: sda.Observation, samples: int) -> tuple[int, int]:
        """Forwards and VJPs of one member."""
        return sda.count_evaluations(
            case.prior, observation, case.length, self.guidance, self.sampler
        )[:2]

    def draw(
        self, key: jax.Array, case: Case, observation: sda.Observation, samples: int, chunk: int
    ) -> jax.Array:
        """The ensemble."""
        return sda.assimilate(
            key, case.prior, observation, case.length, samples, self.guidance, self.sampler,
            sda.Memory(chunk),
        )  # fmt: skip


class Weighted(NamedTuple):
    """`twisted_smc`, and members drawn by its weights."""

    particles: int
    steps: int
    guidance: Any

    def settings(self, case: Case) -> str:
        """By which records know it."""
        given = ["twisted_smc", *self[:2], encode(self.guidance)]
        return json.dumps([*given, REFERENCE, weights(case.prior)])

    def cost(self, case: Case, observation: sda.Observation, samples: int) -> tuple[int, int]:
        """Forwards and VJPs for one member of the ensemble, all particles counted."""
        # a particle is guided once more than it is moved
        sampler = sda.PredictorCorrector(self.steps + 1, corrector=sda.Langevin(0))
        each = sda.count_evaluations(case.prior, observation, case.length, self.guidance, sampler)
        share = self.particles // samples
        return share * each.forwards, share * each.vjps

    def draw(
        self, key: jax.Array, case: Case, observation: sda.Observation, samples: int, chunk: int
    ) -> jax.Array:
        """The ensemble."""
        key, key_draw = jax.random.split(key)
        particles = sda.twisted_smc(
            key, case.prior, observation, case.length, self.particles, self.guidance, self.steps,
            chunk=chunk,
        )  # fmt: skip
        return particles.ensemble(key_draw, samples)


class Redrawn(NamedTuple):
    """The true posterior itself once more: what the bounds make of a perfect method."""

    def settings(self, case: Case) -> str:
        """By which records know it."""
        return json.dumps(["truth", REFERENCE])

    def cost(self, case: Case, observation: sda.Observation, samples: int) -> tuple[int, int]:
        """No evaluations."""
        return 0, 0

    def draw(
        self, key: jax.Array, case: Case, observation: sda.Observation, samples: int, chunk: int
    ) -> np.ndarray:
        """The ensemble."""
        return exact(case, observation, jax.random.fold_in(key, 1), samples)


def paper(corrections: int) -> sda.PredictorCorrector:
    """The paper's sampler of the Lorenz evaluation."""
    corrector = sda.Langevin(corrections, 0.25)
    return sda.PredictorCorrector(256, sda.EvenTime(), sda.ExponentialIntegrator(), corrector)


def even(steps: int, predictor: Any, corrector: Any) -> sda.PredictorCorrector:
    """A sampler on the grid even in log(sigma/mu)."""
    return sda.PredictorCorrector(steps, sda.LogSNR(), predictor, corrector)


FIRST = sda.ExponentialIntegrator()
METHODS: dict[str, Assimilated | Weighted | Redrawn] = {
    "truth redrawn": Redrawn(),
    **{name: Assimilated(*rung) for name, rung in PRESETS.items()},
    "SMC, 1024 particles": Weighted(1024, 256, GaussianCovariance(iterations=10, inflation=4.0)),
    "paper C=1": Assimilated(sda.SDA(3e-2), paper(1)),
    "SDA 1e-2, EI 64, C=3": Assimilated(sda.SDA(), even(64, FIRST, sda.Langevin(3, 0.15))),
    "MMPS, default's sampler": Assimilated(
        sda.MMPS(above=INDEPENDENT_GUIDANCE), INDEPENDENT_SAMPLER
    ),
    "SDA 1e-2, default's sampler": Assimilated(sda.SDA(), INDEPENDENT_SAMPLER),
    "SDA 1e-2, EI 64, C=7": Assimilated(sda.SDA(), even(64, FIRST, sda.Langevin(7, 0.15))),
    "DPS C=1": Assimilated(sda.DPS(), paper(1)),
    "PiGDM, EI 64, C=3": Assimilated(sda.PiGDM(), even(64, FIRST, sda.Langevin(3, 0.15))),
    "TMPD, EI 64, C=3": Assimilated(sda.TMPD(), even(64, FIRST, sda.Langevin(3, 0.15))),
    "MMPS, EI 64, C=3": Assimilated(sda.MMPS(), even(64, FIRST, sda.Langevin(3, 0.15))),
    "measured, 2M 128": Assimilated(
        GaussianCovariance(), even(128, sda.DPMSolverPP2M(), sda.Langevin(0))
    ),
}
