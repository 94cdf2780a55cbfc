"""Simulates the stored data set of an experiment."""

from __future__ import annotations

from pathlib import Path

from sda_jax.cli.common import Arguments, run
from sda_jax.data._dataset import generate
from sda_jax.experiment._config import Experiment


def stored_set(config: Experiment, output: Path) -> Path:
    """The experiment's `data.h5`: at once if it is whole, refused if it is another's."""
    data, path = config.data, output / "data.h5"
    return generate(
        path, config.system, config.seed, data.trajectories, data.length, data.chunk, progress=True
    )


def simulate(arguments: Arguments) -> None:
    """Writes `data.h5`; interrupted, it goes on where it stopped."""
    data, path = arguments.config.data, stored_set(arguments.config, arguments.options.output)
    print(f"data set: {path} ({data.trajectories} trajectories of {data.length} states)")


def main(arguments: list[str] | None = None) -> int:
    """Entry point of scripts/simulate.py."""
    return run(simulate, str(__doc__), arguments)
