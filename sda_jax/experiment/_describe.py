"""What files and folders are: priors, runs, data sets, observations, posteriors, training data.

What is slow to import is imported for what needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py

from sda_jax.core._errors import ConfigError, SDAError, StorageError
from sda_jax.core._json import decode, parse
from sda_jax.core._registry import known_names
from sda_jax.prior._folder import MEASURED, read_prior
from sda_jax.prior._shipped import shipped_folder, shipped_priors
from sda_jax.runtime._files import read_json
from sda_jax.runtime._hdf5 import attribute_of, read_hdf5
from sda_jax.runtime._records import read_records
from sda_jax.runtime._versions import FORMAT

if TYPE_CHECKING:
    from sda_jax.data._layout import Layout

PARTS = ("network", "schedule", "parameterisation", "system")  # of a prior, that may be your own


def describe(
    paths: str | Path | Sequence[str | Path],
    components: Iterable[type] = (),
    group: str | None = None,
) -> str:
    """What is at `paths`, in a few lines each; files of data that make one record, together.

    Args:
        paths: A file, a folder, the name of a shipped prior, or several of them.
        components: Your own classes that they may name; what it is, is said without them too.
        group: Inside files of data.

    Raises:
        ConfigError: Two classes of one name, or a group of something that is no file of data.
        StorageError: Nothing is there, or nothing that is known of.
    """
    classes, said, data = tuple(components), [], []
    several = [paths] if isinstance(paths, (str, Path)) else paths
    for path in map(str, several):
        known = _known(path)
        if known is None:
            data.append(path)
        elif group is not None:
            raise ConfigError("group", group, f"none: {path} is no file of data", "Leave it out.")
        else:
            said.append(known(path, classes))
    trajectories = []
    for path in data:
        posterior = _posterior(path, group)
        trajectories += [path] if posterior is None else []
        said += [] if posterior is None else [posterior]
    return "\n".join([*said, *_together(trajectories, group)])


def _known(path: str) -> Callable[[str, tuple[type, ...]], str] | None:
    """What describes a thing of this package; None for files of data."""
    place = Path(path)
    if not place.exists():
        if path in shipped_priors():
            return _prior
        raise StorageError(
            path, "no such file", f"a file, a folder or one of {shipped_priors()}", "Check it."
        )
    if place.is_dir():
        return next((f for marker, f in _FOLDERS if (place / marker).exists()), None)
    if place.name == "prior.json" or place.suffix == ".safetensors":
        return lambda path, classes: _prior(str(Path(path).parent), classes)
    return _hdf5 if attribute_of(place, "format") == FORMAT else None


def _together(paths: list[str], group: str | None) -> list[str]:
    """Files of trajectories as the one record that they make, or each alone and why."""
    if len(paths) < 2:
        return [_trajectories(paths, group)] if paths else []
    try:
        return [_trajectories(paths, group)]
    except StorageError as error:
        reason = f"not one record: {error}"
    return [*(_trajectories([path], group) for path in paths), reason]


def _prior(path: str, classes: tuple[type, ...]) -> str:
    place = Path(path)
    if not place.exists() and path in shipped_priors():
        with resources.as_file(shipped_folder(path)) as real:
            said, weights = read_prior(real)
    else:
        if missing := _missing(place / "prior.json", classes):
            return _unknown_prior(path, missing)
        said, weights = read_prior(place)
    try:
        return _described(path, said, weights)
    except SDAError:
        raise
    except (AttributeError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise StorageError(
            path, f"{error}", "what a prior's description can say", "It was edited: save it again."
        ) from error


def _described(path: str, said: dict[str, Any], weights: dict[str, Any]) -> str:
    count = sum(array.size for name, array in weights.items() if not name.startswith(MEASURED))
    window, network = said["window"], said["network"]
    name = network.get("type") if isinstance(network, dict) else network
    length = "any length" if window is None else f"windows of {window} states"
    lines = [
        f"{path}: a prior",
        f"  states {_text(said['state_shape'])}, {length}, {count:,} weights, {name}",
    ]
    if isinstance(tiling := said.get("tiling"), dict):
        lines.append(f"  larger grids by tiles of {_text(tiling.get('crop'))}")
    if said["system"] is not None:
        lines.append(f"  of the system {_text(said['system'])}")
    if said.get("layout") is not None:
        lines += _layout(_decoded(said["layout"]))
    notes = said.get("notes")
    loss = notes.get("validation_loss") if isinstance(notes, dict) else None
    if isinstance(loss, float):
        lines.append(f"  validation loss {loss:.4f}")
    return "\n".join(lines)


def _decoded(layout: Any) -> Layout:
    from sda_jax.data._layout import Axis, Channel, Constant, Layout

    return decode(layout, {cls.__name__: cls for cls in (Layout, Axis, Channel, Constant)})


def _text(data: Any) -> str:
    """JSON of a component as Python would write the component."""
    if isinstance(data, list):
        inner = ", ".join(map(_text, data))
        return f"({inner},)" if len(data) == 1 else f"({inner})"
    if isinstance(data, dict) and "type" in data:
        fields = (f"{name}={_text(value)}" for name, value in data.items() if name != "type")
        return f"{data['type']}({', '.join(fields)})"
    if isinstance(data, dict) and data.keys() == {"float"}:
        return str(data["float"])
    return repr(data)


def _missing(path: Path, classes: tuple[type, ...]) -> list[str]:
    """The classes that a prior's description names and that are not known."""
    try:
        said = read_json(path, "a prior")
        return _unknown([said.get(name) for name in PARTS], known_names(classes))
    except StorageError:
        return []  # shipped or damaged: loading says which


def _unknown(data: Any, known: set[str]) -> list[str]:
    """The classes that JSON of components names and that are not among the `known`."""
    if isinstance(data, list):
        return list(dict.fromkeys(n for item in data for n in _unknown(item, known)))
    if not isinstance(data, dict):
        return []
    name = data.get("type")
    first = [name] if isinstance(name, str) and name not in known else []
    return [*first, *_unknown(list(data.values()), known)]


def _hint(missing: list[str]) -> str:
    given = " ".join(f"MODULE:{name}" for name in dict.fromkeys(missing))
    return f"  of classes that are not in this package: say where they are, --components {given}"


def _unknown_prior(path: str, missing: list[str]) -> str:
    """What can be said of a prior without its classes."""
    said = read_json(Path(path) / "prior.json", "a prior")
    window, shape = said.get("window"), said.get("state_shape")
    length = "any length" if window is None else f"windows of {window} states"
    states = tuple(shape) if isinstance(shape, list) else "of unknown shape"
    lines = [f"{path}: a prior", f"  states {states}, {length}"]
    for name in ("network", "system"):
        if isinstance(part := said.get(name), dict):
            lines.append(f"  {name} {part.get('type')}")
    return "\n".join([*lines, _hint(missing)])


def _layout(layout: Layout) -> list[str]:
    unit = "s" if layout.calendar is not None else layout.time_units
    return [
        *([f"  {layout.time}: every {layout.step:g} {unit}".rstrip()] if layout.step else []),
        *(
            f"  {a.name}: {len(a.coordinates)} points, {a.extent}"
            + (", periodic" if a.period else "")
            for a in layout.axes
        ),
        *(f"  channel {c.label} {c.units}".rstrip() for c in layout.channels),
        *([f"  mask: {1 - layout.valid.mean():.1%} without values"] if layout.mask else []),
    ]


def _run(path: str, classes: tuple[type, ...]) -> str:
    there = sorted(p.name for p in Path(path).iterdir() if not p.name.startswith("."))
    return f"{path}: a run with {', '.join(there)}\n" + _prior(str(Path(path) / "prior"), classes)


def _training(path: str, classes: tuple[type, ...]) -> str:
    from sda_jax.prior._loop import METRICS

    records = read_records(Path(path) / "metrics.jsonl", METRICS)
    lines = [f"{path}: a training"]
    if records:
        last = records[-1]
        lines.append(f"  step {last['step']}, loss {last['loss']:.4f}, {last['seconds']:.0f} s")
    steps = sorted(p.name for p in (Path(path) / "checkpoints").glob("*") if p.is_dir())
    lines.append(f"  checkpoints: {', '.join(steps) or 'none'}")
    return "\n".join(lines)


def _claimed(path: str, classes: tuple[type, ...]) -> str:
    config = read_json(Path(path) / "config.json", "what says which run this is")
    there = sorted(p.name for p in Path(path).iterdir() if not p.name.startswith("."))
    return f"{path}: the folder of a run ({config.get('type', 'command')}): {', '.join(there)}"


_FOLDERS: tuple[tuple[str, Callable[[str, tuple[type, ...]], str]], ...] = (
    ("prior.json", _prior),
    ("prior/prior.json", _run),
    ("metrics.jsonl", _training),
    ("checkpoints", _training),
    ("config.json", _claimed),
)


def _hdf5(path: str, classes: tuple[type, ...]) -> str:
    kind = str(attribute_of(path, "kind"))
    with read_hdf5(path, kind) as file:
        shapes: list[str] = []
        file.visititems(
            lambda name, item: (
                shapes.append(f"  {name} {item.shape}") if isinstance(item, h5py.Dataset) else None
            )
        )
        found = {"dataset": "simulated trajectories", "posterior": "a posterior"}
        named = [file.attrs["operator"]] if kind == "observation" else []
        named += [file["noise"].asstr()[()]] if named and "noise" in file else []
        length = file.attrs.get("length")
    head, missing = f"{path}: {found.get(kind, f'an {kind}')}", []
    if named:
        parts = [parse(text) for text in named]
        name = parts[0].get("type") if isinstance(parts[0], dict) else parts[0]
        head += f" of {length} states by {name}"
        missing = _unknown(parts, known_names(classes))
    return "\n".join([head, *shapes, *([_hint(missing)] if missing else [])])


def _posterior(path: str, group: str | None) -> str | None:
    """What a posterior file is; None for another one."""
    from sda_jax.data._opening import open_dataset
    from sda_jax.posterior._cf import MEMBER

    with open_dataset(path, group) as dataset:
        if MEMBER not in dataset.dims or "sda_prior" not in dataset.attrs:
            return None
        sizes = ", ".join(f"{d} {n}" for d, n in dataset.sizes.items())
        names = ", ".join(map(str, dataset.data_vars))
        said = {"sda_seed": "unknown", "sda_observations": "what it does not say"}
        said |= dataset.attrs
        return (
            f"{path}: a posterior of {names} ({sizes})\n"
            f"  of the prior {said['sda_prior']}, seed {said['sda_seed']}\n"
            f"  from {said['sda_observations']}"
        )


def _trajectories(paths: list[str], group: str | None) -> str:
    from sda_jax.data._archive import look_into
    from sda_jax.data._files import Files

    archive = look_into(Files(tuple(paths), group))
    count, records = sum(map(len, archive.times)), len(archive.times)
    first = min(float(times[0]) for times in archive.times)
    last = max(float(times[-1]) for times in archive.times)
    written = archive.layout.written
    head = paths[0] if len(paths) == 1 else f"{len(paths)} files, {paths[0]} to {paths[-1]}"
    lines = [
        f"{head}: trajectories to train on, {count} state{'s' * (count != 1)} in {records}",
        f"  from {written(first)} to {written(last)}",
        *_layout(archive.layout),
    ]
    if archive.roles.left_out:
        lines.append(f"  left out: {', '.join(archive.roles.left_out)}")
    if not archive.layout.step:
        lines.append("  a single state: give the other files of its record too")
    lines.append("  other dimensions or variables: --data.files.space, --data.files.variables ...")
    return "\n".join(lines)
