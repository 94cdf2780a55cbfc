"""From a denoiser of segments to a denoiser of trajectories (the pseudo-blanket)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sda_jax.errors import ConfigError, require_at_least
from sda_jax.prior import Prior
from sda_jax.types import Denoiser, Schedule, Time, Trajectory, component, static


@component
class Blanket:
    """Composes a denoiser of windows of `2k + 1` states into one of trajectories.

    State i takes the centre output of the window around it; the first k states take the first
    outputs of the first window, the last k the last outputs of the last. Rozet & Louppe (2023),
    algorithm 2.

    Attributes:
        denoiser: Denoiser of windows.
        window: `2k + 1`.
        chunk: Windows evaluated at once; None for all. With a number, the activations of one
            chunk are recomputed in the gradient, so that the peak memory is one chunk's.
    """

    denoiser: Any
    window: int = static()
    chunk: int | None = static(None)

    def __post_init__(self) -> None:
        if self.window < 1 or self.window % 2 == 0:
            raise ConfigError("window", self.window, "an odd number of states", "Use 2k + 1.")
        if self.chunk is not None:
            require_at_least("chunk", self.chunk, 1)

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, x: Trajectory, t: Time) -> Trajectory:
        length, width = x.shape[0], self.window
        k, windows = width // 2, length - width + 1
        if windows < 1:
            raise ConfigError(
                "length", length, f"at least the prior's window of {width} states", "Raise length."
            )
        cut = jnp.stack([x[i : i + windows] for i in range(width)], axis=1)

        def one(segment: Array) -> Array:
            return self.denoiser(segment, t)

        if self.chunk is None:
            out = jax.vmap(one)(cut)
        else:
            out = jax.lax.map(jax.checkpoint(one), cut, batch_size=self.chunk)
        return jnp.concatenate([out[0, :k], out[:, k], out[-1, k + 1 :]])


def trajectory_denoiser(prior: Prior, chunk: int | None = None) -> Denoiser:
    """The prior's denoiser of whole trajectories: composed if its network is local.

    Raises:
        ConfigError: `chunk` given for a network that has no windows.
    """
    if prior.window is None and chunk is not None:
        raise ConfigError(
            "window_chunk",
            chunk,
            "None: this prior's network takes whole trajectories",
            "Bound the memory with chunk, the members sampled at once.",
        )
    if prior.window is None:
        return prior.denoiser
    return Blanket(prior.denoiser, prior.window, chunk)
