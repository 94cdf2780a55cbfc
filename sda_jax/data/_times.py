"""Times of states as numbers, dates and texts, in the calendars of the CF conventions."""

from __future__ import annotations

import datetime
import re
from typing import Any

import cftime
import numpy as np
from jaxtyping import Float

from sda_jax.core._errors import ObservationError

EPOCH = "seconds since 1970-01-01"
PROLEPTIC = "proleptic_gregorian"
STANDARD = ("standard", "gregorian", PROLEPTIC)  # one instant has one number in all of them
CHANGE = -12219292800.0  # 1582-10-15, from which on they also have the same dates
DAY = 86400.0  # seconds
LONGEST = 9e12  # seconds from 1970 that microseconds can count
YEARS = {
    "360_day": 360.0, "noleap": 365.0, "365_day": 365.0, "all_leap": 366.0, "366_day": 366.0,
    "julian": 365.25,
}  # fmt: skip
ISO = re.compile(
    r"(\d{4})-(\d{2})(?:-(\d{2})(?:[T ](\d{2})(?::(\d{2})(?::(\d{2})(\.\d+)?)?)?)?)?"
    r"(Z|([+-])(\d{2}):?(\d{2}))?"
)


def alike(calendar: str | None) -> str | None:
    """One name for calendars in which an instant has the same number."""
    return STANDARD[0] if calendar in STANDARD else calendar


def to_dates(numbers: Float[np.ndarray, " n"], calendar: str | None) -> np.ndarray:
    """Times for files and people: `datetime64` in microseconds where its calendar, the proleptic
    Gregorian one, gives the dates; otherwise dates of `cftime`, or numbers.

    Raises:
        ObservationError: A time is hundreds of thousands of years away.
    """
    numbers = np.asarray(numbers, float)
    if calendar is None:
        return numbers
    if not (np.abs(numbers) < LONGEST).all():
        far = float(numbers[np.argmin(np.abs(numbers) < LONGEST)])
        raise ObservationError(
            "time", f"{far:g} seconds from 1970", "a date that can be written", "Ask for another."
        )
    if calendar == PROLEPTIC or (calendar in STANDARD and (numbers >= CHANGE).all()):
        return np.round(numbers * 1e6).astype("datetime64[us]")
    return cftime.num2date(numbers, EPOCH, calendar=calendar)


def months_of(dates: np.ndarray) -> np.ndarray:
    """The calendar months of dates, counted through the years."""
    if dates.dtype.kind == "M":
        return dates.astype("datetime64[M]").astype(int)
    return np.array([d.year * 12 + d.month for d in dates])


def months_from(start: float, step: int, length: int, calendar: str) -> Float[np.ndarray, " n"]:
    """Times every `step` calendar months from `start` on, on the same day of each, or on the last
    day of each if the first is a last day."""
    first = to_dates(np.array([start]), calendar)[0]
    if isinstance(first, np.datetime64):
        month = first.astype("datetime64[M]")
        later = month + step * np.arange(length)
        days = ((later + 1).astype("datetime64[D]") - later.astype("datetime64[D]")).astype(int)
        day, clock = divmod(first - month, np.timedelta64(1, "D"))
        moved = _same_day(int(day) + 1, days).astype("timedelta64[D]") - np.timedelta64(1, "D")
        return (later.astype("datetime64[us]") + moved + clock).astype(np.int64) / 1e6
    whole = first.year * 12 + first.month - 1 + step * np.arange(length)
    months = [first.replace(year=int(m // 12), month=int(m % 12) + 1, day=1) for m in whole]
    days = _same_day(first.day, np.array([m.daysinmonth for m in months]))
    dates = [_on_day(m, int(d)) for m, d in zip(months, days, strict=True)]
    return cftime.date2num(np.array(dates), EPOCH, calendar=calendar).astype(float)


def _on_day(month: cftime.datetime, day: int) -> cftime.datetime:
    """A day of a month; of those that the change of calendar left out, the next one there is."""
    left_out = month.calendar in STANDARD and (month.year, month.month) == (1582, 10)
    return month.replace(day=15 if left_out and 4 < day < 15 else day)


def _same_day(day: int, days: np.ndarray) -> np.ndarray:
    """The day of each month, given that of the first and how many each has: the last one of a month
    stays the last."""
    return np.where(day == days[0], days, np.minimum(day, days))


def to_numbers(
    values: Any, calendar: str | None, units: str, argument: str
) -> Float[np.ndarray, " n"]:
    """Times of a column or of a coordinate: seconds since 1970, or the numbers that they are.

    Times without a zone are taken as UTC.

    Args:
        values: Texts, dates or numbers.
        calendar: Of the states that they are times of; None where these are plain numbers.
        units: Of plain numbers.
        argument: What they are, for messages: file and column.

    Raises:
        ObservationError: They are no times of this calendar, naming the first; or some have a
            zone and others none.
    """
    values = np.asarray(values)
    if calendar is None:
        return _plain_numbers(values, argument, units)
    if np.issubdtype(values.dtype, np.number):
        raise ObservationError(
            argument,
            f"the number {values.flat[0] if values.size else ''}",
            "dates, such as 2001-02-03T04:05",
            "The states have dates: write the times as such.",
        )
    if values.dtype.kind == "M":
        numbers = _from_stamps(values.ravel(), argument)
        if calendar == PROLEPTIC or (calendar in STANDARD and (numbers >= CHANGE).all()):
            return numbers
        # the date that is written, as in a table of texts, is another number there
        values = np.datetime_as_string(to_dates(numbers, PROLEPTIC))
    seconds, zones = [], set()
    for place, value in enumerate(values.ravel().tolist()):
        second, zone = _seconds(value, calendar, f"{argument}, row {place + 1}")
        seconds.append(second)
        zones.add(zone)
    if len(zones) > 1:
        raise ObservationError(
            argument,
            "times with a zone beside times without one",
            "one or the other",
            "Write all in UTC, as 2001-02-03T04:05Z.",
        )
    return np.array(seconds, float)


def stamp_seconds(values: np.ndarray) -> Float[np.ndarray, " n"]:
    """Seconds since 1970 of `datetime64` of any unit; NaN where there is none, infinity where
    microseconds cannot count that far."""
    stamps = values.astype("datetime64[us]")
    numbers = stamps.astype(np.int64) / 1e6
    far = stamps.astype("datetime64[s]") != values.astype("datetime64[s]")
    return np.where(np.isnat(values), np.nan, np.where(far, np.inf, numbers))


def _from_stamps(values: np.ndarray, argument: str) -> Float[np.ndarray, " n"]:
    numbers = stamp_seconds(values)
    if not np.isfinite(numbers).all():
        place = int(np.argmin(np.isfinite(numbers)))
        raise ObservationError(
            f"{argument}, row {place + 1}",
            "no time" if np.isnan(numbers[place]) else f"{values[place]}",
            "a date",
            "Fill in or remove it.",
        )
    return numbers


def _plain_numbers(values: np.ndarray, argument: str, units: str) -> Float[np.ndarray, " n"]:
    numbers = np.empty(values.size)
    for row, value in enumerate(values.ravel().tolist()):
        try:
            numbers[row] = float(value)
        except (TypeError, ValueError) as error:
            raise ObservationError(
                f"{argument}, row {row + 1}",
                f"{value!r}",
                f"a number{f' ({units})' if units else ''}: the states' times are no dates",
                "Give times in the same unit.",
            ) from error
    return numbers


def _seconds(value: Any, calendar: str, argument: str) -> tuple[float, bool]:
    """Seconds since 1970, and whether the value named a zone."""
    try:
        if isinstance(value, cftime.datetime):
            if alike(value.calendar) != alike(calendar):
                raise ValueError(f"a date of the {value.calendar} calendar")
            return float(cftime.date2num(value, EPOCH, calendar=value.calendar)), False
        text = value.isoformat() if isinstance(value, datetime.date) else str(value).strip()
        parts = ISO.fullmatch(text)
        if parts is None:
            raise ValueError("no date")
        return _written_seconds(parts, calendar), parts[8] is not None
    except (ValueError, TypeError, OverflowError) as error:
        raise ObservationError(
            argument,
            repr(value),
            f"a date of the {calendar} calendar, such as 2001-02-03T04:05",
            "Correct or remove it.",
        ) from error


def _written_seconds(parts: re.Match[str], calendar: str) -> float:
    """Seconds since 1970 of a date that `ISO` matched.

    Raises:
        ValueError: The calendar has no such date.
    """
    year, month, day, hour, minute, second = (int(n) if n else 0 for n in parts.groups()[:6])
    day = day or 1
    sign, hours, minutes = parts[9], int(parts[10] or 0), int(parts[11] or 0)
    if hours > 23 or minutes > 59:
        raise ValueError("no zone")
    ahead = (3600 * hours + 60 * minutes) * (-1 if sign == "-" else 1)
    if calendar == PROLEPTIC or (calendar in STANDARD and (year, month, day) >= (1582, 10, 15)):
        date = datetime.datetime(year, month, day, hour, minute, second)  # much faster than cftime
        whole = (date - datetime.datetime(1970, 1, 1)).total_seconds()
    else:
        date = cftime.datetime(year, month, day, hour, minute, second, calendar=calendar)
        whole = float(cftime.date2num(date, EPOCH, calendar=calendar))
    return whole - ahead + float(parts[7] or 0)
