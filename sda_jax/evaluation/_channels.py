"""Scores of ensembles whose states have named channels, variable by variable."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sda_jax.core._arrays import PRNGKey
from sda_jax.data._layout import Layout
from sda_jax.evaluation._diagnostics import held_out_ranks
from sda_jax.evaluation._metrics import crps, rmse, spread
from sda_jax.observations._interpolation import Interpolate
from sda_jax.observations._observation import Observation
from sda_jax.observations._operators import Joined
from sda_jax.prior._prior import Prior


def held_out_scores(
    key: PRNGKey,
    prior: Prior,
    held_out: Observation,
    ensemble: Float[np.ndarray, "samples length *state"] | Float[Array, "samples length *state"],
) -> tuple[dict[str, dict[str, float]], np.ndarray]:
    """Scores of an ensemble at observed values that it was not given, by variable, and their ranks.

    The members' predictions get noise as the observations have it. Beside them the climate that
    the prior was standardised with: its mean.

    Args:
        key: Random key of the noise in scores and ranks.
        prior: With a layout.
        held_out: As `read` makes it; missing values are left out.
        ensemble: Members in physical units, finite under the mask too.

    Returns:
        For each variable with its unit: the number of `values`, `rmse` of the mean,
        `climate_rmse`, `bias`, `crps`, `spread_skill`, and the share `inside_90`, the central 90 %;
        and the rank of every value. Variables are told apart of points alone.
    """
    assert prior.layout is not None
    predict = jax.jit(lambda o, x: jax.lax.map(o.operator, x))
    seen = np.asarray(held_out.observed)
    predicted = np.asarray(predict(held_out, ensemble), np.float64)[:, seen]
    y = np.asarray(held_out.y, np.float64)
    std = np.broadcast_to(np.asarray(held_out.std, np.float64), y.shape)[seen]
    y = y[seen]
    climate = prior.standardisation.inverse(jnp.zeros(ensemble.shape[1:]))
    usual = np.asarray(held_out.operator(climate), np.float64)[seen]
    key_noise, key_ranks = jax.random.split(key)
    noisy = predicted + std * np.asarray(jax.random.normal(key_noise, predicted.shape))
    place = np.asarray(held_out_ranks(key_ranks, held_out, jnp.asarray(ensemble)))
    n, found = len(ensemble), {}
    for name, here in by_variable(held_out, prior.layout).items():
        error = predicted[:, here].mean(axis=0) - y[here]
        variance = (1 + 1 / n) * predicted[:, here].var(axis=0, ddof=1) + std[here] ** 2
        inside = (place[here] > 0.05 * n) & (place[here] < 0.95 * n + 1)
        found[name] = {
            "values": float(here.sum()),
            "rmse": float(np.sqrt((error**2).mean())),
            "climate_rmse": float(np.sqrt(((usual - y)[here] ** 2).mean())),
            "bias": float(error.mean()),
            "crps": crps(noisy[:, here], y[here]),
            "spread_skill": float(np.sqrt(variance.mean() / (error**2).mean())),
            "inside_90": float(np.mean(inside)),
        }
    return found, place


def by_variable(observation: Observation, layout: Layout) -> dict[str, np.ndarray]:
    """Which of the observed values are of each variable, by its name with its unit; of an operator
    that is not of points, all of none."""
    seen = np.asarray(observation.observed)
    if (channel := _channel_of(observation, layout)) is None:
        return {"all values": np.ones(seen.sum(), bool)}
    channel, found = channel[seen], {}
    for name in dict.fromkeys(c.name for c in layout.channels):
        of_name = [i for i, c in enumerate(layout.channels) if c.name == name]
        if (here := np.isin(channel, of_name)).any():
            found[f"{name} ({layout.channels[of_name[0]].units or 'no unit'})"] = here
    return found


def _channel_of(observation: Observation, layout: Layout) -> np.ndarray | None:
    """The channel of every value of points; those of several tables follow each other. None if
    some are not of points."""
    operator = observation.operator
    operators = operator.operators if isinstance(operator, Joined) else (operator,)
    if not all(isinstance(o, Interpolate) for o in operators):
        return None
    flat = np.concatenate([np.asarray(o.indices)[:, 0] for o in operators])
    return flat % len(layout.channels)


def channel_scores(
    prior: Prior,
    ensemble: Float[np.ndarray, "samples length *state"],
    truth: Float[np.ndarray, " length *state"] | None = None,
) -> list[dict[str, float]]:
    """For each channel of the prior's layout its `spread` and `climate_std`, and, where the truth
    is known, `rmse` of the mean, `climate_rmse`, `crps` and `spread_skill`; without what is under
    the mask."""
    assert prior.layout is not None
    units = prior.standardisation
    usual = units.inverse(jnp.zeros(len(prior.layout.channels)))
    means, stds = (np.asarray(a, float) for a in (usual, units.scale(usual)))
    found = []
    for c in range(len(prior.layout.channels)):
        seen = prior.layout.valid[..., c]
        x = ensemble[..., c][:, :, seen]
        scores = {"spread": spread(x), "climate_std": float(stds[c])}
        if truth is not None:
            true = truth[..., c][:, seen]
            scores["rmse"] = rmse(x, true)
            scores["climate_rmse"] = float(np.sqrt(((means[c] - true) ** 2).mean()))
            scores["crps"] = crps(x, true)
            scores["spread_skill"] = scores["spread"] * np.sqrt(1 + 1 / len(x)) / scores["rmse"]
        found.append(scores)
    return found
