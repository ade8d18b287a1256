"""What cells themselves show of genes, beside what a model decodes."""

import numpy as np
from anndata import AnnData
from scipy import sparse, stats

from latentcell.model._cells import match_genes
from latentcell.model._generative import AbstractGenerator

from ._describe import row_blocks
from ._places import TARGET_SUM, depths_of


def log_moments(adata: AnnData, model: AbstractGenerator, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (n - 1) over cells of the model's genes, in the order of the model (genes).

    Counts are taken as log(1 + counts per 10,000 of the model's genes, or of the size factor), other data in
    their unit.
    """
    cells = adata[np.sort(rows)]  # in the order of the file, which backed data need
    depths, genes = depths_of(cells, model), match_genes(adata.var_names, model.spec.genes)
    n_genes = len(model.spec.genes)
    total, squares = np.zeros(n_genes), np.zeros(n_genes)
    for at, block in row_blocks(cells, model.spec.layer):
        values = block if genes is None else block[:, genes]
        values = values.toarray() if sparse.issparse(values) else values
        if depths is not None:
            values = np.log1p(TARGET_SUM * values / np.maximum(depths[at], 1e-12)[:, None])
        total += values.sum(axis=0)
        squares += np.square(values).sum(axis=0)
    n = len(rows)
    mean = total / n
    return mean, np.maximum(squares - n * mean**2, 0.0) / max(n - 1, 1)


def observed_change(
    adata: AnnData, model: AbstractGenerator, start: np.ndarray, end: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How far genes differ between cells, end less start, and Welch's p (genes, in the order of the model).

    A gene that is the same in all of these cells has p = 1.
    """
    (m0, v0), (m1, v1) = (log_moments(adata, model, rows) for rows in (start, end))
    with np.errstate(divide="ignore", invalid="ignore"):
        test = stats.ttest_ind_from_stats(
            m1, np.sqrt(v1), len(end), m0, np.sqrt(v0), len(start), equal_var=False
        )
    p = np.where(np.isnan(test.pvalue), np.where(m0 == m1, 1.0, 0.0), test.pvalue)
    return m1 - m0, p
