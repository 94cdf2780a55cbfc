"""What training produces and everything later needs."""

from __future__ import annotations

from typing import Any

from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError
from sda_jax.core._record import static
from sda_jax.core._units import Standardisation
from sda_jax.data._layout import Layout


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
    """

    denoiser: Any
    standardisation: Standardisation
    state_shape: tuple[int, ...] = static()
    window: int | None = static(None)
    system: Any = None
    context: Standardisation | None = None
    layout: Layout | None = static(None)

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


def require_prior(prior: Any) -> None:
    """Raises `ConfigError` unless `prior` is one."""
    if not isinstance(prior, Prior):
        raise ConfigError(
            "prior",
            repr(prior) if isinstance(prior, str) else f"a {type(prior).__name__}",
            "a Prior",
            'Load it: sda_jax.load_prior("lorenz63"). Keys come first, then the prior.',
        )
