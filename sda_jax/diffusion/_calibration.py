"""How far a network that departs from a linear estimate is right, measured on segments held out."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sda_jax.core._arrays import PRNGKey
from sda_jax.diffusion._denoisers import NetworkDenoiser, with_context
from sda_jax.diffusion._measured_errors import error_ratios
from sda_jax.diffusion._series import SeriesPreconditioned


def gated(
    key: PRNGKey,
    denoiser: NetworkDenoiser,
    x: Float[Array, "batches batch length channel"],
    independent: int | None = None,
) -> NetworkDenoiser:
    """The denoiser of series with its network let through as far as it was found to be right, and
    with the errors that are left.

    By noise level and channel, with F the network's output and T its target, both in units of the
    linear estimate's error, the slope of T on F is `g = E[T F] / E[F^2]`. The gate is g less what
    chance makes of it, `g - v/g` with v the variance of the slope, between 0 and 1 (the
    positive-part estimate of James and Stein, 1961). The errors' variance is that of `T - g F`,
    in units of T's where that is smaller than one: a stretch of record that happens to vary little
    says nothing of others.

    Args:
        key: Random key of the noise.
        denoiser: Trained, with a `SeriesPreconditioned`.
        x: Segments that it was not trained on, in standardised units, with the context as last
            channels.
        independent: How many of the segments do not overlap; None for all.
    """
    law: SeriesPreconditioned = denoiser.parameterisation
    count = min(x.shape[0] * x.shape[1], independent or x.shape[0] * x.shape[1])
    open_ = dataclasses.replace(denoiser, parameterisation=dataclasses.replace(law, gate=None))
    ratios = error_ratios(denoiser.schedule)
    target, own, slope, scatter = _slopes(open_, x, jax.random.split(key, len(ratios)), ratios)
    tiny = jnp.finfo(jnp.float32).tiny
    by_chance = scatter / jnp.maximum(own**2, tiny) / count
    gate = jnp.clip(slope - by_chance / jnp.maximum(jnp.abs(slope), tiny), 0.0, 1.0)
    gate = jnp.where(slope > 0, gate, 0.0)
    left = target - 2 * gate * slope * own + gate**2 * own
    widths = jnp.sqrt(left / jnp.minimum(target, 1.0))
    law = dataclasses.replace(law, gate=gate, widths=widths)
    return dataclasses.replace(denoiser, parameterisation=law)


def describe_gate(denoiser: NetworkDenoiser) -> str:
    """What `gated` found, for people."""
    law: SeriesPreconditioned = denoiser.parameterisation
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
    return "\n".join(lines)


@jax.jit
def _slopes(
    denoiser: NetworkDenoiser, x: Array, keys: PRNGKey, ratios: Array
) -> tuple[Array, Array, Array, Array]:
    """By noise level and channel: the mean squares of T and F, the slope of T on F, and the
    variance of a segment's mean of `(T - slope F) F`."""
    schedule = denoiser.schedule

    def at_level(level: tuple[PRNGKey, Array]) -> tuple[Array, Array, Array, Array]:
        t = schedule.time(level[1])

        def of_batch(batch: tuple[PRNGKey, Array]) -> tuple[Array, Array, Array]:
            x, known = with_context(batch[1], denoiser.channels)
            told, times = denoiser.conditioned(known), jnp.full(len(x), t)
            noise = jax.random.normal(batch[0], x.shape)
            found = told.output(schedule.mu(t) * x + schedule.sigma(t) * noise, times)
            target = told.parameterisation.target(x, noise, times[:, None, None], schedule)
            both, own = jnp.mean(target * found, axis=1), jnp.mean(found**2, axis=1)
            return both, own, jnp.mean(target**2, axis=1)

        found = jax.lax.map(of_batch, (jax.random.split(level[0], len(x)), x))
        both, own, target = (a.reshape(-1, a.shape[-1]) for a in found)
        slope = jnp.mean(both, axis=0) / jnp.maximum(
            jnp.mean(own, axis=0), jnp.finfo(jnp.float32).tiny
        )
        scatter = jnp.mean((both - slope * own) ** 2, axis=0)
        return jnp.mean(target, axis=0), jnp.mean(own, axis=0), slope, scatter

    return jax.lax.map(at_level, (keys, ratios))
