"""The demonstration: Lorenz 1963 with the prior that comes with the package."""

from __future__ import annotations

from sda_jax.experiment._config import Case, Experiment
from sda_jax.observations._operators import Channels, Every
from sda_jax.systems._lorenz63 import Lorenz63


def demo_experiment() -> Experiment:
    """One coordinate of the Lorenz attractor, seen rarely ("lo"), often with much noise ("hi"), or
    so that two trajectories explain it ("multimodal"). Rozet & Louppe (2023), section 4.1."""
    return Experiment(
        system=Lorenz63(),
        prior="lorenz63",
        cases={
            "lo": Case(length=65, operator=Every(8, Channels((0,))), std=0.4),
            "hi": Case(length=65, operator=Every(1, Channels((0,))), std=2.0),
            "multimodal": Case(length=49, operator=Every(4, Channels((2,))), std=0.86),
        },
    )
