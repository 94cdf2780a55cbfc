"""What training produces and everything later needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError, whole_number
from sda_jax.core._record import static
from sda_jax.core._units import Standardisation
from sda_jax.data._layout import Layout
from sda_jax.data._tiling import Tiling, written


@component
class Prior:
    """A learned distribution of trajectories.

    Attributes:
        denoiser: Denoiser of segments, in standardised units.
        standardisation: Between physical and standardised units.
        state_shape: Shape of one state.
        window: States of a local network's window (2k + 1); None for a network that takes
            trajectories of any length.
        system: What it was trained on, or None; never used by the method itself.
        context: Statistics of the context that its network takes; None if it takes none.
        layout: Of states that came from files; None for a system's.
        tiling: The crops that its network was trained on, by which larger grids are tiled; None for
            a network that takes whole states.
    """

    denoiser: Any
    standardisation: Standardisation
    state_shape: tuple[int, ...] = static()
    window: int | None = static(None)
    system: Any = None
    context: Standardisation | None = None
    layout: Layout | None = static(None)
    tiling: Tiling | None = static(None)

    def __post_init__(self) -> None:
        odd = type(self.window) is int and self.window > 0 and self.window % 2 == 1
        if self.window is not None and not odd:
            raise ConfigError("window", self.window, "an odd number of states", "Use 2k + 1.")
        if self.layout is not None and self.layout.state_shape != self.state_shape:
            raise ConfigError(
                "layout",
                f"states of shape {self.layout.state_shape}",
                f"the prior's, {self.state_shape}",
                "Give the layout of what it was trained on.",
            )
        if self.tiling is not None:
            self.tiling.shape(self.state_shape[:-1])

    def on_grid(self, space: Sequence[int], periodic: Sequence[bool] | None = None) -> Prior:
        """The prior of states on another grid of the same spacing, made of tiles as large as the
        crops that its network was trained on; without the layout and, where its states have another
        shape, without the system that it was trained on.

        Args:
            space: Points along each axis, at least a crop's.
            periodic: Whether each axis is periodic; None for as in training.

        Raises:
            ConfigError: Its network was trained on whole states, or not on crops along an axis
                whose points change; fewer points than a crop; statistics that differ from point to
                point.
        """
        tiling = self.tiling
        if tiling is None:
            raise ConfigError(
                "prior",
                "one whose network takes whole states",
                "one trained on crops",
                "Train it with training.crop.",
            )
        axes = len(tiling.crop)
        if not isinstance(space, tuple | list) or len(space) != axes:
            raise ConfigError("space", space, f"points along {axes} axes", "Give a tuple of them.")
        points = tuple(whole_number("space", n) for n in space)
        if periodic is not None:
            if not isinstance(periodic, tuple | list) or len(periodic) != axes:
                raise ConfigError(
                    "periodic", periodic, f"whether each of {axes} axes is", "Give a tuple."
                )
            tiling = dataclasses.replace(tiling, periodic=tuple(map(bool, periodic)))
        if any(crop is not None and n < crop for n, crop in zip(points, tiling.crop, strict=True)):
            raise ConfigError(
                "space",
                written(points),
                f"at least a crop's points along each axis, {written(tiling.crop)}",
                "Take a larger grid.",
            )
        tiling.shape(points)
        for n, m, crop in zip(points, self.state_shape, tiling.crop, strict=False):
            if crop is None and n != m:
                raise ConfigError(
                    "space",
                    written(points),
                    f"{m} points along the axis that its network was not trained on crops of",
                    "Keep that axis, or train with crops along it.",
                )
        for statistics in (self.standardisation, self.context):
            if statistics is not None:
                require_everywhere("space", written(points), statistics)
        shape = (*points, self.state_shape[-1])
        system = self.system if shape == self.state_shape else None
        return dataclasses.replace(
            self, state_shape=shape, system=system, layout=None, tiling=tiling
        )


def require_everywhere(argument: str, value: Any, statistics: Standardisation) -> None:
    """Raises `ConfigError` unless statistics are the same at every point of space; `argument` is
    what asks for that."""
    for given in (statistics.mean, statistics.std):
        if any(n > 1 for n in np.shape(given)[:-1]):
            raise ConfigError(
                argument,
                value,
                "none: its mean or standard deviation differs from point to point",
                "Standardise each channel by one number.",
            )


def require_prior(prior: Any) -> None:
    """Raises `ConfigError` unless `prior` is one."""
    if not isinstance(prior, Prior):
        raise ConfigError(
            "prior",
            repr(prior) if isinstance(prior, str) else f"a {type(prior).__name__}",
            "a Prior",
            'Load it: sda_jax.load_prior("lorenz63"). Keys come first, then the prior.',
        )
