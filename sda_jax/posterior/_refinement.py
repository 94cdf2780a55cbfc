"""A finish with the system itself: Metropolis-adjusted Langevin steps on the exact posterior."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sda_jax.core._arrays import PRNGKey, Trajectory
from sda_jax.core._batches import map_batches
from sda_jax.core._errors import DivergenceError, ObservationError, require_positive, whole_number
from sda_jax.core._linalg import cholesky, solve_factored, solve_lower_transposed
from sda_jax.core._protocols import GaussianSystem
from sda_jax.observations._checks import prediction_of
from sda_jax.observations._observation import Observation, require_observation
from sda_jax.posterior._arguments import LOOP, ensemble_of, require_call
from sda_jax.runtime._memory import run_in_chunks
from sda_jax.systems._base import require_noise

NEGLIGIBLE = 1e-6  # share of the mean precision


class Refined(NamedTuple):
    """An ensemble after Metropolis-Hastings steps, and how they went.

    Attributes:
        ensemble: In physical units.
        acceptance: Share of the proposals that each member accepted.
        distance: Root mean square distance that each member moved.
        log_posterior: `log p(x_{2:L} | x_1) p(y | x)` of each member before and after.
    """

    ensemble: Float[Array, "samples length *state"]
    acceptance: Float[Array, " samples"]
    distance: Float[Array, " samples"]
    log_posterior: Float[Array, "before_after samples"]


def refine(
    key: PRNGKey,
    system: GaussianSystem,
    observation: Observation,
    ensemble: Float[Array, "samples length *state"],
    steps: int = 64,
    size: float = 0.3,
    chunk: int | None = None,
) -> Refined:
    """Corrects an ensemble by the simulator: every member makes MALA steps that leave
    `p(x_1) p(x_{2:L} | x_1) p(y | x)` as it is, with p(x_1) flat.

    Each member's proposals are preconditioned by the Gauss-Newton precision of the log posterior at
    another member, so that a step is a share of the posterior's width in every direction; taken
    where the chain itself starts, it would not leave the posterior as it is. Besag (1994); Roberts
    & Stramer (2002). Modes that no member is in stay empty: it mends members, not their shares. It
    uses the system, and so is no part of `assimilate`.

    Args:
        key: Random key.
        system: With Gaussian transitions of positive noise.
        observation: With independent or correlated Gaussian noise, in physical units.
        ensemble: In physical units.
        steps: Proposals for each member.
        size: Of a step, in units of the local posterior's width.
        chunk: Members moved at once, each with a matrix of as many rows as a trajectory has
            numbers; None for as many as fit the memory, on CPU at most 64.

    Raises:
        ConfigError: Impossible numbers, or a system whose transition has no density.
        ObservationError: The noise is not Gaussian.
        DivergenceError: A member at which the log posterior is not finite.
        ResourceError: The members of a chunk need more memory than is free.
    """
    require_call("refine", key, observation, ensemble, remedy=LOOP)
    require_noise(system)
    steps = whole_number("steps", steps)
    chunk = None if chunk is None else whole_number("chunk", chunk)
    require_positive("size", size)
    require_observation(observation)
    observation.require_gaussian("steps are scaled by its precision", "Give std or covariance.")
    members = ensemble_of(ensemble, system.state_shape, least=2)
    prediction = prediction_of(observation.operator, members.shape[1:])
    if prediction.shape != np.shape(observation.y):
        raise ObservationError(
            "y",
            f"shape {np.shape(observation.y)}",
            f"the operator's shape {prediction.shape} for the ensemble's {members.shape[1]} states",
            "Reshape y or correct the operator.",
        )
    given = (key, system, observation, members, steps, size)
    found = run_in_chunks(_refined, given, len(members), chunk, "the members refined at once")
    bad = ~np.isfinite(np.asarray(found.log_posterior[0]))
    if bad.any():
        raise DivergenceError(
            "ensemble",
            f"{int(bad.sum())} of {len(bad)} members at which the log posterior is not finite",
            "members that the system can make",
            "Leave them out.",
        )
    return found


@partial(jax.jit, static_argnames=("steps", "chunk"))
def _refined(
    key: PRNGKey,
    system: GaussianSystem,
    observation: Observation,
    members: Array,
    steps: int,
    size: float,
    chunk: int,
) -> Refined:
    shape = members.shape[1:]

    def misfits(flat: Array) -> Array:
        """Whitened transitions and residuals, half whose squares is minus the log posterior."""
        x = flat.reshape(shape)
        jumps = (x[1:] - jax.vmap(system.forecast)(x[:-1])) / system.transition_std
        residual = observation.whitened(observation.residual(observation.operator(x)))
        return jnp.concatenate([jumps.reshape(-1), residual.reshape(-1)])

    def log_posterior(flat: Array) -> Array:
        return -0.5 * jnp.sum(misfits(flat) ** 2)

    def one(member: tuple[PRNGKey, Trajectory, Trajectory]) -> tuple[Array, ...]:
        key, start, other = member[0], member[1].reshape(-1), member[2].reshape(-1)
        jacobian = jax.jacobian(misfits)(other)
        precision = jacobian.T @ jacobian
        # directions that nothing decides get a bound, far wider than the others
        precision += NEGLIGIBLE * jnp.mean(jnp.diagonal(precision)) * jnp.eye(len(start))
        factor = cholesky(precision)

        def drift(x: Array) -> tuple[Array, Array]:
            value, gradient = jax.value_and_grad(log_posterior)(x)
            return value, x + size**2 / 2 * solve_factored(factor, gradient)

        def white(difference: Array) -> Array:
            return jnp.sum((factor.T @ difference) ** 2) / (2 * size**2)

        def step(carry: tuple, i: Array) -> tuple[tuple, Array]:
            x, value, centre = carry
            key_move, key_accept = jax.random.split(jax.random.fold_in(key, i))
            z = jax.random.normal(key_move, x.shape)
            moved = solve_lower_transposed(factor, z)
            proposal = centre + size * moved
            new_value, new_centre = drift(proposal)
            ratio = new_value - value + white(proposal - centre) - white(x - new_centre)
            accept = jnp.log(jax.random.uniform(key_accept)) < ratio
            chosen = jax.tree.map(
                lambda a, b: jnp.where(accept, a, b),
                (proposal, new_value, new_centre),
                (x, value, centre),
            )
            return chosen, accept

        value, centre = drift(start)
        (x, end, _), accepted = jax.lax.scan(step, (start, value, centre), jnp.arange(steps))
        moved = jnp.sqrt(jnp.mean((x - start) ** 2))
        return x.reshape(shape), jnp.mean(accepted), moved, jnp.stack([value, end])

    with jax.default_matmul_precision("highest"):
        keys = jax.random.split(key, len(members))
        x, acceptance, distance, values = map_batches(
            one, (keys, members, jnp.roll(members, 1, axis=0)), chunk
        )
    return Refined(x, acceptance, distance, values.T)
