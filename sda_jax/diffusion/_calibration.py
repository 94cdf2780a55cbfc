"""How far a network that departs from a linear estimate is right, measured on segments held out."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from sda_jax.core._arrays import PRNGKey
from sda_jax.diffusion._denoisers import NetworkDenoiser, append_axes, with_context
from sda_jax.diffusion._linear_base import LinearPreconditioned
from sda_jax.diffusion._measured_errors import error_ratios

FEW = 30  # independent held-out segments of a short record


def gated(
    key: PRNGKey,
    denoiser: NetworkDenoiser,
    x: Float[Array, "batches batch length *state"],
    independent: int | None = None,
    valid: Bool[np.ndarray, "*state"] | None = None,
) -> NetworkDenoiser:
    """The denoiser with its network let through as far as it was found to be right, and
    with the errors that are left.

    By noise level and axis of a state, with F the network's output and T its target, both in units
    of the linear estimate's error, the slope of T on F is `E[T F] / E[F^2]`. The gate is that less
    its standard error, between 0 and 1: half a gate gains most of what a whole one does, and a
    network that has begun to learn its record by heart is too sure elsewhere. Of one or two
    segments nobody knows what chance makes, and the gate is shut. The errors' variance is that of
    `T - g F`, in units of T's where that is smaller than one: a stretch of record that happens to
    vary little says nothing of others. Where T's is larger, it is in units of T's as far as the
    gate is shut (T's to the power 1 - g): there the estimate is the covariance's, and with other
    errors than the covariance foresees its draws would be of no distribution. As far as the gate is
    open it is multiplied by `n / (n - 2)`, n the segments that do not overlap: errors of a size
    that is known from n of them have Student's distribution, and that variance.

    Args:
        key: Random key of the noise.
        denoiser: Trained, with a `LinearPreconditioned`.
        x: Segments that it was not trained on, in standardised units, with the context as last
            channels.
        independent: How many of the segments do not overlap; None for all.
        valid: Where states have values; elsewhere errors do not count.
    """
    law: LinearPreconditioned = denoiser.parameterisation
    count = min(x.shape[0] * x.shape[1], independent or x.shape[0] * x.shape[1])
    open_ = dataclasses.replace(denoiser, parameterisation=dataclasses.replace(law, gate=None))
    ratios = error_ratios(denoiser.schedule)
    target, own, slope, scatter = _slopes(
        open_, x, jax.random.split(key, len(ratios)), ratios, valid
    )
    tiny = jnp.finfo(jnp.float32).tiny
    by_chance = scatter / jnp.maximum(own**2, tiny) / count if count > 2 else jnp.inf
    sure = np.asarray(slope) - np.sqrt(by_chance)
    gate = jnp.asarray(np.clip(sure, 0.0, 1.0) + 0.0, jnp.float32)  # no -0
    left = target - 2 * gate * slope * own + gate**2 * own
    few = (count / max(count - 2, 1)) ** gate
    widths = jnp.sqrt(few * left / jnp.where(target > 1, target ** (1 - gate), target))
    law = dataclasses.replace(law, gate=gate, widths=widths)
    return dataclasses.replace(denoiser, parameterisation=law)


def less_chance(
    found: Float[Array, "*shape"] | Float[np.ndarray, "*shape"],
    variance: Float[Array, "*shape"] | Float[np.ndarray, "*shape"] | float,
) -> Float[np.ndarray, "*shape"]:
    """Estimates g less what chance makes of them, `g - v/g`, v their variances, and 0 where that is
    more than there is: the positive-part estimate of James and Stein (1961)."""
    found = np.asarray(found, np.float64)
    squared = np.maximum(found**2, np.finfo(np.float32).tiny)
    return found * np.maximum(1 - np.asarray(variance, np.float64) / squared, 0.0)


def describe_gate(denoiser: NetworkDenoiser, independent: int | None = None) -> str:
    """What `gated` found, for people.

    Args:
        denoiser: What it gave.
        independent: Segments that it was given and that do not overlap, where that is known.
    """
    law: LinearPreconditioned = denoiser.parameterisation
    gate, widths = np.asarray(law.gate), np.asarray(law.widths)
    ratios = np.asarray(error_ratios(denoiser.schedule))
    lines = ["network beside the best linear estimate, on what was held out:"]
    for k in range(2, len(gate), 4):
        if gate[k].max() > 0:
            some, most = gate[k].min(), gate[k].max()
            lines.append(
                f"  sigma/mu {ratios[k]:.2g}: let through by {some:.2f} to {most:.2f}, "
                f"error {widths[k].mean():.3f} of the linear estimate's"
            )
        else:
            lines.append(f"  sigma/mu {ratios[k]:.2g}: no better, the linear estimate stands")
    if not gate.max() > 0:
        lines.append(
            "at no noise level does the network know more: this record is too short for one, or as "
            "good as Gaussian. Posteriors of linear observations are optimal interpolation."
        )
    if independent is not None and independent < FEW:
        lines.append(
            f"a short record: {independent} segments that do not overlap are held out, so that the "
            f"size of errors, and with it the spread, is known to about "
            f"{1 / np.sqrt(2 * max(independent, 1)):.0%} and they are widened for it: set some "
            "observations aside to judge them."
        )
    return "\n".join(lines)


def _everywhere(denoiser: NetworkDenoiser, x: Array) -> Array:
    return jnp.ones((*x.shape[3:-1], x.shape[-1] - denoiser.channels), bool)


@jax.jit
def _slopes(
    denoiser: NetworkDenoiser, x: Array, keys: PRNGKey, ratios: Array, valid: Array | None
) -> tuple[Array, Array, Array, Array]:
    """By noise level and axis: the mean squares of T and F, the slope of T on F, and the
    variance of a segment's mean of `(T - slope F) F`."""
    schedule, there = denoiser.schedule, _everywhere(denoiser, x) if valid is None else valid
    share = jnp.mean(there.reshape(-1, there.shape[-1]), axis=0)

    def mean(values: Array) -> Array:
        """Of each segment and axis."""
        flat = jnp.where(there, values, 0.0).reshape(len(values), -1, values.shape[-1])
        return jnp.mean(flat, axis=1) / share

    def at_level(level: tuple[PRNGKey, Array]) -> tuple[Array, Array, Array, Array]:
        t = schedule.time(level[1])

        def of_batch(batch: tuple[PRNGKey, Array]) -> tuple[Array, Array, Array]:
            x, known = with_context(batch[1], denoiser.channels)
            told, times = denoiser.conditioned(known), jnp.full(len(x), t)
            noise = jax.random.normal(batch[0], x.shape)
            found = told.output(schedule.mu(t) * x + schedule.sigma(t) * noise, times)
            target = told.parameterisation.target(x, noise, append_axes(times, x), schedule)
            return mean(target * found), mean(found**2), mean(target**2)

        found = jax.lax.map(of_batch, (jax.random.split(level[0], len(x)), x))
        both, own, target = (a.reshape(-1, a.shape[-1]) for a in found)
        slope = jnp.mean(both, axis=0) / jnp.maximum(
            jnp.mean(own, axis=0), jnp.finfo(jnp.float32).tiny
        )
        scatter = jnp.mean((both - slope * own) ** 2, axis=0)
        return jnp.mean(target, axis=0), jnp.mean(own, axis=0), slope, scatter

    return jax.lax.map(at_level, (keys, ratios))
