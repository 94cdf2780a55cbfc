"""See sda_jax/cli/demo.py, or run with --help."""

import sys

from sda_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["demo", *sys.argv[1:]]))
