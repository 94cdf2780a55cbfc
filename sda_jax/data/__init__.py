"""Trajectories and segments: simulated or read from files."""

from typing import TYPE_CHECKING

from sda_jax.core._lazy import exports

if TYPE_CHECKING:
    from sda_jax.data._archive import Archive, open_archive
    from sda_jax.data._dataset import generate, load, statistics
    from sda_jax.data._feed import Feed
    from sda_jax.data._files import Files
    from sda_jax.data._layout import Axis, Channel, Constant, Layout
    from sda_jax.data._simulation import forecast, simulate
    from sda_jax.data._sources import (
        Cropped,
        DeviceSource,
        FromArray,
        FromSimulator,
        Moved,
        Replay,
        Source,
    )
    from sda_jax.data._survey import Survey, survey
    from sda_jax.data._tiling import Tiling

__all__ = [
    "Archive",
    "Axis",
    "Channel",
    "Constant",
    "Cropped",
    "DeviceSource",
    "Feed",
    "Files",
    "FromArray",
    "FromSimulator",
    "Layout",
    "Moved",
    "Replay",
    "Source",
    "Survey",
    "Tiling",
    "forecast",
    "generate",
    "load",
    "open_archive",
    "simulate",
    "statistics",
    "survey",
]
COMPONENTS = [
    "Axis",
    "Channel",
    "Constant",
    "Files",
    "Layout",
    "Survey",
    "Tiling",
]

__getattr__, __dir__ = exports(__name__)
