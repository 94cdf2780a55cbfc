"""Says what files and folders are: priors, runs, data sets, observations, posteriors, and data of
your own."""

from __future__ import annotations

import argparse
import sys

from sda_jax.cli.common import add_components, take_all_characters
from sda_jax.core._errors import SDAError
from sda_jax.core._registry import import_components
from sda_jax.experiment._describe import describe


def main(arguments: list[str] | None = None) -> int:
    """Entry point of `sda-jax inspect`."""
    take_all_characters()
    parser = argparse.ArgumentParser("sda-jax inspect", description=__doc__)
    parser.add_argument(
        "paths", nargs="+", help="files, folders or names of shipped priors; several files of data "
        "are taken as parts of one record"
    )  # fmt: skip
    parser.add_argument("--group", default=None, help="inside files of data")
    add_components(parser)
    try:
        options = parser.parse_args(arguments)
        components = import_components(options.components)
        print(describe(options.paths, components, options.group))
    except SDAError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
