"""Components to JSON and back, given the classes that may appear (`registry`).

A component becomes `{"type": class name, field: value, ...}`. Reading never imports or runs
anything: a class is looked up in the registry that the caller gives; everything else is numbers,
strings, booleans, null, lists (tuples) and tables of components.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from sda_jax.core._errors import ConfigError, SDAError
from sda_jax.core._kinds import annotations_of, is_of, written

DEPTH = 100  # of lists and tables in each other
INTEGERS = (-(2**63), 2**64)  # that some array can hold
EDITED = "Correct the value: the file is damaged or was edited."
LINEN = ["parent", "name"]  # the last fields of every Linen module, no part of its configuration


def _fields(cls: Any) -> list[dataclasses.Field]:
    fields = list(dataclasses.fields(cls))
    if [f.name for f in fields[-2:]] == LINEN:
        fields = fields[:-2]
    return [f for f in fields if f.init]


def encode(value: Any) -> Any:
    """`value` as plain JSON types.

    Raises:
        ConfigError: `value` holds something that has no place in a data file (a function, say).
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int) and INTEGERS[0] <= value < INTEGERS[1]:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, (np.generic, np.ndarray, jax.Array)):
        return encode(np.asarray(value).tolist())
    if isinstance(value, (tuple, list)):
        return [encode(v) for v in value]
    if isinstance(value, dict) and all(isinstance(k, str) for k in value):
        return {"dict": {k: encode(v) for k, v in value.items()}}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: encode(getattr(value, f.name)) for f in _fields(type(value))}
        return {"type": type(value).__name__, **fields}
    raise ConfigError(
        "value",
        "a long integer" if isinstance(value, int) else f"a {type(value).__name__}",
        "numbers, strings, tuples, tables of these, or components",
        "Write it as a component (see sda_jax.component) to have it saved.",
    )


def decode(data: Any, table: Mapping[str, type]) -> Any:
    """The value that `encode` made `data` from.

    Args:
        data: What `parse` gave.
        table: The classes that may appear, by name.

    Raises:
        ConfigError: An unknown class or field, or a field of the wrong type.
    """
    if isinstance(data, list):
        return tuple(decode(v, table) for v in data)
    if not isinstance(data, dict):
        return data
    if data.keys() == {"float"}:
        if data["float"] not in ("inf", "-inf", "nan"):
            raise ConfigError("float", data["float"], "inf, -inf or nan", "Repair the file.")
        return float(data["float"])
    if data.keys() == {"dict"} and isinstance(data["dict"], dict):
        return {k: decode(v, table) for k, v in data["dict"].items()}
    name = data.get("type")
    if not isinstance(name, str) or name not in table:
        raise ConfigError(
            "type",
            repr(name),
            f"a class of this package{_nearest(name, table)} or one of your own",
            "Give your own classes where the file is loaded: components=[...], or "
            "--components module:Class on the command line.",
        )
    cls = table[name]
    known = {f.name: f for f in _fields(cls)}
    values = {k: decode(v, table) for k, v in data.items() if k != "type"}
    hints = annotations_of(cls)
    for key, value in values.items():
        if key not in known:
            raise ConfigError(
                f"{name}.{key}",
                repr(value),
                f"one of the fields {', '.join(known)}",
                "Remove it, or read the file with the version that wrote it.",
            )
        if not is_of(value, hints.get(key, Any)):
            expected = f"a value of type {written(hints[key])}"
            raise ConfigError(f"{name}.{key}", repr(value)[:80], expected, EDITED)
    try:
        return cls(**values)
    except SDAError:
        raise
    except Exception as error:
        raise ConfigError(name, values, "values it accepts", f"It said: {error}") from error


def _nearest(name: Any, table: Mapping[str, type]) -> str:
    near = difflib.get_close_matches(str(name), table, 3)
    return f" (nearest: {', '.join(near)})" if near else ""


def dumps(value: Any) -> str:
    """`value` as JSON text, strict (no NaN literals)."""
    return json.dumps(encode(value), indent=2, allow_nan=False) + "\n"


def parse(text: str, finite: bool = True) -> Any:
    """What a JSON text holds, of bounded depth and with integers that arrays can hold.

    Args:
        text: What was read from a file.
        finite: Whether to refuse NaN and infinite numbers, which JSON has not.

    Raises:
        ConfigError: It is not such a text.
    """
    try:
        data = json.loads(text)
        _require_bounds(data, finite)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            "JSON", repr(text)[:40], "valid JSON", f"The file is damaged ({error})."
        ) from error
    return data


def _require_bounds(data: Any, finite: bool) -> None:
    level = [data]
    for _ in range(DEPTH):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner += value.values()
            elif isinstance(value, list):
                inner += value
            elif isinstance(value, float) and finite and not math.isfinite(value):
                raise ValueError("a number that is not finite")
            elif isinstance(value, int) and not INTEGERS[0] <= value < INTEGERS[1]:
                raise ValueError("an integer of more than 64 bits")
        level = inner
    if level:
        raise ValueError(f"lists and tables in each other, more than {DEPTH}")


def digest_of(value: Any) -> str:
    """A hash of plain JSON types that is the same for tables in another order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def loads(text: str, table: Mapping[str, type]) -> Any:
    """Inverse of `dumps`.

    Raises:
        ConfigError: The text is not JSON, or `decode` refuses it.
    """
    return decode(parse(text), table)
