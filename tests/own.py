"""Data of a user's own: files like those that models and instruments write."""

import numpy as np
import pandas as pd
import xarray as xr


def waves(times=60, lat=6, lon=8, seed=0, start="2020-01-01", step="6h"):
    """Temperatures and winds, travelling waves with noise, on a globe."""
    rng = np.random.default_rng(seed)
    y = np.linspace(-50.0, 50.0, lat)
    x = np.arange(lon) * 360.0 / lon
    t = np.arange(times)
    phase = np.deg2rad(x)[None, None, :] - 0.3 * t[:, None, None] + 0.02 * y[None, :, None]
    temperature = 15 + 5 * np.sin(phase) + 0.5 * rng.standard_normal((times, lat, lon))
    wind = 3 * np.cos(phase) + 0.3 * rng.standard_normal((times, lat, lon))
    dims = ("time", "lat", "lon")
    return xr.Dataset(
        {
            "temp": (dims, temperature.astype(np.float32), {"units": "degC", "long_name": "T"}),
            "wind": (dims, wind.astype(np.float32), {"units": "m s-1"}),
        },
        {
            "time": pd.date_range(start, periods=times, freq=step),
            "lat": ("lat", y, {"units": "degrees_north", "standard_name": "latitude"}),
            "lon": ("lon", x, {"units": "degrees_east", "standard_name": "longitude"}),
        },
    )


def save(dataset, path):
    dataset.to_netcdf(path, engine="h5netcdf")
    return str(path)


def stations(dataset, rng, count=40, std=0.2, times=slice(0, 12)):
    """A table of noisy temperatures anywhere on the globe and between times."""
    part = dataset.temp.isel(time=times)
    seconds = part.time.values.astype("datetime64[s]").astype(float)
    when = rng.uniform(seconds[0], seconds[-1], count).astype("datetime64[s]")
    lat, lon = rng.uniform(-50, 50, count), rng.uniform(0, 359.9, count)
    around = xr.concat([part, part.isel(lon=[0]).assign_coords(lon=[360.0])], "lon")
    at = {
        "time": ("p", when.astype(part.time.dtype)),
        "lat": ("p", lat),
        "lon": ("p", lon),
    }
    exact = around.astype(float).interp({k: xr.DataArray(v[1], dims="p") for k, v in at.items()})
    table = pd.DataFrame(
        {
            "time": [f"{w}Z" for w in when],
            "lat": lat,
            "lon": lon,
            "variable": "temp",
            "value": exact.values + std * rng.standard_normal(count),
            "std": std,
            "units": "degC",
        }
    )
    return table, exact.values
