"""What the guidance methods share: the posterior's denoiser, and linear algebra of innovations."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sda_jax.core._arrays import PRNGKey, Scalar, Time, Trajectory
from sda_jax.core._component import component
from sda_jax.core._linalg import solve_factored
from sda_jax.core._protocols import Denoiser, DrawsPosterior, ExplainsObservation, Schedule
from sda_jax.diffusion._gaussian import covariance_times
from sda_jax.observations._linear import is_linear, with_row_norms
from sda_jax.observations._observation import Observation

FIT_ITERATIONS = 20  # of conjugate gradients
SOLVED = 1e-6  # relative residual, as small as single precision resolves
# numbers in y and in a trajectory up to which a linear operator's innovations are solved exactly
SHARED_MATRIX, SHARED_STATES = 256, 2048
Pull = Callable[[Array], tuple[Array]]  # w -> (J^T w,)


class GuidanceMethod(ABC):
    """Base class of guidance by a gradient of `log p(y | x_t)`; a subclass writes `twist`."""

    @abstractmethod
    def twist(
        self, denoiser: Denoiser, observation: Observation, x: Trajectory, t: Time
    ) -> tuple[Array, Array]:
        """The prior's posterior mean `E[x | x_t]` at `x = x_t` and the gradient of
        `log p(y | x_t)` with respect to x_t, both of x's shape `(L, *S)` in standardised units.

        Args:
            denoiser: Of the prior's trajectories.
            observation: With its operator on standardised trajectories.
            x: Noisy trajectory.
            t: Its time.
        """

    def __call__(self, denoiser: Denoiser, observation: Observation) -> Guided:
        """The posterior's denoiser."""
        return Guided(denoiser, observation, self)


@component
class Guided:
    """The posterior's denoiser: the prior's, moved along the gradient of `log p(y | x_t)`.

    `E[x | x_t, y] = E[x | x_t] + sigma^2/mu grad log p(y | x_t)`, Tweedie's formula for the
    posterior score.

    Attributes:
        denoiser: Of the prior's trajectories, in standardised units.
        observation: With its operator on standardised trajectories.
        method: The guidance; its `twist` gives `x_hat` and the gradient.
    """

    denoiser: Any
    observation: Any
    method: Any

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, x: Trajectory, t: Time) -> Trajectory:
        x_hat, gradient = self.method.twist(self.denoiser, self.observation, x, t)
        return x_hat + self.schedule.sigma(t) ** 2 / self.schedule.mu(t) * gradient

    def fit(self, x: Trajectory, t: Time) -> Array:
        """How well x_t explains y; see `innovation_fit`."""
        return innovation_fit(self.denoiser, self.observation, x, t)

    def prepared(self, shape: tuple[int, ...]) -> Guided:
        """With what is the same for all x_t: a linear operator's row norms."""
        operator = with_row_norms(self.observation.operator, shape)
        observation = dataclasses.replace(self.observation, operator=operator)
        return dataclasses.replace(self, observation=observation)


@component
class GuidedDraws(Guided):
    """The posterior's denoiser of guidance that knows the whole distribution of the data given x_t
    and y; its `method` has `draw`."""

    def draw(self, key: PRNGKey, x: Trajectory, t: Time) -> Trajectory:
        """A draw of the data given x_t and y."""
        return self.method.draw(key, self.denoiser, self.observation, x, t)


@component
class Explained:
    """A posterior's denoiser with the `fit` that it does not have of its own.

    Attributes:
        posterior: The posterior's denoiser, whatever guidance made it.
        denoiser: Of the prior's trajectories, in standardised units.
        observation: With its operator on standardised trajectories.
    """

    posterior: Any
    denoiser: Any
    observation: Any

    @property
    def schedule(self) -> Schedule:
        return self.posterior.schedule

    def __call__(self, x: Trajectory, t: Time) -> Trajectory:
        return self.posterior(x, t)

    def fit(self, x: Trajectory, t: Time) -> Array:
        """How well x_t explains y; see `innovation_fit`."""
        return innovation_fit(self.denoiser, self.observation, x, t)


@component
class ExplainedDraws(Explained):
    """The same of a denoiser that draws."""

    def draw(self, key: PRNGKey, x: Trajectory, t: Time) -> Trajectory:
        """A draw of the data given x_t and y."""
        return self.posterior.draw(key, x, t)


def explained(posterior: Denoiser, denoiser: Denoiser, observation: Observation) -> Denoiser:
    """A posterior's denoiser that explains its observation, itself if it does."""
    if isinstance(posterior, ExplainsObservation):
        return posterior
    kind = ExplainedDraws if isinstance(posterior, DrawsPosterior) else Explained
    return kind(posterior, denoiser, observation)


def innovation_fit(denoiser: Denoiser, observation: Observation, x: Trajectory, t: Time) -> Array:
    """How well `x = x_t` explains y, in nats: minus half the innovation's chi-square,
    `(y - A(x_hat))^T (Sigma_y + J V J^T)^-1 (y - A(x_hat))`, V being the covariance of x given
    x_t that the denoiser knows of; with a noise model the log likelihood of x_hat."""
    x_hat = denoiser(x, t)
    if observation.noise is not None:
        return observation.log_likelihood(x_hat)
    prediction, push = jax.linearize(observation.operator, x_hat)
    residual = observation.residual(prediction)
    matrix = innovation_covariance(
        observation,
        push,
        jax.linear_transpose(push, x_hat),
        lambda w: covariance_times(denoiser, w, t),
    )
    return -jnp.vdot(residual, conjugate_gradients(matrix, residual, FIT_ITERATIONS)) / 2


def innovation_gradient(
    observation: Observation,
    x_hat: Trajectory,
    covariance: Callable[[Array], Array],
    iterations: int,
    errors: tuple[Array, Array] | None = None,
    inflation: Scalar = 1.0,
) -> Trajectory:
    """`J^T (Sigma_y + J V J^T)^-1 (y - A(x_hat) - J e - n)`, J the operator's Jacobian at `x_hat`.

    Args:
        observation: With its operator on standardised trajectories.
        x_hat: Posterior mean.
        covariance: `w -> V w`, the covariance of x given x_t.
        iterations: Of conjugate gradients, an evaluation of `covariance` each, fewer where the
            residual is down to single precision before; linear operators of few numbers, for short
            trajectories, are solved exactly, with a matrix that all members of an ensemble share.
        errors: e and n, of x_hat and of y; None for zeros.
        inflation: Factor of V, which may differ from member to member.
    """
    prediction, push = jax.linearize(observation.operator, x_hat)
    pull = jax.linear_transpose(push, x_hat)
    if errors is not None:
        prediction = prediction + push(errors[0]) + errors[1]
    residual = observation.residual(prediction)
    small = residual.size <= SHARED_MATRIX and x_hat.size <= SHARED_STATES
    if small and is_linear(observation.operator, x_hat):
        m, predicted = residual.size, predicted_covariance(push, pull, covariance, residual)
        known = observation.noise_covariance() + inflation * predicted
        # as much as single precision leaves open, where rows of y say the same
        rounding = m * jnp.finfo(known.dtype).eps * jnp.max(jnp.diagonal(known))
        known = known + rounding * jnp.eye(m)
        v = solve_factored(observation.cholesky(known), residual.reshape(-1))
        v = jnp.where(observation.observed, v.reshape(residual.shape), 0.0)
    else:
        inflated = lambda w: inflation * covariance(w)  # noqa: E731
        matrix = innovation_covariance(observation, push, pull, inflated)
        v = conjugate_gradients(matrix, residual, iterations, SOLVED)
    return pull(v)[0]


def predicted_covariance(
    push: Callable[[Array], Array],
    pull: Pull,
    covariance: Callable[[Array], Array],
    like: Array,
) -> Array:
    """`J V J^T` as a matrix, of as many rows as `like`, an array like y, has numbers."""
    m = like.size
    basis = jnp.eye(m, dtype=like.dtype).reshape(m, *like.shape)
    rows = jax.vmap(lambda v: push(covariance(pull(v)[0])))(basis).reshape(m, m)
    return (rows + rows.T) / 2


def innovation_covariance(
    observation: Observation,
    push: Callable[[Array], Array],
    pull: Pull,
    covariance: Callable[[Array], Array],
) -> Callable[[Array], Array]:
    """`v -> (Sigma_y + J V J^T) v`, `push` being J, `pull` its transpose and `covariance` V."""

    def matrix(v: Array) -> Array:
        (w,) = pull(v)
        known = jnp.where(observation.observed, push(covariance(w)), 0.0)
        return observation.noise_times(v) + known

    return matrix


def conjugate_gradients(
    matrix: Callable[[Array], Array], b: Array, iterations: int, until: float = 0.0
) -> Array:
    """`matrix^-1 b`, approximately; stops at a direction in which the matrix is not
    positive, as the Jacobian of a trained network may make it.

    Args:
        matrix: Its products, symmetric.
        b: Right-hand side.
        iterations: At most.
        until: Norm of the residual, in units of b's, at which it stops; with 0 it takes all
            iterations, and reverse-mode derivatives can be taken.
    """

    def step(carry: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], None]:
        v, r, p = carry
        mapped = matrix(p)
        size, curvature = jnp.vdot(r, r), jnp.vdot(p, mapped)
        usable = (curvature > 0) & (size > 0)
        alpha = jnp.where(usable, size / jnp.where(usable, curvature, 1.0), 0.0)
        v, r = v + alpha * p, r - alpha * mapped
        beta = jnp.where(usable, jnp.vdot(r, r) / jnp.where(usable, size, 1.0), 0.0)
        return (v, r, r + beta * p), None

    start = jnp.zeros_like(b), b, b
    if not until:
        return jax.lax.scan(step, start, None, length=iterations)[0][0]
    enough = until**2 * jnp.vdot(b, b)

    def going(counted: tuple[Any, Any]) -> Any:
        i, (_, r, _) = counted
        return (i < iterations) & (jnp.vdot(r, r) > enough)

    def onward(counted: tuple[Any, Any]) -> tuple[Any, Any]:
        i, carry = counted
        return i + 1, step(carry, None)[0]

    return jax.lax.while_loop(going, onward, (0, start))[1][0]


def gmres(matrix: Callable[[Array], Array], b: Array, iterations: int) -> Array:
    """`matrix^-1 b`, approximately: the smallest residual within `iterations` products."""
    found, _ = jax.scipy.sparse.linalg.gmres(
        matrix, b, tol=0.0, restart=iterations, maxiter=1, solve_method="batched"
    )
    return found
