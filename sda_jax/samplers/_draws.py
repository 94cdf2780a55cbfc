"""What the samplers share: a whole draw, made of its steps."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from sda_jax.core._arrays import PRNGKey, Trajectory
from sda_jax.core._protocols import Denoiser, Sampler, Schedule


class Draws:
    """A sampler that has `begin`, `advance`, `end`, `level`, `levels` and `steps`."""

    def __call__(
        self: Sampler, key: PRNGKey, denoiser: Denoiser, shape: tuple[int, ...]
    ) -> Trajectory:
        """Draws one trajectory of `shape`, in the denoiser's units."""
        state, _ = self.advance(key, denoiser, self.begin(key, denoiser, shape), 0, self.steps)
        return self.end(denoiser, state)

    def evaluations(self: Sampler, schedule: Schedule) -> int:
        """Evaluations of the denoiser for one sample."""
        return sum(map(len, self.levels(schedule)))

    def diverged_at(
        self: Sampler, key: PRNGKey, denoiser: Denoiser, shape: tuple[int, ...]
    ) -> Float[Array, ""]:
        """The sigma/mu after whose step the draw of this key is no longer finite; NaN if it is."""
        _, finite = self.advance(key, denoiser, self.begin(key, denoiser, shape), 0, self.steps)
        return jnp.where(jnp.all(finite), jnp.nan, self.level(denoiser, jnp.argmin(finite)))
