"""What a dimension is: the CF conventions, and spellings that are common beside them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

TEXTS = ("units", "standard_name", "long_name", "axis", "positive")  # attributes that are texts
EAST = (
    "degrees_east", "degree_east", "degrees_e", "degree_e", "degreese", "degreee", "deg_east",
    "deg_e", "dege", "°e", "°_e", "°east", "°_east",
)  # fmt: skip
NORTH = (
    "degrees_north", "degree_north", "degrees_n", "degree_n", "degreesn", "degreen", "deg_north",
    "deg_n", "degn", "°n", "°_n", "°north", "°_north",
)  # fmt: skip
DEGREES = ("", "degrees", "degree", "deg", "°")  # of a dimension whose name says which
RADIANS = ("radians", "radian", "rad")
LONGITUDES = ("lon", "lons", "longitude", "longitudes", "rlon", "xlon", "xlong", "nlon")
LATITUDES = ("lat", "lats", "latitude", "latitudes", "rlat", "xlat", "nlat")
SPACES = (
    "x", "y", "xc", "yc", "nx", "ny", "ni", "nj", "easting", "northing", "south_north", "west_east",
    "south_north_stag", "west_east_stag",
)  # fmt: skip
SPACE_STANDARD_NAMES = (
    "latitude", "longitude", "projection_x_coordinate", "projection_y_coordinate",
    "grid_latitude", "grid_longitude",
)  # fmt: skip
APART = (
    "level", "levels", "lev", "plev", "ilev", "isobaric", "pressure", "height", "altitude", "depth",
    "z", "layer", "layers", "sigma", "hybrid", "bottom", "station", "stations", "site", "band",
    "wavelength",
)  # fmt: skip


def as_text(value: Any) -> str:
    """An attribute or a label as text, whatever type it was stored with."""
    if isinstance(value, (str, bytes)):
        try:  # HDF5 readers hand on what is not UTF-8 as surrogates
            raw = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
            return raw.decode()
        except UnicodeEncodeError:
            return str(value).encode("utf-8", "replace").decode()
        except UnicodeDecodeError:
            return raw.decode("latin-1")  # what files before Unicode have, and never fails
    if isinstance(value, (np.ndarray, list, tuple)):
        return ", ".join(as_text(v) for v in np.ravel(np.asarray(value, object)))
    return str(value)


def with_texts(dataset: xr.Dataset) -> xr.Dataset:
    """The data set with texts as they were meant: a file may have `axis = 3` or an array of units,
    and NetCDF's own library marks characters as ASCII whatever they are."""
    for holder in (dataset, *dataset.variables.values()):
        holder.attrs = {
            name: as_text(value) if name in TEXTS or isinstance(value, str) else value
            for name, value in holder.attrs.items()
        }
    return dataset


def _unit(units: str) -> str:
    return re.sub(r"[\s_]+", "_", units.strip().lower())


def _has_word(name: str, words: tuple[str, ...]) -> bool:
    """Whether a name has one of these words in it, such as lon in `nav_lon` and `g0_lon_2`."""
    return any(word in words for word in re.split(r"[^a-z]+", name.lower()))


def _is_angle(
    name: str, units: str, standard_name: str, names: tuple[str, ...], own: tuple[str, ...]
) -> bool:
    unit = _unit(units)
    if unit in own:
        return True
    said = standard_name.endswith("longitude" if own is EAST else "latitude")
    return unit in (*DEGREES, *RADIANS) and (said or _has_word(name, names))


def is_longitude(name: str, units: str, standard_name: str) -> bool:
    """Whether a coordinate is a longitude: by its units, or by its name where they are those of any
    angle."""
    return _is_angle(name, units, standard_name, LONGITUDES, EAST)


def is_latitude(name: str, units: str, standard_name: str) -> bool:
    """Whether a coordinate is a latitude."""
    return _is_angle(name, units, standard_name, LATITUDES, NORTH)


def turn(units: str) -> float:
    """A whole turn of a longitude in these units."""
    return 2 * math.pi if _unit(units) in RADIANS else 360.0


def same_place_units(one: str, other: str) -> bool:
    """Whether coordinates in these units can be compared: degrees are by any spelling."""
    angles = (*EAST, *NORTH, *DEGREES)
    a, b = _unit(one), _unit(other)
    return a == b or not a or not b or (a in angles and b in angles)


def is_space(name: str, attrs: Mapping[str, Any]) -> bool:
    """Whether a dimension is one of space in the plane."""
    units, standard = str(attrs.get("units", "")), str(attrs.get("standard_name", ""))
    return (
        str(attrs.get("axis", "")).strip().upper() in ("X", "Y")
        or standard in SPACE_STANDARD_NAMES
        or name.lower() in SPACES
        or _has_word(name, (*LATITUDES, *LONGITUDES))
        or is_longitude(name, units, standard)
        or is_latitude(name, units, standard)
    )


def is_apart(name: str, coordinate: xr.DataArray | None) -> bool:
    """Whether a dimension is known to be one of heights, stations or bands, each of which makes
    channels of its own."""
    if coordinate is None or _has_word(name, APART):
        return _has_word(name, APART)
    attrs = coordinate.attrs
    texts = coordinate.dtype.kind in "SUO"
    return texts or "positive" in attrs or attrs.get("axis", "").strip().upper() == "Z"


def coordinate_along(dataset: xr.Dataset, name: str) -> xr.DataArray | None:
    """The coordinate of a dimension: the one with its name; where there is none, the one latitude
    or longitude along it alone."""
    if name in dataset.coords:
        return dataset.coords[name]
    found = []
    for other, variable in dataset.variables.items():
        said = str(variable.attrs.get("units", "")), str(variable.attrs.get("standard_name", ""))
        place = is_longitude(str(other), *said) or is_latitude(str(other), *said)
        if place and variable.dims == (name,) and variable.dtype.kind in "iuf":
            found.append(dataset[other])
    return found[0] if len(found) == 1 else None
