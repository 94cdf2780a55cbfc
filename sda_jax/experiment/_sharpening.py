"""After training: how far a network of fields is let through at each scale and noise level, so that
draws keep the spectrum of the data."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sda_jax.core._arrays import PRNGKey
from sda_jax.diffusion._calibration import less_chance
from sda_jax.diffusion._denoisers import NetworkDenoiser
from sda_jax.diffusion._measured_errors import error_ratios
from sda_jax.diffusion._spectral import LinearDenoiser
from sda_jax.evaluation._fidelity import AT_ONCE, lowered, parted, shell_products

DRAWN_FROM = (0.3, 1.0, 3.0, 10.0, 1000.0)  # sigma/mu
DRAWN_TO = 0.01
CENTRES = (0.03, 0.12, 0.55, 1.7, 5.5, 30.0)  # sigma/mu: below the first no factor, then the bands'
TRIED = 1.3  # a factor, beside 1
RAMP = 0.05  # sigma/mu at which it is half of what it is above
USUAL = 0.3  # size of a factor's logarithm
FACTORS = (1.0, 2.0)  # their range
POWER = 0.5  # of a factor, and of the share of errors, that is taken
SLOPES = (0.0, 1.5)
CHANCE = 0.02  # what was not drawn at all is known to
SMALLEST = 0.02  # share of the linear estimate's error


class Moments(NamedTuple):
    """Mean products of the linear estimate's error T with what the network adds to it, F, by noise
    level and wavenumber, and the scatter of the slope of T on F."""

    both: Float[np.ndarray, "levels wavenumbers"]
    own: Float[np.ndarray, "levels wavenumbers"]
    target: Float[np.ndarray, "levels wavenumbers"]
    scatter: Float[np.ndarray, "levels wavenumbers"]

    def gates(self) -> Float[np.ndarray, "levels wavenumbers"]:
        """The slope, less what chance makes of it."""
        slope = self.both / np.maximum(self.own, np.finfo(np.float32).tiny)
        return np.clip(less_chance(slope, self.scatter), *SLOPES)

    def errors(
        self, gains: Float[np.ndarray, "levels wavenumbers"]
    ) -> Float[np.ndarray, "levels wavenumbers"]:
        """Variance of `T - gains F` over T's."""
        left = self.target - 2 * gains * self.both + gains**2 * self.own
        return np.clip(left / np.maximum(self.target, np.finfo(np.float32).tiny), SMALLEST, 1.0)


def moments(
    key: PRNGKey, denoiser: NetworkDenoiser, x: Float[Array, "n window x y channel"]
) -> Moments:
    """Of a denoiser of fields on windows that it was not trained on, at the levels of measured
    errors."""
    schedule, law = denoiser.schedule, denoiser.parameterisation
    linear = LinearDenoiser(law, schedule)
    ratios = error_ratios(schedule)

    def at_level(level: tuple[PRNGKey, Array]) -> tuple[Array, ...]:
        key, t = level

        def one(given: tuple[PRNGKey, Array]) -> tuple[Array, ...]:
            key, told, x = given[0], *parted(denoiser, given[1])
            x_t = schedule.mu(t) * x + schedule.sigma(t) * jax.random.normal(key, x.shape)
            estimate = linear(x_t, t)
            added, missing = told(x_t, t) - estimate, x - estimate
            pairs = ((missing, added), (added, added), (missing, missing))
            return tuple(jnp.mean(shell_products(a, b), axis=0) for a, b in pairs)

        keys = jax.random.split(key, len(x))
        both, own, target = jax.lax.map(one, (keys, x), batch_size=min(AT_ONCE, len(x)))
        mean = [jnp.mean(a, axis=0) for a in (both, own, target)]
        power = jnp.maximum(mean[1], jnp.finfo(jnp.float32).tiny)
        scatter = jnp.mean((both - mean[0] / power * own) ** 2, axis=0) / power**2 / len(x)
        return *mean, scatter

    levels = (jax.random.split(key, len(ratios)), schedule.time(ratios))
    found = jax.jit(lambda levels: jax.lax.map(at_level, levels))(levels)
    return Moments(*(np.asarray(a, np.float64) for a in found))


def sharpened(
    key: PRNGKey, denoiser: NetworkDenoiser, x: Float[Array, "n window x y channel"]
) -> NetworkDenoiser:
    """The denoiser of fields with what its network adds to the linear estimate multiplied, by
    noise level and wavenumber, and with the errors that are left.

    Two factors make the gain. The first lets the network through as far as it was found to be
    right (`Moments.gates`). The second goes past it, away from the linear estimate, by as much as
    draws need that are to keep the spectrum of the data: a network that knows less than it could
    errs towards what knows less still (Karras et al., 2024, "Guiding a diffusion model with a bad
    version of itself"), and draws by the probability-flow ODE lose energy level by level.
    It is found for bands of noise levels and each wavenumber from windows that were noised to
    several levels and taken down again, once without it and once with one of 1.3: what a band
    loses, over what the factor gives back there, less what chance makes of a ratio where it gives
    back little. Of each factor the root is taken: Gibbs steps go through the denoiser again and
    again, and in posteriors observations give energy back too. Of the errors that are left, in
    units of the linear estimate's, the root too: draws under way are not quite noised data, and
    with the covariance of the errors on these, posteriors err from y.

    Args:
        key: Random key of the noise.
        denoiser: Trained, with a `SpectralPreconditioned`.
        x: Windows that it was not trained on, in standardised units, with the context as last
            channels.
    """
    law = dataclasses.replace(denoiser.parameterisation, gains=None, errors=None)
    key_moments, key_drawn = jax.random.split(key)
    found = moments(key_moments, dataclasses.replace(denoiser, parameterisation=law), x)
    gates, ratios = found.gates(), np.asarray(error_ratios(denoiser.schedule))

    def of(log_factor: np.ndarray | float) -> NetworkDenoiser:
        gains = gates * np.exp(log_factor)
        known = dataclasses.replace(
            law,
            gains=jnp.asarray(gains, jnp.float32),
            errors=jnp.asarray(found.errors(gains) ** POWER, jnp.float32),
        )
        return dataclasses.replace(denoiser, parameterisation=known)

    ramp = 1 / (1 + (RAMP / ratios[:, None]) ** 2)
    lost, variance = _log_kept(key_drawn, of(0.0), x)
    response = (_log_kept(key_drawn, of(ramp * np.log(TRIED)), x)[0] - lost) / np.log(TRIED)
    factors = -lost * response / (response**2 + variance / USUAL**2)
    # none below the lowest band, and none of the mean
    factors = np.pad(np.maximum(factors, 0.0), ((1, 0), (1, 0)))
    at = np.log(ratios)
    centres = np.log(CENTRES)
    wanted = np.stack([np.interp(at, centres, column) for column in factors.T], axis=1)
    return of(POWER * np.clip(wanted, *np.log(FACTORS)))


def _log_kept(
    key: PRNGKey, denoiser: NetworkDenoiser, x: Array
) -> tuple[Float[np.ndarray, "bands wavenumbers"], Float[np.ndarray, "bands wavenumbers"]]:
    """What draws lose of the logarithm of the spectrum from the top of each band to its bottom, by
    wavenumber from 1 on and smoothed over neighbouring ones, and its variance by chance."""
    _, states = parted(denoiser, x)
    own = np.asarray(jnp.mean(shell_products(states, states), axis=1))[:, 1:]
    logs, scatter = [np.zeros(own.shape[1])], [np.full(own.shape[1], CHANCE**2)]
    for i, ratio in enumerate(DRAWN_FROM):
        y = lowered(jax.random.fold_in(key, i), denoiser, x, ratio, DRAWN_TO)
        found = np.asarray(jnp.mean(shell_products(y, y), axis=1))[:, 1:]
        kept = found.mean(axis=0) / own.mean(axis=0)
        logs.append(np.log(kept))
        scatter.append(((found - kept * own) ** 2).mean(axis=0) / found.mean(axis=0) ** 2 / len(x))
    bands = np.diff(np.array(logs), axis=0)
    padded = np.pad(bands, ((0, 0), (1, 1)), mode="edge")
    smooth = (padded[:, :-2] + 2 * bands + padded[:, 2:]) / 4
    return smooth, np.array(scatter[1:]) + np.array(scatter[:-1])
