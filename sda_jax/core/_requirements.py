"""What arguments lack, said before anything is compiled: a protocol's methods, numbers instead of
tracers, a path."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from sda_jax.core._errors import ConfigError, SDAError

LONGEST_NAME = 255  # bytes, as file systems have it


def members(protocol: type) -> dict[str, str]:
    """What a protocol asks for: its methods with their arguments, its attributes by name."""
    asked: dict[str, str] = {}
    for base in reversed(protocol.__mro__):
        for name in (*inspect.get_annotations(base), *vars(base)):
            if not name.startswith("_") or name == "__call__":
                asked[name] = _described(name, vars(base).get(name))
    return asked


def _described(name: str, member: Any) -> str:
    if not inspect.isfunction(member):
        return name
    parameters = list(inspect.signature(member).parameters)[1:]
    return f"{name}({', '.join(parameters)})"


def _lacks(value: Any, name: str) -> bool:
    missing = object()
    return inspect.getattr_static(value, name, missing) in (missing, None)


def require_protocol(
    argument: str,
    value: Any,
    protocol: type,
    remedy: str = "Write what it lacks.",
    error: type[SDAError] = ConfigError,
) -> None:
    """Raises `error` unless `value` has every method and attribute that `protocol` names.

    Args:
        argument: Name of the argument.
        value: The component.
        protocol: The protocol; it need not be `runtime_checkable`.
        remedy: What to do about it.
        error: The class of the error.
    """
    expected = f"the protocol {protocol.__name__}"
    if isinstance(value, type):
        name = value.__name__
        raise error(argument, f"the class {name}", expected, f"Make one: {name}(...).")
    lacking = [text for name, text in members(protocol).items() if _lacks(value, name)]
    if lacking:
        got = f"{type(value).__name__} without {', '.join(lacking)}"
        raise error(argument, got, expected, remedy)


def is_traced(*given: Any) -> bool:
    """Whether JAX traces what is computed now, or something among `given`."""
    leaves = (jnp.zeros(()), *jax.tree.leaves(given))  # under jit, whatever is made is traced
    return any(isinstance(leaf, Tracer) for leaf in leaves)


def require_untraced(function: str, remedy: str, *given: Any) -> None:
    """Raises `ConfigError` where `jax.jit`, `jax.vmap` or another transformation traces a function
    that checks and loops on the host.

    Args:
        function: Its name.
        remedy: What to use instead.
        given: Its arguments.
    """
    if is_traced(*given):
        raise ConfigError(
            function,
            "a call under jax.jit, jax.vmap or the like",
            "numbers, which it looks at on the host",
            remedy,
        )


def require_path(argument: str, value: Any) -> Path:
    """`value` as a path.

    Raises:
        ConfigError: It is none.
    """
    try:
        path = Path(value)
        longest = max((len(os.fsencode(name)) for name in path.parts), default=0)
        if "\0" in str(path) or longest > LONGEST_NAME:
            raise TypeError
    except (TypeError, UnicodeEncodeError) as error:
        expected = f"a path of names that the system can write, each at most {LONGEST_NAME} bytes"
        raise ConfigError(
            argument, format(repr(value), ".80"), expected, "Pass a text or a Path."
        ) from error
    return path
