"""A prior's denoiser of whole trajectories."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from sda_jax.core._errors import ConfigError
from sda_jax.core._loaded import is_open
from sda_jax.core._numbers import real_array
from sda_jax.core._protocols import Denoiser
from sda_jax.diffusion._composition import ComposedDenoiser, LongRange
from sda_jax.diffusion._denoisers import NetworkDenoiser
from sda_jax.diffusion._fields import FieldPreconditioned
from sda_jax.diffusion._linear_base import LinearEstimate
from sda_jax.diffusion._spectral import LinearDenoiser, SpectralPreconditioned
from sda_jax.diffusion._tiles import TiledDenoiser
from sda_jax.prior._prior import Prior
from sda_jax.runtime._memory import Memory

HORIZON = 17  # states that the linear estimate of fields sees at once


def trajectory_denoiser(
    prior: Prior,
    length: int,
    context: Any = None,
    memory: Memory = Memory(),
) -> Denoiser:
    """The prior's denoiser of whole trajectories: composed of windows if its network is local in
    time, and of tiles if it was trained on crops.

    Args:
        prior: What trajectories look like.
        length: Their states.
        context: What the prior is conditioned on, in physical units; broadcasts against
            `(length, *space, channels)`.
        memory: Its `window_chunk`, `window_stride` and `tile_chunk`.

    Raises:
        ConfigError: They are given for a network that has no windows or no tiles; a context that
            is missing, not asked for or of the wrong shape.
    """
    chunk, stride = memory.window_chunk, memory.window_stride
    if prior.tiling is None and memory.tile_chunk is not None:
        raise ConfigError(
            "tile_chunk",
            memory.tile_chunk,
            "None: this prior's network was not trained on crops",
            "Leave it out, or train it with training.crop.",
        )
    if prior.window is None and stride != 1:
        raise ConfigError(
            "window_stride",
            stride,
            "1: this prior's network takes whole trajectories",
            "Leave it out.",
        )
    if prior.window is None and chunk is not None:
        raise ConfigError(
            "window_chunk",
            chunk,
            "None: this prior's network takes whole trajectories",
            "Bound the memory with memory.chunk, the members sampled at once.",
        )
    denoiser = prior.denoiser
    if isinstance(denoiser, NetworkDenoiser):
        denoiser = denoiser.of_length(prior.window or length)
    if context is not None or prior.context is not None:
        known = _standardised(prior, length, context)
        denoiser = denoiser.conditioned(known)
    if prior.tiling is not None:
        denoiser = TiledDenoiser(denoiser, prior.tiling, memory.tile_chunk)
    if prior.window is None:
        return denoiser
    windows = ComposedDenoiser(denoiser, prior.window, chunk, stride)
    distribution = denoiser.parameterisation if isinstance(denoiser, NetworkDenoiser) else None
    if isinstance(distribution, FieldPreconditioned) and prior.window < length:
        return _whole_fields(windows, distribution, length)
    reach = min(length, HORIZON)
    if not isinstance(distribution, SpectralPreconditioned) or prior.window >= reach:
        return windows
    local = ComposedDenoiser(
        LinearDenoiser(distribution, denoiser.schedule), prior.window, chunk, stride
    )
    whole = distribution.extended(prior.window, reach)
    linear = LinearDenoiser(whole, denoiser.schedule)
    if length > HORIZON:
        linear = ComposedDenoiser(linear, HORIZON, chunk, HORIZON // 4)
    return LongRange(windows, local, linear)


def _whole_fields(windows: ComposedDenoiser, known: FieldPreconditioned, length: int) -> Denoiser:
    """The network's departures from the linear estimates of its windows, added to the linear
    estimate of as many states as lags reach."""
    reach = min(length, len(jnp.asarray(known.lags)))
    if reach <= windows.window:
        return windows
    schedule, context = windows.schedule, windows.denoiser.context
    local = dataclasses.replace(windows, denoiser=LinearEstimate(known, schedule, context))
    linear: Any = LinearEstimate(known.of_length(reach), schedule, context)
    if context is not None:
        linear = linear.conditioned(context)
    if length > reach:
        linear = ComposedDenoiser(linear, reach, windows.chunk, max(reach // 4, 1))
    return LongRange(windows, local, linear, 0.0, linear)


def _standardised(prior: Prior, length: int, context: Any) -> Array:
    if prior.context is None:
        raise ConfigError(
            "context",
            f"a {type(context).__name__}",
            "none: this prior was trained without",
            "Leave it out.",
        )
    shape = (length, *prior.state_shape[:-1], prior.denoiser.channels)
    expected = f"numbers that broadcast against {shape}: states, space, channels"
    remedy = "Pass what the prior was trained with."
    if context is None:
        raise ConfigError("context", None, expected, remedy)
    given = real_array("context", context)
    try:
        known = jnp.broadcast_to(jnp.asarray(given, jnp.float32), shape)
    except (TypeError, ValueError) as error:
        raise ConfigError("context", f"shape {jnp.shape(given)}", expected, remedy) from error
    if not is_open(known) and not np.isfinite(np.asarray(given)).all():
        got = "values that are missing or not finite"
        raise ConfigError("context", got, "finite numbers", "Fill them in.")
    return prior.context.forward(known)
