"""Guidance by statistical linearisation: what an operator sees on average over what x may be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array

from sda_jax.core._arrays import Scalar, Time, Trajectory
from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError, require_at_least
from sda_jax.core._linalg import cholesky, solve_factored, solve_lower
from sda_jax.core._protocols import Denoiser
from sda_jax.core._record import static
from sda_jax.core._resampling import effective_share
from sda_jax.diffusion._gaussian import covariance_times
from sda_jax.guidance._base import GuidanceMethod
from sda_jax.guidance._gaussian import GaussianCovariance, bounded
from sda_jax.observations._laplace import gaussian_neighbour
from sda_jax.observations._observation import Observation

LARGEST = 768  # numbers of a trajectory and of y, up to which matrices of that size are worked with
SHRINKAGE = 0.2  # of the remainder's sampled covariance towards its diagonal
COLUMNS = 6  # of a Jacobian that forward mode gives in the time of a row by reverse mode
LEAST = 1e-9  # variance in standardised units, below which float32 has no inverse


class Level(NamedTuple):
    """What does not depend on x_t at one noise level: V, the covariance of x given x_t, and errors
    drawn from it.

    Attributes:
        variances: V's eigenvalues `(n,)`.
        basis: Its eigenvectors `(n, n)`.
        errors: `(draws, L, *S)`, each with its opposite.
    """

    variances: Array
    basis: Array
    errors: Array


class Linearised(NamedTuple):
    """An observation's Gaussian stand-in near a posterior mean, of flattened arrays: `y = mean +
    jacobian e + n` of an error e of the mean, with `n ~ N(0, noise)`.

    Attributes:
        jacobian: `(m, n)` in V's basis; zero where nothing was observed.
        residual: `y - mean`, zero there too.
        noise: `(m, m)`: y's, and that of what the line leaves of the operator.
        log_scale: Logarithm of the factor that the likelihood lacks.
        count: Elements observed.
    """

    jacobian: Array
    residual: Array
    noise: Array
    log_scale: Scalar
    count: Scalar

    def covariance(self, level: Level) -> Array:
        """Of the residual."""
        with jax.default_matmul_precision("highest"):
            return self.noise + (self.jacobian * level.variances) @ self.jacobian.T


def is_dense(trajectory: int, observed: int) -> bool:
    """Whether matrices of so many numbers are worked with."""
    return max(trajectory, observed) <= LARGEST


@component
class StatisticalLinearization(GuidanceMethod):
    """`p(y | x_t) = N(y; E A(x_hat + e), Sigma_y + Cov A(x_hat + e))`, e an error of the posterior
    mean, of the covariance V that the denoiser knows of: not what the operator sees of the mean,
    but what it sees on average. Gelb (1974), chapter 6; what sigma points do in the unscented
    Kalman filter.

    `GaussianCovariance` takes the operator's slope at `x_hat`, which at high noise is wrong for all
    that is not linear: a speed sees no wind there, a square nothing at all, and members run for
    what they are certain of. For a linear operator both are the same.

    Expectations are means over `draws` errors, the same for all members: of the slope the mean
    Jacobian, and of what it leaves the sampled covariance, shrunk; see also `log_likelihood`. Where
    a trajectory or y has more than 768 numbers it is `GaussianCovariance(iterations)`.

    Attributes:
        draws: Errors, two evaluations of the operator each; even, each with its opposite.
        jacobians: Of these, those that the operator's Jacobian is averaged over.
        iterations: Of conjugate gradients where matrices are too large.
    """

    draws: int = static(64)
    jacobians: int = static(8)
    iterations: int = static(10)

    def __post_init__(self) -> None:
        for name in ("draws", "jacobians"):
            value = getattr(self, name)
            require_at_least(name, value, 2)
            if value % 2:
                raise ConfigError(name, value, "an even number", "Each draw has its opposite.")
        require_at_least("draws", self.draws, self.jacobians)
        require_at_least("iterations", self.iterations, 1)

    def twist(
        self, denoiser: Denoiser, observation: Observation, x: Trajectory, t: Time
    ) -> tuple[Array, Array]:
        """`x_hat` and the gradient of `log p(y | x_t)`, through the network, with V and what the
        operator's Jacobian is averaged over held constant; bounded as in `GaussianCovariance`."""
        if not is_dense(x.size, np.size(observation.y)):
            return GaussianCovariance(self.iterations).twist(denoiser, observation, x, t)
        x_hat, pull_x = jax.vjp(lambda x: denoiser(x, t), x)
        level = self.level(denoiser, x.shape, t)
        near = self.linearised(observation, x_hat, level)
        factor = cholesky(near.covariance(level))
        w = near.jacobian.T @ solve_factored(factor, near.residual)
        (gradient,) = pull_x((level.basis @ w).reshape(x.shape))
        return x_hat, bounded(gradient, denoiser.schedule, t)

    def log_twist(
        self, denoiser: Denoiser, observation: Observation, x_hat: Trajectory, t: Time
    ) -> Array:
        """`log p(y | x_t)`, whose posterior mean is `x_hat`."""
        if not is_dense(x_hat.size, np.size(observation.y)):
            return GaussianCovariance(self.iterations).log_twist(denoiser, observation, x_hat, t)
        level = self.level(denoiser, x_hat.shape, t)
        near = self.linearised(observation, x_hat, level)
        return log_likelihood(observation, x_hat, level, near, cholesky(near.covariance(level)))

    def level(self, denoiser: Denoiser, shape: tuple[int, ...], t: Time) -> Level:
        """Of the noise level at time t."""
        size = int(np.prod(shape))

        def times(w: Array) -> Array:
            return covariance_times(denoiser, w.reshape(shape), t).reshape(-1)

        matrix = jax.vmap(times)(jnp.eye(size))
        variances, basis = jnp.linalg.eigh((matrix + matrix.T) / 2)
        variances = jnp.maximum(variances, LEAST)
        white = jax.random.normal(jax.random.key(0), (self.draws // 2, size))
        with jax.default_matmul_precision("highest"):
            # by the symmetric root, which changes with the level as V does: an eigenvector's sign
            # is anybody's, and other draws at the next level would be noise in what is gained
            errors = ((white @ basis) * jnp.sqrt(variances)) @ basis.T
        # opposites beside each other, so that any even number of the first ones is balanced
        both = jnp.stack([errors, -errors], axis=1).reshape(-1, *shape)
        return Level(variances, basis, both)

    def linearised(self, observation: Observation, x_hat: Trajectory, level: Level) -> Linearised:
        """The observation's stand-in near `x_hat`."""
        x_hat, seen = jax.lax.stop_gradient(x_hat), observation.observed.reshape(-1)

        def predictions(x_hat: Array, errors: Array) -> Array:
            return jax.vmap(lambda e: observation.operator(x_hat + e).reshape(-1))(errors)

        every = predictions(x_hat, level.errors)
        mean, few = jnp.mean(every, axis=0), level.errors[: self.jacobians]
        slopes = _jacobian(lambda x: jnp.mean(predictions(x, few), axis=0), x_hat, mean.size)
        with jax.default_matmul_precision("highest"):
            jacobian = slopes.reshape(mean.size, -1) @ level.basis
            jacobian = jnp.where(seen[:, None], jacobian, 0.0)
            drawn = level.errors.reshape(self.draws, -1) @ level.basis
            rest = jnp.where(seen, every - mean - drawn @ jacobian.T, 0.0)
            remainder = rest.T @ rest / self.draws
        alone = jnp.diag(jnp.diagonal(remainder))
        remainder = remainder + SHRINKAGE * (alone - remainder)
        predicted = remainder.diagonal() + (jacobian**2) @ level.variances
        y, noise, log_scale = _gaussian(observation, mean, predicted)
        residual = jnp.where(seen, y - mean, 0.0)
        return Linearised(jacobian, residual, noise + remainder, log_scale, jnp.sum(seen))


def _jacobian(function: Callable[[Array], Array], x: Array, rows: int) -> Array:
    """Of a function with so many values, by the mode that is faster."""
    if x.size < COLUMNS * rows:
        try:
            return jax.jacfwd(function)(x)
        except TypeError:  # an operator with a derivative of its own for reverse mode alone
            pass
    return jax.jacrev(function)(x)


def log_likelihood(
    observation: Observation, x_hat: Trajectory, level: Level, near: Linearised, factor: Array
) -> Array:
    """`log p(y | x_t)`, `factor` the Cholesky factor of the residual's covariance.

    The stand-in's normal density, times the mean of `p(y | x_hat + e)` over the stand-in's own
    density, of errors e that are drawn given y: importance sampling, exact for as many draws as
    one likes, and without any effect for a linear operator. Of few draws it is right only where
    they agree: it counts by their effective share, the normal density by the rest.
    """
    white = solve_lower(factor, near.residual)
    known = near.count * jnp.log(2 * jnp.pi)
    log_det = 2 * jnp.sum(jnp.log(jnp.diagonal(factor)))
    normal = near.log_scale - (white @ white + log_det + known) / 2
    each = _corrections(observation, x_hat, level, near, factor)
    sampled = logsumexp(each) - jnp.log(len(each))
    share = jnp.where(jnp.isfinite(sampled), jnp.minimum(effective_share(each), 1.0), 0.0)
    return normal + jnp.logaddexp(jnp.log1p(-share), jnp.log(share) + sampled)


def _corrections(
    observation: Observation, x_hat: Trajectory, level: Level, near: Linearised, factor: Array
) -> Array:
    """`log p(y | x_hat + e)` less the stand-in's, of errors e drawn given y by Matheron's rule."""
    errors = level.errors.reshape(len(level.errors), -1)
    white = jax.random.normal(jax.random.key(1), (len(errors) // 2, len(factor)))
    white = jnp.stack([white, -white], axis=1).reshape(-1, len(factor))
    with jax.default_matmul_precision("highest"):
        rest, inverse = cholesky(near.noise), solve_lower(factor, jnp.eye(len(factor)))
        seen = (errors @ level.basis) @ near.jacobian.T
        gain = (near.residual - seen - white @ rest.T) @ inverse.T @ inverse
        scaled = near.jacobian * level.variances
        drawn = errors + gain @ (level.basis @ scaled.T).T
        left = near.residual - seen - gain @ (scaled @ near.jacobian.T)
        left = left @ solve_lower(rest, jnp.eye(len(rest))).T

        def prediction(e: Array) -> Array:
            return observation.operator(x_hat + e.reshape(x_hat.shape)).reshape(-1)

        exact = _log_probs(observation, jax.vmap(prediction)(drawn))
    log_det = 2 * jnp.sum(jnp.log(jnp.diagonal(rest)))
    known = near.count * jnp.log(2 * jnp.pi)
    stand_in = near.log_scale - (jnp.sum(left**2, axis=1) + log_det + known) / 2
    each = exact - stand_in
    return jnp.where(jnp.isfinite(each), each, -jnp.inf)


def _log_probs(observation: Observation, predictions: Array) -> Array:
    """`log p(y | prediction)` of flattened predictions `(draws, m)`."""
    shape = jnp.shape(observation.y)
    if observation.covariance is None:
        return jax.vmap(lambda p: observation.log_prob(p.reshape(shape)))(predictions)
    factor = observation.cholesky(observation.noise_covariance())
    inverse = solve_lower(factor, jnp.eye(len(factor)))
    residuals = jax.vmap(lambda p: observation.residual(p.reshape(shape)).reshape(-1))(predictions)
    known = jnp.sum(observation.observed) * jnp.log(2 * jnp.pi)
    log_det = 2 * jnp.sum(jnp.log(jnp.diagonal(factor)))
    return -(jnp.sum((residuals @ inverse.T) ** 2, axis=1) + log_det + known) / 2


def _gaussian(observation: Observation, mean: Array, variance: Array) -> tuple[Any, Array, Array]:
    """y and its noise's covariance as Gaussian ones, flattened, and the log of the factor that they
    lack; the prediction has this mean and variance."""
    seen = observation.observed
    y = jnp.where(seen, jnp.asarray(observation.y, jnp.float32), 0.0)
    if observation.noise is None:
        both = seen.reshape(-1)[:, None] & seen.reshape(-1)[None, :]
        unseen = jnp.diag(jnp.where(seen.reshape(-1), 0.0, 1.0))
        noise = jnp.where(both, observation.noise_covariance(), 0.0) + unseen
        return y.reshape(-1), noise, jnp.zeros(())
    tiny = jnp.finfo(jnp.float32).tiny
    found = gaussian_neighbour(
        observation.noise,
        jnp.where(seen, y, 1.0),
        mean.reshape(y.shape),
        jnp.maximum(variance, tiny).reshape(y.shape),
    )
    std = jnp.where(seen, found.std, 1.0).reshape(-1)
    log_scale = jnp.sum(jnp.where(seen, found.log_scale, 0.0))
    return found.y.reshape(-1), jnp.diag(std**2), log_scale
