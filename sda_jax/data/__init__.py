"""Trajectories and segments: simulated or read from files."""

from sda_jax.core._registry import register
from sda_jax.data._archive import Archive, open_archive
from sda_jax.data._dataset import generate, load, statistics
from sda_jax.data._feed import Feed
from sda_jax.data._files import Files
from sda_jax.data._layout import Axis, Channel, Constant, Layout
from sda_jax.data._simulation import forecast, simulate
from sda_jax.data._sources import DeviceSource, FromArray, FromSimulator, Moved, Replay, Source
from sda_jax.data._survey import Survey, survey

__all__ = [
    "Archive",
    "Axis",
    "Channel",
    "Constant",
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
    "forecast",
    "generate",
    "load",
    "open_archive",
    "simulate",
    "statistics",
    "survey",
]

register(Axis, Channel, Constant, Files, Layout, Survey)
