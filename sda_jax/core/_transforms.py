"""Maps of one variable to one that is closer to normal: of positive and of bounded numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from sda_jax.core._component import component, static
from sda_jax.core._errors import ConfigError, require_choice, require_finite, require_positive


@component
class Transform(ABC):
    """A rising map from physical numbers to those that are standardised, elementwise."""

    @abstractmethod
    def forward(self, x: Float[Array, ...]) -> Float[Array, ...]:
        """From physical numbers; not finite outside of where the map is defined."""

    @abstractmethod
    def inverse(self, u: Float[Array, ...]) -> Float[Array, ...]:
        """Back to physical numbers."""

    @abstractmethod
    def slope(self, x: Float[Array, ...]) -> Float[Array, ...]:
        """The derivative of `forward` at physical numbers."""


@component
class Logarithm(Transform):
    """`u = log(x + shift)`, for x above `-shift`."""

    shift: float = static(0.0)

    def __post_init__(self) -> None:
        require_finite("shift", self.shift)

    def forward(self, x: Float[Array, ...]) -> Float[Array, ...]:
        return jnp.log(x + self.shift)

    def inverse(self, u: Float[Array, ...]) -> Float[Array, ...]:
        return jnp.exp(u) - self.shift

    def slope(self, x: Float[Array, ...]) -> Float[Array, ...]:
        return 1 / (x + self.shift)


@component
class BoxCox(Transform):
    """`u = (x^power - 1) / power`, for x above 0. Box & Cox (1964).

    What comes back of u below `-1/power`, which no x has, is 0.
    """

    power: float = static(0.5)

    def __post_init__(self) -> None:
        require_positive("power", self.power)

    def forward(self, x: Float[Array, ...]) -> Float[Array, ...]:
        return (x**self.power - 1) / self.power

    def inverse(self, u: Float[Array, ...]) -> Float[Array, ...]:
        inner = 1 + self.power * u
        tiny = jnp.finfo(jnp.float32).tiny  # roots of 0 have no derivative
        return jnp.where(inner > 0, jnp.maximum(inner, tiny) ** (1 / self.power), 0.0)

    def slope(self, x: Float[Array, ...]) -> Float[Array, ...]:
        return x ** (self.power - 1)


@component
class Logit(Transform):
    """`u = log((x - low) / (high - x))`, for x between `low` and `high`."""

    low: float = static(0.0)
    high: float = static(1.0)

    def __post_init__(self) -> None:
        require_finite("low", self.low)
        require_positive("high - low", self.high - self.low)

    def forward(self, x: Float[Array, ...]) -> Float[Array, ...]:
        return jnp.log((x - self.low) / (self.high - x))

    def inverse(self, u: Float[Array, ...]) -> Float[Array, ...]:
        share = 0.5 + 0.5 * jnp.tanh(0.5 * u)
        return self.low + (self.high - self.low) * share

    def slope(self, x: Float[Array, ...]) -> Float[Array, ...]:
        return 1 / (x - self.low) + 1 / (self.high - x)


KINDS: dict[str, tuple[type[Transform], int]] = {
    "log": (Logarithm, 1),
    "boxcox": (BoxCox, 1),
    "logit": (Logit, 2),
}


def transform_named(argument: str, text: str) -> Transform:
    """The transform that a text names, such as "log", "log:0.1", "boxcox:0.3" or "logit:0:100".

    Raises:
        ConfigError: It names none, or its numbers are impossible; `argument` is where it stands.
    """
    kind, *given = text.split(":")
    require_choice(argument, kind, tuple(KINDS))
    made, most = KINDS[kind]
    try:
        numbers: list[Any] = [float(g) for g in given]
    except ValueError:
        numbers = [None] * (most + 1)
    if len(numbers) > most:
        raise ConfigError(
            argument, repr(text), f"{kind} and at most {most} numbers after colons", "Correct it."
        )
    return made(*numbers)
