"""See sda_jax/cli/train.py, or run with --help."""

import sys

from sda_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
