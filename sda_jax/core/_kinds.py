"""Whether values that were read from a file are of the types that fields are annotated with."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
from jaxtyping import AbstractArray

from sda_jax.core._loaded import loaded

NUMBERS = (bool, int, float)


@cache
def annotations_of(cls: type) -> dict[str, Any]:
    """The types of a class's fields; empty where they name what is not there at run time."""
    try:
        return get_type_hints(cls)
    except (NameError, AttributeError, TypeError):
        return {}


def is_of(value: Any, hint: Any) -> bool:
    """Whether `value`, made of JSON and components, is of the type `hint`; what cannot be told
    is let through.

    Lists of JSON are tuples, and arrays are nested tuples of numbers.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is None or hint is type(None):
        return value is None
    if origin in (Union, types.UnionType):
        return any(is_of(value, each) for each in arguments)
    if origin in (tuple, list, Sequence) or hint in (tuple, list):
        return isinstance(value, tuple) and _are_of(value, arguments)
    if origin in (dict, Mapping):
        return isinstance(value, dict) and all(is_of(v, arguments[-1]) for v in value.values())
    if hint is bool or hint is str:
        return isinstance(value, hint)
    if hint is int or hint is float:
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    arrays = (np.ndarray, AbstractArray, *loaded("jax", "Array"))
    if isinstance(hint, type) and issubclass(hint, arrays):
        return _is_numeric(value)
    if isinstance(hint, type):
        try:
            return isinstance(value, hint)
        except TypeError:  # a protocol that cannot be looked for
            return True
    return True


def _are_of(values: tuple[Any, ...], hints: tuple[Any, ...]) -> bool:
    if not hints:
        return True
    if len(hints) == 1 or hints[-1] is Ellipsis:
        hints = (hints[0],) * len(values)
    return len(values) == len(hints) and all(map(is_of, values, hints))


def _is_numeric(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_numeric, value))
    return isinstance(value, NUMBERS)


def written(hint: Any) -> str:
    """A type for people."""
    return hint.__name__ if type(hint) is type else str(hint).replace("typing.", "")
