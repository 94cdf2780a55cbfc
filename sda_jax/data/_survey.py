"""One pass over trajectories in files: statistics, masks, gaps, and what is trained on and held
out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float
from tqdm import tqdm

from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError, StorageError, require_choice
from sda_jax.core._json import decode, digest_of, encode
from sda_jax.core._record import static
from sda_jax.core._registry import registry
from sda_jax.core._units import Standardisation
from sda_jax.data._archive import REGULAR, Archive
from sda_jax.data._dataset import SPLITS, split_sizes
from sda_jax.data._layout import Layout, pack
from sda_jax.data._transforms import by_channel
from sda_jax.runtime._files import read_json, write_text

BLOCK_BYTES = 2**25  # of states read at once
PIECE = 2**16  # numbers whose sums are formed at once
VALID = 0.1  # of a record
MANY = 10  # trajectories from which on the split is by trajectory

Range = tuple[int, int, int]  # a trajectory, its first state and the one after the last


@component
class Survey:
    """What is known of an archive's states.

    Attributes:
        layout: With the mask.
        standardisation: By channel, over what is trained on.
        gaps: States that miss a value which others have: trajectory, first, and one after the last.
        states: How many there are.
        identity: Of the files that were read.
    """

    layout: Layout = static()
    standardisation: Standardisation = static()
    gaps: tuple[Range, ...] = static()
    states: int = static()
    identity: tuple[Any, ...] = static()


def parts_of(archive: Archive, part: str) -> list[Range]:
    """The states that are trained on ("train") or held out ("valid", a tenth, and "test", as much
    as `Files` says), by trajectory or in time; those for test are none where it says so.

    Raises:
        ConfigError: The split is by trajectory and there are too few.
    """
    require_choice("part", part, SPLITS)
    lengths = [len(times) for times in archive.times]
    by = archive.files.split or ("trajectory" if len(lengths) >= MANY else "time")
    if by == "trajectory":
        sizes = split_sizes(len(lengths), archive.files.test)
        names = [name for name in SPLITS for _ in range(sizes[name])]
        return [(i, 0, n) for i, n in enumerate(lengths) if names[i] == part]
    known = 1 - archive.files.test
    ends = {"train": (0.0, known - VALID), "valid": (known - VALID, known), "test": (known, 1.0)}
    first, last = ends[part]
    return [(i, round(n * first), round(n * last)) for i, n in enumerate(lengths) if last > first]


def runs(archive: Archive, survey: Survey, part: str, length: int) -> list[Range]:
    """`stretches`, of which there must be some.

    Raises:
        ConfigError: There are none.
    """
    found = stretches(archive, survey, part, length)
    if not found:
        raise ConfigError(
            "training.segment",
            length,
            f"a stretch of as many states, without gaps, among those for {part}",
            "Shorten training.segment (and window), or give more data.",
        )
    return found


def stretches(archive: Archive, survey: Survey, part: str, length: int) -> list[Range]:
    """Stretches of a part with at least `length` states, evenly spaced and without gaps.

    No state is nearer than `length` to one of another part: held-out segments are not the
    neighbours of those trained on.
    """
    found: list[Range] = []
    gaps: dict[int, list[tuple[int, int]]] = {}
    for i, first, last in survey.gaps:
        gaps.setdefault(i, []).append((first, last))
    for i, first, last in parts_of(archive, part):
        first += length if first > 0 else 0
        step = survey.layout.step
        uneven = np.abs(np.diff(archive.times[i]) - step) > REGULAR * step
        starts = [0, *(np.flatnonzero(uneven) + 1).tolist()]
        for a, b in zip(starts, [*starts[1:], len(archive.times[i])], strict=True):
            pieces, at = [], max(a, first)
            for gap in sorted(gaps.get(i, [])):
                pieces.append((at, min(gap[0], b, last)))
                at = max(at, gap[1])
            pieces.append((at, min(b, last)))
            found += [(i, p, q) for p, q in pieces if q - p >= length]
    return found


def _blocks(archive: Archive) -> Iterator[Range]:
    size = max(1, BLOCK_BYTES // (4 * int(np.prod(archive.layout.state_shape))))
    for i, times in enumerate(archive.times):
        for first in range(0, len(times), size):
            yield i, first, min(first + size, len(times))


def survey(archive: Archive, progress: bool = False) -> Survey:
    """Reads every state once.

    Raises:
        StorageError: Infinite values, a channel that has no values or always the same, or
            missing values where the policy refuses them.
        ConfigError: No states to train on.
    """
    shape = archive.layout.state_shape
    channels = shape[-1]
    n, mean, squares = np.zeros(channels), np.zeros(channels), np.zeros(channels)
    counts, missing = np.zeros(shape, np.int64), []
    trained = parts_of(archive, "train")
    units = Standardisation(transforms=by_channel(archive.files, archive.layout))
    blocks = list(_blocks(archive))
    for i, first, last in tqdm(blocks, desc="survey", unit="block", disable=not progress):
        x = archive.read(i, first, last)
        without = np.zeros(len(x), np.int64)
        if not np.isfinite(x).all():
            _require_no_infinity(archive, i, first, x)
            nowhere = np.isnan(x)
            counts -= nowhere.sum(axis=0)
            without = nowhere.reshape(len(x), -1).sum(axis=1)
        counts += len(x)
        x = _transformed(archive, i, first, x, units)
        missing += [(i, first + j, int(c)) for j, c in enumerate(without)]
        for k, a, b in trained:
            part = x[max(a - first, 0) : max(b - first, 0)] if k == i else x[:0]
            if len(part):
                n, mean, squares = _merged((n, mean, squares), part)
    mask = counts == 0
    _require_values(archive, n, mean, squares)
    always = int(mask.sum())
    bad = [(i, state) for i, state, count in missing if count > always]
    if bad and archive.files.missing == "refuse":
        _refuse(archive, *bad[0], mask, len(bad))
    layout = dataclasses.replace(archive.layout, mask=pack(mask))
    standardisation = dataclasses.replace(
        units,
        mean=tuple(mean.tolist()),
        std=tuple(np.sqrt(squares / np.maximum(n, 1)).tolist()),
    )
    return Survey(layout, standardisation, _ranges(bad), len(missing), identity(archive))


def _merged(
    known: tuple[np.ndarray, np.ndarray, np.ndarray], x: Float[np.ndarray, " states *state"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count, mean and sum of squared deviations by channel with those of `x` added (Chan, Golub &
    LeVeque, 1983), piece by piece: what is in the processor's cache is gone over fastest."""
    flat = x.reshape(-1, x.shape[-1])
    rows = max(1, PIECE // flat.shape[1])
    for first in range(0, len(flat), rows):
        known = _joined(known, _moments(flat[first : first + rows]))
    return known


def _moments(x: Float[np.ndarray, "n channels"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    z = np.array(x.T, np.float64, order="C")
    n = np.full(len(z), float(z.shape[1]))
    total = z.sum(axis=1)
    if np.isnan(total).any():
        there = ~np.isnan(z)
        n, total = there.sum(axis=1).astype(float), np.where(there, z, 0.0).sum(axis=1)
    mean = total / np.maximum(n, 1)
    z -= mean[:, None]
    z *= z
    return n, mean, np.nansum(z, axis=1) if (n < z.shape[1]).any() else z.sum(axis=1)


def _joined(
    a: tuple[np.ndarray, np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    both = np.maximum(a[0] + b[0], 1)
    difference = b[1] - a[1]
    return (
        a[0] + b[0],
        a[1] + difference * b[0] / both,
        a[2] + b[2] + difference**2 * a[0] * b[0] / both,
    )


def _require_no_infinity(archive: Archive, i: int, first: int, x: np.ndarray) -> None:
    if np.isinf(x).any():
        state, *place = np.argwhere(np.isinf(x))[0].tolist()
        raise StorageError(
            archive.place(i, first + state),
            f"an infinite {archive.layout.channels[place[-1]].label} at point {place[:-1]}",
            "finite values, or NaN where one is missing",
            "Correct the file.",
        )


def _transformed(
    archive: Archive, i: int, first: int, x: np.ndarray, units: Standardisation
) -> np.ndarray:
    """States with the transforms of their channels.

    Raises:
        StorageError: A value outside of where a transform is defined.
    """
    if units.transforms is None:
        return x
    found = np.asarray(units.forward(jnp.asarray(x)))
    wrong = ~np.isfinite(found) & ~np.isnan(x)
    if wrong.any():
        state, *place = np.argwhere(wrong)[0].tolist()
        channel = archive.layout.channels[place[-1]]
        declared = next(t for t in archive.files.transforms if t.startswith(f"{channel.name}="))
        raise StorageError(
            archive.place(i, first + state),
            f"{channel.label} {x[(state, *place)]:g} at point {place[:-1]}",
            f"values inside of where {declared} is defined",
            "Widen its bounds or its shift in data.files.transforms, or correct the file.",
        )
    return found


def _require_values(archive: Archive, n: np.ndarray, mean: np.ndarray, squares: np.ndarray) -> None:
    for k, channel in enumerate(archive.layout.channels):
        constant = squares[k] <= (1e-6 * abs(mean[k])) ** 2 * n[k]
        if n[k] == 0 or constant:
            raise StorageError(
                channel.label,
                "no values" if n[k] == 0 else f"always {mean[k]:g}",
                "a variable that changes, in the part that is trained on",
                "Leave it out of data.files.variables.",
            )


def _refuse(archive: Archive, i: int, state: int, mask: Bool[np.ndarray, ...], many: int) -> None:
    x = archive.read(i, state, state + 1)[0]
    *point, channel = np.argwhere(np.isnan(x) & ~mask)[0].tolist()
    raise StorageError(
        archive.place(i, state),
        f"no value of {archive.layout.channels[channel].label} at point {point}; {many} states "
        "miss values that others have",
        "values wherever some state has one",
        "Fill them in, or train around them: --data.files.missing skip.",
    )


def _ranges(states: list[tuple[int, int]]) -> tuple[Range, ...]:
    found: list[Range] = []
    for i, state in states:
        if found and found[-1][0] == i and found[-1][2] == state:
            found[-1] = (i, found[-1][1], state + 1)
        else:
            found.append((i, state, state + 1))
    return tuple(found)


def identity(archive: Archive) -> tuple[Any, ...]:
    """Names, sizes and dates of change of the files."""
    return tuple((path, *_size_and_change(Path(path))) for path in archive.files.paths)


def _size_and_change(path: Path) -> tuple[int, str]:
    """Of a file, or of all files of a Zarr store."""
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    stats = [p.stat() for p in files]
    return sum(s.st_size for s in stats), str(max(s.st_mtime_ns for s in stats))


def surveyed(path: str | Path, archive: Archive, progress: bool = False) -> Survey:
    """The survey kept at `path`, made if it is not there.

    Raises:
        StorageError: The files have changed since, or the survey was edited or damaged; see
            `survey`.
    """
    path = Path(path)
    if not path.exists():
        found = survey(archive, progress)
        kept = encode(found)
        write_text(path, json.dumps({"survey": kept, "sha256": digest_of(kept)}, indent=2) + "\n")
        return found
    found = _kept(path)
    now = identity(archive)
    if found.identity != now:
        changed = [new[0] for new, old in zip(now, found.identity, strict=False) if new != old]
        raise StorageError(
            ", ".join(changed) or "data.files.paths",
            "files that have changed since this training began",
            "the same files",
            "Train in another --output.",
        )
    return found


def _kept(path: Path) -> Survey:
    expected, remedy = "the survey of this training's files", "Remove it, to have it made anew."
    said = read_json(path, expected, remedy)
    if said.get("sha256") != digest_of(said.get("survey")):
        other = "contents other than it was written with"
        raise StorageError(str(path), other, expected, remedy)
    try:
        found = decode(said["survey"], registry())
    except ConfigError as error:
        raise StorageError(str(path), f"{error}", expected, remedy) from error
    if not isinstance(found, Survey):
        raise StorageError(str(path), f"a {type(found).__name__}", expected, remedy)
    return found
