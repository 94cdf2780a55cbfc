"""Records of a run, a line of JSON each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sda_jax.core._errors import ConfigError
from sda_jax.core._json import parse
from sda_jax.core._kinds import is_of
from sda_jax.runtime._files import TEXT, read_text, write_text
from sda_jax.runtime._processes import on_process_zero


def read_records(path: str | Path, needed: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """The records of a JSON-lines file; none where there is no file.

    Args:
        path: The file.
        needed: Types of the fields that are used, `... | None` if a record may be without. Lines
            that are torn, no tables, or of other types are left out; null is no field.
    """
    path, records = Path(path), []
    for line in read_text(path).split("\n") if path.exists() else ():
        try:
            record = parse(line, finite=False)
        except ConfigError:
            continue
        if not isinstance(record, dict):
            continue
        record = {name: value for name, value in record.items() if value is not None}
        if all(is_of(record.get(name), hint) for name, hint in (needed or {}).items()):
            records.append(record)
    return records


def write_records(path: str | Path, records: Iterable[dict[str, Any]]) -> None:
    """Writes a JSON-lines file, whole or not at all."""
    write_text(path, "".join(json.dumps(record) + "\n" for record in records))


def append_record(path: str | Path, record: dict[str, Any]) -> None:
    """Adds a line to a JSON-lines file, once for all processes; torn by a crash, `read_records`
    leaves it out."""

    def append() -> None:
        with open(path, "a", **TEXT) as file:
            file.write(json.dumps(record) + "\n")

    on_process_zero(append)
