"""Numbers as users hand them over, made what the package computes with: the one place that converts
them and refuses what is no real number."""

from __future__ import annotations

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.core import Tracer

from sda_jax.core._errors import ConfigError, SDAError, require_at_least, require_whole

WORDS = {
    "b": "truth values",
    "c": "complex numbers",
    "M": "dates",
    "m": "durations",
    "O": "objects",
    "S": "text",
    "U": "text",
    "V": "records",
}
LARGEST = 2**63 - 1  # of integers, as files and devices have them
REAL = "real numbers, NaN where one is missing"


def is_open(value: Any) -> bool:
    """Whether `value` is traced or stands for an array that is to come: nothing is known of its
    numbers."""
    return isinstance(value, (Tracer, jax.ShapeDtypeStruct))


def real_array(
    argument: str, value: Any, error: type[SDAError] = ConfigError, dtype: Any = np.float32
) -> Any:
    """`value` as an array of real numbers in the precision that computes; a number stays one.

    Args:
        argument: Name of the argument.
        value: A number or an array of NumPy, JAX, pandas, xarray or what NumPy reads; nested lists
            of these. What is masked or missing becomes NaN. What is traced is given back.
        error: The class of the error.
        dtype: Of arrays that are not JAX's own.

    Returns:
        A float for a number of Python or NumPy, an array of JAX for one of these, else one of
        NumPy.

    Raises:
        SDAError: No numbers, complex ones, nested lists that are ragged, or numbers that the
            precision cannot hold.
    """
    if isinstance(value, (Tracer, jax.Array)):
        _require_real(argument, value, value.dtype, error)
        if isinstance(value, Tracer) or value.dtype == jnp.float32:
            return value
        return jnp.asarray(_held(argument, np.asarray(value), np.float32, error))
    try:
        if any(map(is_open, jax.tree.leaves(value))):
            return jnp.asarray(value) if isinstance(value, (list, tuple)) else value
        found = _numpy(argument, value, error)
    except SDAError:
        raise
    except Exception as reason:  # whatever the class of the value raises
        got = f"a {type(value).__name__} that says {format(str(reason), '.60')}"
        raise _no_numbers(argument, "", got, error) from reason
    small = _held(argument, found, dtype, error)
    return float(found) if _is_number(value) else small


def _held(argument: str, found: np.ndarray, dtype: Any, error: type[SDAError]) -> np.ndarray:
    """Numbers in a precision that can hold them."""
    with np.errstate(over="ignore", under="ignore"):
        small = np.asarray(found, dtype)
    lost = np.isinf(small) & np.isfinite(found)
    if lost.any():
        most = np.finfo(small.dtype).max
        raise error(argument, found[lost][0], f"at most {most:.2g} in size", "Choose other units.")
    return small


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.generic)) and np.ndim(value) == 0


def _numpy(argument: str, value: Any, error: type[SDAError]) -> np.ndarray:
    """An array of NumPy of real numbers, NaN where something is masked or missing."""
    if isinstance(value, (list, tuple)):
        return _stacked(argument, value, error)
    if type(value) in (int, float):
        return np.asarray(float(value))
    if isinstance(value, (pd.Series, pd.DataFrame, pd.Index, pd.api.extensions.ExtensionArray)):
        value = _of_pandas(value)
    found = np.ma.asarray(value) if np.ma.isMaskedArray(value) else np.asarray(value)
    _require_real(argument, value, found.dtype, error)
    if not jnp.issubdtype(found.dtype, jnp.floating):
        found = found.astype(np.float64)
    return found.filled(np.nan) if isinstance(found, np.ma.MaskedArray) else found


def _stacked(argument: str, values: Any, error: type[SDAError]) -> np.ndarray:
    if all(type(v) in (int, float) for v in values):
        return np.array(values, np.float64)
    parts = [_numpy(argument, value, error) for value in values]
    shapes = list(dict.fromkeys(part.shape for part in parts))
    if len(shapes) > 1:
        got = f"a list of things of shapes {shapes[0]} and {shapes[1]}"
        raise error(argument, got, "rows of one length", "Fill up with NaN.")
    return np.stack(parts)


def _of_pandas(value: Any) -> Any:
    """Its numbers, where pandas keeps them with marks for those that are missing."""
    dtypes = value.dtypes if isinstance(value, pd.DataFrame) else [value.dtype]
    plain = value.to_numpy()
    numbers = all(
        pd.api.types.is_numeric_dtype(d) and not pd.api.types.is_bool_dtype(d) for d in dtypes
    )
    if plain.dtype.kind == "O" and numbers:
        return value.to_numpy(dtype=np.float64, na_value=np.nan)
    return plain


def _require_real(argument: str, value: Any, dtype: Any, error: type[SDAError]) -> None:
    numbers = jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
    if not numbers or dtype.kind == "m":  # durations are integers to NumPy
        kind = WORDS.get(getattr(dtype, "kind", ""), f"{dtype}")
        got = f"{format(repr(value), '.60')} ({kind})" if np.ndim(value) == 0 else kind
        raise _no_numbers(argument, kind, got, error)


def _no_numbers(argument: str, kind: str, got: str, error: type[SDAError]) -> SDAError:
    remedy = "Convert it, for instance with numpy.asarray(x, float)."
    if kind == WORDS["c"]:
        remedy = "Give real and imaginary parts as two elements."
    return error(argument, got, REAL, remedy)


def whole_number(argument: str, value: Any, minimum: int = 1) -> int:
    """`value` as an integer of Python.

    Raises:
        ConfigError: It is none, below `minimum`, or of more than 64 bits.
    """
    require_whole(argument, value)
    found = operator.index(value)
    require_at_least(argument, found, minimum)
    if found > LARGEST:
        raise ConfigError(
            argument, f"a number of {found.bit_length()} bits", f"at most {LARGEST}", "Lower it."
        )
    return found
