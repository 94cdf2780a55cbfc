"""The layout of states that were read from files: channels, axes, times and mask."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from sda_jax.core._errors import ConfigError, require_choice
from sda_jax.core._record import record, static
from sda_jax.data._conventions import is_longitude
from sda_jax.data._times import DAY, YEARS, alike, months_from, to_dates, to_numbers

CYCLES = ("day", "year")
WAVES = ("cos", "sin")  # of an angle, as the names of its channels end


@record
class Channel:
    """One number of a state at every point.

    Attributes:
        name: The variable's name in its files.
        units, long_name, standard_name: Its attributes there.
        at: Where it lies along dimensions that are neither time nor space: pairs of a dimension's
            name and a coordinate (a pressure level, a station).
        circular: Of the cosine or the sine of an angle: the angle's name, its full turn, its units.
    """

    name: str = static()
    units: str = static("")
    long_name: str = static("")
    standard_name: str = static("")
    at: tuple[tuple[str, Any], ...] = static(())
    circular: tuple[str, float, str] | None = static(None)

    @property
    def variable(self) -> str:
        """Of the files."""
        return self.name if self.circular is None else self.circular[0]

    @property
    def wave(self) -> str:
        """Of an angle's channel, which of `WAVES` it is."""
        return self.name[-len(WAVES[0]) :]

    @property
    def label(self) -> str:
        """Such as `t[level=850.0]`."""
        where = ", ".join(f"{dimension}={value}" for dimension, value in self.at)
        return f"{self.name}[{where}]" if where else self.name


@record
class Axis:
    """A dimension of space.

    Attributes:
        name: Its name in the files.
        coordinates: Of its points, rising or falling.
        units, standard_name: Of the coordinates.
        period: What is added to a coordinate to come to the same place again; None for an axis
            with two ends.
    """

    name: str = static()
    coordinates: tuple[float, ...] = static()
    units: str = static("")
    standard_name: str = static("")
    period: float | None = static(None)

    @property
    def is_longitude(self) -> bool:
        """Whether a meridian has more than one name."""
        return is_longitude(self.name, self.units, self.standard_name)

    @property
    def extent(self) -> str:
        """From the first point to the last, for people."""
        return f"{self.coordinates[0]:g} to {self.coordinates[-1]:g} {self.units}".rstrip()


@record
class Constant:
    """A field without time that is part of the context: orography, depth, roughness.

    Attributes:
        name: Its name in the files.
        packed: Its values at the points, less their mean and over their standard deviation, 0 where
            there are none: float32, little-endian, in row-major order, hexadecimal.
    """

    name: str = static()
    packed: str = static()

    @property
    def values(self) -> Float[np.ndarray, " points"]:
        """At the points, in row-major order."""
        return np.frombuffer(bytes.fromhex(self.packed), "<f4")


@record
class Layout:
    """The form of states that were read from files.

    Attributes:
        channels: In order, the last axis of a state.
        axes: Of space, in order, before it.
        time: The time dimension's name.
        step: Between two states: seconds, or in `time_units` where times are plain numbers; the
            mean where it is of months.
        months: Between two states, where they are whole calendar months; otherwise 0.
        calendar: Of the times (CF conventions); None where they are plain numbers.
        time_units: Of times that are plain numbers.
        mask: The elements of a state that never have a value (land in an ocean's data), packed
            by `pack`; None if there are none.
        constants: Fields without time that are part of the context.
        cycles: Phases of the time that are part of the context, "day" and "year": sine and cosine.
        trend: The times that the context counts as -1 and 1, and before and after them; None where
            it does not know the time.
    """

    channels: tuple[Channel, ...] = static()
    axes: tuple[Axis, ...] = static(())
    time: str = static("time")
    step: float = static(1.0)
    months: int = static(0)
    calendar: str | None = static(None)
    time_units: str = static("")
    mask: str | None = static(None)
    constants: tuple[Constant, ...] = static(())
    cycles: tuple[str, ...] = static(())
    trend: tuple[float, float] | None = static(None)

    def __post_init__(self) -> None:
        for cycle in self.cycles:
            require_choice("cycles", cycle, CYCLES)
        if self.cycles and self.calendar is None:
            raise ConfigError(
                "cycles", self.cycles, "none: the times are numbers without a date", "Leave it out."
            )

    @property
    def state_shape(self) -> tuple[int, ...]:
        """`(*space, channels)`."""
        return (*(len(axis.coordinates) for axis in self.axes), len(self.channels))

    @property
    def valid(self) -> Bool[np.ndarray, "*state"]:
        """Where a state has values."""
        shape = self.state_shape
        if self.mask is None:
            return np.ones(shape, bool)
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(self.mask), np.uint8))
        return ~bits[: int(np.prod(shape))].astype(bool).reshape(shape)

    @property
    def context_channels(self) -> int:
        """Channels of `context`."""
        ends = sum(axis.period is None for axis in self.axes)
        masked = int(self.mask is not None and bool(self.axes))
        spatial = ends + masked + len(self.constants)
        return spatial + self.temporal_channels

    @property
    def temporal_channels(self) -> int:
        """Of these, the last ones, which are the same everywhere in space."""
        return (self.trend is not None) + 2 * len(self.cycles)

    def context(self, times: Float[np.ndarray, " length"]) -> Float[np.ndarray, " length *known"]:
        """What a network takes as context of states at these times: the place along axes with two
        ends, from -1 to 1; where there are values; the constants; the time; the cycles' phases.

        Returns:
            `(length, *space, context_channels)`, of magnitude one.
        """
        space = self.state_shape[:-1]
        fields = []
        for i, axis in enumerate(self.axes):
            if axis.period is None:
                places = np.linspace(-1, 1, space[i]).reshape(
                    [-1 if j == i else 1 for j in range(len(space))]
                )
                fields.append(np.broadcast_to(places, space))
        if self.mask is not None and self.axes:
            fields.append(2.0 * self.valid.mean(axis=-1) - 1)
        fields += [constant.values.reshape(space) for constant in self.constants]
        shape = (len(times), *space)
        known = [np.broadcast_to(field, shape) for field in fields]

        def everywhere(series: np.ndarray) -> np.ndarray:
            return np.broadcast_to(series.reshape(-1, *(1 for _ in space)), shape)

        if self.trend is not None:
            known.append(everywhere(np.interp(times, self.trend, (-1.0, 1.0))))
        for cycle in self.cycles:
            days = 1.0 if cycle == "day" else YEARS.get(str(self.calendar), 365.2425)
            phase = 2 * np.pi * np.asarray(times, float) / (DAY * days)
            known += [everywhere(wave) for wave in (np.sin(phase), np.cos(phase))]
        if not known:
            return np.zeros((*shape, 0), np.float32)
        return np.stack(known, axis=-1).astype(np.float32)

    def times(self, start: float, length: int) -> Float[np.ndarray, " length"]:
        """Of `length` states from `start` on; months apart, on the same day of each, or on the last
        day of each if the first state is of a last day."""
        if not self.months:
            return start + self.step * np.arange(length)
        return months_from(start, self.months, length, str(self.calendar))

    def places(
        self, times: Float[np.ndarray, " n"], start: float, length: int
    ) -> Float[np.ndarray, " n"]:
        """Where times lie among `length` states from `start` on, counted in states."""
        grid = self.times(start, length + 1)
        k = np.clip(np.searchsorted(grid, times, side="right") - 1, 0, length - 1)
        return k + (times - grid[k]) / (grid[k + 1] - grid[k])

    def number(self, text: Any, argument: str) -> float:
        """A time that a user wrote, as a number.

        Raises:
            ObservationError: It is no time of this calendar.
        """
        return float(self.numbers(np.array([text], object), argument)[0])

    def numbers(self, values: Any, argument: str) -> Float[np.ndarray, " n"]:
        """Times of a column or of a coordinate: seconds since 1970, or the numbers that they are.

        Times without a zone are taken as UTC.

        Args:
            values: Texts, dates or numbers.
            argument: What they are, for messages: file and column.

        Raises:
            ObservationError: They are no times of this calendar, naming the first; or some have a
                zone and others none.
        """
        return to_numbers(values, self.calendar, self.time_units, argument)

    def dates(self, numbers: Float[np.ndarray, " n"]) -> np.ndarray:
        """Times for files and people: `datetime64`, dates of another calendar, or numbers."""
        return to_dates(numbers, self.calendar)

    def written(self, number: float) -> str:
        """One time for people."""
        if self.calendar is None:
            return f"{number:g} {self.time_units}".rstrip()
        date = self.dates(np.array([number]))[0]
        return str(np.datetime_as_string(date, "s") if isinstance(date, np.datetime64) else date)


def rounding(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """How far coordinates in single precision may be from those meant: files and tables have such,
    whatever they say."""
    return np.finfo(np.float32).eps * np.abs(values)


def pack(missing: Bool[np.ndarray, "*state"]) -> str | None:
    """A mask as text: bits in row-major order, hexadecimal; None if nothing is missing."""
    return np.packbits(missing.ravel()).tobytes().hex() if missing.any() else None


def differing(one: Layout, other: Layout) -> tuple[str, str, str] | None:
    """What differs between the layouts of two files, and what it is in the second and the first."""
    names = [[c.label for c in layout.channels] for layout in (one, other)]
    if names[0] != names[1]:
        return "the variables", ", ".join(names[1]), ", ".join(names[0])
    for a, b in zip(one.channels, other.channels, strict=True):
        if a.units != b.units:
            return f"the units of {a.label}", b.units or "none", a.units or "none"
    names = [[a.name for a in layout.axes] for layout in (one, other)]
    if names[0] != names[1]:
        return "the dimensions of space", ", ".join(names[1]), ", ".join(names[0])
    for a, b in zip(one.axes, other.axes, strict=True):
        same = len(a.coordinates) == len(b.coordinates) and np.allclose(
            a.coordinates, b.coordinates, rtol=1e-5, atol=rounding(np.array(a.coordinates)).max()
        )
        if a.units != b.units or not same:
            return "the grid", _described(b), _described(a)
    if (alike(one.calendar), one.time_units) != (alike(other.calendar), other.time_units):
        return (
            "the calendar",
            f"{other.calendar or other.time_units}",
            f"{one.calendar or one.time_units}",
        )
    return None


def _described(axis: Axis) -> str:
    return f"{axis.name} {axis.extent}, {len(axis.coordinates)} points"
