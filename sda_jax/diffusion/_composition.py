"""From a denoiser of segments to a denoiser of trajectories (the paper's pseudo-blanket)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from sda_jax.core._arrays import PRNGKey, Time, Trajectory
from sda_jax.core._batches import map_batches
from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError, require_at_least
from sda_jax.core._protocols import Conditional, Schedule
from sda_jax.core._record import static
from sda_jax.diffusion._gaussian import covariance_times, draw_error
from sda_jax.diffusion._schedules import noise_ratio
from sda_jax.runtime._devices import along_time

SHARED = 3.0  # sigma/mu from which on it has the larger share; errors of the shipped flow prior


@component
class ComposedDenoiser:
    """Composes a denoiser of windows of `2k + 1` states into one of trajectories.

    State i takes the centre output of the window around it; the first k states take the first
    outputs of the first window, the last k the last outputs of the last. Rozet & Louppe (2023),
    algorithm 2.

    Attributes:
        denoiser: Denoiser of windows.
        window: `2k + 1`.
        chunk: Windows evaluated at once; None for all. With a number, the activations of one
            chunk are recomputed in the gradient, so that the peak memory is one chunk's.
        stride: States between the centres of neighbouring windows, at most k + 1. Beyond 1 fewer
            windows are evaluated and a state between two centres takes the mean of both windows'
            outputs, weighted linearly by closeness: cheaper, and less accurate.
    """

    denoiser: Any
    window: int = static()
    chunk: int | None = static(None)
    stride: int = static(1)

    def __post_init__(self) -> None:
        if self.window < 1 or self.window % 2 == 0:
            raise ConfigError("window", self.window, "an odd number of states", "Use 2k + 1.")
        if self.chunk is not None:
            require_at_least("chunk", self.chunk, 1)
        if not 1 <= self.stride <= self.window // 2 + 1:
            raise ConfigError(
                "stride",
                self.stride,
                f"from 1 to {self.window // 2 + 1} for windows of {self.window} states",
                "Lower it: neighbouring windows must cover the states between their centres.",
            )

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, x: Trajectory, t: Time) -> Trajectory:
        def composed(
            composition: ComposedDenoiser, t: Time, states: tuple[Array, Array | None]
        ) -> Array:
            x, context = states
            denoiser, starts = composition.denoiser, self._starts(x.shape[0])
            if context is None:
                cut = self._cut(x, starts)
                out = self._mapped(lambda segment: denoiser(segment, t), cut)
            else:

                def informed(both: tuple[Array, Array]) -> Array:
                    return denoiser.conditioned(both[1])(both[0], t)

                out = self._mapped(informed, (self._cut(x, starts), self._cut(context, starts)))
            if self.stride == 1:
                k = self.window // 2
                return jnp.concatenate([out[0, :k], out[:, k], out[-1, k + 1 :]])
            return _blend(out, starts)

        beyond = self.stride if self.stride > 1 else 0  # centres on both sides of a state
        bare, context = self, None
        if isinstance(self.denoiser, Conditional) and self.denoiser.context is not None:
            # of which a device wants its states' only
            context = self.denoiser.context
            bare = dataclasses.replace(self, denoiser=self.denoiser.conditioned(None))
        return bare._shared(composed, t, (x, context), self.window // 2 + beyond)

    def covariance_times(self, w: Trajectory, t: Time) -> Trajectory:
        """`covariance_times` of the windows, averaged over those that hold both states of a
        covariance and tapered by how few they are: symmetric and positive, which the composition
        of the denoiser's own would not be."""

        def composed(composition: ComposedDenoiser, t: Time, w: Array) -> Array:
            starts = self._starts(w.shape[0])
            weight = self._taper(starts, w.shape)
            cut = self._cut(weight * w, starts)
            out = self._mapped(
                lambda segment: covariance_times(composition.denoiser, segment, t), cut
            )
            return weight * self._sum(out, starts, w.shape)

        return self._shared(composed, t, w, 2 * self.window - 1)

    def draw_error(self, key: PRNGKey, shape: tuple[int, ...], t: Time) -> Trajectory:
        """A draw from the normal distribution of mean zero and the covariance that
        `covariance_times` applies: independent ones of the windows, tapered and added."""

        def composed(
            composition: ComposedDenoiser, given: tuple[PRNGKey, Time], indices: Array
        ) -> Array:
            (key, t), starts = given, self._starts(len(indices))
            one, here = (self.window, *shape[1:]), (len(indices), *shape[1:])
            keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(indices[starts])
            out = self._mapped(lambda key: draw_error(key, composition.denoiser, one, t), keys)
            return self._taper(starts, here) * self._sum(out, starts, here)

        return self._shared(composed, (key, t), jnp.arange(shape[0]), 2 * self.window - 1)

    def _shared(
        self, composed: Callable, given: PyTree, states: PyTree[Array], reach: int
    ) -> Trajectory:
        """Evaluated by every device for its own states, from `reach` more on either side."""
        reach = -(-reach // self.stride) * self.stride

        def one(given: tuple[ComposedDenoiser, Any], states: PyTree[Array]) -> Array:
            return composed(*given, states)

        return along_time(one, (self, given), states, reach, self.stride)

    def _taper(self, starts: np.ndarray, shape: tuple[int, ...]) -> Array:
        """One over the root of the number of windows that hold a state."""
        rows = starts[:, None] + np.arange(self.window)
        share = 1 / np.sqrt(np.bincount(rows.ravel(), minlength=shape[0]))
        return jnp.asarray(share, jnp.float32).reshape(-1, *(1,) * (len(shape) - 1))

    def _sum(self, out: Array, starts: np.ndarray, shape: tuple[int, ...]) -> Trajectory:
        rows = starts[:, None] + np.arange(self.window)
        return jnp.zeros(shape, out.dtype).at[rows].add(out)

    def _starts(self, length: int) -> np.ndarray:
        """First states of the windows."""
        width = self.window
        last = length - width
        if last < 0:
            raise ConfigError(
                "length", length, f"at least the prior's window of {width} states", "Raise length."
            )
        return np.append(np.arange(0, last, self.stride), last)

    def _cut(self, x: Trajectory, starts: np.ndarray) -> Float[Array, "windows window *state"]:
        if self.stride == 1:
            return jnp.stack([x[i : i + len(starts)] for i in range(self.window)], axis=1)
        return jnp.stack([x[i : i + self.window] for i in starts])

    def _mapped(self, one: Callable[[Any], Array], cut: PyTree[Array]) -> Array:
        if self.chunk is None:
            return jax.vmap(one)(cut)
        return map_batches(jax.checkpoint(one), cut, self.chunk)


@component
class LongRange:
    """A composition of windows that is told what the states beyond them say, as far as a linear
    estimate knows: `x_hat = D(x_t) + share (G(x_t) - g(x_t))`, D and g the network and the linear
    estimate of windows, G that of whole trajectories, `share = r^2 / (r^2 + shared^2)`, `r` =
    sigma/mu.

    A window that is drowned in noise says less of its centre than the states beyond it would, and a
    composition of windows alone gives trajectories too little variance. At low noise a network
    knows from its window more than any linear estimate from all states.

    Attributes:
        windows: `ComposedDenoiser` of the network.
        local: `ComposedDenoiser` of the linear estimate of windows.
        linear: Linear denoiser of trajectories.
        shared: sigma/mu from which on it has the larger share.
        errors: Denoiser of trajectories whose errors are taken; None for the windows'.
    """

    windows: Any
    local: Any
    linear: Any
    shared: float = SHARED
    errors: Any = None

    @property
    def schedule(self) -> Schedule:
        return self.windows.schedule

    def __call__(self, x: Trajectory, t: Time) -> Trajectory:
        squared = noise_ratio(self.schedule, t) ** 2
        share = squared / (squared + self.shared**2)
        return self.windows(x, t) + share * (self.linear(x, t) - self.local(x, t))

    def covariance_times(self, w: Trajectory, t: Time) -> Trajectory:
        """`covariance_times` of `errors`."""
        return (self.windows if self.errors is None else self.errors).covariance_times(w, t)

    def draw_error(self, key: PRNGKey, shape: tuple[int, ...], t: Time) -> Trajectory:
        """`draw_error` of `errors`."""
        return (self.windows if self.errors is None else self.errors).draw_error(key, shape, t)


def _blend(out: Float[Array, "windows window *state"], starts: np.ndarray) -> Trajectory:
    """Trajectory from the outputs of the windows that begin at the states `starts`."""
    width = out.shape[1]
    states = np.arange(starts[-1] + width)
    # windows left and right of a state by their centres; the outermost ones at the ends
    right = np.searchsorted(starts + width // 2, states).clip(0, len(starts) - 1)
    left = np.where(states < starts[right] + width // 2, right - 1, right).clip(0)
    gap = np.maximum(starts[right] - starts[left], 1)
    weight = ((states - starts[left] - width // 2) / gap).clip(0, 1) * (right > left)
    weight = jnp.asarray(weight, out.dtype).reshape(-1, *(1,) * (out.ndim - 2))
    # where the weight is zero the state may lie outside that window
    ahead = (states - starts[right]).clip(0, width - 1)
    behind = (states - starts[left]).clip(0, width - 1)
    return (1 - weight) * out[left, behind] + weight * out[right, ahead]
