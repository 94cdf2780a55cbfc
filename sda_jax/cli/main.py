"""The command `sda-jax`."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from sda_jax.runtime._versions import versions

CUT_OFF = 141  # the status that shells give a program that SIGPIPE ended
COMMANDS = {
    "demo": "one observation, its posterior and the exact one: table, files, figures",
    "simulate": "simulate a system's trajectories into a file",
    "train": "train a prior, on a system of a config or on your own files (--data)",
    "assimilate": "draw the posterior of observations",
    "evaluate": "score posteriors",
    "experiment": "run a flow experiment of a config: posteriors, scores, animations",
    "figures": "draw what the other commands wrote",
    "inspect": "say what a file or folder is",
}

HELP = """Score-based data assimilation: which trajectories explain what was observed?

usage: sda-jax COMMAND ...        sda-jax COMMAND --help says what a command takes

commands:
{commands}

from your own files to a posterior:
  sda-jax inspect sst.nc                                what the file holds
  sda-jax train --data sst.nc --output runs/sst         learn what its trajectories look like
  sda-jax assimilate --output runs/sst --points buoys.csv --start 2020-01-01 --end 2020-01-31
                                                        runs/sst/posterior.nc, opens in xarray

with a simulated system:
  sda-jax demo                                          the prior that comes with the package
  sda-jax train --config configs/lorenz63_conv_laptop.py
  sda-jax assimilate --config configs/lorenz63_conv_laptop.py --case hi
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; returns its exit status."""
    streams = [stream for stream in (sys.stdout, sys.stderr) if stream is not None]
    try:
        try:
            return _run(sys.argv[1:] if arguments is None else arguments)
        finally:
            for stream in streams:
                stream.flush()
    except BrokenPipeError:  # who reads has enough, as `head` has
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in streams:
            os.dup2(nowhere, stream.fileno())  # where what is left to be flushed goes
        return CUT_OFF


def _run(given: list[str]) -> int:
    listed = "\n".join(f"  {name:12s}{text}" for name, text in COMMANDS.items())
    if not given or given[0] in ("-h", "--help", "help"):
        print(HELP.format(commands=listed))
        return 0
    if given[0] == "--version":
        print(versions()["sda_jax"])
        return 0
    name, *rest = given
    if name not in COMMANDS:
        print(f"error: no command {name!r}; there are:\n{listed}", file=sys.stderr)
        return 2
    return import_module(f"sda_jax.cli.{name}").main(rest)


if __name__ == "__main__":
    sys.exit(main())
