import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import latentcell as lc
from latentcell._errors import DataError

LOOSE = {"min_genes": 1, "max_genes": None, "max_pct_mt": None, "min_cells": 1, "n_top_genes": None}


@pytest.fixture
def raw(rng):
    """120 cells x 300 genes, 10 of them mitochondrial."""
    X = rng.poisson(rng.gamma(0.5, 2, size=300), size=(120, 300)).astype(np.float32)
    genes = [f"MT-{j}" for j in range(10)] + [f"g{j}" for j in range(290)]
    obs = pd.DataFrame({"batch": np.repeat(["a", "b"], 60)}, index=[f"c{i}" for i in range(120)])
    adata = ad.AnnData(sparse.csr_matrix(X), obs=obs, var=pd.DataFrame(index=genes))
    adata.obsm["xy"] = rng.normal(size=(120, 2))
    adata.varm["w"] = rng.normal(size=(300, 2))
    return adata


@pytest.mark.data
def test_pbmc3k_is_that_of_the_tutorials(data_dir):
    adata = ad.read_h5ad(data_dir / "pbmc3k_raw.h5ad")
    processed = ad.read_h5ad(data_dir / "pbmc3k_processed.h5ad")
    counts = adata.X.copy()
    genes = adata.var_names.copy()
    cells = adata.obs_names.copy()
    assert lc.pp.seurat(adata) is None

    assert adata.shape == (2638, 13714)
    assert list(adata.obs_names) == list(processed.obs_names)
    assert list(adata.var_names) == list(processed.raw.var_names)
    np.testing.assert_allclose(adata.X.toarray(), processed.raw.X.toarray(), rtol=1e-6)
    np.testing.assert_allclose(adata.obs["pct_counts_mt"] / 100, processed.obs["percent_mito"], rtol=1e-6)

    kept = counts[cells.get_indexer(adata.obs_names)][:, genes.get_indexer(adata.var_names)]
    assert (kept != adata.layers["counts"]).nnz == 0

    # the ten most variable genes that Seurat's tutorial prints
    top = adata.var["highly_variable_rank"].nsmallest(10).index
    assert list(top) == ["PPBP", "LYZ", "S100A9", "IGLL5", "GNLY", "FTL", "PF4", "FTH1", "GNG11", "S100A8"]
    assert adata.var["highly_variable"].sum() == 2000


@pytest.mark.data
@pytest.mark.parametrize("min_genes", [200, 201])
def test_pbmc3k_at_least_and_more_than_200_genes_are_the_same(data_dir, min_genes):
    adata = ad.read_h5ad(data_dir / "pbmc3k_raw.h5ad")
    lc.pp.seurat(adata, min_genes=min_genes, n_top_genes=None)
    assert adata.shape == (2638, 13714)


def test_filters_by_their_definition(raw):
    X = raw.X.toarray()
    genes = (X > 0).sum(axis=0) >= 30
    X = X[:, genes]
    mt = np.array([name.startswith("MT-") for name in raw.var_names[genes]])
    n_genes, pct = (X > 0).sum(axis=1), 100 * X[:, mt].sum(axis=1) / X.sum(axis=1)
    low, high, top = (
        int(np.quantile(n_genes, 0.2)),
        int(np.quantile(n_genes, 0.9)),
        float(np.quantile(pct, 0.8)),
    )
    cells = (n_genes >= low) & (n_genes < high) & (pct < top)

    result = lc.pp.seurat(
        raw, min_cells=30, min_genes=low, max_genes=high, max_pct_mt=top, n_top_genes=None, copy=True
    )
    assert list(result.obs_names) == list(raw.obs_names[cells])
    assert list(result.var_names) == list(raw.var_names[genes])
    np.testing.assert_array_equal(result.layers["counts"].toarray(), X[cells])
    np.testing.assert_array_equal(result.obs["n_genes_by_counts"], n_genes[cells])
    np.testing.assert_allclose(result.obs["total_counts"], X.sum(axis=1)[cells])
    np.testing.assert_allclose(result.obs["pct_counts_mt"], pct[cells])
    np.testing.assert_array_equal(result.var["mt"], mt)
    np.testing.assert_array_equal(result.var["n_cells"], (raw.X.toarray() > 0).sum(axis=0)[genes])


def test_quality_measures_are_scanpys(raw):
    result = lc.pp.seurat(raw, **LOOSE, copy=True)
    reference = ad.AnnData(result.layers["counts"], obs=result.obs[[]], var=result.var[["mt"]])
    sc.pp.calculate_qc_metrics(reference, qc_vars=["mt"], percent_top=None, log1p=False, inplace=True)
    for name in ("n_genes_by_counts", "total_counts", "pct_counts_mt"):
        np.testing.assert_allclose(result.obs[name], reference.obs[name], rtol=1e-6)


def test_X_is_log1p_of_counts_per_target(raw):
    result = lc.pp.seurat(raw, **LOOSE, target_sum=500, copy=True)
    counts = result.layers["counts"].toarray()
    np.testing.assert_allclose(
        result.X.toarray(), np.log1p(500 * counts / counts.sum(1, keepdims=True)), rtol=1e-5
    )
    assert sparse.issparse(result.X)
    assert sparse.issparse(result.layers["counts"])
    assert result.X.dtype == np.float32
    assert result.layers["counts"].dtype == raw.X.dtype


def test_variable_genes_are_scanpys_on_the_counts(raw):
    result = lc.pp.seurat(raw, max_pct_mt=None, min_genes=1, n_top_genes=40, copy=True)
    reference = sc.pp.highly_variable_genes(
        ad.AnnData(result.layers["counts"], var=pd.DataFrame(index=result.var_names)),
        flavor="seurat_v3",
        n_top_genes=40,
        inplace=False,
    )
    np.testing.assert_array_equal(result.var["highly_variable"], reference["highly_variable"])


def test_scale_goes_into_a_layer(raw):
    result = lc.pp.seurat(raw, **LOOSE, scale=True, max_value=2, copy=True)
    X = result.X.toarray()
    z = (X - X.mean(axis=0)) / X.std(axis=0, ddof=1)
    assert np.abs(z).max() > 2
    np.testing.assert_allclose(result.layers["scaled"], np.clip(z, -2, 2), atol=2e-4)
    assert result.layers["scaled"].dtype == np.float32
    assert "scaled" not in lc.pp.seurat(raw, **LOOSE, copy=True).layers


def test_subset_keeps_the_variable_genes_as_normalised_over_all(raw):
    arguments = {"max_pct_mt": None, "min_genes": 1, "n_top_genes": 40, "copy": True}
    whole, part = lc.pp.seurat(raw, **arguments), lc.pp.seurat(raw, **arguments, subset=True, scale=True)
    assert part.n_vars == 40
    assert part.layers["scaled"].shape == part.shape
    np.testing.assert_array_equal(part.X.toarray(), whole[:, whole.var["highly_variable"]].X.toarray())


@pytest.mark.parametrize(
    "to_format", [np.asarray, sparse.csc_matrix, sparse.csr_array, lambda X: X.astype(np.int32)]
)
def test_every_format_gives_the_same(raw, to_format):
    expected = lc.pp.seurat(raw, **LOOSE, copy=True)
    raw.X = to_format(raw.X.toarray())
    lc.pp.seurat(raw, **LOOSE)
    assert raw.layers["counts"].format == "csr"
    np.testing.assert_allclose(raw.X.toarray(), expected.X.toarray(), rtol=1e-6)


def test_in_place_equals_copy_and_keeps_other_slots(raw):
    raw.layers["other"] = raw.X.copy()
    raw.raw = raw
    arguments = {"min_genes": 100, "max_pct_mt": None, "n_top_genes": 20, "min_cells": 20}
    untouched = raw.copy()
    result = lc.pp.seurat(raw, **arguments, copy=True)
    assert raw.shape == untouched.shape == (120, 300)
    assert (raw.X != untouched.X).nnz == 0
    assert list(raw.obs) == ["batch"]
    assert "counts" not in raw.layers

    same = raw
    assert lc.pp.seurat(raw, **arguments) is None
    assert same is raw
    assert raw.shape == result.shape != untouched.shape
    pd.testing.assert_frame_equal(raw.obs, result.obs)
    pd.testing.assert_frame_equal(raw.var, result.var)
    assert (raw.X != result.X).nnz == 0
    np.testing.assert_array_equal(raw.obsm["xy"], untouched[raw.obs_names].obsm["xy"])
    np.testing.assert_array_equal(raw.varm["w"], untouched[:, raw.var_names].varm["w"])
    assert raw.raw.shape == (raw.n_obs, 300)
    assert not raw.is_view


def test_counts_and_X_share_no_memory(raw):
    lc.pp.seurat(raw, **LOOSE)
    assert not np.shares_memory(raw.X.data, raw.layers["counts"].data)


def test_stored_zeros_are_no_genes(raw):
    expected = lc.pp.seurat(raw, **LOOSE, copy=True)
    X = raw.X.tocoo()
    rows, cols = np.nonzero(raw.X.toarray() == 0)
    raw.X = sparse.csr_matrix(
        (
            np.concatenate([X.data, np.zeros(50, dtype=np.float32)]),
            (np.concatenate([X.row, rows[:50]]), np.concatenate([X.col, cols[:50]])),
        ),
        shape=X.shape,
    )
    lc.pp.seurat(raw, **LOOSE)
    np.testing.assert_array_equal(raw.obs["n_genes_by_counts"], expected.obs["n_genes_by_counts"])


def test_cells_without_counts_are_filtered_not_refused(raw):
    X = raw.X.toarray()
    X[3] = 0
    raw.X = sparse.csr_matrix(X)
    lc.pp.seurat(raw, **LOOSE)
    assert "c3" not in raw.obs_names
    assert raw.n_obs == 119


def test_a_view_is_refused_in_place_and_accepted_for_a_copy(raw):
    with pytest.raises(DataError, match="view of another AnnData.*copy=True"):
        lc.pp.seurat(raw[:60], **LOOSE)
    assert lc.pp.seurat(raw[:60], **LOOSE, copy=True).n_obs == 60


def test_backed_is_refused(raw, tmp_path):
    raw.write_h5ad(tmp_path / "raw.h5ad")
    backed = ad.read_h5ad(tmp_path / "raw.h5ad", backed="r")
    with pytest.raises(DataError, match="adata.to_memory"):
        lc.pp.seurat(backed)
    backed.file.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"min_genes": 250, "max_pct_mt": None},
            "of 120 cells, 0 have at least min_genes=250 genes, 120 have fewer",
        ),
        ({"max_pct_mt": 1e-9, "min_genes": 1}, "0 have less than max_pct_mt=1e-09 % mitochondrial counts"),
        ({"min_cells": 121}, "none has counts in min_cells=121 cells"),
        ({"mt_prefix": "mt-"}, "No gene name begins with mt_prefix='mt-'.*max_pct_mt=None"),
        (
            {"n_top_genes": 2000, "max_pct_mt": None, "min_genes": 1},
            "n_top_genes=2000, but only .* genes passed",
        ),
        ({"min_genes": 0}, "min_genes=0 must be at least 1"),
        ({"max_genes": 200}, "max_genes=200 must be above min_genes=200"),
        ({"target_sum": 0}, "target_sum=0 must be above 0"),
        ({"max_value": -1}, "max_value=-1 must be above 0"),
        ({"n_top_genes": 0}, "n_top_genes=0 must be at least 1"),
        ({"subset": True, "n_top_genes": None}, "subset=True keeps the highly variable genes"),
    ],
)
def test_bad_arguments_change_nothing(raw, arguments, message):
    before = raw.copy()
    with pytest.raises(DataError, match=message):
        lc.pp.seurat(raw, **arguments)
    assert raw.shape == before.shape
    assert (raw.X != before.X).nnz == 0
    assert list(raw.obs) == list(before.obs)


def test_a_second_run_is_refused_since_X_is_no_longer_counts(raw):
    lc.pp.seurat(raw, **LOOSE)
    with pytest.raises(DataError, match="X holds fractional values where counts are needed: cell 'c0'"):
        lc.pp.seurat(raw, **LOOSE)


def test_variance_that_cannot_be_fitted_is_a_data_error(raw):
    tiny = ad.AnnData(
        sparse.csr_matrix(np.eye(4, dtype=np.float32) * 3), var=pd.DataFrame(index=list("abcd"))
    )
    before = tiny.X.copy()
    with pytest.raises(DataError, match="could not be fitted.*n_top_genes=None"):
        lc.pp.seurat(tiny, **{**LOOSE, "n_top_genes": 2})
    assert (tiny.X != before).nnz == 0
