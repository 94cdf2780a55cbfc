"""Mean, spread and quantiles of a posterior that need not fit into memory."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from sda_jax.core._errors import ConfigError
from sda_jax.posterior._cf import MEMBER

STATES = 64  # of all members that are held at once


def summarise(dataset: xr.Dataset, quantiles: Sequence[float] = (0.05, 0.5, 0.95)) -> xr.Dataset:
    """Mean, spread and quantiles over the members of a posterior, a few states in memory at a time.

    Args:
        dataset: As `write_posterior` writes it, with a dimension `member`.
        quantiles: Between 0 and 1; none for none.

    Returns:
        `<name>_mean`, `<name>_spread` (standard deviation with n - 1) and `<name>_quantile`.

    Raises:
        ConfigError: No members, or impossible quantiles.
    """
    if MEMBER not in dataset.dims:
        raise ConfigError(
            "dataset", f"dimensions {tuple(dataset.dims)}", MEMBER, "Open a posterior file."
        )
    require_quantiles(quantiles)
    time = dataset[next(iter(dataset.data_vars))].dims[0]
    blocks = []
    for first in range(0, dataset.sizes[time], STATES):
        part = dataset.isel({time: slice(first, first + STATES)}).load()
        parts = {}
        for name, x in part.data_vars.items():
            parts[f"{name}_mean"] = x.mean(MEMBER, keep_attrs=True)
            parts[f"{name}_spread"] = x.std(MEMBER, ddof=1, keep_attrs=True)
            if quantiles:
                parts[f"{name}_quantile"] = x.quantile(
                    list(quantiles), MEMBER, keep_attrs=True, skipna=False
                )
        blocks.append(xr.Dataset(parts))
    return xr.concat(
        blocks, dim=time, data_vars="minimal", coords="minimal", compat="override", join="override"
    ).assign_attrs(dataset.attrs)


def require_quantiles(quantiles: Sequence[float]) -> None:
    """Raises `ConfigError` unless all are between 0 and 1."""
    if not all(0 <= q <= 1 for q in quantiles):
        raise ConfigError("quantiles", tuple(quantiles), "numbers from 0 to 1", "Correct them.")
