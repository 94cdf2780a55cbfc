"""See sda_jax/cli/train.py, or run with --help."""

import sys

from sda_jax.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
