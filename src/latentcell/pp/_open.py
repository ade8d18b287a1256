"""Cells in one or several files, opened without reading their matrices."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import zarr
from anndata import AnnData
from anndata.abc import CSCDataset
from anndata.io import read_elem, sparse_dataset

from latentcell._disk import Stacked
from latentcell._errors import DataError

Cells = str | os.PathLike | AnnData


def open_cells(
    cells: Cells | Sequence[Cells] | Mapping[str, Cells],
    *,
    label: str | None = None,
    index_unique: str | None = None,
) -> AnnData:
    """Open cells in .h5ad or zarr files; their matrices stay on disk and are read as they are needed.

    ``anndata.read_h5ad(path, backed="r")`` leaves ``X`` on disk and reads layers; this leaves both, also of
    zarr stores, and takes a collection of files as one AnnData. Models are set up, trained and asked on the
    result as on any other; a window of cells is in memory at a time.

    Parameters
    ----------
    cells
        A path ending in .h5ad or .zarr, or an AnnData (backed, on zarr, with dask arrays, in memory); or
        several of them, whose cells follow each other, by name if `label` is given. Of an
        ``anndata.experimental.AnnCollection`` pass its ``adatas``.
    label
        Column of ``obs`` that is added with the name (the key, or the number) of each cell's file.
    index_unique
        Put between a cell's name and that of its file, as in :func:`anndata.concat`; None leaves names.

    Returns
    -------
    AnnData (cells x genes that all files have, in the order of the first): ``obs`` and ``var`` in memory, of
    ``obs`` the columns that all have; ``X`` and layers that all have on disk. ``obsm``, ``uns`` and so on are
    not taken. Rows and columns of ``X`` are read by indexing it; it cannot be written to. The files stay open
    as long as it is used.

    Raises
    ------
    DataError
        If a file is no such file, a matrix of a collection is csc on disk (whose cells cannot be read one by
        one), files have no genes in common, or gene names of a file repeat.

    Examples
    --------
    >>> import tempfile, latentcell as lc
    >>> folder = tempfile.mkdtemp()
    >>> adata = lc.datasets.simulate_groups(seed=0)
    >>> files = {"a": f"{folder}/a.h5ad", "b": f"{folder}/b.h5ad"}
    >>> adata[:40].write_h5ad(files["a"])
    >>> adata[40:].write_h5ad(files["b"])
    >>> both = lc.pp.open_cells(files, label="file")
    >>> both.shape, both.obs["file"].value_counts().to_dict()
    ((90, 1000), {'b': 50, 'a': 40})
    >>> bool((both.X[[80, 3]] == adata.X[[80, 3]]).all())
    True
    """
    named = _named(cells)
    parts = {name: _contents(name, part) for name, part in named.items()}
    frames = {name: AnnData(obs=obs, var=var[[]]) for name, (obs, var, _) in parts.items()}
    first_var = next(iter(parts.values()))[1]
    both = ad.concat(frames, label=label, index_unique=index_unique, join="inner")
    genes = first_var.index[first_var.index.isin(both.var_names)]
    if not len(genes) and len(first_var):
        raise DataError(
            f"no gene is in all of {', '.join(map(repr, named))}: are these the same identifiers?"
        )
    shared = set.intersection(*[set(matrices) for _, _, matrices in parts.values()])
    if not shared:
        raise DataError(f"no matrix (X or a layer) is in all of {', '.join(map(repr, named))}")
    stacked = {key: _stack([part[2][key] for part in parts.values()], parts, genes) for key in shared}
    layers = {key: value for key, value in stacked.items() if key is not None}
    return AnnData(
        X=stacked.get(None), obs=both.obs.copy(), var=first_var.loc[genes].copy(), layers=layers or None
    )


def _named(cells: Any) -> dict[str, Cells]:
    if isinstance(cells, str | os.PathLike | AnnData):
        return {"0": cells}
    named = dict(cells) if isinstance(cells, Mapping) else {str(i): part for i, part in enumerate(cells)}
    if not named:
        raise DataError("there are no cells to open: pass a path, or several")
    return named


def _contents(name: str, cells: Cells) -> tuple[pd.DataFrame, pd.DataFrame, dict[str | None, Any]]:
    """``obs``, ``var`` and the matrices by layer (None: ``X``) of one part of a collection."""
    if isinstance(cells, AnnData):
        obs, var = cells.obs.copy(), cells.var.copy()
        matrices: dict[str | None, Any] = {
            key: value for key, value in cells.layers.items() if key is not None
        }
        if cells.X is not None:
            matrices[None] = cells.X
    else:
        group = _group(Path(cells))
        obs, var = read_elem(group["obs"]), read_elem(group["var"])
        matrices = {key: _matrix(group["layers"][key]) for key in group.get("layers", {})}
        if "X" in group:
            matrices[None] = _matrix(group["X"])
    if not var.index.is_unique:
        raise DataError(f"gene names of {name!r} are not unique; first call adata.var_names_make_unique()")
    return obs, var, matrices


def _group(path: Path) -> Any:
    kind: Literal["h5ad", "zarr"] | None = {".h5ad": "h5ad", ".zarr": "zarr"}.get(path.suffix)  # type: ignore[assignment]
    if kind is None:
        raise DataError(f"{str(path)!r} must end in .h5ad or .zarr")
    if not path.exists():
        raise DataError(f"there is no {str(path)!r}")
    try:
        group: Any = h5py.File(path, "r") if kind == "h5ad" else zarr.open_group(str(path), mode="r")
    except (OSError, ValueError) as error:
        raise DataError(f"{str(path)!r} cannot be opened as {kind}: {error}") from error
    if "obs" not in group or "var" not in group:
        raise DataError(f"{str(path)!r} is no AnnData: it has no obs or no var")
    return group


def _matrix(node: Any) -> Any:
    return node if isinstance(node, h5py.Dataset | zarr.Array) else sparse_dataset(node)


def _stack(matrices: list[Any], parts: Mapping[str, Any], genes: pd.Index) -> Any:
    """The matrices one after another, with `genes` in this order."""
    positions: list[np.ndarray | None] = []
    for (name, (_, var, _)), matrix in zip(parts.items(), matrices, strict=True):
        if isinstance(matrix, CSCDataset):
            raise DataError(
                f"a matrix of {name!r} is csc, by genes: single cells cannot be read from it. Write it by "
                "cells once: adata = adata.to_memory(); adata.X = adata.X.tocsr(); adata.write_h5ad(...)"
            )
        same = var.index.equals(genes)
        positions.append(None if same else var.index.get_indexer(genes))
    if len(matrices) == 1 and positions[0] is None:
        return matrices[0]
    return Stacked(matrices, positions)
