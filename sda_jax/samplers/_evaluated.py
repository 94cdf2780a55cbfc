"""Predictors and moves that evaluate the denoiser once, so that a sampler evaluates it for them."""

from __future__ import annotations

from typing import Any

from sda_jax.core._arrays import Time, Trajectory
from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError
from sda_jax.core._protocols import Schedule
from sda_jax.samplers._corrector import RepeatedMoves


class EvaluatesOnce:
    """Base class, beside `Memoryless` or `RepeatedMoves`, of predictors whose `step` and correctors
    whose `move` use nothing of the denoiser but its schedule and its value at the x and t that they
    are given. Where both do, `PredictorCorrector` has one evaluation in its compiled program for
    both. It speaks of the method of the class that names it: a subclass with a method of its own
    names it again, or is given the denoiser itself."""


@component
class Evaluated:
    """A denoiser's value at one x_t, in the denoiser's place.

    Attributes:
        schedule: The denoiser's.
        x_hat: The value.
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
            "a step that evaluates the denoiser at another x or t, or in a function that is "
            "transformed by itself",
            "the x and t that the step is given, as they are",
            "Do not derive it from EvaluatesOnce.",
        )


def evaluated_once(predictor: Any, corrector: Any) -> bool:
    """Whether there are corrections, and the predictor and each of them evaluates once."""
    if not isinstance(corrector, RepeatedMoves) or corrector.steps == 0:
        return False
    repeats = type(corrector).__call__ is RepeatedMoves.__call__
    return repeats and _says_so(predictor, "step") and _says_so(corrector, "move")


def _says_so(part: Any, method: str) -> bool:
    owner = next((c for c in type(part).__mro__ if method in vars(c)), object)
    return EvaluatesOnce in owner.__bases__
