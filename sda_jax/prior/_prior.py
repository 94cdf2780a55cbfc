"""What training produces and everything later needs, saved in one folder without code in it.

`prior.json` holds the components (network, schedule, parameterisation, standardisation, system),
`weights.safetensors` the network's weights.
"""

from __future__ import annotations

import dataclasses
import hashlib
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

from sda_jax.core._component import component, static
from sda_jax.core._errors import ConfigError, DivergenceError, StorageError
from sda_jax.core._json import decode, encode
from sda_jax.core._registry import registry
from sda_jax.core._units import Standardisation
from sda_jax.data._layout import Layout
from sda_jax.diffusion._denoisers import NetworkDenoiser
from sda_jax.runtime._files import FORMAT, FORMAT_VERSION, atomic, versions, write_text

MEASURED = "parameterisation/"  # before the names of its arrays, beside the network's weights


@component
class Prior:
    """A learned distribution of trajectories.

    Attributes:
        denoiser: Denoiser of segments, in standardised units.
        standardisation: Between physical and standardised units.
        state_shape: Shape of one state.
        window: States of a local network's window (2k + 1); None for a network that takes
            trajectories of any length.
        system: What it was trained on, or None; never used by the method itself.
        context: Statistics of what its network asks to be told of a trajectory; None if nothing.
        layout: What states that came from a user's files look like; None for a system's.
    """

    denoiser: Any
    standardisation: Standardisation
    state_shape: tuple[int, ...] = static()
    window: int | None = static(None)
    system: Any = None
    context: Standardisation | None = None
    layout: Layout | None = static(None)

    def __post_init__(self) -> None:
        odd = type(self.window) is int and self.window > 0 and self.window % 2 == 1
        if self.window is not None and not odd:
            raise ConfigError("window", self.window, "an odd number of states", "Use 2k + 1.")
        if self.layout is not None and self.layout.state_shape != self.state_shape:
            raise ConfigError(
                "layout",
                f"states of shape {self.layout.state_shape}",
                f"the prior's, {self.state_shape}",
                "Give the layout of what it was trained on.",
            )


def _named(tree: PyTree) -> dict[str, Any]:
    """The leaves by path, in the tree's own order."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def save_prior(path: str | Path, prior: Prior, notes: dict[str, Any] | None = None) -> Path:
    """Saves a prior in the folder `path`.

    Args:
        path: The folder, made if needed; a prior that is there is replaced.
        prior: With a `NetworkDenoiser`.
        notes: JSON-able remarks kept beside it (how it was trained, how it scored).

    Raises:
        StorageError: The folder cannot be written.
    """
    path = Path(path)
    denoiser = prior.denoiser
    parameterisation = denoiser.parameterisation
    measured = {
        MEASURED + name: leaf for name, leaf in _named(parameterisation).items() if np.ndim(leaf)
    }
    leaves = _named(denoiser.variables) | measured
    weights = {name: np.asarray(leaf) for name, leaf in leaves.items()}
    bad = [name for name, array in weights.items() if not np.isfinite(array).all()]
    if bad:
        raise DivergenceError(
            "weights", f"values that are not finite in {bad[0]}", "finite weights", "Train again."
        )
    with atomic(path / "weights.safetensors") as temporary:
        safetensors.numpy.save_file(weights, temporary)
    description = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "kind": "prior",
        "versions": versions(),
        "weights_sha256": _digest(path),
        "network": encode(denoiser.network),
        "schedule": encode(denoiser.schedule),
        "parameterisation": encode(parameterisation.unfitted() if measured else parameterisation),
        "standardisation": encode(prior.standardisation),
        "context": encode(prior.context),
        "context_channels": denoiser.channels,
        "state_shape": list(prior.state_shape),
        "window": prior.window,
        "system": encode(prior.system),
        "notes": notes or {},
    }
    if prior.layout is not None:
        description["layout"] = encode(prior.layout)
    description["description_sha256"] = description_digest(description)
    write_text(path / "prior.json", json.dumps(description, indent=2, allow_nan=False) + "\n")
    return path


def _digest(folder: Path) -> str:
    return hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()


def description_digest(description: dict[str, Any]) -> str:
    """A hash of everything that prior.json says beside it."""
    rest = {k: v for k, v in description.items() if k != "description_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


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
    try:
        description = json.loads((folder / "prior.json").read_text())
        weights = safetensors.numpy.load_file(folder / "weights.safetensors")
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
    if not isinstance(description, dict) or description.get("kind") != "prior":
        raise StorageError(str(folder), "another file", "a prior", "Name a prior's folder.")
    if description.get("format_version") != FORMAT_VERSION:
        raise StorageError(
            str(folder),
            f"format version {description.get('format_version')}",
            f"version {FORMAT_VERSION}",
            "Save it again with this version of sda_jax.",
        )
    names = ("network", "schedule", "parameterisation", "standardisation", "context", "system")
    missing = [
        n for n in (*names, "context_channels", "state_shape", "window") if n not in description
    ]
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
    if description.get("weights_sha256") != _digest(folder):
        raise StorageError(
            str(folder / "weights.safetensors"),
            "contents other than prior.json was written for",
            "the two files of one prior",
            "One of them is damaged or replaced: save the prior again.",
        )
    parts = {name: decode(description[name], table) for name in names}
    for name, kind in (("standardisation", Standardisation), ("context", Standardisation | None)):
        if not isinstance(parts[name], kind):
            raise StorageError(
                str(folder / "prior.json"), f"{name} {parts[name]!r}", f"{kind}", "Save it again."
            )
    window = description["window"]
    measured = {
        name.removeprefix(MEASURED): jnp.asarray(weights.pop(name))
        for name in list(weights)
        if name.startswith(MEASURED)
    }
    try:
        parameterisation = dataclasses.replace(parts["parameterisation"], **measured)
        denoiser = NetworkDenoiser(
            parts["network"],
            None,
            parts["schedule"],
            parameterisation,
            int(description["context_channels"]),
        )
        state_shape = tuple(int(n) for n in description["state_shape"])
        shape = (window or 1, *state_shape)
        sample = jax.ShapeDtypeStruct(shape, jnp.float32)
        expected = jax.eval_shape(lambda: denoiser.init(jax.random.key(0), shape))
        parts["schedule"].mu(0.0)
        parameterisation.level(parts["schedule"], 0.0)
        jax.eval_shape(parts["standardisation"].inverse, sample)
    except Exception as error:
        raise StorageError(
            str(folder / "prior.json"),
            f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
            "a network, schedule and statistics that fit each other",
            "The file is damaged: save the prior again.",
        ) from error
    denoiser = dataclasses.replace(denoiser, variables=_unflat(folder, weights, expected))
    return Prior(
        denoiser,
        parts["standardisation"],
        state_shape,
        window,
        parts["system"],
        parts["context"],
        decode(description["layout"], table) if "layout" in description else None,
    )


def _unflat(folder: Path, weights: dict[str, np.ndarray], expected: PyTree) -> PyTree[Array]:
    """The weights in the structure that the network expects, checked name by name."""
    shapes = {name: leaf.shape for name, leaf in _named(expected).items()}
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
    leaves = [jnp.asarray(weights[name], jnp.float32) for name in _named(expected)]
    return jax.tree.unflatten(jax.tree.structure(expected), leaves)
