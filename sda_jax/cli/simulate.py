"""Simulates the stored data set of an experiment."""

from __future__ import annotations

from sda_jax.cli.common import Arguments, run


def simulate(arguments: Arguments) -> None:
    """Writes `data.h5`; interrupted, it goes on where it stopped."""
    from sda_jax.experiment._data import simulate_dataset

    data = arguments.config.data
    path = simulate_dataset(arguments.config, arguments.options.output, progress=True)
    print(f"data set: {path} ({data.trajectories} trajectories of {data.length} states)")


def main(arguments: list[str] | None = None) -> int:
    """Entry point of scripts/simulate.py."""
    return run(simulate, str(__doc__), arguments)
