"""Observations: operators, noise models, and reading them from files."""

from typing import TYPE_CHECKING

from sda_jax.core._lazy import exports

if TYPE_CHECKING:
    from sda_jax.observations._combining import combine
    from sda_jax.observations._files import load_observation, save_observation
    from sda_jax.observations._gridded import Gridded
    from sda_jax.observations._interpolation import Interpolate, interpolation
    from sda_jax.observations._noise_models import (
        ChecksObservations,
        DrawsNoise,
        JoinedNoise,
        NoiseModel,
        Normal,
        Poisson,
        StudentT,
    )
    from sda_jax.observations._observation import Observation, observe
    from sda_jax.observations._operators import (
        At,
        Chain,
        Channels,
        Coarsen,
        Crop,
        Every,
        FirstMinusLast,
        Joined,
        Mask,
        Ring,
        Saturate,
        Subsample,
        Vorticity,
    )
    from sda_jax.observations._reading import OperatorSource, ReadResult, read, read_all
    from sda_jax.observations._tables import Points

__all__ = [
    "At",
    "Chain",
    "Channels",
    "ChecksObservations",
    "Coarsen",
    "Crop",
    "DrawsNoise",
    "Every",
    "FirstMinusLast",
    "Gridded",
    "Interpolate",
    "Joined",
    "JoinedNoise",
    "Mask",
    "NoiseModel",
    "Normal",
    "Observation",
    "OperatorSource",
    "Points",
    "Poisson",
    "ReadResult",
    "Ring",
    "Saturate",
    "StudentT",
    "Subsample",
    "Vorticity",
    "combine",
    "interpolation",
    "load_observation",
    "observe",
    "read",
    "read_all",
    "save_observation",
]
COMPONENTS = [
    "At",
    "Chain",
    "Channels",
    "Coarsen",
    "Crop",
    "Every",
    "FirstMinusLast",
    "Interpolate",
    "Joined",
    "JoinedNoise",
    "Mask",
    "Normal",
    "Poisson",
    "Ring",
    "Saturate",
    "StudentT",
    "Subsample",
    "Vorticity",
]

__getattr__, __dir__ = exports(__name__)
