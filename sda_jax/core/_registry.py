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
from types import MappingProxyType, ModuleType
from typing import Any

from sda_jax.core._component import is_component
from sda_jax.core._errors import ConfigError, SDAError
from sda_jax.core._kinds import annotations_of

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
    table = _SHIPPED | _named(components, _SHIPPED)
    for cls in table.values():
        annotations_of(cls)  # now: nothing is evaluated while a file is read
    return MappingProxyType(table)


def _named(classes: Iterable[type], known: Mapping[str, type]) -> dict[str, type]:
    found: dict[str, type] = {}
    for cls in classes if isinstance(classes, Iterable) else [classes]:
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
    """The classes that a user names as `module:Class`; see `import_named`.

    Raises:
        ConfigError: There is no such module or class in it.
    """
    expected = "module:Class, such as mymodule:MyOperator"
    return [import_named("--components", name, expected)[0] for name in names]


def import_named(
    argument: str, text: str, expected: str, error: type[SDAError] = ConfigError
) -> tuple[Any, ModuleType]:
    """What a user names as `module:name`, importable or in a file of the working folder, and the
    module. For what users say themselves: what a data file says never comes here.

    Args:
        argument: Name of the argument.
        text: Such as "mymodule:myfunction".
        expected: What it is to be.
        error: The class of the error.

    Raises:
        SDAError: There is no such module, or no such name in it.
    """
    module, colon, name = text.partition(":")
    if not colon:
        raise error(argument, repr(text), expected, "Write both names.")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = importlib.import_module(module)
        return getattr(found, name), found
    except Exception as reason:  # whatever the user's module raises
        raise error(argument, repr(text), expected, f"Importing it says: {reason}.") from reason
    finally:
        sys.path.remove(str(Path.cwd()))
