"""Loading priors: those that come with the package, and folders that `save_prior` wrote."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from sda_jax.core._arrays import Scalar, Time
from sda_jax.core._errors import StorageError
from sda_jax.core._json import decode
from sda_jax.core._kinds import is_of, written
from sda_jax.core._paths import require_path
from sda_jax.core._protocols import Schedule, System
from sda_jax.core._registry import registry
from sda_jax.core._requirements import require_protocol
from sda_jax.core._units import Standardisation
from sda_jax.data._layout import Layout, pack
from sda_jax.data._tiling import Tiling
from sda_jax.diffusion._denoisers import NetworkDenoiser
from sda_jax.networks import Network
from sda_jax.prior._folder import COMPONENTS, MEASURED, read_prior
from sda_jax.prior._prior import Prior
from sda_jax.prior._saving import named_leaves
from sda_jax.prior._shipped import shipped_folder, shipped_priors

KINDS: dict[str, Any] = {
    "standardisation": Standardisation,
    "context": Standardisation | None,
    "layout": Layout | None,
    "tiling": Tiling | None,
    "context_channels": int,
    "window": int | None,
    "state_shape": tuple[int, ...],
}
LEAST = dict.fromkeys(KINDS, 1) | {"context_channels": 0}
LARGEST = 2**31 - 1  # that indices count
AGAIN = "The file is damaged: save the prior again."
BEYOND = 1e30  # squares and products of what is larger are infinite in single precision
PRECISIONS = ("float32", "float64", "float16", "bfloat16")


class Parameterises(Protocol):
    """What is asked of a parameterisation here."""

    def level(self, schedule: Schedule, t: Time) -> Scalar: ...

    def inputs(self, x: Array, t: Time, schedule: Schedule) -> Array: ...

    def denoise(self, output: Array, x: Array, t: Time, schedule: Schedule) -> Array: ...

    def covariance_times(self, w: Array, t: Time, schedule: Schedule) -> Array: ...


PROTOCOLS = {"network": Network, "schedule": Schedule, "parameterisation": Parameterises}


def load_prior(path: str | Path, components: Iterable[type] = ()) -> Prior:
    """Loads a prior.

    Args:
        path: Name of a shipped prior ("lorenz63"), or a folder that `save_prior` wrote.
        components: Your own classes that the prior may name.

    Raises:
        StorageError: There is no such prior, or it is damaged or of another version.
        ConfigError: It names an unknown class or field, or two of `components` have one name.
    """
    folder, table = require_path("path", path), registry(components)
    if not folder.exists() and str(path) in shipped_priors():
        with resources.as_file(shipped_folder(str(path))) as real:
            return _load(real, table)
    return _load(folder, table)


def _load(folder: Path, table: Mapping[str, type]) -> Prior:
    description, weights = read_prior(folder)
    parts = _parts(folder, description, table)
    _require_numbers(folder, weights)
    measured = {
        name.removeprefix(MEASURED): jnp.asarray(weights.pop(name))
        for name in list(weights)
        if name.startswith(MEASURED)
    }
    try:
        denoiser, expected = _assembled(description, parts, measured)
        _require_finite(parts, denoiser.parameterisation)
        prior = Prior(
            denoiser,
            parts["standardisation"],
            tuple(description["state_shape"]),
            description["window"],
            parts["system"],
            parts["context"],
            parts["layout"],
            parts["tiling"],
        )
        if prior.layout is not None:
            _require_layout(prior.layout, denoiser.channels)
    except Exception as error:
        raise StorageError(
            str(folder / "prior.json"),
            f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
            "a network, schedule and statistics that fit each other",
            AGAIN,
        ) from error
    whole = dataclasses.replace(denoiser, variables=_unflat(folder, weights, expected))
    return dataclasses.replace(prior, denoiser=whole)


def _parts(folder: Path, description: dict[str, Any], table: Mapping[str, type]) -> dict[str, Any]:
    """The components, and the numbers beside them checked.

    Raises:
        StorageError: One is of another kind, or a number is impossible.
    """
    parts = {name: decode(description[name], table) for name in COMPONENTS}
    for name in ("layout", "tiling"):
        parts[name] = decode(description.get(name), table)
    numbers = {name: description[name] for name in ("context_channels", "window")}
    numbers["state_shape"] = decode(description["state_shape"], table)
    for name, kind in KINDS.items():
        value = (parts | numbers)[name]
        whole = [n for n in (value if isinstance(value, tuple) else [value]) if type(n) is int]
        if not is_of(value, kind) or not all(LEAST[name] <= n <= LARGEST for n in whole):
            expected = f"{written(kind)}, whole numbers from {LEAST[name]} to {LARGEST}"
            raise StorageError(
                str(folder / "prior.json"), f"{name} {value!r}"[:200], expected, AGAIN
            )
    asked = PROTOCOLS | ({} if parts["system"] is None else {"system": System})
    for name, protocol in asked.items():
        require_protocol(name, parts[name], protocol, AGAIN)
    return parts


def _require_numbers(folder: Path, weights: dict[str, np.ndarray]) -> None:
    """Raises unless all weights are finite numbers of a precision that is computed with."""
    for name, array in weights.items():
        wrong = None
        if array.dtype.name not in PRECISIONS:
            wrong = f"values of type {array.dtype.name} in {name}"
        elif not np.isfinite(array).all():
            wrong = f"values that are not finite in {name}"
        elif name == f"{MEASURED}errors" and not (array > 0).all():
            wrong = f"squares that are not positive in {name}"
        if wrong is not None:
            raise StorageError(
                str(folder / "weights.safetensors"),
                wrong,
                f"finite weights, of {', '.join(PRECISIONS)}",
                "It is damaged, or its training diverged.",
            )


def _assembled(
    description: dict[str, Any], parts: dict[str, Any], measured: dict[str, Array]
) -> tuple[NetworkDenoiser, PyTree]:
    """The denoiser without weights, and the shapes of its weights; fails where components do not
    fit each other."""
    parameterisation = dataclasses.replace(parts["parameterisation"], **measured)
    channels, schedule = description["context_channels"], parts["schedule"]
    denoiser = NetworkDenoiser(parts["network"], None, schedule, parameterisation, channels)
    *space, states = description["state_shape"]
    seen = space if parts["tiling"] is None else parts["tiling"].shape(space)
    shape = (description["window"] or 1, *seen, states)
    sample = jax.ShapeDtypeStruct(shape, jnp.float32)
    known = jax.ShapeDtypeStruct((*shape[:-1], channels), jnp.float32)
    expected = jax.eval_shape(lambda: denoiser.init(jax.random.key(0), shape))
    maps = [(parts["standardisation"].inverse, sample)]
    maps += [(parts["context"].forward, known)] if parts["context"] is not None else []
    maps += [(lambda w: parameterisation.covariance_times(w, 0.5, schedule), sample)]
    maps += [(lambda w: parameterisation.denoise(w, w, 0.5, schedule), sample)]
    for function, like in maps:
        if jax.eval_shape(function, like).shape != like.shape:
            raise ValueError("statistics of another shape than states")
    return denoiser, expected


def _require_finite(parts: dict[str, Any], parameterisation: Any) -> None:
    """Fails where numbers are too large or too small to be computed with."""
    schedule = parts["schedule"]
    for t in (0.0, 0.5, 1.0):
        found = [schedule.mu(t), schedule.sigma(t), parameterisation.level(schedule, t)]
        if not np.isfinite(found).all() or not min(found[:2]) > 0:
            raise ValueError(f"a schedule of {found} at t = {t}")
    for name in ("standardisation", "context"):
        given = parts[name]
        both = [] if given is None else [np.asarray(a, float) for a in (given.mean, given.std)]
        small = bool(both) and (both[1] < 1 / BEYOND).any()
        if small or not all((np.abs(a) < BEYOND).all() for a in both):
            raise ValueError(f"{name} beyond single precision")


def _require_layout(layout: Layout, channels: int) -> None:
    """Fails where a layout cannot be used."""
    steps = [layout.step, *(axis.period for axis in layout.axes if axis.period is not None)]
    if not all(np.isfinite(step) and step > 0 for step in steps) or layout.months < 0:
        raise ValueError(f"steps and periods {steps}, {layout.months} months")
    if not all(np.isfinite(axis.coordinates).all() for axis in layout.axes):
        raise ValueError("coordinates that are not finite")
    if pack(~layout.valid) != layout.mask:
        raise ValueError("a mask of another size")
    known = layout.context(layout.times(0.0, 2))
    if known.shape[-1] != channels or not np.isfinite(known).all():
        raise ValueError(f"context of shape {known.shape}; the network takes {channels} channels")
    layout.written(0.0)


def _unflat(folder: Path, weights: dict[str, np.ndarray], expected: PyTree) -> PyTree[Array]:
    """The weights in the structure that the network expects, checked name by name."""
    shapes = {name: leaf.shape for name, leaf in named_leaves(expected).items()}
    found = {name: array.shape for name, array in weights.items()}
    if shapes != found:
        differing = sorted(n for n in shapes.keys() | found if shapes.get(n) != found.get(n))
        first = differing[0]
        raise StorageError(
            str(folder / "weights.safetensors"),
            f"{first} of shape {found.get(first)}",
            f"shape {shapes.get(first)}, as the network in prior.json has it",
            "The two files are not of one prior: save it again.",
        )
    leaves = [jnp.asarray(weights[name], jnp.float32) for name in named_leaves(expected)]
    return jax.tree.unflatten(jax.tree.structure(expected), leaves)
