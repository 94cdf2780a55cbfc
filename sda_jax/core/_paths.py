"""Paths that arguments give. Needs no JAX."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sda_jax.core._errors import ConfigError

LONGEST_NAME = 255  # bytes, as file systems have it


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
