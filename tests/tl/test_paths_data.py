"""Paths between real cells: interferon genes rise, and the graph keeps to where cells are."""

import numpy as np
import pytest
import scanpy as sc

import latentcell as lc

pytestmark = pytest.mark.data

RISING = ["ISG15", "IFIT1", "IFIT3", "ISG20", "MX1", "IFITM3", "RSAD2", "CXCL10"]


@pytest.fixture(scope="module")
def kang(data_dir):
    adata = sc.read_h5ad(data_dir / "kang_ifnb.h5ad")
    sc.pp.filter_genes(adata, min_cells=3)
    sc.pp.highly_variable_genes(adata, n_top_genes=1000, flavor="seurat_v3")
    adata = adata[:, adata.var["highly_variable"]].copy()
    adata.obs["state"] = adata.obs["cell_type"].astype(str) + " " + adata.obs["condition"].astype(str)
    lc.model.VAE.setup_anndata(adata)
    model = lc.model.VAE(adata, n_latent=10, gene_likelihood="nb")
    model.train(60, accelerator="cpu", enable_progress_bar=False)
    adata.obsm["X_vae"] = model.get_latent_representation()
    return adata, model


@pytest.fixture(scope="module", params=["line", "graph"])
def path_of_cd14(kang, request):
    adata, model = kang
    path = lc.tl.interpolate(
        adata,
        model,
        "CD14 Mono ctrl",
        "CD14 Mono stim",
        20,
        groupby="state",
        along=request.param,
        use_rep="X_vae",
    )
    return request.param, path


def test_half_of_the_interferon_genes_rise_on_every_step(path_of_cd14, request):
    along, path = path_of_cd14
    if along == "graph":
        # not strict: seeds 0 to 3 gave medians of 1, 1, .97, .92, and rounding moves seed 0 from 1 to .97
        request.applymarker(pytest.mark.xfail(reason="from cell to cell some steps go back", strict=False))
    log = np.log1p(1e4 * path.X / path.obs["library_size"].to_numpy()[:, None])
    rises = (np.diff(log, axis=0) > 0).mean(axis=0)
    assert np.median(rises[path.var_names.get_indexer(RISING)]) == 1


def test_interferon_genes_rise_from_control_to_stimulated(path_of_cd14):
    _, path = path_of_cd14
    table = lc.tl.rank_switches(path)
    assert set(RISING) <= set(table.index)
    assert table.loc[RISING, "monotony"].min() > 0.9
    assert (table.loc[RISING, "direction"] == "up").all()
    assert set(RISING) & set(path.var.nsmallest(20, "rank").index)


def test_the_graph_from_b_to_t_cells_keeps_within_the_distance_of_cells(kang):
    adata, model = kang
    far = {}
    for along in ("line", "graph"):
        path = lc.tl.interpolate(
            adata,
            model,
            "B ctrl",
            "CD4 Naive T ctrl",
            20,
            groupby="state",
            along=along,
            use_rep="X_vae",
        )
        far[along] = path.obs["distance"].max() / path.uns["latentcell"]["cell_distance"]
    assert far["graph"] <= 1, far
    assert far["graph"] < far["line"], far
