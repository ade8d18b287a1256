"""Matrices written to disk row by row, as AnnData files that appear whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import zarr
from anndata import AnnData
from anndata.io import sparse_dataset, write_elem
from scipy import sparse

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
    path: Path, blocks: Iterator[Any], n_rows: int, obs: pd.DataFrame, var: pd.DataFrame, uns: dict[str, Any]
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

    Returns
    -------
    The path.
    """
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    part = folder / path.name
    try:
        frame = AnnData(obs=obs, var=var, uns=uns)
        if path.suffix == ".h5ad":
            frame.write_h5ad(part)
            with h5py.File(part, "a") as file:
                _write_x(file, blocks, (n_rows, len(var)))
        else:
            frame.write_zarr(part)
            _write_x(zarr.open_group(str(part), mode="a", use_consolidated=False), blocks, (n_rows, len(var)))
            zarr.consolidate_metadata(str(part))
        os.replace(part, path)
    finally:
        shutil.rmtree(folder)
    return path


def _write_x(group: Any, blocks: Iterator[Any], shape: tuple[int, int]) -> None:
    if "X" in group:
        del group["X"]
    first = next(blocks)
    if sparse.issparse(first):
        # 64-bit row pointers: the number of values may pass 2^31
        first = sparse.csr_matrix(
            (first.data, first.indices, first.indptr.astype(np.int64)), shape=first.shape
        )
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
        make = getattr(group, "create_array", None) or group.create_dataset
        x = make(name="X", shape=shape, dtype="f4", chunks=chunks)
    x.attrs["encoding-type"] = "array"
    x.attrs["encoding-version"] = "0.2.0"
    return x
