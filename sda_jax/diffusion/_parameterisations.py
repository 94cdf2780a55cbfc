"""What a network's output means: from outputs to posterior means, and the targets of training."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod

import jax.numpy as jnp
from jaxtyping import Array, Bool

from sda_jax.core._arrays import Scalar, Time
from sda_jax.core._component import component
from sda_jax.core._errors import require_positive
from sda_jax.core._protocols import Schedule
from sda_jax.diffusion._denoising_errors import DenoisingErrors
from sda_jax.diffusion._schedules import noise_level, noise_ratio


@component
class Parameterisation(DenoisingErrors, ABC):
    """What a network's output means. A subclass gives `level`, `denoise` and `target`; the network
    sees x_t scaled to unit variance.

    Its errors are those of the network, once measured (`with_measured_errors`).
    """

    @abstractmethod
    def level(self, schedule: Schedule, t: Time) -> Scalar:
        """What the network takes as the noise level."""

    @abstractmethod
    def denoise(self, output: Array, x: Array, t: Time, schedule: Schedule) -> Array:
        """`E[x | x_t]` from the network's output at `x = x_t`."""

    @abstractmethod
    def target(self, x: Array, noise: Array, t: Time, schedule: Schedule) -> Array:
        """What the network is to output for data `x` perturbed by `noise`."""

    def of_length(self, length: int | None) -> Parameterisation:
        """That of trajectories of so many states, None for any; prepared once for a posterior."""
        return self

    def conditioned(self, context: Array | None) -> Parameterisation:
        """That of trajectories with this context, in standardised units."""
        return self

    def unfitted(self) -> Parameterisation:
        """Without what was measured from data: as in a configuration."""
        return dataclasses.replace(self, errors=None, correlations=None)

    def inputs(self, x: Array, t: Time, schedule: Schedule) -> Array:
        """What the network sees of `x = x_t`."""
        return x / jnp.sqrt(schedule.mu(t) ** 2 + schedule.sigma(t) ** 2)

    def outputs(self, output: Array, t: Time, schedule: Schedule) -> Array:
        """What `denoise` takes and `target` is compared with, from the network's output."""
        return output

    def open(self, t: Time, schedule: Schedule) -> Bool[Array, ""] | None:
        """Whether `denoise` makes any use of the network's output at a time; None for at all."""
        return None

    def weighted(self, missing: Array, t: Time, schedule: Schedule) -> Array:
        """What the loss takes the mean square of, from the difference between output and target."""
        return missing


@component
class NoisePrediction(Parameterisation):
    """The network predicts the noise: `x_hat = (x_t - sigma eps) / mu` (Tweedie's formula).

    Rozet & Louppe (2023), equation 7. The network takes t itself as the noise level.
    """

    def level(self, schedule: Schedule, t: Time) -> Scalar:
        """What the network takes as the noise level."""
        return t

    def denoise(self, output: Array, x: Array, t: Time, schedule: Schedule) -> Array:
        """`E[x | x_t]` from the network's output at `x = x_t`."""
        return (x - schedule.sigma(t) * output) / schedule.mu(t)

    def target(self, x: Array, noise: Array, t: Time, schedule: Schedule) -> Array:
        """What the network is to output for data `x` perturbed by `noise`."""
        return noise


@component
class Preconditioned(Parameterisation):
    """The network predicts the data's and the noise's mixture of unit variance at every level.

    `x_hat = c_skip x_t/mu + c_out F(c_in x_t/mu, log(sigma/mu))` with the coefficients of Karras
    et al. (2022), table 1, for data of standard deviation `data_std`.
    """

    data_std: float = 1.0

    def __post_init__(self) -> None:
        require_positive("data_std", self.data_std)

    def level(self, schedule: Schedule, t: Time) -> Scalar:
        """What the network takes as the noise level: log(sigma/mu), mapped to [0, 1]."""
        return noise_level(schedule, t)

    def _coefficients(self, ratio: Array) -> tuple[Array, Array]:
        total = ratio**2 + self.data_std**2
        return self.data_std**2 / total, ratio * self.data_std / jnp.sqrt(total)

    def denoise(self, output: Array, x: Array, t: Time, schedule: Schedule) -> Array:
        """`E[x | x_t]` from the network's output at `x = x_t`."""
        c_skip, c_out = self._coefficients(noise_ratio(schedule, t))
        return c_skip * x / schedule.mu(t) + c_out * output

    def target(self, x: Array, noise: Array, t: Time, schedule: Schedule) -> Array:
        """What the network is to output for data `x` perturbed by `noise`."""
        ratio = noise_ratio(schedule, t)
        total = ratio**2 + self.data_std**2
        # (x - c_skip (x + ratio noise)) / c_out without the cancellation at small ratios
        return (ratio * x / self.data_std - self.data_std * noise) / jnp.sqrt(total)
