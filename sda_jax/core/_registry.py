"""The one registry of classes that files may name.

Each folder registers what it exports; a user's own classes are given where a file is loaded.
Nothing that a data file says is imported.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sda_jax.core._component import is_component
from sda_jax.core._errors import ConfigError

_SHIPPED: dict[str, type] = {}


def register(*classes: type) -> None:
    """Adds classes of this package, by name.

    Raises:
        ConfigError: Another class of that name is there.
    """
    _SHIPPED.update(_named(classes, _SHIPPED))


def registry(components: Iterable[type] = ()) -> Mapping[str, type]:
    """The classes that a file may name: this package's and `components`, the user's own.

    Raises:
        ConfigError: Something that is no dataclass, or two classes of one name.
    """
    return MappingProxyType(_SHIPPED | _named(components, _SHIPPED))


def _named(classes: Iterable[type], known: Mapping[str, type]) -> dict[str, type]:
    found: dict[str, type] = {}
    for cls in classes:
        if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
            raise ConfigError(
                "components",
                repr(cls),
                "classes that are components or Linen modules",
                "Give the class itself, decorated with sda_jax.component.",
            )
        other = found.get(cls.__name__, known.get(cls.__name__, cls))
        if other is not cls:
            raise ConfigError(
                "components",
                f"two classes called {cls.__name__}, of {other.__module__} and {cls.__module__}",
                "classes with different names: files name classes by these",
                "Rename yours.",
            )
        found[cls.__name__] = cls
    return found


def classes_in(*values: Any) -> list[type]:
    """The classes of the components that values are made of and that this package does not have:
    those which a configuration names besides."""
    found: dict[type, None] = {}

    def visit(value: Any) -> None:
        if isinstance(value, Mapping):
            value = tuple(value.values())
        if isinstance(value, (tuple, list)):
            for item in value:
                visit(item)
        elif is_component(value) and type(value) not in found:
            if _SHIPPED.get(type(value).__name__) is not type(value):
                found[type(value)] = None
            for field in dataclasses.fields(value):
                if field.init:
                    visit(getattr(value, field.name, None))

    visit(values)
    return list(found)


def import_components(names: Sequence[str]) -> list[type]:
    """The classes that a user names as `module:Class`, importable or in a file of the working
    folder. For command lines: what a data file says never comes here.

    Raises:
        ConfigError: There is no such module or class in it.
    """
    found = []
    sys.path.insert(0, str(Path.cwd()))
    try:
        for name in names:
            module, colon, cls = name.partition(":")
            try:
                if not colon:
                    raise ImportError("no colon between module and class")
                found.append(getattr(importlib.import_module(module), cls))
            except (ImportError, AttributeError, SyntaxError) as error:
                raise ConfigError(
                    "--components",
                    repr(name),
                    "module:Class, such as mymodule:MyOperator",
                    f"Importing it says: {error}.",
                ) from error
    finally:
        sys.path.remove(str(Path.cwd()))
    return found
