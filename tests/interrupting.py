"""Computations that are interrupted anywhere, as a kill would, and counted."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sda_jax.core._component import component
from sda_jax.core._record import static
from sda_jax.diffusion._gaussian import covariance_times, draw_error


class Switch:
    """Counts evaluations, of all members of a block at once, and fails after the last one that is
    allowed."""

    def __init__(self):
        self.calls, self.last = 0, np.inf

    def __call__(self, x):
        self.calls += 1
        if self.calls > self.last:
            raise RuntimeError("interrupted")
        return np.zeros(np.shape(x), np.float32)


@component
class Interruptible:
    """Another denoiser, of which each evaluation may be the last."""

    denoiser: Any
    switch: Switch = static()

    @property
    def schedule(self):
        return self.denoiser.schedule

    def __call__(self, x, t):
        first = jax.lax.stop_gradient(x.reshape(-1)[0])
        like = jax.ShapeDtypeStruct((), jnp.float32)
        zero = jax.pure_callback(self.switch, like, first, vmap_method="broadcast_all")
        return self.denoiser(x, t) + jax.lax.stop_gradient(zero)

    def covariance_times(self, w, t):
        return covariance_times(self.denoiser, w, t)

    def draw_error(self, key, shape, t):
        return draw_error(key, self.denoiser, shape, t)


def interruptible(prior):
    """The prior and its switch."""
    switch = Switch()
    return dataclasses.replace(prior, denoiser=Interruptible(prior.denoiser, switch)), switch


def interrupted(switch, evaluations, do):
    """Whether `do()` was interrupted after so many evaluations of its denoiser."""
    switch.last = switch.calls + evaluations
    try:
        do()
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # as JAX passes it on
        if "RuntimeError: interrupted" not in str(error):
            raise
        return True
    finally:
        switch.last = np.inf
    return False
