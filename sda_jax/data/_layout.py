"""What the channels, axes and times of a user's own states are called, and where they lie."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from sda_jax.core._component import component, static
from sda_jax.core._errors import ConfigError, ObservationError, require_choice

EPOCH = "seconds since 1970-01-01"
STANDARD = ("standard", "gregorian", "proleptic_gregorian")
DAY = 86400.0  # seconds
CYCLES = ("day", "year")
YEARS = {
    "360_day": 360.0, "noleap": 365.0, "365_day": 365.0, "all_leap": 366.0, "366_day": 366.0,
    "julian": 365.25,
}  # fmt: skip
ISO = re.compile(
    r"(\d{4})-(\d{2})(?:-(\d{2})(?:[T ](\d{2})(?::(\d{2})(?::(\d{2}(?:\.\d+)?))?)?)?)?"
    r"(Z|[+-]\d{2}:?\d{2})?"
)


@component
class Channel:
    """One number of a state at every point.

    Attributes:
        name: The variable's name in its files.
        units, long_name, standard_name: Its attributes there.
        at: Where it lies along dimensions that are neither time nor space: pairs of a dimension's
            name and a coordinate (a pressure level, a station).
    """

    name: str = static()
    units: str = static("")
    long_name: str = static("")
    standard_name: str = static("")
    at: tuple[tuple[str, Any], ...] = static(())

    @property
    def label(self) -> str:
        """Such as `t[level=850.0]`."""
        where = ", ".join(f"{dimension}={value}" for dimension, value in self.at)
        return f"{self.name}[{where}]" if where else self.name


@component
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
    def extent(self) -> str:
        """From the first point to the last, for people."""
        return f"{self.coordinates[0]:g} to {self.coordinates[-1]:g} {self.units}".rstrip()


@component
class Constant:
    """A field without time that the network is told of: orography, depth, roughness.

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


def _same_day(day: int, days: np.ndarray) -> np.ndarray:
    """The day of each month, given that of the first and how many each has: the last one of a month
    stays the last."""
    return np.where(day == days[0], days, np.minimum(day, days))


@component
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
        constants: What the network is told of the points.
        cycles: What the network is told of the time, "day" and "year": the phase's sine and cosine.
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
        return ends + masked + len(self.constants) + 2 * len(self.cycles)

    def context(self, times: Float[np.ndarray, " length"]) -> Float[np.ndarray, " length *known"]:
        """What a network is told of states at these times: the place along axes with two ends, from
        -1 to 1; where there are values; the constants; the phases of the cycles.

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
        for cycle in self.cycles:
            days = 1.0 if cycle == "day" else YEARS.get(str(self.calendar), 365.2425)
            phase = 2 * np.pi * np.asarray(times, float) / (DAY * days)
            for wave in (np.sin(phase), np.cos(phase)):
                known.append(np.broadcast_to(wave.reshape(-1, *(1 for _ in space)), shape))
        if not known:
            return np.zeros((*shape, 0), np.float32)
        return np.stack(known, axis=-1).astype(np.float32)

    def times(self, start: float, length: int) -> Float[np.ndarray, " length"]:
        """Of `length` states from `start` on; months apart, on the same day of each, or on the last
        day of each if the first state is of a last day."""
        if not self.months:
            return start + self.step * np.arange(length)
        first = self.dates(np.array([start]))[0]
        if self.calendar in STANDARD:
            month = first.astype("datetime64[M]")
            later = month + self.months * np.arange(length)
            days = ((later + 1).astype("datetime64[D]") - later.astype("datetime64[D]")).astype(int)
            day, clock = divmod(first - month, np.timedelta64(1, "D"))
            moved = _same_day(int(day) + 1, days).astype("timedelta64[D]") - np.timedelta64(1, "D")
            return (later.astype("datetime64[us]") + moved + clock).astype(np.int64) / 1e6
        import cftime

        whole = first.year * 12 + first.month - 1 + self.months * np.arange(length)
        months = [first.replace(year=int(m // 12), month=int(m % 12) + 1, day=1) for m in whole]
        days = _same_day(first.day, np.array([m.daysinmonth for m in months]))
        dates = [m.replace(day=int(d)) for m, d in zip(months, days, strict=True)]
        return cftime.date2num(np.array(dates), EPOCH, calendar=self.calendar).astype(float)

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
        values = np.asarray(values)
        if self.calendar is None:
            return _plain_numbers(values, argument, self.time_units)
        if np.issubdtype(values.dtype, np.number):
            raise ObservationError(
                argument,
                f"the number {values.flat[0] if values.size else ''}",
                "dates, such as 2001-02-03T04:05",
                "The states have dates: write the times as such.",
            )
        found = []
        zones = set()
        for place, value in enumerate(values.ravel().tolist() if values.dtype.kind != "M" else ()):
            seconds, zone = _seconds(value, self.calendar, f"{argument}, row {place + 1}")
            found.append(seconds)
            zones.add(zone)
        if values.dtype.kind == "M":
            stamps = values.astype("datetime64[ns]").ravel()
            if np.isnat(stamps).any():
                place = int(np.argmax(np.isnat(stamps)))
                raise ObservationError(
                    f"{argument}, row {place + 1}", "no time", "a date", "Fill in or remove it."
                )
            return stamps.astype(np.int64) / 1e9
        if len(zones) > 1:
            raise ObservationError(
                argument,
                "times with a zone beside times without one",
                "one or the other",
                "Write all in UTC, as 2001-02-03T04:05Z.",
            )
        return np.array(found, float)

    def dates(self, numbers: Float[np.ndarray, " n"]) -> np.ndarray:
        """Times for files and people: `datetime64`, dates of another calendar, or numbers."""
        if self.calendar is None:
            return np.asarray(numbers, float)
        if self.calendar in STANDARD:
            return (np.round(np.asarray(numbers) * 1e6)).astype("datetime64[us]")
        import cftime

        return cftime.num2date(np.asarray(numbers), EPOCH, calendar=self.calendar)

    def written(self, number: float) -> str:
        """One time for people."""
        if self.calendar is None:
            return f"{number:g} {self.time_units}".rstrip()
        date = self.dates(np.array([number]))[0]
        return str(np.datetime_as_string(date, "s") if self.calendar in STANDARD else date)


def pack(missing: Bool[np.ndarray, "*state"]) -> str | None:
    """A mask as text: bits in row-major order, hexadecimal; None if nothing is missing."""
    return np.packbits(missing.ravel()).tobytes().hex() if missing.any() else None


def _plain_numbers(values: np.ndarray, argument: str, units: str) -> Float[np.ndarray, " n"]:
    found = np.empty(values.size)
    for row, value in enumerate(values.ravel().tolist()):
        try:
            found[row] = float(value)
        except (TypeError, ValueError) as error:
            raise ObservationError(
                f"{argument}, row {row + 1}",
                f"{value!r}",
                f"a number{f' ({units})' if units else ''}: the states' times are no dates",
                "Give times in the same unit.",
            ) from error
    return found


def _seconds(value: Any, calendar: str, argument: str) -> tuple[float, bool]:
    """Seconds since 1970, and whether the value named a zone."""
    # here, so that importing the package does not load them
    import cftime
    import pandas as pd

    if isinstance(value, cftime.datetime):
        return float(cftime.date2num(value, EPOCH, calendar=calendar)), False
    try:
        text = value.isoformat() if hasattr(value, "isoformat") else str(value).strip()
        parts = ISO.fullmatch(text)
        if parts is None:
            raise ValueError("no date")
        zone = parts[7]
        if calendar in STANDARD:
            stamp = pd.Timestamp(text)
            naive = stamp.tz_convert("UTC").tz_localize(None) if zone else stamp
            since = naive.to_pydatetime() - pd.Timestamp(0).to_pydatetime()
            return since.total_seconds(), zone is not None
        if zone not in (None, "Z"):
            raise ValueError("a zone other than UTC")
        numbers = [int(float(n)) for n in (*parts.groups(default="0")[:6],)]
        numbers[2] = numbers[2] or 1
        date = cftime.datetime(*numbers, calendar=calendar)
        return float(cftime.date2num(date, EPOCH, calendar=calendar)), zone is not None
    except (ValueError, TypeError, OverflowError) as error:
        raise ObservationError(
            argument,
            repr(value),
            f"a date of the {calendar} calendar, such as 2001-02-03T04:05",
            "Correct or remove it.",
        ) from error
