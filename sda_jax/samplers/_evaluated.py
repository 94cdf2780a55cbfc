"""Predictors and moves that evaluate the denoiser once, so that a sampler evaluates it for them."""

from __future__ import annotations

from typing import Any

from sda_jax.core._arrays import Time, Trajectory
from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError
from sda_jax.core._protocols import Schedule
from sda_jax.samplers._corrector import RepeatedMoves


class EvaluatesOnce:
    """Base class of predictors and of correctors with a `move` that evaluate the denoiser once, at
    the x and the time that they are given: `PredictorCorrector` then has one evaluation for both in
    its compiled program. Beside `Memoryless` or `RepeatedMoves`."""


@component
class Evaluated:
    """A denoiser of one x_t, which was evaluated before.

    Attributes:
        schedule: The denoiser's.
        x_hat: What it made of x.
        x: The noisy trajectory, by identity.
        t: Its time, by identity.
    """

    schedule: Schedule
    x_hat: Any
    x: Any
    t: Any

    def __call__(self, x: Trajectory, t: Time) -> Trajectory:
        if x is self.x and t is self.t:
            return self.x_hat
        raise ConfigError(
            "EvaluatesOnce",
            "a step that evaluates the denoiser elsewhere too",
            "one evaluation, at the x and t that the step is given",
            "Do not derive it from EvaluatesOnce.",
        )


def evaluated_once(predictor: Any, corrector: Any) -> bool:
    """Whether a step of both, and each correction, evaluates the denoiser once."""
    moves = isinstance(corrector, RepeatedMoves) and corrector.steps > 0
    return moves and isinstance(corrector, EvaluatesOnce) and isinstance(predictor, EvaluatesOnce)
