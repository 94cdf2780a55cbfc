"""Times of states as numbers, dates and texts, in the calendars of the CF conventions."""

from __future__ import annotations

import datetime
import re
from typing import Any

import cftime
import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float

from sda_jax.core._errors import ObservationError, StorageError

EPOCH = "seconds since 1970-01-01"
STANDARD = ("standard", "gregorian", "proleptic_gregorian")
DAY = 86400.0  # seconds
YEARS = {
    "360_day": 360.0, "noleap": 365.0, "365_day": 365.0, "all_leap": 366.0, "366_day": 366.0,
    "julian": 365.25,
}  # fmt: skip
ISO = re.compile(
    r"(\d{4})-(\d{2})(?:-(\d{2})(?:[T ](\d{2})(?::(\d{2})(?::(\d{2}(?:\.\d+)?))?)?)?)?"
    r"(Z|[+-]\d{2}:?\d{2})?"
)


def to_dates(numbers: Float[np.ndarray, " n"], calendar: str | None) -> np.ndarray:
    """Times for files and people: `datetime64`, dates of another calendar, or numbers."""
    if calendar is None:
        return np.asarray(numbers, float)
    if calendar in STANDARD:
        return (np.round(np.asarray(numbers) * 1e6)).astype("datetime64[us]")
    return cftime.num2date(np.asarray(numbers), EPOCH, calendar=calendar)


def months_from(start: float, step: int, length: int, calendar: str) -> Float[np.ndarray, " n"]:
    """Times every `step` calendar months from `start` on, on the same day of each, or on the last
    day of each if the first is a last day."""
    first = to_dates(np.array([start]), calendar)[0]
    if calendar in STANDARD:
        month = first.astype("datetime64[M]")
        later = month + step * np.arange(length)
        days = ((later + 1).astype("datetime64[D]") - later.astype("datetime64[D]")).astype(int)
        day, clock = divmod(first - month, np.timedelta64(1, "D"))
        moved = _same_day(int(day) + 1, days).astype("timedelta64[D]") - np.timedelta64(1, "D")
        return (later.astype("datetime64[us]") + moved + clock).astype(np.int64) / 1e6
    whole = first.year * 12 + first.month - 1 + step * np.arange(length)
    months = [first.replace(year=int(m // 12), month=int(m % 12) + 1, day=1) for m in whole]
    days = _same_day(first.day, np.array([m.daysinmonth for m in months]))
    dates = [m.replace(day=int(d)) for m, d in zip(months, days, strict=True)]
    return cftime.date2num(np.array(dates), EPOCH, calendar=calendar).astype(float)


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
        return _from_stamps(values, argument)
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


def _from_stamps(values: np.ndarray, argument: str) -> Float[np.ndarray, " n"]:
    stamps = values.astype("datetime64[ns]").ravel()
    if np.isnat(stamps).any():
        place = int(np.argmax(np.isnat(stamps)))
        raise ObservationError(
            f"{argument}, row {place + 1}", "no time", "a date", "Fill in or remove it."
        )
    return stamps.astype(np.int64) / 1e9


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
    if isinstance(value, cftime.datetime):
        return float(cftime.date2num(value, EPOCH, calendar=calendar)), False
    try:
        text = value.isoformat() if isinstance(value, datetime.date) else str(value).strip()
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


def time_numbers(path: str, coordinate: xr.DataArray) -> tuple[np.ndarray, str | None, str]:
    """Times as numbers (seconds since 1970 where they are dates), their calendar and their units.

    Raises:
        StorageError: Some are missing, or they are texts.
    """
    values = coordinate.values
    if values.dtype.kind == "M":
        numbers, calendar, units = values.astype("datetime64[ns]").astype(np.int64) / 1e9, "", ""
        if np.isnat(values).any():
            numbers = np.where(np.isnat(values), np.nan, numbers)
        calendar = STANDARD[0]
    elif values.dtype.kind == "O" and values.size and isinstance(values.flat[0], cftime.datetime):
        calendar = str(values.flat[0].calendar)
        numbers, units = cftime.date2num(values, EPOCH, calendar=calendar).astype(float), ""
    elif values.dtype.kind in "iuf":
        numbers, calendar, units = values.astype(float), None, coordinate.attrs.get("units", "")
    else:
        raise StorageError(
            f"{path}, {coordinate.name}",
            f"times of type {values.dtype}",
            "dates or numbers",
            "Write CF times (numbers with units such as 'hours since 2000-01-01').",
        )
    if not np.isfinite(numbers).all():
        place = int(np.argmin(np.isfinite(numbers)))
        raise StorageError(
            f"{path}, {coordinate.name}", f"no time at index {place}", "a time for every state",
            "Remove the state or give its time.",
        )  # fmt: skip
    return numbers, calendar, str(units)


def is_time(coordinate: xr.DataArray) -> bool:
    values = coordinate.values
    dated = values.dtype.kind == "M" or (
        values.dtype.kind == "O" and values.size and isinstance(values.flat[0], cftime.datetime)
    )
    return bool(dated) or "T" in coordinate.attrs.get("axis", "")
