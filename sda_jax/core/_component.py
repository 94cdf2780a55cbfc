"""Components: frozen dataclasses that are JAX pytrees."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar, dataclass_transform

import jax

from sda_jax.core._record import record, static

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, static))
def component(cls: type[T]) -> type[T]:
    """Makes `cls` a frozen dataclass that is a JAX pytree.

    Its fields are its configuration. Fields declared with `static` are metadata: changing one
    compiles anew. All others are leaves (numbers, arrays, other components) and are traced, so
    that functions compiled for one value serve every value.

    Fields are checked as those of a `record`.
    """
    made: Any = record(cls)
    fields = dataclasses.fields(made)
    leaves = tuple(f.name for f in fields if not f.metadata.get("static"))
    statics = tuple(f.name for f in fields if f.metadata.get("static"))

    def structure(value: Any) -> tuple[Any, ...]:
        # with the class itself: tree structures of jax 0.10 compare equal for two dataclasses with
        # equal metadata, and compiled functions would now and then take one for the other
        return (cls, *(getattr(value, name) for name in statics))

    def flatten(value: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return tuple(getattr(value, name) for name in leaves), structure(value)

    def flatten_with_keys(value: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        named = ((jax.tree_util.GetAttrKey(name), getattr(value, name)) for name in leaves)
        return tuple(named), structure(value)

    def unflatten(structure: tuple[Any, ...], children: Any) -> Any:
        value = object.__new__(cls)
        for name, child in zip((*leaves, *statics), (*children, *structure[1:]), strict=True):
            object.__setattr__(value, name, child)
        return value

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls
