"""The folder of a prior: its two files, whole and of each other. Needs no JAX."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from sda_jax.core._errors import StorageError
from sda_jax.core._json import digest_of, parse
from sda_jax.prior._shipped import shipped_priors
from sda_jax.runtime._files import read_text
from sda_jax.runtime._versions import PRIOR_VERSION

COMPONENTS = ("network", "schedule", "parameterisation", "standardisation", "context", "system")
MEASURED = "parameterisation/"  # before the names of its arrays, beside the network's weights


def read_prior(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What prior.json says, and the arrays of weights.safetensors by name.

    Raises:
        StorageError: There is no prior, or it is damaged or of another version.
    """
    description, weights = _read(folder)
    _require_whole(folder, description)
    return description, weights


def _read(folder: Path) -> tuple[Any, dict[str, np.ndarray]]:
    weights = folder / "weights.safetensors"
    if (folder / "prior.json").is_file() and not weights.is_file():
        raise StorageError(
            str(weights), "no file", "the weights beside prior.json", "Save the prior again."
        )
    try:
        description = parse(read_text(folder / "prior.json"))
        return description, safetensors.numpy.load_file(weights)
    except FileNotFoundError as error:
        raise StorageError(
            "prior",
            f"no file {error.filename or folder}",
            f"a prior's folder or one of the shipped priors {shipped_priors()}",
            "Check the path.",
        ) from error
    except OSError as error:
        raise StorageError(
            str(folder), f"{error}", "a prior that can be read", "Check the files and permissions."
        ) from error
    except Exception as error:  # whatever the reader of weights makes of them
        raise StorageError(
            str(folder), f"{error}", "a whole prior", "It is damaged: save it again."
        ) from error


def _require_whole(folder: Path, description: Any) -> None:
    """Raises unless the two files are those of one prior, of this version and as they were
    written."""
    if not isinstance(description, dict) or description.get("kind") != "prior":
        raise StorageError(str(folder), "another file", "a prior", "Name a prior's folder.")
    if description.get("format_version") != PRIOR_VERSION:
        raise StorageError(
            str(folder),
            f"format version {description.get('format_version')}",
            f"version {PRIOR_VERSION}",
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


def weights_digest(folder: Path) -> str:
    """A hash of the weights' file."""
    return hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()


def description_digest(description: dict[str, Any]) -> str:
    """A hash of everything that prior.json says beside it."""
    return digest_of({k: v for k, v in description.items() if k != "description_sha256"})
