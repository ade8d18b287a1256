"""Cells x genes to be drawn as a matrix: which genes, which cells, in which order, and their values."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData

from latentcell._checks import check_numbers, usable
from latentcell._errors import DataError

_TARGET_SUM = 1e4

_FEWEST_CELLS = 10
"""Groups are not thinned below this."""

_RANKINGS = (("highly_variable_rank", True), ("dispersions_norm", False), ("variances_norm", False))
"""Columns of ``var`` that rank highly variable genes, and whether low is first."""


def chosen_genes(adata: AnnData, genes: Sequence[str] | None, max_genes: int) -> np.ndarray:
    """Positions of the genes to draw."""
    if genes is not None:
        genes = [genes] if isinstance(genes, str) else list(genes)
        positions = adata.var_names.get_indexer(pd.Index(genes)) if adata.var_names.is_unique else None
        if positions is None:
            raise DataError("adata.var_names are not unique; call adata.var_names_make_unique() first.")
        unknown = [gene for gene, position in zip(genes, positions, strict=True) if position < 0]
        if unknown:
            raise DataError(
                f"genes: {len(unknown)} of them are not in adata.var_names: "
                f"{', '.join(map(repr, unknown[:12]))}. "
                f"The names there look like: {', '.join(map(repr, adata.var_names[:3]))}."
            )
        if not genes:
            raise DataError("genes: name at least one gene, or leave it out for the highly variable ones.")
        return positions
    chosen = np.arange(adata.n_vars)
    if "highly_variable" in adata.var:
        chosen = np.flatnonzero(adata.var["highly_variable"].to_numpy(dtype=bool))
    if len(chosen) > max_genes:
        for column, ascending in _RANKINGS:
            if column in adata.var:
                ranks = adata.var[column].iloc[chosen].to_numpy(dtype=float)
                ranks = np.where(np.isnan(ranks), np.inf, ranks if ascending else -ranks)
                chosen = np.sort(chosen[np.argsort(ranks, kind="stable")[:max_genes]])
                break
        chosen = chosen[:max_genes]
    if not len(chosen):
        raise DataError('adata.var["highly_variable"] marks no gene; name some with genes=.')
    return chosen


def chosen_rows(codes: np.ndarray, max_cells: int, seed: int) -> np.ndarray:
    """Cells to draw, ordered by group and within it as they are in the data; missing groups last."""
    groups = [np.flatnonzero(codes == code) for code in [*range(codes.max(initial=-1) + 1), -1]]
    if len(codes) > max_cells:
        rng = np.random.default_rng(seed)
        kept = [
            min(len(group), max(_FEWEST_CELLS, round(len(group) * max_cells / len(codes))))
            for group in groups
        ]
        groups = [np.sort(rng.choice(group, n, replace=False)) for group, n in zip(groups, kept, strict=True)]
    return np.concatenate(groups)


def dense_values(adata: AnnData, rows: np.ndarray, columns: np.ndarray, layer: str | None) -> np.ndarray:
    """Drawn cells x drawn genes. They are read in the order of the file, which backed data need."""
    rows_in_file, row_places = np.unique(rows, return_inverse=True)
    columns_in_file, column_places = np.unique(columns, return_inverse=True)
    shown = adata[rows_in_file, columns_in_file]
    if adata.isbacked:
        shown = shown.to_memory()
    values = shown.X if layer is None else shown.layers[layer]
    if values is None:
        raise DataError("adata.X is empty; name a layer.")
    check_numbers(values, layer or "X")
    values = np.asarray(values.toarray() if hasattr(values, "toarray") else values, dtype=float)
    values = values[np.ix_(row_places, column_places)]
    if not usable(values).all():
        gene = adata.var_names[columns[np.flatnonzero(~usable(values).all(axis=0))[0]]]
        raise DataError(f"{layer or 'X'} is NaN or infinite, first in gene {gene!r}.")
    return values


def decoded_values(
    adata: AnnData, rows: np.ndarray, columns: np.ndarray, layer: str | None = None
) -> np.ndarray:
    """Expression of decoded cells x drawn genes: of counts log(1 + counts per 10,000), else as it is."""
    values = dense_values(adata, rows, columns, layer)
    if "library_size" not in adata.obs:
        return values
    size = adata.obs["library_size"].to_numpy(dtype=float)[rows, None]
    return np.log1p(_TARGET_SUM * values / size)


def order_by_group(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Order of genes by the group whose mean stands out most (in standard deviations of the gene)."""
    groups = np.unique(codes[codes >= 0])
    if len(groups) < 2:
        return np.arange(values.shape[1])
    means = np.stack([values[codes == group].mean(axis=0) for group in groups])
    return np.lexsort((-means.max(axis=0) / (values.std(axis=0) + 1e-12), means.argmax(axis=0)))
