"""The errors that a trained denoiser is left with, measured on segments held out."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from sda_jax.core._arrays import PRNGKey, Time
from sda_jax.core._errors import ConfigError
from sda_jax.core._protocols import Schedule
from sda_jax.diffusion._denoisers import NetworkDenoiser, with_context
from sda_jax.diffusion._schedules import noise_ratio
from sda_jax.diffusion._stationary import autocovariance

ERROR_LEVELS = 25  # noise levels of measured errors, four a decade


def error_ratios(schedule: Schedule) -> Float[Array, " levels"]:
    """sigma/mu of the levels at which errors are measured."""
    low, high = (jnp.log(noise_ratio(schedule, end)) for end in (0.0, 1.0))
    return jnp.exp(jnp.linspace(low, high, ERROR_LEVELS))


def _errors(
    key: PRNGKey, x: Array, denoiser: NetworkDenoiser, schedule: Schedule, t: Time
) -> Float[Array, "batch length *state"]:
    """`E[x | x_t] - x` of a batch of segments with their context, with noise drawn from the key."""
    x, known = with_context(x, denoiser.channels)
    x_t = schedule.mu(t) * x + schedule.sigma(t) * jax.random.normal(key, x.shape)
    if known is None:
        return jax.vmap(lambda x: denoiser(x, t))(x_t) - x
    return jax.vmap(lambda x, c: denoiser.conditioned(c)(x, t))(x_t, known) - x


def with_measured_errors(
    key: PRNGKey,
    denoiser: NetworkDenoiser,
    x: Float[Array, "batches batch length *state"],
    valid: Bool[np.ndarray, ...] | None = None,
) -> NetworkDenoiser:
    """The denoiser with its parameterisation's errors measured: what guidance takes for the
    covariance of x given x_t (`covariance_times`).

    Args:
        key: Random key of the noise.
        denoiser: Trained.
        x: Segments that it was not trained on, in standardised units, with the context as last
            channels.
        valid: Where states have values, of a state or of each segment, `(batches, batch, 1,
            *state)`; elsewhere errors do not count.
    """
    schedule = denoiser.schedule
    share = 1.0 if valid is None else valid.reshape(-1, valid.shape[-1]).mean(axis=0)
    if not np.all(share):
        raise ConfigError(
            "valid",
            "no place with values in any held-out segment",
            "values of every channel",
            "Raise training.validation_batches, or take larger crops.",
        )
    ratios = error_ratios(schedule)
    states = x.ndim == 4
    there = None
    if valid is not None:
        there = jnp.broadcast_to(valid, (*x.shape[:2], 1, *x.shape[3:-1], valid.shape[-1]))

    def at_level(
        denoiser: NetworkDenoiser, x: Array, level: tuple[PRNGKey, Array]
    ) -> tuple[Array, Array]:
        key, ratio = level
        t = schedule.time(ratio)

        def of_batch(batch: tuple[PRNGKey, Array, Array | None]) -> tuple[Array, Array]:
            key, x, there = batch
            e = _errors(key, x, denoiser, schedule, t)
            e = e if there is None else jnp.where(there, e, 0.0)
            squares = jnp.mean(e.reshape(-1, e.shape[-1]) ** 2, axis=0) / share
            return squares, autocovariance(e) if states else jnp.zeros(())

        measured = jax.lax.map(of_batch, (jax.random.split(key, len(x)), x, there))
        return jax.tree.map(lambda a: jnp.mean(a, axis=0), measured)

    keys = jax.random.split(key, len(ratios))
    measure = jax.jit(
        lambda denoiser, x, levels: jax.lax.map(partial(at_level, denoiser, x), levels)
    )
    errors, lags = measure(denoiser, x, (keys, ratios))
    std = jnp.sqrt(errors)
    correlations = lags / (std[:, None, :, None] * std[:, None, None, :]) if states else None
    parameterisation = dataclasses.replace(
        denoiser.parameterisation, errors=errors, correlations=correlations
    )
    return dataclasses.replace(denoiser, parameterisation=parameterisation)
