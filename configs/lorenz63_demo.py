"""What `make demo` and `sda-jax demo` run: the shipped Lorenz prior, one observation, 256 members.

sda-jax demo [--case hi] [--observation FILE] [--assimilation.samples 1024]
"""

from sda_jax.experiment import demo_experiment

config = demo_experiment()
