"""What the benchmarks share: where results go and what is written above them."""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import sda_jax as sda
from sda_jax.runtime._compilations import cache_compilations
from sda_jax.runtime._files import write_text
from sda_jax.runtime._versions import versions

# where records go; another folder for a run whose records are not to be kept here
RESULTS = Path(os.environ.get("SDA_RESULTS") or Path(__file__).parent / "results")


def machine() -> str:
    """The processor's or accelerator's name and the number of cores."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return f"{len(jax.devices())} x {device.device_kind}"
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def measured() -> dict[str, str]:
    """Where and when a record is made: what a table of records says above them."""
    found = ", ".join(f"{k} {v}" for k, v in versions().items())
    return {
        "machine": machine(),
        "versions": f"Python {platform.python_version()}, {found}",
        "date": str(datetime.date.today()),
    }


def record(
    name: str,
    title: str,
    body: str,
    script: str | None = None,
    records: Sequence[dict[str, Any]] = (),
) -> None:
    """Prints a result and writes it to results/NAME.md with machine, versions, command, date.

    Args:
        name: Of the file.
        title: Its heading.
        body: Markdown.
        script: The benchmark that made it, where it has another name.
        records: What the body shows, each with `measured()`, where several runs made it.
    """
    given = ["FOLDER" if os.path.isabs(word) else word for word in sys.argv[1:]]
    command = f"python benchmarks/{script or name}.py {shlex.join(given)}".strip()
    rows = records or [measured()]
    found = {k: "; ".join(sorted({r[k] for r in rows})) for k in measured()}
    found["command"] = f"`{command}`" + (" (the last one)" if records else "")
    head = "\n".join(f"- {k}: {found[k]}" for k in ("machine", "versions", "command", "date"))
    text = f"# {title}\n\n{head}\n\n{body}\n"
    print(text)
    write_text(RESULTS / f"{name}.md", text)


def train(*arguments: str) -> None:
    """`sda-jax train` with these arguments, a process of its own that must end well."""
    command = [sys.executable, "-m", "sda_jax.cli.main", "train", *arguments]
    if subprocess.run(command).returncode:
        raise SystemExit(1)


def weights(prior: sda.Prior) -> str:
    """A short hash of a prior's numbers, by which records know it."""
    leaves = jax.tree.leaves(prior.denoiser)
    return hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in leaves)).hexdigest()[:16]


def latest(records: list[dict[str, Any]], *keys: str) -> list[dict[str, Any]]:
    """Of records that agree in `keys`, those with the settings of the last one."""
    last = {tuple(r[k] for k in keys): r["settings"] for r in records}
    return [r for r in records if r["settings"] == last[tuple(r[k] for k in keys)]]


cache_compilations()
