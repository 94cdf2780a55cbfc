"""What a member of a posterior costs, counted."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

from sda_jax.core._errors import whole_number
from sda_jax.core._protocols import Guidance, Sampler
from sda_jax.core._requirements import require_untraced
from sda_jax.observations._observation import Observation
from sda_jax.posterior._arguments import LOOP, check_methods, check_observation
from sda_jax.posterior._assimilate import guided, posterior_denoiser
from sda_jax.posterior._presets import default_methods
from sda_jax.prior._prior import Prior
from sda_jax.prior._trajectory_denoiser import trajectory_denoiser
from sda_jax.runtime._memory import Memory
from sda_jax.samplers._counting import Evaluations, counting
from sda_jax.samplers._driver import draw, island
from sda_jax.samplers._population import Population

# a program that is run once
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def count_evaluations(
    prior: Prior,
    observation: Observation,
    length: int,
    guidance: Guidance | None = None,
    sampler: Sampler | None = None,
    memory: Memory = Memory(),
    context: Any = None,
    samples: int = 256,
) -> Evaluations:
    """Evaluations of the prior's denoiser for one member of `assimilate` with these arguments.

    One draw is run with a denoiser in the prior's place that costs nothing and counts: of whatever
    guidance and sampler, those that are made. Of a `PopulationSampler` an island is drawn, and a
    member's share is rounded up. Of a `Population` members are drawn alone, beside one search,
    which evaluates each particle once at each level; how many an observation takes is known when
    it was drawn (`Diagnosis.searches`, `Evaluations.searched`).

    Raises:
        ConfigError, ObservationError: See `assimilate`.
    """
    require_untraced("count_evaluations", LOOP, prior, observation, context)
    check_methods(guidance, sampler)
    check_observation(prior, observation, length)
    length, samples = whole_number("length", length), whole_number("samples", samples)
    guidance, sampler = default_methods(prior, observation, length, guidance, sampler)
    _, sampler = posterior_denoiser(
        prior, observation, length, samples, guidance, sampler, memory, context
    )
    again = 0
    if isinstance(sampler, Population):
        again, sampler = sampler.each_search, sampler.refining
    denoiser, tally = counting(trajectory_denoiser(prior, length, context, memory))
    counted = guided(denoiser, observation.standardised(prior.standardisation), guidance)
    one = partial(draw, shape=(length, *prior.state_shape))
    run = jax.jit(one, compiler_options=QUICKLY)
    jax.block_until_ready(run(jax.random.key(0), counted, sampler))
    found = Evaluations(*(-(-n // island(sampler)) for n in tally.evaluations()))
    return found._replace(forwards=found.forwards + again, again=again)
