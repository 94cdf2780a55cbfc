"""Says what files and folders are: priors, runs, data sets, observations, posteriors, and data of
your own."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import jax
import numpy as np

from sda_jax.core._errors import SDAError, StorageError
from sda_jax.data._archive import open_archive
from sda_jax.data._files import Files
from sda_jax.data._layout import Layout
from sda_jax.data._opening import open_dataset
from sda_jax.observations._files import load_observation
from sda_jax.posterior._cf import MEMBER
from sda_jax.prior._loading import load_prior, shipped_priors
from sda_jax.runtime._hdf5 import read_hdf5
from sda_jax.runtime._records import read_records
from sda_jax.runtime._versions import FORMAT


def describe(path: str) -> str:
    """What is at `path`, in a few lines.

    Raises:
        StorageError: Nothing is there, or nothing that is known of.
    """
    place = Path(path)
    if not place.exists():
        if path in shipped_priors():
            return _prior(path)
        raise StorageError(
            path, "no such file", f"a file, a folder or one of {shipped_priors()}", "Check it."
        )
    if place.is_dir():
        for marker, told in _FOLDERS:
            if (place / marker).exists():
                return told(path)
    elif place.name == "prior.json" or place.suffix == ".safetensors":
        return _prior(str(place.parent))
    elif _is_ours(place):
        return _hdf5(place)
    return _own(path)


def _is_ours(path: Path) -> bool:
    try:
        with h5py.File(path) as file:
            return file.attrs.get("format") == FORMAT
    except OSError:
        return False


def _prior(path: str) -> str:
    # the class of a system of one's own is not needed to say what a prior is
    prior = load_prior(path)
    weights = sum(np.size(leaf) for leaf in jax.tree.leaves(prior.denoiser.variables))
    window = "any length" if prior.window is None else f"windows of {prior.window} states"
    lines = [
        f"{path}: a prior",
        f"  states {prior.state_shape}, {window}, {weights:,} weights, "
        f"{type(prior.denoiser.network).__name__}",
    ]
    if prior.system is not None:
        lines.append(f"  of the system {prior.system}")
    if prior.layout is not None:
        lines += _layout(prior.layout)
    notes_file = Path(path) / "prior.json"
    if notes_file.exists():
        notes = json.loads(notes_file.read_text())["notes"]
        if "validation_loss" in notes:
            lines.append(f"  validation loss {notes['validation_loss']:.4f}")
    return "\n".join(lines)


def _layout(layout: Layout) -> list[str]:
    unit = "s" if layout.calendar is not None else layout.time_units
    return [
        f"  {layout.time}: every {layout.step:g} {unit}".rstrip(),
        *(
            f"  {a.name}: {len(a.coordinates)} points, {a.extent}"
            + (", periodic" if a.period else "")
            for a in layout.axes
        ),
        *(f"  channel {c.label} {c.units}".rstrip() for c in layout.channels),
        *([f"  mask: {1 - layout.valid.mean():.1%} without values"] if layout.mask else []),
    ]


def _run(path: str) -> str:
    there = sorted(p.name for p in Path(path).iterdir() if not p.name.startswith("."))
    return f"{path}: a run with {', '.join(there)}\n" + _prior(str(Path(path) / "prior"))


def _training(path: str) -> str:
    records = read_records(Path(path) / "metrics.jsonl")
    lines = [f"{path}: a training"]
    if records:
        last = records[-1]
        lines.append(f"  step {last['step']}, loss {last['loss']:.4f}, {last['seconds']:.0f} s")
    steps = sorted(p.name for p in (Path(path) / "checkpoints").glob("*") if p.is_dir())
    lines.append(f"  checkpoints: {', '.join(steps) or 'none'}")
    return "\n".join(lines)


def _checkpoints(path: str) -> str:
    return _training(str(Path(path).parent))


def _claimed(path: str) -> str:
    config = json.loads((Path(path) / "config.json").read_text())
    there = sorted(p.name for p in Path(path).iterdir() if not p.name.startswith("."))
    return f"{path}: the folder of a run ({config.get('type', 'command')}): {', '.join(there)}"


_FOLDERS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("prior.json", _prior),
    ("prior/prior.json", _run),
    ("metrics.jsonl", _training),
    ("checkpoints", _training),
    ("config.json", _claimed),
)


def _hdf5(path: Path) -> str:
    with h5py.File(path) as file:
        kind = str(file.attrs.get("kind"))
    with read_hdf5(path, kind) as file:
        shapes: list[str] = []
        file.visititems(
            lambda name, item: (
                shapes.append(f"  {name} {item.shape}") if isinstance(item, h5py.Dataset) else None
            )
        )
        found = {"dataset": "simulated trajectories", "posterior": "a posterior"}
    head = f"{path}: {found.get(kind, f'an {kind}')}"
    if kind == "observation":
        observation, length = load_observation(path)
        head += f" of {length} states by {type(observation.operator).__name__}"
    return "\n".join([head, *shapes])


def _own(path: str) -> str:
    with open_dataset(path) as dataset:
        if MEMBER in dataset.dims and "sda_prior" in dataset.attrs:
            sizes = ", ".join(f"{d} {n}" for d, n in dataset.sizes.items())
            names = ", ".join(map(str, dataset.data_vars))
            return (
                f"{path}: a posterior of {names} ({sizes})\n"
                f"  of the prior {dataset.attrs['sda_prior']}, seed {dataset.attrs['sda_seed']}\n"
                f"  from {dataset.attrs['sda_observations']}"
            )
    archive = open_archive(Files((path,)))
    count = sum(map(len, archive.times))
    first, last = archive.times[0][0], archive.times[0][-1]
    written = archive.layout.written
    lines = [
        f"{path}: trajectories to train on, {count} states in {len(archive.times)}",
        f"  from {written(float(first))} to {written(float(last))}",
        *_layout(archive.layout),
    ]
    if archive.roles.left_out:
        lines.append(f"  left out: {', '.join(archive.roles.left_out)}")
    lines.append("  other dimensions or variables: --data.files.space, --data.files.variables ...")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Entry point of `sda-jax inspect`."""
    parser = argparse.ArgumentParser("sda-jax inspect", description=__doc__)
    parser.add_argument("paths", nargs="+", help="files, folders or names of shipped priors")
    try:
        for path in parser.parse_args(arguments).paths:
            print(describe(path))
    except SDAError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
