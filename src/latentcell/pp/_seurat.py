"""The preprocessing of Seurat's PBMC3k tutorial: filters, log-normalisation, variable genes."""

from typing import Any

import numpy as np
import scanpy as sc
from anndata import AnnData
from scipy import sparse

from latentcell import _keys
from latentcell._checks import check_matrix
from latentcell._errors import DataError
from latentcell.pp._canonical import canonical_csr
from latentcell.pp._check import expression, refuse_backed, refuse_view


def seurat(
    adata: AnnData,
    *,
    min_genes: int = 200,
    max_genes: int | None = 2500,
    max_pct_mt: float | None = 5.0,
    min_cells: int = 3,
    target_sum: float = 1e4,
    n_top_genes: int | None = 2000,
    mt_prefix: str = "MT-",
    scale: bool = False,
    max_value: float = 10.0,
    subset: bool = False,
    copy: bool = False,
) -> AnnData | None:
    """Preprocess raw counts as Seurat's PBMC3k tutorial does.

    In this order: keep genes seen in at least `min_cells` of all cells; keep cells with at least `min_genes`
    and fewer than `max_genes` of those genes and less than `max_pct_mt` percent of their counts in
    mitochondrial genes; LogNormalize (divide by the cell's total, times `target_sum`, log1p); mark the
    `n_top_genes` most variable genes by the variance-stabilising transformation ("vst") of the counts.
    On 10x Genomics' PBMC3k this gives the 2,638 cells and 13,714 genes of the tutorial.

    If anything is wrong with the data, `adata` is left as it was.

    Parameters
    ----------
    adata
        Cells x genes with raw counts in ``X``, in memory.
    min_genes
        Keep cells with at least so many genes; 1 removes only the cells without counts.
    max_genes
        Keep cells with fewer genes than this; ``None``: no limit.
    max_pct_mt
        Keep cells with less than so many percent mitochondrial counts; ``None``: no limit.
    min_cells
        Keep genes with counts in at least so many cells.
    target_sum
        Counts that every cell has after normalisation, before the logarithm.
    n_top_genes
        Number of highly variable genes; ``None``: do not select any.
    mt_prefix
        How the names of mitochondrial genes begin: ``"MT-"`` in human, ``"mt-"`` in mouse.
    scale
        Also write z-scores of each gene into ``layers["scaled"]``. This layer is dense.
    max_value
        Clip z-scores to ``[-max_value, max_value]`` (scanpy's convention; Seurat clips the upper side only).
    subset
        Keep only the highly variable genes.
    copy
        Return a new object and leave `adata` alone.

    Returns
    -------
    ``None`` with `adata` changed in place, or the new AnnData if `copy`. Its slots:

    ``X`` : sparse csr, float32, cells x genes
        log1p of counts per `target_sum`.
    ``layers["counts"]`` : sparse csr, cells x genes
        The raw counts (replaced if there was such a layer).
    ``layers["scaled"]`` : dense float32, cells x genes
        z-scores of ``X``, clipped; only if `scale`.
    ``obs["n_genes_by_counts"]``, ``obs["total_counts"]``, ``obs["pct_counts_mt"]``
        Genes with counts, counts, percent mitochondrial counts, over the genes that were kept.
    ``var["n_cells"]``, ``var["mt"]``
        Cells with counts of the gene, before cells were filtered; whether it is mitochondrial.
    ``var["highly_variable"]``, ``var["highly_variable_rank"]``, ``var["means"]``, ``var["variances"]``, \
``var["variances_norm"]``, ``uns["hvg"]``
        As :func:`scanpy.pp.highly_variable_genes` names them; not if `n_top_genes` is ``None``.
    ``uns["log1p"]``
        Says to scanpy that ``X`` is logarithmised.

    Raises
    ------
    DataError
        If ``X`` does not hold counts, if `adata` is a view or backed, if no gene name begins with
        `mt_prefix`, if a filter leaves nothing, or if a parameter makes no sense.

    References
    ----------
    Stuart et al. (2019), Comprehensive integration of single-cell data, Cell 177,
    https://doi.org/10.1016/j.cell.2019.05.031

    Examples
    --------
    >>> import anndata as ad, numpy as np, pandas as pd
    >>> import latentcell as lc
    >>> rng = np.random.default_rng(0)
    >>> genes = pd.DataFrame(index=["MT-CO1", *(f"gene{i}" for i in range(499))])
    >>> adata = ad.AnnData(rng.poisson(rng.gamma(1, 2, size=500), size=(100, 500)), var=genes)
    >>> lc.pp.seurat(adata, n_top_genes=50)
    >>> adata.n_obs, int(adata.var["highly_variable"].sum())
    (100, 50)
    >>> np.expm1(adata.X.toarray()).sum(axis=1)[:2].round().tolist()
    [10000.0, 10000.0]
    """
    _check_parameters(
        min_genes=min_genes,
        max_genes=max_genes,
        max_pct_mt=max_pct_mt,
        min_cells=min_cells,
        target_sum=target_sum,
        n_top_genes=n_top_genes,
        max_value=max_value,
        subset=subset,
    )
    refuse_backed(adata, "seurat")
    if not copy:
        refuse_view(adata, "seurat")
    matrix, where = expression(adata, None)
    check_matrix(matrix, adata.obs_names, adata.var_names, kind="counts", where=where, allow_empty=True)

    counts = sparse.csr_matrix(canonical_csr(matrix))  # scanpy 1.11 cannot normalise sparse arrays
    n_cells = np.bincount(counts.indices, minlength=counts.shape[1])
    genes = n_cells >= min_cells
    if not adata.n_obs or not adata.n_vars:
        raise DataError(f"adata is empty: {adata.n_obs} cells x {adata.n_vars} genes.")
    if not genes.any():
        raise DataError(
            f"No gene is left: none has counts in min_cells={min_cells} cells (the best: {n_cells.max()}). "
            "Lower min_cells."
        )
    counts = counts[:, genes]
    mt = np.asarray(adata.var_names[genes].str.startswith(mt_prefix), dtype=bool)
    if max_pct_mt is not None and not mt.any():
        raise DataError(
            f"No gene name begins with mt_prefix={mt_prefix!r}, "
            f"so max_pct_mt={max_pct_mt} cannot be applied. "
            "Pass the prefix of your genes (mouse: 'mt-'), or max_pct_mt=None."
        )
    n_genes = np.diff(counts.indptr)
    total = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    total_mt = np.asarray(counts[:, mt].sum(axis=1, dtype=np.float64)).ravel()
    pct_mt = 100 * np.divide(total_mt, total, out=np.zeros_like(total), where=total > 0)
    cells = _good_cells(n_genes, pct_mt, min_genes, max_genes, max_pct_mt)
    counts = counts[cells]
    if n_top_genes is not None and n_top_genes > counts.shape[1]:
        raise DataError(
            f"n_top_genes={n_top_genes}, but only {counts.shape[1]} genes passed min_cells={min_cells}. "
            f"Pass n_top_genes={counts.shape[1]} or fewer, or None for no selection."
        )

    result = adata[cells, genes].copy()
    result.obs["n_genes_by_counts"] = n_genes[cells]
    result.obs["total_counts"] = total[cells]
    result.obs["pct_counts_mt"] = pct_mt[cells]
    result.var["n_cells"] = n_cells[genes]
    result.var["mt"] = mt
    result.layers[_keys.COUNTS_LAYER] = counts
    result.X = counts.astype(np.float32)
    sc.pp.normalize_total(result, target_sum=target_sum)
    sc.pp.log1p(result)
    if n_top_genes is not None:
        _mark_variable_genes(result, n_top_genes)
    if subset:
        result = result[:, result.var["highly_variable"].to_numpy()].copy()
    if scale:
        result.layers[_keys.SCALED_LAYER] = sc.pp.scale(result.X.toarray(), max_value=max_value)
    if copy:
        return result
    AnnData.__init__(adata, result)  # in place, all at once: nothing has changed if anything above failed
    return None


def _check_parameters(**given: Any) -> None:
    for name, low in {"min_genes": 1, "min_cells": 0, "n_top_genes": 1}.items():
        if given[name] is not None and given[name] < low:
            raise DataError(f"{name}={given[name]} must be at least {low}.")
    for name in ("max_pct_mt", "target_sum", "max_value"):
        if given[name] is not None and not given[name] > 0:
            raise DataError(f"{name}={given[name]} must be above 0.")
    if given["max_genes"] is not None and given["max_genes"] <= given["min_genes"]:
        raise DataError(f"max_genes={given['max_genes']} must be above min_genes={given['min_genes']}.")
    if given["subset"] and given["n_top_genes"] is None:
        raise DataError("subset=True keeps the highly variable genes: pass n_top_genes too.")


def _good_cells(
    n_genes: np.ndarray, pct_mt: np.ndarray, min_genes: int, max_genes: int | None, max_pct_mt: float | None
) -> np.ndarray:
    """Mark the cells that pass every filter; if none does, say what each filter removed."""
    passes = {f"at least min_genes={min_genes} genes": n_genes >= min_genes}
    if max_genes is not None:
        passes[f"fewer than max_genes={max_genes} genes"] = n_genes < max_genes
    if max_pct_mt is not None:
        passes[f"less than max_pct_mt={max_pct_mt} % mitochondrial counts"] = pct_mt < max_pct_mt
    cells = np.logical_and.reduce(list(passes.values()))
    if not cells.any():
        each = ", ".join(f"{np.sum(good)} have {what}" for what, good in passes.items())
        raise DataError(
            f"No cell is left: of {len(cells)} cells, {each}, and none has all of it. Loosen that filter."
        )
    return cells


def _mark_variable_genes(adata: AnnData, n_top_genes: int) -> None:
    try:
        sc.pp.highly_variable_genes(
            adata, layer=_keys.COUNTS_LAYER, flavor="seurat_v3", n_top_genes=n_top_genes, check_values=False
        )
    except ValueError as error:
        raise DataError(
            "The variance of the genes could not be fitted against their means (loess: "
            f"{error}). There may be too few cells or genes: raise min_cells, or pass n_top_genes=None."
        ) from error
