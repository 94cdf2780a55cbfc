"""How often a sampler evaluates a denoiser."""

import jax

from sda_jax.samplers._counting import counting
from sda_jax.samplers._driver import draw


def evaluations(sampler, denoiser, shape, guided=lambda denoiser: denoiser):
    """Of one draw from what `guided` makes of the denoiser."""
    counted, tally = counting(denoiser)
    x = jax.jit(draw, static_argnums=3)(jax.random.key(0), guided(counted), sampler, shape)
    x.block_until_ready()
    return tally.evaluations()
