"""Log densities by the probability-flow ODE."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sda_jax.core._arrays import PRNGKey, Trajectory
from sda_jax.core._batches import map_batches
from sda_jax.core._errors import ConfigError, whole_number
from sda_jax.core._keys import require_key
from sda_jax.core._numbers import real_array
from sda_jax.core._protocols import Denoiser
from sda_jax.diffusion._schedules import noise_ratio
from sda_jax.prior._prior import Prior, require_prior
from sda_jax.prior._trajectory_denoiser import trajectory_denoiser
from sda_jax.runtime._memory import Memory, require_memory


def log_prob(
    key: PRNGKey | None,
    prior: Prior,
    x: Trajectory,
    steps: int = 64,
    probes: int | None = None,
    memory: Memory = Memory(),
    context: Any = None,
) -> Float[Array, ""]:
    """Log density of a trajectory under a prior, in physical units.

    Args:
        key: Random key of the probes; None where traces are exact.
        prior: What trajectories look like.
        x: Trajectory `(L, *S)` in physical units.
        steps, probes: See `flow_log_prob`.
        memory: Its `window_chunk`, `window_stride` and `tile_chunk`.
        context: See `assimilate`.
    """
    require_prior(prior)
    require_memory(memory)
    x = jnp.asarray(real_array("x", x))
    if x.shape[1:] != tuple(prior.state_shape) or not x.size:
        expected = f"a trajectory (length, {', '.join(map(str, prior.state_shape))})"
        raise ConfigError("x", f"shape {x.shape}", expected, "For several use jax.vmap.")
    standardisation = prior.standardisation
    denoiser = trajectory_denoiser(prior, len(x), context, memory)
    scale = standardisation.scale(x)
    found = flow_log_prob(key, denoiser, standardisation.forward(x), steps, probes)
    return found - jnp.sum(jnp.log(scale))


def flow_log_prob(
    key: PRNGKey | None,
    denoiser: Denoiser,
    x: Trajectory,
    steps: int = 64,
    probes: int | None = None,
) -> Float[Array, ""]:
    """Log density at `x` of the distribution that a denoiser stands for, in its units: a prior's,
    or the posterior's that guidance makes.

    With `u = x_t / mu` and `l = log(sigma/mu)`, `du/dl = u - x_hat` moves x to noise, whose density
    is known, and `d log p / dl = tr(d x_hat / du) - n` counts the change of volume. Song et al.
    (2021), section 4.3. Integrated by the Runge-Kutta method of fourth order in even steps of l.
    The distribution is the data's with noise of the schedule's smallest sigma/mu; the noise at the
    other end is taken as normal of variance `1 + (sigma/mu)^2`.

    Args:
        key: Random key of the probes; None where traces are exact.
        denoiser: Of trajectories like x.
        x: Trajectory `(L, *S)`.
        steps: Of the integration, four evaluations and traces each.
        probes: Random directions that the traces are estimated from without bias (Hutchinson); None
            for exact traces, a JVP for each of the n elements of x.

    Raises:
        ConfigError: Probes without a key, or impossible numbers.
    """
    steps = whole_number("steps", steps)
    schedule, n = denoiser.schedule, x.size
    if probes is None:
        count, weight, key_probes = n, 1.0, None
    else:
        probes = whole_number("probes", probes)
        require_key(key)
        key_probes = key
        count, weight = probes, 1.0 / probes

    def direction(i: Array) -> Array:
        if key_probes is None:
            return jax.nn.one_hot(i, n, dtype=x.dtype).reshape(x.shape)
        return jax.random.rademacher(jax.random.fold_in(key_probes, i), x.shape, x.dtype)

    low, high = (jnp.log(noise_ratio(schedule, end)) for end in (0.0, 1.0))
    h = (high - low) / steps

    def slopes(u: Array, level: Array) -> tuple[Array, Array]:
        t = schedule.time(jnp.exp(level))
        mean, push = jax.linearize(lambda u: denoiser(schedule.mu(t) * u, t), u)

        def along_direction(i: Array) -> Array:
            d = direction(i)
            return jnp.vdot(d, push(d))

        along = map_batches(along_direction, jnp.arange(count), 64)
        return u - mean, weight * jnp.sum(along) - n

    def step(carry: tuple[Array, Array], i: Array) -> tuple[tuple[Array, Array], None]:
        u, change = carry
        level = low + i * h
        du1, dp1 = slopes(u, level)
        du2, dp2 = slopes(u + h / 2 * du1, level + h / 2)
        du3, dp3 = slopes(u + h / 2 * du2, level + h / 2)
        du4, dp4 = slopes(u + h * du3, level + h)
        u = u + h / 6 * (du1 + 2 * du2 + 2 * du3 + du4)
        return (u, change + h / 6 * (dp1 + 2 * dp2 + 2 * dp3 + dp4)), None

    start = (x / schedule.mu(0.0), jnp.zeros(()))
    (u, change), _ = jax.lax.scan(step, start, jnp.arange(steps))
    variance = 1 + jnp.exp(2 * high)
    noise = -0.5 * (jnp.sum(u**2) / variance + n * jnp.log(2 * jnp.pi * variance))
    # log p_0(u_0) = log p_T(u_T) + integral of (n - tr) dl; and u_0 = x / mu
    return noise - change - n * jnp.log(schedule.mu(0.0))
