"""Which variables of files are transformed: to logarithms and the like, or from an angle to its
cosine and sine."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from sda_jax.core._errors import ConfigError, StorageError, require_positive
from sda_jax.data._files import Files
from sda_jax.data._layout import WAVES, Channel, Layout

if TYPE_CHECKING:
    from sda_jax.core._transforms import Transform

ARGUMENT = "data.files.transforms"
CIRCULAR, TURN = "circular", 360.0


def declared(files: Files) -> dict[str, Transform | float]:
    """By variable its transform, or the full turn of an angle.

    Raises:
        ConfigError: Something that is no pair "variable=transform", or one that is none.
    """
    found: dict[str, Transform | float] = {}
    for text in files.transforms:
        name, _, kind = text.partition("=")
        if not name or not kind or name in found:
            expected = "a variable and its transform, once each, such as precip=log:0.1"
            raise ConfigError(ARGUMENT, repr(text), expected, "Correct it.")
        if kind.partition(":")[0] != CIRCULAR:
            from sda_jax.core._transforms import transform_named  # needs JAX

            found[name] = transform_named(ARGUMENT, kind)
            continue
        try:
            turn = float(kind.partition(":")[2] or TURN)
        except ValueError as error:
            raise ConfigError(ARGUMENT, repr(text), "a full turn", "Say circular:360.") from error
        require_positive(f"{ARGUMENT}: {text}", turn)
        found[name] = turn
    return found


def turns_of(files: Files) -> dict[str, float]:
    """The full turns of the variables that are angles."""
    return {name: turn for name, turn in declared(files).items() if isinstance(turn, float)}


def by_channel(files: Files, layout: Layout) -> tuple[Transform | None, ...] | None:
    """The transform of each channel; None if there is none.

    Raises:
        ConfigError: A variable that is not there.
    """
    known = declared(files)
    names = {c.variable for c in layout.channels}
    for name in known:
        if name not in names:
            expected = f"one of {', '.join(sorted(names))}"
            raise ConfigError(ARGUMENT, name, expected, "Correct it.")
    found = [None if c.circular is not None else known.get(c.name) for c in layout.channels]
    transforms = tuple(None if isinstance(t, (int, float)) else t for t in found)
    return transforms if any(t is not None for t in transforms) else None


def components(channels: tuple[Channel, ...], turn: float) -> tuple[Channel, ...]:
    """The channels of an angle's cosines, and those of its sines."""
    return tuple(
        dataclasses.replace(
            c, name=f"{c.name}_{wave}", units="1", long_name=f"{wave} of {c.name}",
            standard_name="", circular=(c.name, turn, c.units),
        )
        for wave in WAVES
        for c in channels
    )  # fmt: skip


def waves(angles: np.ndarray, turn: float) -> np.ndarray:
    """Cosines and sines of angles, one after the other along the last axis."""
    phase = 2 * np.pi * angles / turn
    return np.concatenate([np.cos(phase), np.sin(phase)], axis=-1)


def beyond_turns(values: np.ndarray, turn: float) -> np.ndarray:
    """Which values are no angles: more than a full turn below zero or above a full one, such as
    codes for what is missing, which would be directions."""
    return (values < -turn) | (values > 2 * turn)


def require_angles(path: str, name: str, values: np.ndarray, turn: float) -> None:
    """Raises `StorageError` if a value is no angle, see `beyond_turns`."""
    beyond = beyond_turns(values, turn)
    if beyond.any():
        raise StorageError(
            path,
            f"{int(beyond.sum())} values of {name} such as {values[beyond][0]:g}",
            f"angles, of which {turn:g} is a full turn",
            "Correct them; what stands for a missing value goes into the attribute missing_value.",
        )
