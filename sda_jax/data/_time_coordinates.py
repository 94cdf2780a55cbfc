"""Times that files have along a dimension: as a coordinate, or as a variable beside it."""

from __future__ import annotations

import cftime
import numpy as np
import xarray as xr

from sda_jax.core._errors import ObservationError, StorageError
from sda_jax.data._conventions import as_text
from sda_jax.data._times import (
    CHANGE,
    EPOCH,
    ISO,
    PROLEPTIC,
    STANDARD,
    stamp_seconds,
    to_dates,
    to_numbers,
)


def time_numbers(path: str, coordinate: xr.DataArray) -> tuple[np.ndarray, str | None, str]:
    """Times as numbers (seconds since 1970 where they are dates), their calendar and their units.

    Raises:
        StorageError: Some are missing, or they are texts.
    """
    values = coordinate.values
    calendar, units = None, ""
    if values.dtype.kind == "M":
        numbers, calendar = stamp_seconds(values), PROLEPTIC
    elif values.dtype.kind == "O" and values.size and isinstance(values.flat[0], cftime.datetime):
        calendar = str(values.flat[0].calendar)
        numbers = cftime.date2num(values, EPOCH, calendar=calendar).astype(float)
    elif values.dtype.kind in "iuf":
        numbers, units = values.astype(float), str(coordinate.attrs.get("units", ""))
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
    if calendar in STANDARD and (calendar != PROLEPTIC or (numbers >= CHANGE).all()):
        calendar = STANDARD[0]
    return numbers, calendar, units


def has_other_dates(variable: xr.Variable) -> bool:
    """Whether times that xarray made `datetime64` of have other dates in their own calendar: before
    1582, counted from a day after it."""
    if variable.dtype.kind != "M" or variable.ndim > 1 or "units" not in variable.encoding:
        return False
    calendar = str(variable.encoding.get("calendar") or STANDARD[0]).lower()
    return calendar != PROLEPTIC and bool((stamp_seconds(variable.values) < CHANGE).any())


def is_dated(variable: xr.DataArray) -> bool:
    """Whether a variable holds dates."""
    values = variable.values
    cf = values.dtype.kind == "O" and values.size and isinstance(values.flat[0], cftime.datetime)
    return bool(values.dtype.kind == "M" or cf)


def times_along(path: str, dataset: xr.Dataset, name: str) -> xr.DataArray | None:
    """The times along a dimension: its coordinate; where there is none, the variable of dates along
    it alone, such as `XTIME` or the texts `Times` of WRF; None where there is neither.

    Raises:
        StorageError: Several such variables differ.
    """
    if name in dataset.coords:
        return dataset.coords[name]
    found = []
    for other, variable in dataset.variables.items():
        if variable.dims == (name,):
            dates = _as_dates(dataset[other])
            if is_dated(dates):
                found.append(dates)
    if not found:
        return None
    numbers = [time_numbers(path, dates)[0] for dates in found]
    if any(np.abs(each - numbers[0]).max(initial=0.0) > 1.0 for each in numbers):
        raise StorageError(
            f"{path}, {name}",
            f"different times in {', '.join(str(dates.name) for dates in found)}",
            "one time for every state",
            f"Write those meant as a coordinate {name}.",
        )
    return found[0]


def _as_dates(variable: xr.DataArray) -> xr.DataArray:
    """A variable of texts such as 2000-01-24_12:00:00 as dates, or any other as it is."""
    values = variable.values.ravel().tolist() if variable.dtype.kind in "SUO" else []
    if not values or not all(isinstance(value, (str, bytes)) for value in values):
        return variable
    texts = np.array([as_text(value).strip().replace("_", "T") for value in values])
    if not all(ISO.fullmatch(text) for text in texts.tolist()):
        return variable
    try:
        return variable.copy(data=to_dates(to_numbers(texts, PROLEPTIC, "", ""), PROLEPTIC))
    except ObservationError:  # digits that are no date
        return variable
