"""Matrices written to disk row by row, as AnnData files that appear whole or not at all."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import zarr
from anndata import AnnData
from anndata.io import sparse_dataset, write_elem
from scipy import sparse

from latentcell._atomic import replacing
from latentcell._errors import DataError

_SUFFIXES = (".h5ad", ".zarr")


def check_out(out: str | os.PathLike) -> Path:
    """The path to write to; refuses one that exists, is in no folder, or is of no kind that is written."""
    path = Path(out)
    if path.suffix not in _SUFFIXES:
        raise DataError(f"out={str(path)!r} must end in .h5ad or .zarr")
    if path.exists():
        raise DataError(f"out={str(path)!r} exists; delete it first or choose another name")
    if not path.parent.is_dir():
        raise DataError(f"out={str(path)!r}: there is no folder {str(path.parent)!r}")
    return path


def write_rows(
    path: Path,
    blocks: Iterator[Any],
    n_rows: int,
    obs: pd.DataFrame,
    var: pd.DataFrame,
    uns: dict[str, Any],
    *,
    last: Callable[[], dict[str, Any]] | None = None,
) -> Path:
    """Write an AnnData whose ``X`` comes in blocks of rows.

    Parameters
    ----------
    path
        A path ending in .h5ad or .zarr that does not exist (see :func:`check_out`).
    blocks
        Rows of ``X`` in order, float32: arrays, or csr matrices (then ``X`` is csr on disk).
    n_rows
        Rows in all.
    obs, var, uns
        The rest of the AnnData.
    last
        Called after the last block: parts of the AnnData by name (``"obs"``, ``"obsm"``) that are known only
        then.

    Returns
    -------
    The path.

    Raises
    ------
    OSError
        If the disk is full or read-only; nothing is left at the path.
    """
    for name in (*obs.columns, *var.columns):
        if not isinstance(name, str) or "/" in name or name in ("", ".", ".."):
            raise DataError(f"column {name!r} cannot be written to {str(path)!r}; rename it, without /")
    with replacing(path) as part:
        frame = AnnData(obs=obs, var=var, uns=uns)
        frame.strings_to_categoricals()  # text with gaps, as AnnData itself writes it
        if path.suffix == ".h5ad":
            with h5py.File(part, "w") as file:
                _write(file, frame, blocks, n_rows, last)
        else:
            group = zarr.open_group(str(part), mode="w", zarr_format=2)  # read by every anndata
            _write(group, frame, blocks, n_rows, last)
    return path


def _write(
    group: Any,
    frame: AnnData,
    blocks: Iterator[Any],
    n_rows: int,
    last: Callable[[], dict[str, Any]] | None,
) -> None:
    write_elem(group, "/", frame)
    _write_x(group, blocks, (n_rows, frame.n_vars))
    for name, part in (last() if last is not None else {}).items():
        write_elem(group, name, part)


def _write_x(group: Any, blocks: Iterator[Any], shape: tuple[int, int]) -> None:
    if "X" in group:
        del group["X"]
    first = next(blocks)
    if sparse.issparse(first):
        # the pointers of all rows may pass 2^31, and rows that follow take the type of the first
        first.indptr = first.indptr.astype(np.int64)
        write_elem(group, "X", first)
        on_disk = sparse_dataset(group["X"])
        for block in blocks:
            on_disk.append(block)
        return
    x = _create(group, shape, (min(len(first), shape[0]), shape[1]))
    done = 0
    while True:
        x[done : done + len(first)] = first
        done += len(first)
        following = next(blocks, None)
        if following is None:
            return
        first = following


def _create(group: Any, shape: tuple[int, int], chunks: tuple[int, int]) -> Any:
    if isinstance(group, h5py.File):
        x = group.create_dataset("X", shape=shape, dtype="f4", chunks=chunks, compression="lzf")
    else:
        x = group.create_array(name="X", shape=shape, dtype="f4", chunks=chunks)
    x.attrs["encoding-type"] = "array"
    x.attrs["encoding-version"] = "0.2.0"
    return x
