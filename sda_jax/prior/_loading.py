"""Loading priors: those that come with the package, and folders that `save_prior` wrote."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Array, PyTree

from sda_jax.core._errors import StorageError
from sda_jax.core._json import decode
from sda_jax.core._registry import registry
from sda_jax.core._units import Standardisation
from sda_jax.diffusion._denoisers import NetworkDenoiser
from sda_jax.prior._prior import Prior
from sda_jax.prior._saving import MEASURED, description_digest, named_leaves, weights_digest
from sda_jax.runtime._versions import FORMAT_VERSION

COMPONENTS = ("network", "schedule", "parameterisation", "standardisation", "context", "system")


def shipped_priors() -> list[str]:
    """Names of the priors that come with the package."""
    folder = resources.files("sda_jax") / "weights"
    return sorted(p.name for p in folder.iterdir() if (p / "prior.json").is_file())


def load_prior(path: str | Path, components: Iterable[type] = ()) -> Prior:
    """Loads a prior.

    Args:
        path: Name of a shipped prior ("lorenz63"), or a folder that `save_prior` wrote.
        components: Your own classes that the prior may name.

    Raises:
        StorageError: There is no such prior, or it is damaged or of another version.
        ConfigError: It names an unknown class or field, or two of `components` have one name.
    """
    folder, table = Path(path), registry(components)
    if not folder.exists() and str(path) in shipped_priors():
        with resources.as_file(resources.files("sda_jax") / "weights" / str(path)) as real:
            return _load(real, table)
    return _load(folder, table)


def _load(folder: Path, table: Mapping[str, type]) -> Prior:
    description, weights = _read(folder)
    _require_whole(folder, description)
    parts = {name: decode(description[name], table) for name in COMPONENTS}
    for name, kind in (("standardisation", Standardisation), ("context", Standardisation | None)):
        if not isinstance(parts[name], kind):
            raise StorageError(
                str(folder / "prior.json"), f"{name} {parts[name]!r}", f"{kind}", "Save it again."
            )
    measured = {
        name.removeprefix(MEASURED): jnp.asarray(weights.pop(name))
        for name in list(weights)
        if name.startswith(MEASURED)
    }
    try:
        denoiser, state_shape, expected = _assembled(description, parts, measured)
    except Exception as error:
        raise StorageError(
            str(folder / "prior.json"),
            f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
            "a network, schedule and statistics that fit each other",
            "The file is damaged: save the prior again.",
        ) from error
    return Prior(
        dataclasses.replace(denoiser, variables=_unflat(folder, weights, expected)),
        parts["standardisation"],
        state_shape,
        description["window"],
        parts["system"],
        parts["context"],
        decode(description["layout"], table) if "layout" in description else None,
    )


def _read(folder: Path) -> tuple[Any, dict[str, np.ndarray]]:
    """What the two files of a prior hold."""
    try:
        description = json.loads((folder / "prior.json").read_text())
        return description, safetensors.numpy.load_file(folder / "weights.safetensors")
    except FileNotFoundError as error:
        raise StorageError(
            "prior",
            f"no file {error.filename or folder}",
            f"a prior's folder or one of the shipped priors {shipped_priors()}",
            "Check the path.",
        ) from error
    except (ValueError, OSError, RecursionError, safetensors.SafetensorError) as error:
        raise StorageError(
            str(folder), f"{error}", "a whole prior", "It is damaged: save it again."
        ) from error


def _require_whole(folder: Path, description: Any) -> None:
    """Raises unless the two files are those of one prior, of this version and as they were
    written."""
    if not isinstance(description, dict) or description.get("kind") != "prior":
        raise StorageError(str(folder), "another file", "a prior", "Name a prior's folder.")
    if description.get("format_version") != FORMAT_VERSION:
        raise StorageError(
            str(folder),
            f"format version {description.get('format_version')}",
            f"version {FORMAT_VERSION}",
            "Save it again with this version of sda_jax.",
        )
    needed = (*COMPONENTS, "context_channels", "state_shape", "window")
    missing = [n for n in needed if n not in description]
    if missing:
        raise StorageError(
            str(folder / "prior.json"), f"no {missing}", "a whole prior", "Save it again."
        )
    if description.get("description_sha256") != description_digest(description):
        raise StorageError(
            str(folder / "prior.json"),
            "contents other than it was written with",
            "a whole prior",
            "It is damaged or was edited: save the prior again.",
        )
    if description.get("weights_sha256") != weights_digest(folder):
        raise StorageError(
            str(folder / "weights.safetensors"),
            "contents other than prior.json was written for",
            "the two files of one prior",
            "One of them is damaged or replaced: save the prior again.",
        )


def _assembled(
    description: dict[str, Any], parts: dict[str, Any], measured: dict[str, Array]
) -> tuple[NetworkDenoiser, tuple[int, ...], PyTree]:
    """The denoiser without weights, the shape of a state, and the shapes of its weights; fails
    where components do not fit each other."""
    parameterisation = dataclasses.replace(parts["parameterisation"], **measured)
    channels = int(description["context_channels"])
    denoiser = NetworkDenoiser(
        parts["network"], None, parts["schedule"], parameterisation, channels
    )
    state_shape = tuple(int(n) for n in description["state_shape"])
    shape = (description["window"] or 1, *state_shape)
    sample = jax.ShapeDtypeStruct(shape, jnp.float32)
    expected = jax.eval_shape(lambda: denoiser.init(jax.random.key(0), shape))
    parts["schedule"].mu(0.0)
    parameterisation.level(parts["schedule"], 0.0)
    jax.eval_shape(parts["standardisation"].inverse, sample)
    return denoiser, state_shape, expected


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
    bad = [name for name, array in weights.items() if not np.isfinite(array).all()]
    if bad:
        raise StorageError(
            str(folder / "weights.safetensors"),
            f"values that are not finite in {bad[0]}",
            "finite weights",
            "It is damaged, or its training diverged.",
        )
    leaves = [jnp.asarray(weights[name], jnp.float32) for name in named_leaves(expected)]
    return jax.tree.unflatten(jax.tree.structure(expected), leaves)
