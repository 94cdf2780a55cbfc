"""Whether an ensemble can be trusted, without a truth."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sda_jax.core._arrays import Operator, PRNGKey
from sda_jax.core._errors import ObservationError, require_at_least
from sda_jax.core._protocols import Guidance, Sampler
from sda_jax.core._requirements import require_untraced
from sda_jax.evaluation._metrics import ranks
from sda_jax.observations._observation import Observation, observe, require_observation
from sda_jax.posterior._arguments import check_observation, ensemble_of, require_call
from sda_jax.posterior._assimilate import draw_posterior, sample
from sda_jax.posterior._diagnosis import squared_innovations
from sda_jax.posterior._presets import PRIOR_SAMPLER
from sda_jax.prior._prior import Prior
from sda_jax.runtime._memory import Memory

OUTSIDE = "Call it outside of compiled functions."


class ChiSquare(NamedTuple):
    """Squared residuals in units of the noise, per observed element.

    Attributes:
        members: `|L^-1 (y - A(x))|^2 / m` of each member, `L L^T` the noise's covariance. Given y
            drawn from the model, a member that is an exact draw of the posterior has the
            distribution of chi-square with m degrees of freedom, divided by m.
        std: Standard deviation of that distribution, `sqrt(2 / m)`.
    """

    members: Float[np.ndarray, " samples"]
    std: float


def innovation_chi_square(
    observation: Observation, ensemble: Float[Array, "samples length *state"]
) -> ChiSquare:
    """Whether members fit what was observed as well as its noise allows: 1, give or take `std`.

    Well above: the guidance is too weak, the noise was set too small, or the prior cannot make what
    was seen. Well below: the members fit the noise.

    Args:
        observation: In physical units.
        ensemble: Members in physical units.

    Raises:
        ConfigError: JAX traces the call, or `ensemble` is none.
        ObservationError: Nothing was observed, or its noise is not Gaussian.
    """
    require_untraced("innovation_chi_square", OUTSIDE, observation, ensemble)
    require_observation(observation)
    observation.require_gaussian(
        "innovations of other distributions have no chi-square",
        "Hold values out and take held_out_ranks.",
    )
    m = int(jnp.sum(observation.observed))
    if m == 0:
        raise ObservationError(
            "observation", "only missing values", "at least one that was observed", "Check y."
        )

    found = squared_innovations(observation, ensemble_of(ensemble)) / m
    return ChiSquare(np.asarray(found, np.float64), float(np.sqrt(2 / m)))


def held_out_ranks(
    key: PRNGKey, held_out: Observation, ensemble: Float[Array, "samples length *state"]
) -> Int[np.ndarray, " observed"]:
    """Ranks of observed values that were not assimilated among the members' predictions of them,
    each with noise of its own: uniform from 0 to `samples` where the ensemble is calibrated.

    Args:
        key: Random key of the noise.
        held_out: In physical units; missing values are left out.
        ensemble: Members in physical units, assimilated without `held_out`.

    Raises:
        ConfigError: JAX traces the call, `key` is none, or `ensemble` is none.
        ObservationError: `held_out` is none.
    """
    require_call("held_out_ranks", key, held_out, ensemble, remedy=OUTSIDE)
    require_observation(held_out)
    key_noise, key_ties = jax.random.split(key)
    predictions = _noisy_predictions(key_noise, held_out, ensemble_of(ensemble))
    y = np.asarray(held_out.y)
    ties = (np.asarray(predictions) == y).sum(axis=0)  # counts have many
    place = np.floor(np.asarray(jax.random.uniform(key_ties, y.shape)) * (ties + 1)).astype(int)
    return (ranks(predictions, y) + place)[np.asarray(held_out.observed)]


@jax.jit
def _noisy_predictions(key: PRNGKey, observation: Observation, members: Array) -> Array:
    def one(both: tuple[PRNGKey, Array]) -> Array:
        key, x = both
        return observation.draw(key, observation.operator(x))

    return jax.lax.map(one, (jax.random.split(key, len(members)), members))


def simulation_based_calibration(
    key: PRNGKey,
    prior: Prior,
    operator: Operator,
    std: Any,
    length: int,
    truths: int,
    samples: int,
    guidance: Guidance | None = None,
    sampler: Sampler | None = None,
    truth_sampler: Sampler = PRIOR_SAMPLER,
    memory: Memory = Memory(),
    context: Any = None,
) -> Int[np.ndarray, "truths length *state"]:
    """Ranks of truths drawn from the prior itself among the members that assimilate observations of
    them: uniform from 0 to `samples` if sampler and guidance are exact, whatever the prior's
    quality. Talts et al. (2018).

    Args:
        key: Random key.
        prior: What trajectories look like; truths are drawn from it.
        operator: What is seen of a truth.
        std: Noise of what is seen.
        length: States of a trajectory.
        truths: Repetitions.
        samples: Members of each ensemble.
        guidance, sampler, memory, context: See `assimilate`.
        truth_sampler: Sampler of the truths.

    Raises:
        ConfigError: Less than one truth.
    """
    require_at_least("truths", truths, 1)
    key_truths, key_noise, key_members = jax.random.split(key, 3)
    some = prior.standardisation.inverse(jnp.zeros((length, *prior.state_shape)))
    check_observation(prior, Observation(operator(some), operator, std=std), length)
    drawn = sample(key_truths, prior, length, truths, truth_sampler, memory, context)
    found = []
    for i, truth in enumerate(drawn):
        observation = observe(jax.random.fold_in(key_noise, i), truth, operator, std=std)
        ensemble = draw_posterior(
            jax.random.fold_in(key_members, i),
            prior,
            observation,
            length,
            samples,
            guidance,
            sampler,
            memory,
            context,
        ).ensemble
        found.append(ranks(np.asarray(ensemble), np.asarray(truth)))
    return np.stack(found)
