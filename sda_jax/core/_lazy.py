"""What folders export, imported when it is first used: commands and scripts start without JAX."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any


def exports(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` (PEP 562) of a package whose `__init__.py` imports what it
    exports below `if TYPE_CHECKING:`. Checkers and editors read those imports; a program runs
    each of them when the name is first asked for.

    Args:
        package: Its `__name__`.
    """
    places = _imports(package)

    def get(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = places[name]
        if module == package:
            return import_module(f"{package}.{name}")
        value = getattr(import_module(module), name)
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted(places)


def _imports(package: str) -> dict[str, str]:
    """The modules from which a package imports names for checkers, by name."""
    loader: Any = sys.modules[package].__loader__
    return {
        alias.name: str(node.module)
        for block in ast.parse(loader.get_source(package)).body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
