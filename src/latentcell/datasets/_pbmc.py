"""Peripheral blood mononuclear cells of 10x Genomics, through scanpy."""

import os
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from scipy import sparse

from latentcell._errors import DataError

_FOLDER = "LATENTCELL_DATA"
"""Environment variable that names a folder of data sets."""


def pbmc68k() -> AnnData:
    """700 cells of the 68k PBMC data set with cell types; bundled with scanpy, needs no network.

    These are log-normalised values: the counts are not bundled, so methods for counts do not apply.

    Returns
    -------
    AnnData of 700 cells x 765 genes with

    ``X`` : sparse csr float32
        log-normalised expression, 0 or above (scanpy keeps it in ``raw`` of ``pbmc68k_reduced``).
    ``obs["cell_type"]`` : categorical
        Ten cell types, named by correlation with sorted populations.
    ``obs["n_genes"]``, ``obs["percent_mito"]``, ``obs["n_counts"]``, ``obs["S_score"]``, \
``obs["G2M_score"]``, ``obs["phase"]``, ``obs["louvain"]``
        As scanpy bundles them: quality measures of the full data, cell cycle, clusters.

    References
    ----------
    Zheng et al. (2017), Massively parallel digital transcriptional profiling of single cells, Nat Commun 8,
    https://doi.org/10.1038/ncomms14049

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.pbmc68k()
    >>> adata.shape, int(adata.obs["cell_type"].nunique())
    ((700, 765), 10)
    """
    bundled = sc.datasets.pbmc68k_reduced()
    X = sparse.csr_matrix(bundled.raw.X, dtype=np.float32, copy=True)
    obs = bundled.obs.rename(columns={"bulk_labels": "cell_type"})
    return AnnData(X, obs=obs, var=pd.DataFrame(index=bundled.raw.var_names))


def pbmc3k(*, processed: bool = False, labels: bool = True) -> AnnData:
    """2,700 PBMCs of a healthy donor, as raw counts or as processed in scanpy's tutorial.

    Each file is looked for in the folder that the environment variable ``LATENTCELL_DATA`` names, then in
    scanpy's ``settings.datasetdir``, to which scanpy downloads what is missing. Files are only read, and
    scanpy's settings stay as they are.

    Parameters
    ----------
    processed
        Give the processed data of scanpy's tutorial (2,638 cells x 1,838 genes, scaled) instead of the
        counts.
    labels
        Join the labels of the 2,638 cells that pass the tutorial's filters.

    Returns
    -------
    AnnData of 2,700 cells x 32,738 genes (or what `processed` says) with

    ``X`` : sparse csr float32
        Raw counts (UMI); scaled values, dense, if `processed`.
    ``obs["cell_type"]`` : categorical
        Eight cell types: the named Louvain clusters of scanpy's tutorial; missing for the other 62 cells.
        Only with `labels`.
    ``obs["seurat_cluster"]`` : categorical
        Nine cell types: the named clusters of Seurat's tutorial; missing for the other 62 cells. Only with
        `labels`, and only if the folder ``LATENTCELL_DATA`` has ``pbmc3k_seurat9.csv`` (columns ``barcode``,
        ``seurat_cluster``): scanpy does not provide these.

    Raises
    ------
    DataError
        If ``LATENTCELL_DATA`` is set to something that is not a folder.

    References
    ----------
    Zheng et al. (2017), Massively parallel digital transcriptional profiling of single cells, Nat Commun 8,
    https://doi.org/10.1038/ncomms14049

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.pbmc3k()  # doctest: +SKIP
    >>> lc.pp.seurat(adata)  # doctest: +SKIP
    >>> adata.shape  # doctest: +SKIP
    (2638, 13714)
    """
    if processed:
        adata = _read_processed()
    else:
        stored = _stored("pbmc3k_raw.h5ad")
        adata = ad.read_h5ad(stored) if stored else sc.datasets.pbmc3k()
    if labels:
        annotated = adata.obs if processed else _read_processed().obs
        adata.obs["cell_type"] = annotated["louvain"].reindex(adata.obs_names)
        stored = _stored("pbmc3k_seurat9.csv")
        if stored:
            clusters = pd.read_csv(stored, index_col="barcode")["seurat_cluster"].astype("category")
            adata.obs["seurat_cluster"] = clusters.reindex(adata.obs_names)
    return adata


def _stored(name: str) -> Path | None:
    """Path of a file in the user's data folder, or ``None``."""
    folder = os.environ.get(_FOLDER)
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise DataError(f"{_FOLDER}={folder!r} is not a folder. Set it to one, or unset it.")
    path = Path(folder) / name
    return path if path.is_file() else None


def _read_processed() -> AnnData:
    stored = _stored("pbmc3k_processed.h5ad")
    return ad.read_h5ad(stored) if stored else sc.datasets.pbmc3k_processed()
