"""The priors that come with the package."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable


def shipped_priors() -> list[str]:
    """Names of the priors that come with the package."""
    folder = resources.files("sda_jax") / "weights"
    return sorted(p.name for p in folder.iterdir() if (p / "prior.json").is_file())


def shipped_folder(name: str) -> Traversable:
    """Where one of them is."""
    return resources.files("sda_jax") / "weights" / name
