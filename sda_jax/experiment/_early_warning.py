"""What is known of an ensemble right after it was drawn, and one sentence whether to trust it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sda_jax.posterior._diagnosis import Diagnosis

DEVIATIONS = 3.0  # standard errors of a share that count as chance


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
