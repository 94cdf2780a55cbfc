"""What is known of an ensemble right after it was drawn, and one sentence whether to trust it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from sda_jax.core._keys import stream
from sda_jax.evaluation._channels import held_out_scores
from sda_jax.observations._observation import Observation
from sda_jax.posterior._diagnosis import Diagnosis
from sda_jax.posterior._files import load_diagnosis
from sda_jax.prior._prior import Prior
from sda_jax.runtime._hdf5 import read_hdf5
from sda_jax.runtime._memory import require_room

DEVIATIONS = 3.0  # standard errors of a share that count as chance


def judged_file(
    drawn: Path, prior: Prior, kept: Observation, aside: Observation | None, seed: int
) -> str:
    """`early_warning` of the ensemble in a file.

    Args:
        drawn: What `draw_to_file` wrote.
        prior: That it was drawn with.
        kept, aside: What was assimilated, and what was not.
        seed: Of the noise in scores and ranks.

    Raises:
        ResourceError: Values were set aside, and the ensemble does not fit into memory.
    """
    diagnosis, scores, places = load_diagnosis(drawn), {}, None
    if aside is not None:
        with read_hdf5(drawn, "posterior") as file:
            size = file["ensemble"].size * file["ensemble"].dtype.itemsize
            require_room("an ensemble", size, "Draw fewer members or states.")
            members = jnp.asarray(file["ensemble"][:])
        scores, places = held_out_scores(stream(seed, "held-out noise"), prior, aside, members)
    return early_warning(diagnosis, int(np.sum(kept.observed)), scores, places)


def early_warning(
    diagnosis: Diagnosis,
    observed: int,
    scores: Mapping[str, Mapping[str, float]],
    ranks: np.ndarray | None,
) -> str:
    """A few lines: the innovation chi-square, scores at values that were set aside, and a verdict.

    Args:
        diagnosis: Of the ensemble.
        observed: Values that were assimilated.
        scores: At values that were set aside, by variable; see `held_out_scores`.
        ranks: Of these values among the members; None if none were set aside.
    """
    chi_square = 1 + diagnosis.misfit * np.sqrt(2 / observed)
    lines = [
        f"innovation chi-square: {chi_square:.2f}; 1 give or take {np.sqrt(2 / observed):.2f} for "
        "draws of the true posterior"
    ]
    for name, s in scores.items():
        lines.append(
            f"set aside, {name}: {s['values']:.0f} values, RMSE {s['rmse']:.3g}, "
            f"CRPS {s['crps']:.3g}, spread/skill {s['spread_skill']:.2f}, {s['inside_90']:.1%} in "
            "the central 90 %"
        )
    return "\n".join([*lines, verdict(diagnosis, ranks)])


def verdict(diagnosis: Diagnosis, ranks: np.ndarray | None) -> str:
    """Whether to trust the ensemble, in a sentence, with its reasons."""
    if not diagnosis.trusted:
        return diagnosis.summary()
    if ranks is None:
        return (
            "Nothing that was assimilated speaks against the ensemble; whether its spread is right "
            "elsewhere only values that were not assimilated say (--set-aside 0.1)."
        )
    members, count = len(diagnosis.fit), len(ranks)
    central = _central(np.arange(members + 1), members)
    expected, found = float(central.mean()), float(_central(ranks, members).mean())
    chance = DEVIATIONS * np.sqrt(expected * (1 - expected) / count)
    said = (
        f"{found:.0%} of the {count} values set aside lie in the members' central 90 % "
        f"({expected - chance:.0%} to {min(expected + chance, 1.0):.0%} expected)"
    )
    if found < expected - chance:
        return f"Do not trust the ensemble's spread, it is too sure of itself: only {said}."
    if found > expected + chance:
        return f"Trust the ensemble's mean; its spread is wider than need be: {said}."
    return f"The ensemble looks trustworthy where values were set aside: {said}."


def _central(ranks: np.ndarray, members: int) -> np.ndarray:
    """Which ranks, from 0 to the number of members, are in the central 90 %."""
    return (ranks > 0.05 * members) & (ranks < 0.95 * members + 1)
