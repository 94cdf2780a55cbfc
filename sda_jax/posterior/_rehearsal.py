"""Whether a posterior can be written, found out before it is drawn."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import xarray as xr

from sda_jax.core._errors import ConfigError, SDAError
from sda_jax.data._layout import Layout
from sda_jax.data._time_coordinates import time_numbers
from sda_jax.posterior._cf import time_variable
from sda_jax.posterior._export import write_posterior


def require_writable(path: str | Path, layout: Layout, start: float, length: int) -> None:
    """Raises `ConfigError` unless the times of a trajectory, and states of this layout with their
    names, labels and units, can be written to a file of this kind and read again."""
    try:
        variable = time_variable(layout, start, length)
        coded = xr.conventions.encode_cf_variable(variable, name=layout.time)
        coder = xr.coders.CFDatetimeCoder(time_unit="us")
        read = xr.conventions.decode_cf_variable(layout.time, coded, decode_times=coder)
        numbers = time_numbers(layout.time, xr.DataArray(read, name=layout.time))[0]
        if not np.allclose(numbers, layout.times(start, length), rtol=0, atol=1e-3):
            raise ValueError("they are read as others")
    except Exception as error:  # of xarray, pandas or cftime
        raise ConfigError(
            layout.time,
            f"{length} states from {start:g} s on, whose times cannot be written: {error}",
            "times that a CF file can hold",
            "Ask for another period.",
        ) from error
    state = np.zeros((1, *layout.state_shape), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        try:
            write_posterior(Path(folder, f"one{Path(path).suffix}"), [state], 1, layout, start)
        except SDAError:
            raise
        except Exception as error:  # of h5netcdf or Zarr
            raise ConfigError(
                "prior",
                f"states that cannot be written: {type(error).__name__}: {error}",
                "names, labels and units that the file can hold",
                "Change them in the files that it is trained on, or write .nc in place of .zarr.",
            ) from error
