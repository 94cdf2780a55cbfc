"""See sda_jax/cli/experiment.py, or run with --help."""

import sys

from sda_jax.cli.experiment import main

if __name__ == "__main__":
    sys.exit(main())
