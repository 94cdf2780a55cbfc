"""The exceptions that users see.

Every message names the argument, what it was, what it must be and what to do about it.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from jax.core import Tracer

NUMBERS = "iuf"  # kinds of NumPy's types that are real numbers


class SDAError(Exception):
    """Base class of every error that this package raises on purpose.

    Args:
        argument: Name of the offending argument, field or file.
        value: What it was.
        expected: What it must be.
        remedy: What to do about it.
    """

    def __init__(self, argument: str, value: Any, expected: str, remedy: str):
        self.argument, self.value, self.expected, self.remedy = argument, value, expected, remedy
        super().__init__(f"{argument}: got {value}; expected {expected}. {remedy}")


class EnsembleWarning(UserWarning):
    """An ensemble that should not be trusted; says what is wrong and what to do."""


class ConfigError(SDAError, ValueError):
    """A configuration field or argument has an impossible value."""


class ObservationError(SDAError, ValueError):
    """An observation, its noise or its operator does not fit."""


class StorageError(SDAError, OSError):
    """A file or folder is damaged, foreign, in use or cannot be written."""


class DivergenceError(SDAError, FloatingPointError):
    """Training or sampling produced values that are not finite."""


class ResourceError(SDAError, MemoryError):
    """A computation needs more memory than there is."""


class ProcessError(SDAError, RuntimeError):
    """Another of several processes failed, or is not there."""


def require_number(argument: str, value: Any) -> float | None:
    """`value` if it is a number of Python or NumPy; None for arrays and what is traced.

    Raises:
        ConfigError: It is neither.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if isinstance(value, np.generic) and kind in NUMBERS:
        return float(value)
    if kind in (*NUMBERS, "V") and not np.ma.isMaskedArray(value):
        return None
    raise ConfigError(argument, repr(value), "a number", f"Pass float({argument}).")


def require_at_least(argument: str, value: Any, minimum: float) -> None:
    """Raises `ConfigError` if the number `value` is below `minimum`; traced values pass."""
    number = require_number(argument, value)
    if number is not None and not number >= minimum:
        raise ConfigError(argument, value, f"at least {minimum}", f"Raise {argument}.")


def require_whole(argument: str, value: Any) -> None:
    """Raises `ConfigError` unless `value` is an integer, of Python or NumPy."""
    expected, remedy = "an integer", f"Pass int({argument})."
    if isinstance(value, Tracer):
        remedy = f'Mark it static: jax.jit(..., static_argnames="{argument}").'
        raise ConfigError(argument, "a value that JAX traces", expected, remedy)
    try:
        if isinstance(value, (bool, np.bool_, np.timedelta64)) or np.ma.isMaskedArray(value):
            raise TypeError
        operator.index(value)
    except TypeError as error:
        raise ConfigError(argument, repr(value), expected, remedy) from error


def require_at_most(argument: str, value: Any, maximum: float) -> None:
    """Raises `ConfigError` if the number `value` is above `maximum`; traced values pass."""
    number = require_number(argument, value)
    if number is not None and not number <= maximum:
        raise ConfigError(argument, value, f"at most {maximum}", f"Lower {argument}.")


def require_positive(argument: str, value: Any) -> None:
    """Raises `ConfigError` if the concrete number `value` is not finite and positive."""
    number = require_number(argument, value)
    if number is not None and not (number > 0 and math.isfinite(number)):
        raise ConfigError(argument, value, "a positive finite number", f"Change {argument}.")


def require_below(argument: str, value: Any, limit: Any) -> None:
    """Raises `ConfigError` unless the concrete number `value` is below `limit`."""
    number, bound = (
        require_number(argument, value),
        require_number(f"the limit of {argument}", limit),
    )
    if number is not None and bound is not None and not number < bound:
        raise ConfigError(argument, value, f"below {limit}", f"Lower {argument}.")


def require_choice(argument: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raises `ConfigError` unless `value` is one of `choices`."""
    if value not in choices:
        listed = ", ".join(map(repr, choices))
        raise ConfigError(argument, repr(value), f"one of {listed}", "Choose one of these.")
