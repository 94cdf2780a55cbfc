"""Components to JSON and back, given the classes that may appear (`registry`).

A component becomes `{"type": class name, field: value, ...}`. Reading never imports or runs
anything: a class is looked up in the registry that the caller gives; everything else is numbers,
strings, booleans, null, lists (tuples) and tables of components.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from sda_jax.core._errors import ConfigError, SDAError

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
    if value is None or isinstance(value, (bool, str, int)):
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
        f"a {type(value).__name__}",
        "numbers, strings, tuples, tables of these, or components",
        "Write it as a component (see sda_jax.component) to have it saved.",
    )


def decode(data: Any, table: Mapping[str, type]) -> Any:
    """The value that `encode` made `data` from.

    Args:
        data: What `json.loads` gave.
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
    for key, value in values.items():
        if key not in known:
            raise ConfigError(
                f"{name}.{key}",
                repr(value),
                f"one of the fields {', '.join(known)}",
                "Remove it, or read the file with the version that wrote it.",
            )
        _check_kind(f"{name}.{key}", value, known[key])
    try:
        return cls(**values)
    except SDAError:
        raise
    except Exception as error:
        raise ConfigError(name, values, "values it accepts", f"It said: {error}") from error


def _nearest(name: Any, table: Mapping[str, type]) -> str:
    near = difflib.get_close_matches(str(name), table, 3)
    return f" (nearest: {', '.join(near)})" if near else ""


def _check_kind(label: str, value: Any, field: dataclasses.Field) -> None:
    """Refuses what contradicts a field annotated as `int`, `float`, `str` or `bool`."""
    kinds = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}
    kind = field.type.__name__ if isinstance(field.type, type) else str(field.type)
    allowed = kinds.get(kind)
    if allowed is None:
        return
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind != "bool"):
        raise ConfigError(label, repr(value), f"a value of type {kind}", "Correct the value.")


def dumps(value: Any) -> str:
    """`value` as JSON text, strict (no NaN literals)."""
    return json.dumps(encode(value), indent=2, allow_nan=False) + "\n"


def loads(text: str, table: Mapping[str, type]) -> Any:
    """Inverse of `dumps`.

    Raises:
        ConfigError: The text is not JSON, or `decode` refuses it.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            "JSON", repr(text[:40]), "valid JSON", f"The file is damaged ({error})."
        ) from error
    return decode(data, table)
