"""Whether an ensemble can be trusted, from what was seen and from how it was drawn: no truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy import special, stats

from sda_jax.core._errors import ConfigError
from sda_jax.core._numbers import real_array
from sda_jax.core._requirements import require_untraced
from sda_jax.observations._noise_models import DrawsNoise, NoiseModel
from sda_jax.observations._observation import Observation, require_observation
from sda_jax.samplers._gathering import LARGEST, distance

DRAWS = 64  # of noise that is not Gaussian, for each member, from which its fit's size is known
UNLIKELY = 1e-4  # tail probability of a member's fit, below which it is astray
# groups of particles differ by a nat or so where nothing is wrong
ASTRAY, MISFIT, DISAGREEMENT, COPIES = 0.01, 4.0, 2.5, 0.5
MOST = 0.5  # of the members: astray, it is what was seen that is wrong
FARTHER = 1.25  # than independent draws


def worth(error: float) -> float:
    """How many independent draws have means of this error, a share of the spread; NaN of NaN."""
    return float("inf") if error == 0 else error**-2


class Diagnosis(NamedTuple):
    """Diagnostics of an ensemble that need no truth.

    Attributes:
        fit: Of each member, the probability that what it predicts is seen with residuals as large
            as those of y, or larger; for Gaussian noise the tail of chi-square.
        misfit: Of all members' fits in the mean, standard deviations from what y's noise allows.
        astray: Share of the members that cannot have made y: with a fit below 1e-4.
        disagreement: Between groups of particles: the standard deviation of their estimates of `log
            p(y)` within a search, in nats; NaN for independent draws.
        effective: Least effective sample size of a population, as a share; NaN likewise.
        distinct: Share of the members that are particles of their own; NaN likewise.
        error: Monte Carlo error of the particles' mean, as a share of the spread, from how
            families of them differ: large where shares of modes hang on a few. Ensembles of n
            independent draws have `n**-0.5`; NaN likewise.
        distance: Foreseen distance to the posterior (Wasserstein), over that of as many independent
            draws; from the error, and how far modes lie apart; NaN likewise.
        searches: Made for an island of members, of that with the most; NaN likewise.
        warnings: What is wrong, and what to do; empty for an ensemble to be trusted.
    """

    fit: Float[np.ndarray, " samples"]
    misfit: float
    astray: float
    disagreement: float
    effective: float
    distinct: float
    error: float
    distance: float
    searches: float
    warnings: tuple[str, ...]

    @property
    def trusted(self) -> bool:
        """Whether nothing was found wrong."""
        return not self.warnings

    @property
    def worth(self) -> float:
        """Independent draws whose mean has this error."""
        return worth(self.error)

    def summary(self) -> str:
        """In a line or two."""
        known = [f"misfit {self.misfit:+.1f} standard deviations", f"astray {self.astray:.1%}"]
        if np.isfinite(self.searches):
            known += [
                f"searches {self.searches:.0f}",
                f"groups disagree by {self.disagreement:.2f} nats",
                f"least effective sample size {self.effective:.1%}",
                f"distinct {self.distinct:.0%}",
                f"particles worth {self.worth:.0f} independent draws",
                f"foreseen {self.distance:.2f} times as far from the posterior as such members are",
            ]
        verdict = "The ensemble looks trustworthy" if self.trusted else "Do not trust the ensemble"
        return f"{verdict}: {', '.join(known)}." + "".join(f"\n{w}" for w in self.warnings)


class Posterior(NamedTuple):
    """An ensemble `(samples, L, *S)` in physical units, and its diagnosis."""

    ensemble: Float[Array, "samples length *state"]
    diagnosis: Diagnosis


def diagnose(
    observation: Observation,
    ensemble: Float[Array, "samples length *state"],
    report: dict[str, Any] | None = None,
) -> Diagnosis:
    """What can be said of an ensemble without a truth.

    An ensemble that passes may still be wrong in what was not observed: held-out values
    (`evaluation.held_out_ranks`) see more.

    Args:
        observation: What was assimilated, in physical units.
        ensemble: Members in physical units.
        report: What the sampler says of its populations: `log_evidence` of each island, search and
            group (NaN where there was none), `effective`, `distinct`, `error` and `separation` of
            each island; None for independent draws.

    Raises:
        ConfigError: No members.
        ObservationError: No observation.
    """
    require_untraced("diagnose", "Call it outside of compiled functions.", observation, ensemble)
    require_observation(observation)
    members = jnp.asarray(real_array("ensemble", ensemble))
    if members.ndim < 3 or not len(members):
        got = f"shape {members.shape}" if members.size else "no members"
        raise ConfigError("ensemble", got, "members (samples, length, *state)", "Draw some.")
    if report is not None and not isinstance(report, Mapping):
        raise ConfigError("report", repr(report), "a sampler's, a table", "Leave it out.")
    return judged(*fits(observation, members), report)


def judged(fit: np.ndarray, misfits: np.ndarray, report: dict[str, Any] | None = None) -> Diagnosis:
    """The diagnosis of members with these `fits`; `report` as in `diagnose`."""
    misfit = float(misfits.mean())
    astray = float(np.mean(~(fit >= UNLIKELY)))
    report = report or {}
    searches, disagreement = _searched(report.get("log_evidence"))
    effective, distinct = (
        float(np.min(report[name])) if name in report else float("nan")
        for name in ("effective", "distinct")
    )
    errors = np.asarray(report.get("error", np.nan), np.float64)
    squared = float(np.mean(errors**2) / errors.size)  # islands are independent
    error = squared**0.5
    apart, farther = float(np.max(report.get("separation", 0.0))), float("nan")
    if not np.isnan(squared):
        farther = float(distance(apart, squared, len(fit)))
    found = []
    if astray > ASTRAY:
        found.append(
            f"{astray:.1%} of the members cannot have made what was seen: take more particles or "
            'steps (the preset "accurate"), or leave them out.'
        )
    if abs(misfit) > MISFIT:
        kind = "worse" if misfit > 0 else "better"
        # first where it explains the rest
        found.insert(
            0 if astray > MOST else len(found),
            f"Members fit y {kind} than its noise allows ({misfit:+.1f} standard deviations): "
            "check std and the operator's units, or the prior cannot make what was seen.",
        )
    if disagreement > DISAGREEMENT:
        found.append(
            f"Groups of particles disagree on the evidence by {disagreement:.1f} nats: modes may "
            'be lost or their shares wrong. Take more particles (the preset "accurate").'
        )
    if distinct < COPIES:
        found.append(
            f"Only {distinct:.0%} of the members are distinct: take more particles or search steps."
        )
    if "error" in report and not (farther <= FARTHER and error <= LARGEST * len(fit) ** -0.5):
        found.append(
            f"The particles are worth {worth(error):.0f} independent draws, of {len(fit)} members, "
            f"and foreseen {farther:.2f} times as far from the posterior as such members are: the "
            'shares of modes are in doubt. Take more particles or searches (the preset "accurate").'
        )
    return Diagnosis(
        fit,
        misfit,
        astray,
        disagreement,
        effective,
        distinct,
        error,
        farther,
        searches,
        tuple(found),
    )


def _searched(log_evidence: Any) -> tuple[float, float]:
    """How often, and how much groups disagree: searches count by their evidence."""
    if log_evidence is None:
        return float("nan"), float("nan")
    evidence = np.asarray(log_evidence, np.float64)
    evidence = evidence.reshape((1,) * (3 - evidence.ndim) + evidence.shape)
    made = ~np.isnan(evidence[..., 0])
    searches = float(made.sum(axis=1).max())
    if evidence.shape[2] == 1:
        return searches, float("nan")
    if not np.isfinite(evidence[made]).all():
        return searches, float("inf")
    variances = np.where(made, np.nan_to_num(evidence).var(axis=2, ddof=1), 0.0)
    total = np.where(made, special.logsumexp(np.nan_to_num(evidence), axis=2), -np.inf)
    shares = special.softmax(total, axis=1)
    return searches, float(np.sqrt((shares * variances).sum(axis=1).mean()))


def fits(observation: Observation, ensemble: Array) -> tuple[np.ndarray, np.ndarray]:
    """Tail probabilities of the members' fits, and how much worse these are than expected, in
    standard deviations."""
    count = int(jnp.sum(observation.observed))
    indifferent = np.ones(len(ensemble)), np.zeros(len(ensemble))
    if count == 0:
        return indifferent
    if isinstance(observation.noise, NoiseModel) and not isinstance(observation.noise, DrawsNoise):
        return indifferent  # of what cannot be drawn nothing is expected
    if observation.noise is None:
        squares = np.asarray(squared_innovations(observation, ensemble), np.float64)
        return stats.chi2.sf(squares, count), (squares - count) / np.sqrt(2 * count)
    own, mean, std = (np.asarray(a, np.float64) for a in _compared(observation, ensemble))
    away = (mean - own) / np.maximum(std, np.finfo(np.float32).tiny)
    return stats.norm.sf(away), away


@jax.jit
def squared_innovations(
    observation: Observation, members: Float[Array, "samples length *state"]
) -> Float[Array, " samples"]:
    """`|L^-1 (y - A(x))|^2` of every member, `L L^T` the noise's covariance."""

    def one(x: Array) -> Array:
        residual = observation.residual(observation.operator(x))
        return jnp.sum(observation.whitened(residual) ** 2)

    return jax.lax.map(one, members)


@jax.jit
def _compared(observation: Observation, members: Array) -> tuple[Array, Array, Array]:
    """Of each member, `log p(y | x)` of y and its mean and deviation over draws of y."""
    seen, keys = observation.observed, jax.random.split(jax.random.key(0), DRAWS)

    def one(x: Array) -> tuple[Array, Array, Array]:
        prediction = observation.operator(x)

        def of(y: Array) -> Array:
            return jnp.sum(jnp.where(seen, observation.noise.log_prob(y, prediction), 0.0))

        drawn = jax.vmap(lambda key: of(observation.noise.sample(key, prediction)))(keys)
        own = of(jnp.where(seen, jnp.asarray(observation.y, jnp.float32), 1.0))
        return own, jnp.mean(drawn), jnp.std(drawn)

    return jax.lax.map(one, members)
