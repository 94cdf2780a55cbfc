"""See sda_jax/cli/figures.py, or run with --help."""

import sys

from sda_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["figures", *sys.argv[1:]]))
