"""Frozen dataclasses whose fields are checked."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any, TypeVar, dataclass_transform

import numpy as np

from sda_jax.core._errors import ConfigError, require_number, whole_number
from sda_jax.core._loaded import is_open

T = TypeVar("T")


def static(default: Any = dataclasses.MISSING) -> Any:
    """A component's field that is structure, not a number: hashable and fixed when compiled."""
    return dataclasses.field(default=default, metadata={"static": True})


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, static))
def record(cls: type[T]) -> type[T]:
    """Makes `cls` a frozen dataclass that is structure alone, no pytree: a static argument or a
    static field of a `component` to compiled functions.

    A field annotated as `int`, `float`, `str` or `bool`, perhaps `| None`, is checked to be one;
    numbers of NumPy become Python's. What is traced, and arrays, pass as numbers.
    """
    _checking_kinds(cls)
    return dataclasses.dataclass(frozen=True)(cls)


def _checking_kinds(cls: type) -> None:
    """Has new values of `cls` checked before its own `__post_init__` sees them."""
    own = getattr(cls, "__post_init__", None)

    def __post_init__(self: Any) -> None:
        for field in dataclasses.fields(self):
            if field.init:
                settled = _settled(field, getattr(self, field.name))
                object.__setattr__(self, field.name, settled)
        if own is not None:
            own(self)

    cls.__post_init__ = __post_init__  # ty: ignore[missing-attribute]


def _settled(field: dataclasses.Field, value: Any) -> Any:
    kind = field.type.__name__ if isinstance(field.type, type) else str(field.type)
    kind, optional = kind.removesuffix(" | None"), kind.endswith(" | None")
    if value is None and optional:
        return None
    if kind in ("int", "float"):
        whole = kind == "int" and (field.metadata.get("static") or np.ndim(value) == 0)
        if whole and not is_open(value):
            return whole_number(field.name, value, -sys.maxsize)
        number = require_number(field.name, value)
        return value if number is None else number
    if kind in ("str", "bool"):
        value = value.item() if isinstance(value, (np.bool_, np.str_)) else value
        if not isinstance(value, {"str": str, "bool": bool}[kind]):
            raise ConfigError(field.name, repr(value), f"a {kind}", "Correct the value.")
    return value


def is_component(value: Any) -> bool:
    """Whether `value` is an instance (not a class) of a dataclass."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)
