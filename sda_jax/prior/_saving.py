"""Saving a prior in one folder without code in it.

`prior.json` holds the components (network, schedule, parameterisation, standardisation, system),
`weights.safetensors` the network's weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from jaxtyping import PyTree

from sda_jax.core._errors import ConfigError, DivergenceError
from sda_jax.core._json import encode
from sda_jax.core._paths import require_path
from sda_jax.core._requirements import require_untraced
from sda_jax.diffusion._denoisers import NetworkDenoiser
from sda_jax.prior._folder import MEASURED, description_digest, weights_digest
from sda_jax.prior._prior import Prior, require_prior
from sda_jax.runtime._files import atomic, write_text
from sda_jax.runtime._versions import FORMAT, PRIOR_VERSION, versions


def save_prior(
    path: str | Path, prior: Prior, notes: dict[str, Any] | None = None, half: bool = False
) -> Path:
    """Saves a prior in the folder `path`.

    Args:
        path: The folder, made if needed; a prior that is there is replaced.
        prior: With a `NetworkDenoiser`.
        notes: JSON-able remarks kept beside it (how it was trained, how it scored).
        half: Whether the network's weights are rounded to float16, to 11 binary digits; they are
            float32 again when loaded. What was measured of the data stays float32.

    Raises:
        ConfigError: `path` is no path, `prior` no prior with a network, or `notes` no table of
            what JSON can hold.
        DivergenceError: Weights are not finite, or not in half precision.
        StorageError: The folder cannot be written.
    """
    require_untraced("save_prior", "Call it outside of compiled functions.", prior)
    path = require_path("path", path)
    require_prior(prior)
    denoiser = prior.denoiser
    if not isinstance(denoiser, NetworkDenoiser):
        got = f"one with a {type(denoiser).__name__}"
        raise ConfigError("prior", got, "a prior with a network", "Train one.")
    remarks = _remarks({} if notes is None else notes)
    if not isinstance(half, bool):
        raise ConfigError("half", f"a {type(half).__name__}", "True or False", "Choose one.")
    parameterisation = denoiser.parameterisation
    measured = {
        MEASURED + name: leaf
        for name, leaf in named_leaves(parameterisation).items()
        if np.ndim(leaf)
    }
    network = named_leaves(denoiser.variables)
    kind = np.float16 if half else None
    weights = {name: np.asarray(leaf, kind) for name, leaf in network.items()}
    weights |= {name: np.asarray(leaf) for name, leaf in measured.items()}
    bad = [name for name, array in weights.items() if not np.isfinite(array).all()]
    if bad:
        raise DivergenceError(
            "weights",
            f"values that are not finite{' in half precision' if half else ''} in {bad[0]}",
            "finite weights",
            "Save them in full precision, or train again." if half else "Train again.",
        )
    with atomic(path / "weights.safetensors") as temporary:
        safetensors.numpy.save_file(weights, temporary)
    description = {
        "format": FORMAT,
        "format_version": PRIOR_VERSION,
        "kind": "prior",
        "versions": versions(),
        "weights_sha256": weights_digest(path),
        "network": encode(denoiser.network),
        "schedule": encode(denoiser.schedule),
        "parameterisation": encode(parameterisation.unfitted() if measured else parameterisation),
        "standardisation": encode(prior.standardisation),
        "context": encode(prior.context),
        "context_channels": denoiser.channels,
        "state_shape": list(prior.state_shape),
        "window": prior.window,
        "system": encode(prior.system),
        "notes": remarks,
    }
    if prior.layout is not None:
        description["layout"] = encode(prior.layout)
    if prior.tiling is not None:
        description["tiling"] = encode(prior.tiling)
    description["description_sha256"] = description_digest(description)
    write_text(path / "prior.json", json.dumps(description, indent=2, allow_nan=False) + "\n")
    return path


def _remarks(notes: Any) -> dict[str, Any]:
    """The notes as what JSON makes of them.

    Raises:
        ConfigError: It makes no table of them.
    """
    try:
        found = json.loads(json.dumps(notes, allow_nan=False))
        if not isinstance(found, dict):
            raise TypeError(f"a {type(notes).__name__} is no table")
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError("notes", f"{error}", "a table of JSON", "Leave it out.") from error
    return found


def named_leaves(tree: PyTree) -> dict[str, Any]:
    """The leaves by path, in the tree's own order."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
