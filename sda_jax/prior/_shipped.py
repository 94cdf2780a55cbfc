"""The priors that come with the package."""

from __future__ import annotations

from importlib import resources


def shipped_priors() -> list[str]:
    """Names of the priors that come with the package."""
    folder = resources.files("sda_jax") / "weights"
    return sorted(p.name for p in folder.iterdir() if (p / "prior.json").is_file())
