"""Whether values are of packages that are slow to import, told without importing them."""

from __future__ import annotations

import sys
from typing import Any


def loaded(module: str, *names: str) -> tuple[type, ...]:
    """Classes of a module, for `isinstance`; none while nothing has imported it, as then no value
    can be of them."""
    found = sys.modules.get(module)
    return () if found is None else tuple(getattr(found, name) for name in names)


def is_open(value: Any) -> bool:
    """Whether `value` is traced or stands for an array that is to come: nothing is known of its
    numbers."""
    unknown = (*loaded("jax.core", "Tracer"), *loaded("jax", "ShapeDtypeStruct"))
    return isinstance(value, unknown)
