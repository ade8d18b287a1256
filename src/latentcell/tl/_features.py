"""Features of cells that may be read from codes: categories, numbers in ``obs``, genes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from latentcell._checks import matrix_kind
from latentcell._errors import DataError
from latentcell.pp._check import expression

from ._describe import row_blocks
from ._places import TARGET_SUM

LEAST_CELLS = 5
"""Fewest cells of a category: one in each fold of the cross-validation. Numbers need twice as many."""


@dataclass(frozen=True)
class Features:
    """Features that are known of the same cells.

    Attributes
    ----------
    kind
        ``"category"``, ``"number"`` or ``"gene"``.
    by
        What the user asked for (features).
    names
        Their names (features): ``"cell_type=B"`` of a category, else `by`.
    known
        Which cells have them (cells).
    values
        Of the cells that have them (known cells x features); 1 in cells of the category, else 0.
    """

    kind: str
    by: list[str]
    names: list[str]
    known: np.ndarray
    values: np.ndarray


def features_of(adata: AnnData, by: str | Sequence[str], layer: str | None) -> list[Features]:
    """Look up columns of ``obs`` and genes; refuse what nothing can follow.

    Parameters
    ----------
    adata
        Cells.
    by
        Columns of ``obs``, names of genes, or both.
    layer
        ``layers`` key of the genes' values; None is ``X``.
    """
    asked = [by] if isinstance(by, str) else list(by)
    if not asked:
        raise DataError("by is empty; name a column of adata.obs or a gene")
    for name in asked:
        if asked.count(name) > 1:
            raise DataError(f"by names {name!r} more than once")
        if name in adata.obs and name in adata.var_names:
            raise DataError(f"by: {name!r} is both a column of adata.obs and a gene; rename the column")
        if name not in adata.obs and name not in adata.var_names:
            raise DataError(
                f"by: {name!r} is neither a column of adata.obs ({', '.join(map(str, adata.obs))}) nor a gene"
            )
    found = [_column(name, adata.obs[name]) for name in asked if name in adata.obs]
    genes = [name for name in asked if name not in adata.obs]
    if genes:
        values = _expression_of(adata, genes, layer)
        found.append(Features("gene", genes, genes, np.ones(adata.n_obs, dtype=bool), values))
    for features in found:
        _check(features)
    return found


def _column(name: str, column: pd.Series) -> Features:
    known = column.notna().to_numpy()
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        values = column[known].to_numpy(dtype=float)
        if not np.isfinite(values).all():
            raise DataError(
                f"by: obs[{name!r}] holds infinite values; leave those cells out, or make them NaN"
            )
        return Features("number", [name], [name], known, values[:, None])
    codes, levels = pd.factorize(column[known].astype(object), sort=True)
    names = [f"{name}={level}" for level in levels]
    if len(names) < 2:
        raise DataError(f"by: obs[{name!r}] has fewer than two categories; there is nothing to tell apart")
    if len(set(names)) < len(names):
        raise DataError(f"by: obs[{name!r}] has categories that read the same; rename or join them")
    return Features("category", [name] * len(names), names, known, np.eye(len(names))[codes])


def _check(features: Features) -> None:
    """Refuse features of too few cells, and those that are the same everywhere."""
    name, n_cells = features.by[0], int(features.known.sum())
    if features.kind == "category":
        if len(features.names) < 2:
            raise DataError(
                f"by: obs[{name!r}] has fewer than two categories; there is nothing to tell apart"
            )
        sizes = features.values.sum(axis=0)
        if sizes.min() < LEAST_CELLS:
            rarest = features.names[int(sizes.argmin())]
            raise DataError(
                f"by: {rarest!r} has {int(sizes.min())} cells, {LEAST_CELLS} are needed; make them NaN, or "
                "join categories"
            )
        return
    if n_cells < 2 * LEAST_CELLS:
        raise DataError(f"by: {name!r} is known of {n_cells} cells, {2 * LEAST_CELLS} are needed")
    same = np.ptp(features.values, axis=0) == 0
    if same.any():
        raise DataError(
            f"by: {features.names[int(same.argmax())]!r} has the same value in all cells; leave it out"
        )


def _expression_of(adata: AnnData, genes: list[str], layer: str | None) -> np.ndarray:
    """Values of genes (cells x genes); of counts log(1 + counts per 10,000)."""
    if not adata.var_names.is_unique:
        raise DataError("gene names are not unique; first call adata.var_names_make_unique()")
    matrix, where = expression(adata, layer)
    counts = matrix_kind(matrix, list(adata.obs_names), list(adata.var_names), where=where) == "counts"
    at = adata.var_names.get_indexer(pd.Index(genes))
    values = np.empty((adata.n_obs, len(genes)))
    for rows, block in row_blocks(adata, layer):
        own = block[:, at]
        values[rows] = own.toarray() if sparse.issparse(own) else own
        if counts:
            total = np.asarray(block.sum(axis=1)).reshape(-1, 1)
            values[rows] = np.log1p(TARGET_SUM * values[rows] / np.where(total > 0, total, 1.0))
    return values
