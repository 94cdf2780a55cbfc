"""Where training segments come from."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from sda_jax.core._arrays import PRNGKey
from sda_jax.core._batches import map_batches
from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError, require_at_least
from sda_jax.core._protocols import System
from sda_jax.core._record import static
from sda_jax.data._simulation import advance, spun_up
from sda_jax.data._tiling import Tiling, cropped

AT_ONCE = 64  # trajectories, beyond which few simulators gain


def spun_up_states(key: PRNGKey, system: System, batch: int) -> PyTree[Array]:
    """Independent simulator states after the system's spin-up, stacked."""
    return jax.vmap(lambda k: spun_up(k, system))(jax.random.split(key, batch))


@runtime_checkable
class Source(Protocol):
    """Where training segments come from; its state lives on the device, in the train state.

    What is drawn on the device alone extends `DeviceSource` and writes `draw`.
    """

    def init(self, key: PRNGKey, batch: int) -> PyTree[Array]:
        """The state before the first draw; compiled."""
        ...

    def at(self, first: int, steps: int, then: int) -> DeviceSource:
        """What the block of `steps` training steps from step `first` on draws from; `then` is the
        number of steps in the block after it. Called on the host, once a block, where a source may
        read files and read ahead."""
        ...


class DeviceSource(ABC):
    """A source that draws on the device: a component, handed whole to the compiled training steps.

    One method is to be written, `draw`; the rest makes it a `Source`.
    """

    def init(self, key: PRNGKey, batch: int) -> PyTree[Array]:
        """The state before the first draw: nothing to remember, unless a source has something."""
        return ()

    @abstractmethod
    def draw(
        self, key: PRNGKey, state: PyTree[Array], batch: int, length: int
    ) -> tuple[PyTree[Array], Float[Array, "batch length *state"]]:
        """The next state and a batch of segments of `length` states, in physical units."""

    def at(self, first: int, steps: int, then: int) -> DeviceSource:
        """Itself, whatever the block."""
        return self


@component
class FromSimulator(DeviceSource):
    """Fresh segments for ever: as many running simulations as the batch has segments.

    The simulations run on for ever, so the segments have the system's stationary distribution: a
    system that keeps changing with its age wants a stored data set.

    Attributes:
        system: What to simulate.
    """

    system: Any

    def init(self, key: PRNGKey, batch: int) -> PyTree[Array]:
        """Spun-up simulator states."""
        return spun_up_states(key, self.system, batch)

    def draw(
        self, key: PRNGKey, state: PyTree[Array], batch: int, length: int
    ) -> tuple[PyTree[Array], Float[Array, "batch length *state"]]:
        """Runs every simulation on; segments of one simulation follow each other in time."""

        def one(key: PRNGKey, s: PyTree[Array]) -> tuple[PyTree[Array], Array]:
            return advance(key, self.system, s, length)

        return jax.vmap(one)(jax.random.split(key, batch), state)


@component
class Replay(DeviceSource):
    """Segments cut at random from a buffer of trajectories on the device that is refreshed as
    training goes on, for systems that are slower to simulate than a network is to train.

    One trajectory in `refresh` draws is replaced by what its simulation does next. They are
    replaced together, as many as are simulated at once, at most a quarter of the buffer, when that
    many are due: a simulator takes as long for one as for many. The simulations run on for ever,
    as those of `FromSimulator`. The buffer is part of the train state, and so of its checkpoints.

    Attributes:
        system: What to simulate.
        trajectories: In the buffer.
        length: States of each.
        refresh: Draws for each refreshed trajectory.
        chunk: Trajectories simulated at once, to fill the buffer and to refresh it; None for 64.
    """

    system: Any
    trajectories: int = static(256)
    length: int = static(64)
    refresh: int = static(16)
    chunk: int | None = static(None)

    def __post_init__(self) -> None:
        for name in ("trajectories", "length", "refresh", "chunk"):
            if getattr(self, name) is not None:
                require_at_least(name, getattr(self, name), 1)

    @property
    def together(self) -> int:
        """Trajectories that are refreshed at once."""
        return max(1, min(self._chunk, self.trajectories // 4))

    @property
    def _chunk(self) -> int:
        return min(AT_ONCE if self.chunk is None else self.chunk, self.trajectories)

    def init(self, key: PRNGKey, batch: int) -> PyTree[Array]:
        """The draws so far, the simulations' states and the full buffer."""

        def fill(key: PRNGKey) -> tuple[PyTree[Array], Array]:
            key_start, key_path = jax.random.split(key)
            start = spun_up(key_start, self.system)
            return advance(key_path, self.system, start, self.length)

        keys = jax.random.split(key, self.trajectories)
        simulations, buffer = map_batches(fill, keys, self._chunk)
        return jnp.zeros((), jnp.int32), simulations, buffer

    def draw(
        self, key: PRNGKey, state: PyTree[Array], batch: int, length: int
    ) -> tuple[PyTree[Array], Float[Array, "batch length *state"]]:
        """Segments from anywhere in the buffer; it is refreshed first when that is due."""
        count, simulations, buffer = state
        key_cut, key_path = jax.random.split(key)
        draws = self.refresh * self.together  # between two refreshments

        def one(key: PRNGKey, s: PyTree[Array]) -> tuple[PyTree[Array], Array]:
            return advance(key, self.system, s, self.length)

        def renew(simulations: PyTree[Array], buffer: Array) -> tuple[PyTree[Array], Array]:
            first = count // draws * self.together
            rows = (first + jnp.arange(self.together)) % self.trajectories
            s = jax.tree.map(lambda a: a[rows], simulations)
            s, x = jax.vmap(one)(jax.random.split(key_path, self.together), s)
            simulations = jax.tree.map(lambda a, b: a.at[rows].set(b), simulations, s)
            return simulations, buffer.at[rows].set(x)

        due = (count + 1) % draws == 0
        simulations, buffer = jax.lax.cond(
            due, renew, lambda *unchanged: unchanged, simulations, buffer
        )
        _, segments = FromArray(buffer).draw(key_cut, (), batch, length)
        return (count + 1, simulations, buffer), segments


@component
class FromArray(DeviceSource):
    """Segments cut at random from stored trajectories that lie on the device.

    Attributes:
        trajectories: `(n, L, *S)` in physical units.
    """

    trajectories: Float[Array, "n length *state"]

    def draw(
        self, key: PRNGKey, state: PyTree[Array], batch: int, length: int
    ) -> tuple[PyTree[Array], Float[Array, "batch length *state"]]:
        """Trajectory and start are uniform and independent."""
        n, total, *shape = self.trajectories.shape
        if length > total:
            raise ConfigError(
                "segment", length, f"at most {total}, the stored length", "Shorten the segments."
            )
        key_row, key_start = jax.random.split(key)
        rows = jax.random.randint(key_row, (batch,), 0, n)
        starts = jax.random.randint(key_start, (batch,), 0, total - length + 1)

        def cut(row: Array, start: Array) -> Array:
            origin = (row, start, *(0 for _ in shape))
            return jax.lax.dynamic_slice(self.trajectories, origin, (1, length, *shape))[0]

        return state, jax.vmap(cut)(rows, starts)


@component
class Moved(DeviceSource):
    """Segments of another source in a random place each, by the symmetries of a system.

    Attributes:
        source: A `DeviceSource`.
        system: With symmetries, a `Symmetric`.
    """

    source: Any
    system: Any

    def init(self, key: PRNGKey, batch: int) -> PyTree[Array]:
        """The other source's state."""
        return self.source.init(key, batch)

    def draw(
        self, key: PRNGKey, state: PyTree[Array], batch: int, length: int
    ) -> tuple[PyTree[Array], Float[Array, "batch length *state"]]:
        """The other source's segments, each moved."""
        key_drawn, key_moved = jax.random.split(key)
        state, x = self.source.draw(key_drawn, state, batch, length)
        return state, jax.vmap(self.system.moved)(jax.random.split(key_moved, batch), x)


@component
class Cropped(DeviceSource):
    """Segments of another source, each cut to a crop in a random place of its grid, with the
    context that its last channels are; crops wrap around periodic axes.

    Attributes:
        source: A `Source`.
        tiling: Crops and axes.
    """

    source: Any
    tiling: Tiling = static()

    def init(self, key: PRNGKey, batch: int) -> PyTree[Array]:
        """The other source's state."""
        return self.source.init(key, batch)

    def at(self, first: int, steps: int, then: int) -> Cropped:
        """Crops of what the other source draws from in this block."""
        return dataclasses.replace(self, source=self.source.at(first, steps, then))

    def draw(
        self, key: PRNGKey, state: PyTree[Array], batch: int, length: int
    ) -> tuple[PyTree[Array], Float[Array, "batch length *crop"]]:
        """Crops of the other source's segments."""
        key_drawn, key_cut = jax.random.split(key)
        state, x = self.source.draw(key_drawn, state, batch, length)
        return state, cropped(key_cut, self.tiling, x)
