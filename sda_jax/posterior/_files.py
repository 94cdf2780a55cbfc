"""Posterior files (HDF5)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sda_jax.core._errors import ConfigError, StorageError
from sda_jax.core._json import dumps, parse
from sda_jax.core._kinds import annotations_of, is_of
from sda_jax.core._numbers import real_array
from sda_jax.core._requirements import require_untraced
from sda_jax.posterior._arguments import ensemble_of
from sda_jax.posterior._diagnosis import Diagnosis
from sda_jax.runtime._hdf5 import create_array, read_hdf5, write_hdf5


def save_posterior(
    path: str | Path,
    ensemble: Any,
    description: Any,
    truth: Any = None,
    reference: Any = None,
) -> None:
    """Writes an ensemble.

    Args:
        path: The file.
        ensemble: `(samples, L, *S)` in physical units.
        description: Component or table saved as JSON in the attribute `description`.
        truth: The true trajectory `(L, *S)`, where there is one.
        reference: Another ensemble of the true posterior, where there is one.

    Raises:
        ConfigError: `path` is no path, or what is given no finite ensemble or no real numbers.
        StorageError: The file cannot be written.
    """
    require_untraced("save_posterior", "Call it outside of compiled functions.", ensemble)
    members, others = np.asarray(ensemble_of(ensemble)), {"truth": truth, "reference": reference}
    arrays = {n: real_array(n, value) for n, value in others.items() if value is not None}
    with new_posterior(path, description, **arrays) as file:
        create_array(file, "ensemble", members.shape)[:] = members
        file["ensemble"].attrs["units"] = "physical"


@contextlib.contextmanager
def new_posterior(
    path: str | Path, description: Any, **arrays: Any
) -> Generator[h5py.File, None, None]:
    """A posterior file with everything but the ensemble, for the block to write; see
    `save_posterior`."""
    text = dumps(description)
    with write_hdf5(path, "posterior") as file:
        for name, value in arrays.items():
            if value is not None:
                file[name] = np.asarray(value, np.float32)
                file[name].attrs["units"] = "physical"
        file.attrs["description"] = text
        yield file


def put_diagnosis(file: h5py.File, diagnosis: Diagnosis) -> None:
    """Keeps a diagnosis in an open posterior file."""
    file["fit"] = diagnosis.fit
    file["fit"].attrs["units"] = "probability"
    rest = {k: v for k, v in diagnosis._asdict().items() if k != "fit"}
    file.attrs["diagnosis"] = json.dumps(rest)


def load_diagnosis(path: str | Path) -> Diagnosis:
    """Reads the diagnosis that `assimilate_to_file` made.

    Raises:
        StorageError: The file is missing, damaged or of another kind, or has none.
    """
    with read_hdf5(path, "posterior") as file:
        if "diagnosis" not in file.attrs or "fit" not in file:
            raise StorageError(
                str(path), "no diagnosis", "one, as assimilate_to_file writes", "Make it again."
            )
        try:
            found = parse(file.attrs["diagnosis"], finite=False)
        except ConfigError as error:
            raise StorageError(str(path), f"{error}", "a diagnosis", "Make it again.") from error
        fit = file["fit"][()]
    kinds, table = annotations_of(Diagnosis), found if isinstance(found, dict) else {}
    known: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in table.items()
    }
    names = kinds.keys() - {"fit"}
    if known.keys() != names or not all(is_of(known[name], kinds[name]) for name in names):
        raise StorageError(str(path), f"{found}", "a diagnosis", "Make it again.")
    return Diagnosis(fit=fit, **known)


def load_posterior(path: str | Path) -> dict[str, np.ndarray]:
    """Reads the arrays that `save_posterior` wrote: ensemble and, if they are there, truth and
    reference.

    Raises:
        StorageError: The file is missing, damaged or of another kind.
    """
    with read_hdf5(path, "posterior") as file:
        arrays = {n: file[n][()] for n in ("ensemble", "truth", "reference") if n in file}
    if "ensemble" not in arrays:
        raise StorageError(str(path), "no ensemble", "a whole posterior file", "Make it again.")
    return arrays
