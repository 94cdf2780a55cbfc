"""The settings "fast", "default" and "accurate", as benchmarks chose them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from sda_jax.core._errors import ConfigError, require_at_least, whole_number
from sda_jax.core._protocols import Denoiser, DrawsPosterior, Guidance, Sampler
from sda_jax.diffusion._denoisers import NetworkDenoiser
from sda_jax.diffusion._grids import LogSNR
from sda_jax.diffusion._linear_base import LinearPreconditioned
from sda_jax.diffusion._spectral import SpectralPreconditioned
from sda_jax.guidance import GaussianCovariance, StatisticalLinearization
from sda_jax.observations._linear import is_linear
from sda_jax.observations._observation import Observation, require_observation
from sda_jax.prior._prior import Prior, require_prior
from sda_jax.samplers import (
    Candidates,
    DPMSolverPP2M,
    Gibbs,
    LeimkuhlerMatthews,
    Population,
    PredictorCorrector,
)


def _stepping(steps: int, grid: Any, corrections: int, tau: float) -> PredictorCorrector:
    corrector = LeimkuhlerMatthews(corrections, tau, above=0.005)
    # of second order where no corrections are made
    return PredictorCorrector(steps, grid, DPMSolverPP2M(), corrector, denoise=0.5)


def _gibbs(steps: int) -> PredictorCorrector:
    return PredictorCorrector(steps, LogSNR(), DPMSolverPP2M(), Gibbs(2, above=0.1))


DEFAULT_GUIDANCE = StatisticalLinearization()
# of members that are drawn independently of each other
INDEPENDENT_GUIDANCE = GaussianCovariance(iterations=10)
INDEPENDENT_SAMPLER = Candidates(_stepping(32, LogSNR(), 7, 0.5), count=2)
PRIOR_SAMPLER = _stepping(64, LogSNR(), 7, 0.5)
# of rising cost: benchmarks/results/posterior.md
PRESETS: dict[str, tuple[Any, Any]] = {
    "fast": (
        DEFAULT_GUIDANCE,
        Population(
            particles=2, searches=1, refinement=10, corrections=3, alone=INDEPENDENT_SAMPLER
        ),
    ),
    "default": (DEFAULT_GUIDANCE, Population(alone=INDEPENDENT_SAMPLER)),
    "accurate": (
        DEFAULT_GUIDANCE,
        Population(
            particles=16,
            search=60,
            excess=0.08,
            refinement=16,
            corrections=6,
            alone=INDEPENDENT_SAMPLER,
        ),
    ),
    "independent": (INDEPENDENT_GUIDANCE, INDEPENDENT_SAMPLER),
}
# no gradient through windows put together: benchmarks/results/kolmogorov_calibration.md
_INNOVATIONS = GaussianCovariance(20, inflation=None, through_network=False)
FIELD_PRESETS: dict[str, tuple[Any, Any]] = {
    "fast": (_INNOVATIONS, _gibbs(32)),
    "default": (_INNOVATIONS, _gibbs(64)),
    "accurate": (_INNOVATIONS, _gibbs(128)),
}


def _conditional(steps: int) -> tuple[Any, Any]:
    corrector = Gibbs(2, above=0.03)
    sampler = PredictorCorrector(steps, LogSNR(), DPMSolverPP2M(), corrector, denoise=0.5)
    return GaussianCovariance(20, through_network=False), sampler


# exact where the prior is Gaussian: benchmarks/results/weather.md
LINEAR_PRESETS: dict[str, tuple[Any, Any]] = {
    "fast": _conditional(16),
    "default": _conditional(32),
    "accurate": _conditional(64),
}


def presets(
    prior: Prior, observation: Observation | None = None, length: int | None = None
) -> dict[str, tuple[Any, Any]]:
    """Guidance and sampler by "fast", "default" and "accurate", of rising cost, and by
    "independent".

    The first three draw a population of particles, two, six and sixteen for each member, which are
    weighed where modes are decided (`Population`): right for operators that nobody tuned for, at
    119, 315 and 1053 forwards a member for an observation that is searched once, and up to eight
    searches for others but with "fast". "independent" draws each member twice down to there and
    goes on with one that explains the observation (`Candidates`): members that are functions of
    their own key alone, of trajectories of any length, but wrong for many nonlinear operators.

    Periodic fields whose covariance the prior knows (`SpectralPreconditioned`) have settings of
    their own: Gibbs steps, which draw errors with that covariance and take no gradient through the
    network: with the shipped flow's, composed of windows, members run away. There more steps
    gain nothing for a linear observation, and a little for one that saturates.

    Priors that depart from a best linear estimate (`SeriesPreconditioned`, `FieldPreconditioned`)
    have them for what is observed linearly with Gaussian noise: draws of the errors given y are
    exact as far as the linear estimate goes, at 41, 81 and 161 forwards a member.

    Args:
        prior: What trajectories look like.
        observation: In physical units; with None, settings for any.
        length: States of its trajectory; None without an observation.

    Raises:
        ConfigError: No prior, an observation without a length or a length without an observation.
        ObservationError: No observation.
    """
    require_prior(prior)
    if observation is not None:
        require_observation(observation)
    if (observation is None) != (length is None):
        raise ConfigError(
            "length",
            length,
            "the states of the observation's trajectory" if length is None else "None",
            "Give observation and length, or neither.",
        )
    if length is not None:
        length = whole_number("length", length)
        require_at_least("length", length, 1)
    return _presets(prior, observation, length)


def _presets(
    prior: Prior, observation: Observation | None, length: int | None
) -> dict[str, tuple[Any, Any]]:
    """Those for any observation without a length."""
    denoiser = prior.denoiser
    known = denoiser.parameterisation if isinstance(denoiser, NetworkDenoiser) else None
    if isinstance(known, SpectralPreconditioned):
        return FIELD_PRESETS
    if not isinstance(known, LinearPreconditioned) or observation is None or length is None:
        return PRESETS
    return PRESETS | (LINEAR_PRESETS if _is_gaussian(prior, observation, length) else {})


def _is_gaussian(prior: Prior, observation: Observation, length: int) -> bool:
    """Whether y would be Gaussian if the standardised trajectory were."""
    standardised = observation.standardised(prior.standardisation)
    like = jnp.zeros((length, *prior.state_shape))
    return observation.noise is None and is_linear(standardised.operator, like)


def default_methods(
    prior: Prior,
    observation: Observation,
    length: int | None,
    guidance: Guidance | None,
    sampler: Sampler | None = None,
) -> tuple[Guidance, Sampler | None]:
    """What the user gives, or the preset's where neither is given; with a sampler of the user's the
    guidance for any observation. The sampler is None still with guidance of the user's: see
    `default_sampler`."""
    require_observation(observation)
    if guidance is not None:
        return guidance, sampler
    usual, own = _presets(prior, observation, length if sampler is None else None)["default"]
    # the innovations of other noise models say nothing of the inflation
    follows = isinstance(usual, GaussianCovariance) and usual.inflation is None
    if follows and observation.noise is not None:
        usual = dataclasses.replace(usual, inflation=1.0)
    return usual, own if sampler is None else sampler


def default_sampler(prior: Prior, posterior: Denoiser) -> Sampler:
    """The sampler for guidance of the user's: the prior's, or one without Gibbs steps for a
    posterior's denoiser that does not draw."""
    _, usual = presets(prior)["default"]
    steps_draw = isinstance(usual, PredictorCorrector) and isinstance(usual.corrector, Gibbs)
    return (
        INDEPENDENT_SAMPLER if steps_draw and not isinstance(posterior, DrawsPosterior) else usual
    )
