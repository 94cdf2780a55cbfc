"""Training segments from a user's files, read ahead while the device trains."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from sda_jax.core._arrays import PRNGKey
from sda_jax.core._component import component
from sda_jax.core._errors import ResourceError
from sda_jax.data._archive import Archive
from sda_jax.data._sources import DeviceSource
from sda_jax.data._survey import Survey, runs
from sda_jax.data._tiling import Tiling
from sda_jax.runtime._devices import BATCH, sharding
from sda_jax.runtime._memory import free_bytes
from sda_jax.runtime._room import GIB

CACHED = 2**29  # bytes of an archive up to which it is kept in memory
CUTS = 8  # segments cut from one stretch that is read at once
STRETCH = 4  # its length in segments


@component
class FromBlock(DeviceSource):
    """The segments of a block of training steps, in order.

    Attributes:
        segments: `(steps, batch, L, *S)` in physical units, the context as last channels.
        first: The step of the first.
    """

    segments: Float[Array, "steps batch length *state"]
    first: Array | int

    def init(self, key: PRNGKey, batch: int) -> Array:
        """The steps taken so far."""
        return jnp.zeros((), jnp.int32)

    def draw(
        self, key: PRNGKey, state: Array, batch: int, length: int
    ) -> tuple[Array, Float[Array, "batch length *state"]]:
        """Those of the step that `state` counts to."""
        return state + 1, self.segments[state - self.first]


class Feed:
    """The source of segments of an archive, a block of training steps at a time.

    The next block is read in a thread of its own while the device works on this one. What a block
    holds depends on the key and its first step alone. A block is cut from stretches a few segments
    long, chosen at random, so that files are read in runs; an archive that fits a small share of
    memory is read once and kept.

    Args:
        archive: The files.
        survey: What is known of them.
        key: Random key of the choice of segments.
        batch: Segments per step.
        length: States of each.
        part: "train", "valid" or "test".
        tiling: Of which each segment is a crop, in a random place; None for whole grids.

    Raises:
        ConfigError: No stretch of that part is long enough, or the grid is smaller than a crop.
    """

    def __init__(
        self,
        archive: Archive,
        survey: Survey,
        key: PRNGKey,
        batch: int,
        length: int,
        part: str = "train",
        tiling: Tiling | None = None,
    ):
        self.archive, self.layout, self.tiling = archive, survey.layout, tiling
        space = self.layout.state_shape[:-1]
        self.space = space if tiling is None else tiling.shape(space)
        self.batch, self.length = batch, length
        self.words = np.asarray(jax.random.key_data(key)).ravel().tolist()
        self.runs = runs(archive, survey, part, length)
        self.starts = np.array([last - first - length + 1 for _, first, last in self.runs], float)
        usual = jnp.zeros(len(survey.layout.channels))
        self.mean = np.asarray(survey.standardisation.inverse(usual), np.float32)
        size = 4 * sum(last - first for _, first, last in self.runs)
        self.kept: list[np.ndarray] | None = None
        if size * int(np.prod(self.layout.state_shape)) <= CACHED:
            self.kept = [archive.read(*run) for run in self.runs]
        self.reader = ThreadPoolExecutor(1, "reader")
        self.ahead: tuple[tuple[int, int], Future[np.ndarray]] | None = None

    def init(self, key: PRNGKey, batch: int) -> Array:
        """See `FromBlock.init`."""
        return jnp.zeros((), jnp.int32)

    def at(self, first: int, steps: int, then: int) -> FromBlock:
        """The block of `steps` steps from `first` on; `then` steps after it are read ahead.

        Raises:
            ResourceError: It takes more than a quarter of the free memory.
        """
        self.require_room(steps, "training.block")
        if self.ahead is None or self.ahead[0] != (first, steps):
            self.ahead = ((first, steps), self.reader.submit(self.segments, first, steps))
        segments = self.ahead[1].result()
        self.ahead = None
        if then:
            following = (first + steps, then)
            self.ahead = (following, self.reader.submit(self.segments, *following))
        return FromBlock(jax.device_put(segments, sharding(PartitionSpec(None, BATCH))), first)

    def segments(self, first: int, steps: int) -> Float[np.ndarray, "steps batch length *state"]:
        """The segments of `steps` steps from `first` on."""
        rng = np.random.default_rng((*self.words, first))
        count, length = steps * self.batch, self.length
        shape = (*self.space, len(self.mean) + self.layout.context_channels)
        origins = self.origins(first, steps)
        out = np.empty((count, length, *shape), np.float32)
        order = rng.permutation(count)
        chances = self.starts / self.starts.sum()
        for done in range(0, count, CUTS):
            places = order[done : done + CUTS]
            # a start anywhere, and the stretch around it
            run = int(rng.choice(len(self.runs), p=chances))
            _, begin, end = self.runs[run]
            start = begin + int(rng.integers(self.starts[run]))
            room = STRETCH * length if self.kept is None else end - begin
            low = max(begin, min(start - (room - length) // 2, end - room))
            high = min(end, low + room)
            x = self._stretch(run, low, high)
            for place_, cut in zip(
                places, rng.integers(high - low - length + 1, size=len(places)), strict=True
            ):
                segment = x[cut : cut + length]
                if self.tiling is not None and origins is not None:
                    segment = self.tiling.cut_on_host(segment, origins[place_])
                out[place_] = segment
        return out.reshape(steps, self.batch, length, *shape)

    def origins(self, first: int, steps: int) -> Int[np.ndarray, "n axes"] | None:
        """First points of the crops that the segments of `steps` steps from `first` on are; None
        for whole grids."""
        if self.tiling is None:
            return None
        rng = np.random.default_rng((*self.words, first, steps))
        return self.tiling.random_origins(rng, steps * self.batch, self.layout.state_shape[:-1])

    def _stretch(self, run: int, first: int, last: int) -> np.ndarray:
        """States without holes, with their context."""
        i, begin, _ = self.runs[run]
        if self.kept is not None:
            x = self.kept[run][first - begin : last - begin]
        else:
            x = self.archive.read(i, first, last)
        x = np.where(np.isnan(x), self.mean, x)
        if not self.layout.context_channels:
            return x
        known = self.layout.context(self.archive.times[i][first:last])
        return np.concatenate([x, known], axis=-1)

    def valid(self, steps: int) -> Bool[np.ndarray, ...]:
        """Where the segments of the first `steps` steps have values: of a state, or `(steps, batch,
        1, *crop)` of crops."""
        origins = self.origins(0, steps)
        if self.tiling is None or origins is None:
            return self.layout.valid
        crops = [self.tiling.cut_on_host(self.layout.valid, origin) for origin in origins]
        return np.stack(crops).reshape(steps, self.batch, 1, *crops[0].shape)

    def require_room(self, steps: int, argument: str) -> None:
        """Raises `ResourceError` if so many batches take more than a quarter of the memory that is
        free; `argument` is what asks for them."""
        channels = len(self.mean) + self.layout.context_channels
        segment = 4 * self.length * int(np.prod(self.space)) * channels
        needed, free = 3 * steps * self.batch * segment, free_bytes()  # this one and the next
        if free is not None and needed > free / 4:
            raise ResourceError(
                argument,
                f"{steps} batches, which take {needed / GIB:.1f} GiB with those read ahead",
                f"a quarter of the {free / GIB:.1f} GiB that are free",
                f"Lower {argument} or training.batch.",
            )
