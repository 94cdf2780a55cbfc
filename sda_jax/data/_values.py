"""The values of a variable in a file, and which of them are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from sda_jax.core._errors import StorageError
from sda_jax.data._unreadable import reading

UNWRITTEN = np.float32(9.969209968386869e36)  # netCDF's own fill of floating-point numbers


def read_values(path: str, x: xr.DataArray) -> np.ndarray:
    """The values of a variable of numbers, NaN where there is none: where the file has its fill
    value, or something outside the range that it calls valid.

    Raises:
        StorageError: They cannot be read, or the range is no range.
    """
    low, high = _valid(path, x)
    with reading(path):
        values = x.values
    invalid = values == UNWRITTEN if values.dtype.kind == "f" else np.zeros((), bool)
    if np.isfinite([low, high]).any():
        invalid = invalid | (values < low) | (values > high)
    return np.where(invalid, np.nan, values) if invalid.any() else values


def _valid(path: str, x: xr.DataArray) -> tuple[float, float]:
    """The least and the greatest valid value, of `valid_range`, or `valid_min` and `valid_max`.

    Where the file has packed integers, limits that are integers are packed too (CF conventions);
    half a step of the packing is allowed for.
    """
    low, high = (
        _numbers(path, x, key, 1) if key in x.attrs else None for key in ("valid_min", "valid_max")
    )
    if "valid_range" in x.attrs:
        low, high = np.split(_numbers(path, x, "valid_range", 2), 2)
    for key in ("scale_factor", "add_offset"):
        if key in x.encoding:
            _require_numbers(path, x, key, x.encoding[key], 1)
    ends = [_unpacked(x, low, -1), _unpacked(x, high, 1)]
    return min(ends), max(ends)  # a negative scale turns them round


def _unpacked(x: xr.DataArray, limit: np.ndarray | None, outward: int) -> float:
    """A limit in the units of the values; infinite if there is none."""
    stored = np.dtype(x.encoding.get("dtype", x.dtype))
    end = outward * np.inf if limit is None else float(limit[0])
    if limit is not None and (stored.kind not in "iu" or limit.dtype.kind not in "iu"):
        return float(limit.astype(x.dtype)[0]) if x.dtype.kind == "f" else end
    if x.encoding.get("_Unsigned") == "true" and -np.inf < end < 0:
        end += 2.0 ** (8 * stored.itemsize)
    scale = float(np.ravel(x.encoding.get("scale_factor", 1.0))[0])
    offset = float(np.ravel(x.encoding.get("add_offset", 0.0))[0])
    return (end + 0.5 * outward) * scale + offset


def _numbers(path: str, x: xr.DataArray, key: str, count: int) -> np.ndarray:
    return _require_numbers(path, x, key, x.attrs[key], count)


def _require_numbers(path: str, x: xr.DataArray, key: str, said: Any, count: int) -> np.ndarray:
    values: Any = np.ravel(np.asarray(said))
    if len(values) != count or values.dtype.kind not in "iuf" or np.isnan(values).any():
        raise StorageError(
            f"{path}, {x.name}",
            f"{key} = {said!r}",
            "a number" if count == 1 else "two numbers",
            "Correct the attribute, or remove it.",
        )
    return values
