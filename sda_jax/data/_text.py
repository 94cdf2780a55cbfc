"""Texts of files beyond ASCII."""

from __future__ import annotations

from typing import Any

import xarray as xr


def with_whole_texts(dataset: xr.Dataset) -> xr.Dataset:
    """The dataset with the attributes as they were meant. NetCDF's own library marks characters as
    ASCII whatever they are, and readers then leave stray bytes in them."""
    dataset.attrs = {name: _whole(value) for name, value in dataset.attrs.items()}
    for variable in dataset.variables.values():
        variable.attrs = {name: _whole(value) for name, value in variable.attrs.items()}
    return dataset


def _whole(value: Any) -> Any:
    if not isinstance(value, str) or value.isascii():
        return value
    try:
        stray = value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return value.encode("utf-8", "replace").decode()
    try:
        return stray.decode()
    except UnicodeDecodeError:
        return stray.decode("latin-1")
