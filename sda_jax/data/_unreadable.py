"""Why a file cannot be read: a filter that is missing, damage where that is proved, or what the
reader said."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path

import h5py

from sda_jax.core._errors import SDAError, StorageError
from sda_jax.runtime._damage import causes, proves_damage

FILTERS = {
    4: "szip", 307: "bzip2", 32000: "LZF", 32001: "Blosc", 32004: "LZ4", 32008: "Bitshuffle",
    32013: "ZFP", 32015: "Zstandard", 32017: "SZ", 32026: "Blosc2",
}  # fmt: skip
UNDATED = "unable to decode time units"


@contextlib.contextmanager
def reading(path: str | Path, group: str | None = None) -> Generator[None, None, None]:
    """What is read of a file of somebody's own: whatever its reader raises is of this package."""
    try:
        yield
    except SDAError:
        raise
    except Exception as error:
        raise unreadable(path, error, group) from error


def unreadable(path: str | Path, error: BaseException, group: str | None = None) -> StorageError:
    """The error of this package for one that reading a file of somebody's own made."""
    said = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    reason = str(error.__cause__ or "").partition(chr(10))[0]
    if UNDATED in said:
        units = said.partition(UNDATED)[2].partition(". Try")[0].strip()
        return StorageError(
            str(path),
            f"times in units {units}: {reason}",
            "times in units such as 'days since 2000-01-01'",
            "Write the times so.",
        )
    system = isinstance(error, (OSError, RuntimeError)) and not proves_damage(error)
    if system and (missing := _missing_filters(Path(path))):
        named = ", ".join(f"{variable} by {name}" for variable, name in missing.items())
        return StorageError(
            str(path),
            f"variables compressed with filters that are not installed: {named}",
            "compression that HDF5 reads here",
            "Install the filter as an HDF5 plugin and set HDF5_PLUGIN_PATH to its folder, or write "
            "the file anew with zlib.",
        )
    value = f"{said} ({reason})" if reason and reason not in said else said
    not_text = Path(path).is_dir() and any(
        isinstance(each, UnicodeDecodeError) for each in causes(error)
    )
    if not_text or proves_damage(error):  # Zarr's metadata are UTF-8
        return StorageError(str(path), value, "a whole file", "It is damaged: make it again.")
    return StorageError(
        str(path),
        value,
        "a NetCDF, HDF5 or Zarr file that can be read" + (f", with a group {group}" * bool(group)),
        "Check the file and its groups.",
    )


def _missing_filters(path: Path) -> dict[str, str]:
    """The variables of an HDF5 file that cannot be read for want of a filter, which is named."""
    found: dict[str, str] = {}

    def look(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            made = item.id.get_create_plist()
            for i in range(made.get_nfilters()):
                code, _, _, called = made.get_filter(i)
                if not h5py.h5z.filter_avail(code):
                    known = FILTERS.get(code, called.decode(errors="replace") or "a filter")
                    found[name] = f"{known} (HDF5 filter {code})"

    try:
        if path.is_file() and h5py.is_hdf5(path):
            with h5py.File(path) as file:
                file.visititems(look)
    except Exception:  # damaged: what was found first is what is said
        return {}
    return found
