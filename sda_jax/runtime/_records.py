"""Records of a run, a line of JSON each."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sda_jax.runtime._files import write_text
from sda_jax.runtime._processes import on_process_zero


def read_records(path: str | Path) -> list[dict[str, Any]]:
    """The records of a JSON-lines file, a torn line left out; none where there is no file."""
    path, records = Path(path), []
    for line in path.read_text().splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):
            records.append(json.loads(line))
    return records


def write_records(path: str | Path, records: Iterable[dict[str, Any]]) -> None:
    """Writes a JSON-lines file, whole or not at all."""
    write_text(path, "".join(json.dumps(record) + "\n" for record in records))


def append_record(path: str | Path, record: dict[str, Any]) -> None:
    """Adds a line to a JSON-lines file, once for all processes; torn by a crash, `read_records`
    leaves it out."""

    def append() -> None:
        with open(path, "a") as file:
            file.write(json.dumps(record) + "\n")

    on_process_zero(append)
