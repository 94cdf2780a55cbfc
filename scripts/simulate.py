"""See sda_jax/cli/simulate.py, or run with --help."""

import sys

from sda_jax.cli.simulate import main

if __name__ == "__main__":
    sys.exit(main())
