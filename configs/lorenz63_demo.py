"""What `make demo` runs: the shipped Lorenz prior, one observation, 256 trajectories.

python scripts/demo.py [--case hi] [--observation FILE] [--assimilation.samples 1024]
"""

import dataclasses

from lorenz63_conv_laptop import config as laptop

config = dataclasses.replace(laptop, prior="lorenz63")
