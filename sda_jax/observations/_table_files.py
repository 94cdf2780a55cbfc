"""Opening tables: CSV, compressed or not, and Parquet."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from sda_jax.core._errors import StorageError
from sda_jax.data._conventions import as_text
from sda_jax.runtime._damage import proves_damage


def open_table(path: str) -> tuple[pd.DataFrame, int]:
    """The rows of a table that are not blank, and the line in the file of what pandas counts as
    row 0. Texts that are stored as bytes are texts, columns are called without blanks around.

    Raises:
        StorageError: No such table, no rows, or it cannot be read.
    """
    if not Path(path).is_file():
        raise StorageError(path, "no such file", "a CSV or Parquet table", "Check the path.")
    parquet = Path(path).suffix.lower() in (".parquet", ".pq")
    try:
        rows, first = (_parquet(path), 0) if parquet else (_csv(path), 1)
    except Exception as error:  # whatever pandas and the decompressor make of it
        raise StorageError(
            path,
            f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
            "a CSV or Parquet table with a header",
            "It is damaged: make it again." if proves_damage(error) else "Check the file.",
        ) from error
    if rows.empty:
        raise StorageError(path, "no rows", "at least one observation", "Check the file.")
    return rows, first


def _csv(path: str) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # too many fields
        rows = pd.read_csv(
            path, header=None, dtype=str, keep_default_na=False, skipinitialspace=True,
            index_col=False, skip_blank_lines=False, encoding="utf-8-sig",
        )  # fmt: skip
    # pandas would give a second column of a name another one
    rows, rows.columns = rows.iloc[1:], [str(name).strip() for name in rows.iloc[0]]
    return rows[~(rows.isna() | (rows == "")).all(axis=1)]


def _parquet(path: str) -> pd.DataFrame:
    rows = pd.read_parquet(path)
    named = [name for name in rows.index.names if name is not None]
    # an index with a name is a column
    rows = rows.reset_index(level=named, allow_duplicates=True) if named else rows
    rows = rows.reset_index(drop=True)
    rows.columns = [as_text(name).strip() for name in rows.columns]
    for k in range(rows.shape[1]):
        column = rows.iloc[:, k]
        if pd.api.types.is_string_dtype(column.dtype):
            column.to_numpy(object)  # fails here, not later, where bytes are no text
        start = column.first_valid_index()
        if column.dtype == object and start is not None and isinstance(column[start], bytes):
            rows.isetitem(k, column.map(as_text, na_action="ignore"))
    return rows


def hashable(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with lists and structures as texts, so that they can be compared."""
    found = rows.copy(deep=False)
    for k in range(rows.shape[1]):
        column = rows.iloc[:, k]
        start = column.first_valid_index()
        nested = start is not None and isinstance(column[start], (list, dict, set, np.ndarray))
        if nested:
            found.isetitem(k, column.map(repr))
    return found
