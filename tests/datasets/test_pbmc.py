import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import latentcell as lc
from latentcell._checks import matrix_kind
from latentcell._errors import DataError


def test_pbmc68k_is_the_bundled_raw_with_labels():
    adata = lc.datasets.pbmc68k()
    bundled = sc.datasets.pbmc68k_reduced()
    assert adata.shape == (700, 765)
    assert sparse.issparse(adata.X)
    assert adata.X.dtype == np.float32
    assert (adata.X != bundled.raw.X).nnz == 0
    assert matrix_kind(adata.X) == "non-negative"
    assert list(adata.var_names) == list(bundled.raw.var_names)
    assert list(adata.obs["cell_type"]) == list(bundled.obs["bulk_labels"])
    assert adata.obs["cell_type"].nunique() == 10
    assert list(adata.obs["louvain"]) == list(bundled.obs["louvain"])
    assert "bulk_labels" not in adata.obs
    assert not adata.uns


def test_pbmc68k_is_new_every_time():
    lc.datasets.pbmc68k().X.data[:] = 0
    assert lc.datasets.pbmc68k().X.nnz
    assert lc.datasets.pbmc68k().X.max() > 1


@pytest.mark.data
def test_pbmc3k_counts_with_labels(data_dir):
    before = sc.settings.datasetdir
    adata = lc.datasets.pbmc3k()
    assert adata.shape == (2700, 32738)
    lc.pp.check_counts(adata)
    processed = ad.read_h5ad(data_dir / "pbmc3k_processed.h5ad")
    labelled = adata.obs["cell_type"].notna()
    assert labelled.sum() == 2638
    assert list(adata.obs["cell_type"][labelled]) == list(processed.obs["louvain"])
    assert set(adata.obs_names[labelled]) == set(processed.obs_names)
    assert sc.settings.datasetdir == before


@pytest.mark.data
def test_pbmc3k_seurat_clusters(data_dir):
    adata = lc.datasets.pbmc3k()
    table = pd.read_csv(data_dir / "pbmc3k_seurat9.csv", index_col="barcode")["seurat_cluster"]
    assert adata.obs["seurat_cluster"].nunique() == 9
    assert adata.obs["seurat_cluster"].isna().sum() == 62
    assert (adata.obs.loc[table.index, "seurat_cluster"] == table).all()
    # the two annotations of the same cells agree on the B cells and the monocytes
    shared = pd.crosstab(adata.obs["cell_type"], adata.obs["seurat_cluster"], normalize="index")
    assert shared.loc["B cells", "B"] > 0.95
    assert shared.loc["CD14+ Monocytes", "CD14+ Mono"] > 0.9


@pytest.mark.data
def test_pbmc3k_processed(data_dir):
    adata = lc.datasets.pbmc3k(processed=True)
    assert adata.shape == (2638, 1838)
    assert list(adata.obs["cell_type"]) == list(adata.obs["louvain"])
    assert adata.obs["seurat_cluster"].notna().all()


@pytest.mark.data
def test_pbmc3k_without_labels(data_dir):
    assert not list(lc.datasets.pbmc3k(labels=False).obs)


def test_pbmc3k_is_read_from_scanpys_folder_otherwise(tmp_path, monkeypatch):
    """Without LATENTCELL_DATA, or where a file is missing there, scanpy reads its own folder."""
    stored = ad.AnnData(np.ones((3, 2), dtype=np.float32), obs=pd.DataFrame(index=list("abc")))
    monkeypatch.setattr(sc.datasets, "pbmc3k", stored.copy)
    labels = stored[:2].copy()
    labels.obs["louvain"] = pd.Categorical(["B", "T"])
    monkeypatch.setattr(sc.datasets, "pbmc3k_processed", labels.copy)
    for folder in (None, str(tmp_path)):
        if folder is None:
            monkeypatch.delenv("LATENTCELL_DATA", raising=False)
        else:
            monkeypatch.setenv("LATENTCELL_DATA", folder)
        adata = lc.datasets.pbmc3k()
        assert list(adata.obs) == ["cell_type"]
        assert list(adata.obs["cell_type"][:2]) == ["B", "T"]
        assert pd.isna(adata.obs["cell_type"].iloc[2])


def test_a_folder_that_is_not_there_is_an_error(monkeypatch):
    monkeypatch.setenv("LATENTCELL_DATA", "/no/such/folder")
    with pytest.raises(DataError, match="LATENTCELL_DATA='/no/such/folder' is not a folder"):
        lc.datasets.pbmc3k()
