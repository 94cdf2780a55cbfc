"""HDF5 files that hold all of what they say: nothing is read from other files by their names, and
nothing for ever."""

from __future__ import annotations

from pathlib import Path

from h5py import h5d, h5g, h5l, h5o  # ty: ignore[import-not-found]

from sda_jax.core._errors import StorageError
from sda_jax.runtime._heaps import require_whole_heaps


def require_own_contents(path: str | Path, root: h5g.GroupID) -> None:
    """Refuses external links, data kept outside the file, and virtual data sets of other files:
    reading these would read whatever file they name. To be called before an attribute is read.

    Args:
        path: Of the file.
        root: Its root group.

    Raises:
        StorageError: It has one, named with the file that it points to; or see
            `require_whole_heaps`.
    """
    seen: set[int] = set()
    arrays: list[h5d.DatasetID] = []
    waiting: list[tuple[str, h5g.GroupID, tuple[int, ...]]]
    waiting = [("", root, (h5o.get_info(root).addr,))]
    while waiting:
        where, group, around = waiting.pop()
        for name in group:
            kind = group.links.get_info(name).type
            label = f"{where}/{name.decode(errors='replace')}"
            if kind == h5l.TYPE_SOFT:  # of another place in the file, which is visited itself
                continue
            if kind != h5l.TYPE_HARD:
                _refuse(path, label, "a link to another file", _target(group, name, kind))
            found = h5o.open(group, name)
            address = h5o.get_info(found).addr
            if address in around:
                _refuse(path, label, "a group that holds itself", "without end")
            if address in seen:
                continue
            seen.add(address)
            if isinstance(found, h5g.GroupID):
                waiting.append((label, found, (*around, address)))
            elif isinstance(found, h5d.DatasetID):
                _require_own_data(path, label, found)
                arrays.append(found)
    require_whole_heaps(path, arrays)


def _require_own_data(path: str | Path, label: str, data: h5d.DatasetID) -> None:
    made = data.get_create_plist()
    if made.get_external_count():
        _refuse(path, label, "data in another file", _text(made.get_external(0)[0]))
    if made.get_layout() == h5d.VIRTUAL:
        for i in range(made.get_virtual_count()):
            source = made.get_virtual_filename(i)
            if source != ".":
                _refuse(path, label, "virtual data in another file", source)


def _target(group: h5g.GroupID, name: bytes, kind: int) -> str:
    if kind != h5l.TYPE_EXTERNAL:
        return f"of kind {kind}"
    file, place = group.links.get_val(name)
    return f"{_text(file)}, {_text(place)}"


def _text(name: str | bytes) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else name


def _refuse(path: str | Path, label: str, what: str, target: str) -> None:
    raise StorageError(
        f"{path}, {label}",
        f"{what} ({target})",
        "a file that holds its own data",
        "Copy the data into one file, with h5repack or ncks, and give that.",
    )
