"""Trains the prior of an experiment, or of your own data."""

from __future__ import annotations

import argparse
from functools import partial

from sda_jax.cli.common import Arguments, nothing_but_files, run


def train(arguments: Arguments) -> None:
    """Writes checkpoints and metrics below `train/` and the result to `prior/`."""
    from sda_jax.experiment._train import train_prior

    config, output = arguments.config, arguments.options.output
    files = arguments.options.data
    given = (files, output, config) if files else (config, output)
    train_prior(*given, progress=True, report=partial(print, flush=True))
    print(f"prior: {output / 'prior'}")


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", nargs="+", default=[], help="your own trajectories: NetCDF, HDF5 or Zarr files"
    )


def main(arguments: list[str] | None = None) -> int:
    """Entry point of scripts/train.py."""
    return run(train, str(__doc__), arguments, nothing_but_files, _options)
