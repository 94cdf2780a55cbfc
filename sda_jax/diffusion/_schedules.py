"""Noise schedules.

The perturbation kernel is `p(x_t | x) = N(mu(t) x, sigma(t)^2 I)` with t from 0 (data) to 1
(noise). `1 - alpha` is computed without cancellation, so that float32 resolves the smallest noise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array

from sda_jax.core._arrays import Scalar, Time
from sda_jax.core._component import component
from sda_jax.core._errors import require_below, require_choice, require_positive
from sda_jax.core._protocols import Schedule
from sda_jax.core._record import static

VARIANCES = ("vp", "sub-vp", "sub-sub-vp")


@dataclass(frozen=True)
class _Alpha(ABC):
    """Schedules with `mu = alpha(t)`, `alpha` falling from 1 to about `eta`.

    `variance` picks sigma(t)^2: "vp" `1 - alpha^2 + eta^2`, "sub-vp" `(1 - alpha^2 + eta)^2`,
    "sub-sub-vp" `(1 - alpha + eta)^2`. Rozet & Louppe (2023), appendix.
    """

    eta: float = 1e-3
    variance: str = static("vp")

    def __post_init__(self) -> None:
        require_positive("eta", self.eta)
        require_below("eta", self.eta, 1)
        require_choice("variance", self.variance, VARIANCES)

    @abstractmethod
    def decay(self, t: Time) -> Array:
        """`1 - alpha(t)`."""

    @abstractmethod
    def decay_time(self, decay: Array) -> Array:
        """Inverse of `decay`."""

    def mu(self, t: Time) -> Array:
        return 1 - self.decay(t)

    def sigma(self, t: Time) -> Array:
        b = self.decay(t)
        if self.variance == "vp":
            return jnp.sqrt(b * (2 - b) + self.eta**2)
        if self.variance == "sub-vp":
            return b * (2 - b) + self.eta
        return b + self.eta

    def time(self, ratio: Scalar) -> Array:
        """The t at which sigma/mu equals `ratio`, clipped to [0, 1]."""
        r, eta = jnp.asarray(ratio), self.eta
        if self.variance == "vp":
            alpha = jnp.sqrt((1 + eta**2) / (1 + r**2))
            b = (r - eta) * (r + eta) / (1 + r**2) / (1 + alpha)
        elif self.variance == "sub-vp":
            b = 2 * (r - eta) / ((2 + r) + jnp.sqrt((2 + r) ** 2 - 4 * (r - eta)))
        else:
            b = (r - eta) / (1 + r)
        return jnp.clip(self.decay_time(jnp.clip(b, 0.0, 1.0)), 0.0, 1.0)


@component
class Cosine(_Alpha):
    """`alpha(t) = cos(arccos(sqrt(eta)) t)^2`, the paper's."""

    def decay(self, t: Time) -> Array:
        return jnp.sin(jnp.arccos(jnp.sqrt(jnp.asarray(self.eta))) * t) ** 2

    def decay_time(self, decay: Array) -> Array:
        return jnp.arcsin(jnp.sqrt(decay)) / jnp.arccos(jnp.sqrt(jnp.asarray(self.eta)))


@component
class Linear(_Alpha):
    """`alpha(t) = 1 - (1 - eta) t`."""

    def decay(self, t: Time) -> Array:
        return (1 - self.eta) * jnp.asarray(t)

    def decay_time(self, decay: Array) -> Array:
        return decay / (1 - self.eta)


@component
class Exponential(_Alpha):
    """`alpha(t) = exp(log(eta) t^2)`."""

    def decay(self, t: Time) -> Array:
        return -jnp.expm1(jnp.log(jnp.asarray(self.eta)) * jnp.asarray(t) ** 2)

    def decay_time(self, decay: Array) -> Array:
        return jnp.sqrt(jnp.log1p(-decay) / jnp.log(jnp.asarray(self.eta)))


@component
class VarianceExploding:
    """`mu = 1`, `sigma` geometric from `sigma_min` to `sigma_max`. Song et al. (2021)."""

    sigma_min: float = 1e-3
    sigma_max: float = 1e3

    def __post_init__(self) -> None:
        require_positive("sigma_min", self.sigma_min)
        require_positive("sigma_max", self.sigma_max)
        require_below("sigma_min", self.sigma_min, self.sigma_max)

    def mu(self, t: Time) -> Array:
        return jnp.ones_like(jnp.asarray(t, jnp.float32))

    def sigma(self, t: Time) -> Array:
        ratio = jnp.asarray(self.sigma_max) / self.sigma_min
        return self.sigma_min * ratio ** jnp.asarray(t)

    def time(self, ratio: Scalar) -> Array:
        span = jnp.log(jnp.asarray(self.sigma_max) / self.sigma_min)
        return jnp.clip(jnp.log(jnp.asarray(ratio) / self.sigma_min) / span, 0.0, 1.0)


@component
class RectifiedFlow:
    """Straight lines: `mu = 1 - (1 - eta) t`, `sigma = eta + (1 - eta) t`. Liu et al. (2023).

    `eta` keeps sigma/mu within [eta, 1/eta], the range of the other schedules.
    """

    eta: float = 1e-3

    def __post_init__(self) -> None:
        require_positive("eta", self.eta)
        require_below("eta", self.eta, 1)

    def mu(self, t: Time) -> Array:
        return 1 - (1 - self.eta) * jnp.asarray(t)

    def sigma(self, t: Time) -> Array:
        return self.eta + (1 - self.eta) * jnp.asarray(t)

    def time(self, ratio: Scalar) -> Array:
        r = jnp.asarray(ratio)
        return jnp.clip((r - self.eta) / ((1 - self.eta) * (1 + r)), 0.0, 1.0)


def noise_ratio(schedule: Schedule, t: Time) -> Array:
    """`sigma(t) / mu(t)`, the noise relative to the signal, in standardised units."""
    return schedule.sigma(t) / schedule.mu(t)


def noise_level(schedule: Schedule, t: Time) -> Array:
    """`log(sigma/mu)` mapped linearly to 0 at t = 0 and 1 at t = 1."""
    low, high = (jnp.log(noise_ratio(schedule, end)) for end in (0.0, 1.0))
    return (jnp.log(noise_ratio(schedule, t)) - low) / (high - low)
