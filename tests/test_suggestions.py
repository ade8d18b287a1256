"""A name that is not there: the error names the one that was probably meant."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import latentcell as lc
from latentcell._errors import DataError, nearest


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("cell_typ", "cell_type"),
        ("CellType", "cell_type"),
        ("cell type", "cell_type"),
        ("BATCH", "batch"),
        ("cd3d", "CD3D"),
        ("HLA.DRA", "HLA-DRA"),
        (["zzzz", "bacth"], "batch"),
        (3, 33),
    ],
)
def test_what_is_near(name, found):
    known = ["batch", "cell_type", None, "CD3D", "HLA-DRA", 33]
    assert nearest(name, known) == f" Did you mean {found!r}?"


def test_what_is_not_near():
    assert nearest("quality", ["batch", "cell_type"]) == ""
    assert nearest("batch", []) == ""
    assert nearest("", ["batch"]) == ""
    assert nearest("_", ["batch", "-"]) == ""


def test_of_names_that_differ_in_capitals_the_first_counts():
    assert nearest("ACTB", ["Actb", "actb"]) == " Did you mean 'Actb'?"
    assert nearest("label1", ["label10", "label2", "label_1"]) == " Did you mean 'label_1'?"


@pytest.fixture(scope="module")
def adata():
    rng = np.random.default_rng(0)
    adata = ad.AnnData(rng.poisson(2.0, (60, 12)).astype(np.float32))
    adata.var_names = [f"GENE-{i}" for i in range(11)] + ["CD3D"]
    adata.obs["cell_type"] = pd.Categorical(np.array(["B cells", "NK cells"])[np.arange(60) % 2])
    adata.obs["batch"] = pd.Categorical(np.array(["first", "second"])[np.arange(60) // 30])
    adata.obs["condition"] = pd.Categorical(np.array(["control", "stimulated"])[rng.integers(0, 2, 60)])
    adata.layers["counts"] = adata.X.copy()
    adata.X = np.log1p(adata.X)
    return adata


@pytest.fixture(scope="module")
def model(adata):
    lc.model.CVAE.setup_anndata(adata, layer="counts", batch_key="batch", labels_key="cell_type")
    model = lc.model.CVAE(adata, n_latent=2, hidden=(4,))
    model.train(max_epochs=1, enable_progress_bar=False)
    adata.obsm["X_cvae"] = model.get_latent_representation()
    lc.tl.rank_latent_genes(adata, model)
    lc.tl.latent_directions(adata, model, "condition")
    return model


def new_vae(adata, **arguments):
    lc.model.VAE.setup_anndata(adata, layer="counts")
    return lc.model.VAE(adata, **arguments)


HISTORY = {"elbo_train": pd.DataFrame({"elbo_train": [2.0, 1.0]})}
CALLS = {
    "model: layer": (lambda a, m: lc.model.VAE.setup_anndata(a, layer="count"), "counts"),
    "model: column": (lambda a, m: lc.model.VAE.setup_anndata(a, batch_key="Batch"), "batch"),
    "model: likelihood": (lambda a, m: new_vae(a, gene_likelihood="znb"), "zinb"),
    "model: dispersion": (lambda a, m: new_vae(a, gene_likelihood="nb", dispersion="genes"), "gene"),
    "model: preset": (lambda a, m: lc.model.VAE.from_preset("scVI", new_vae(a).adata), "scvi"),
    "model: label": (lambda a, m: m.generate(3, labels="B cell"), "B cells"),
    "model: labels": (lambda a, m: m.generate(labels={"NK cells": 2, "B-cells": 3}), "B cells"),
    "model: batch": (lambda a, m: m.generate(3, batch="frist"), "first"),
    "model: source": (lambda a, m: m.generate(3, source="mixtur"), "mixture"),
    "model: output": (lambda a, m: m.generate(3, output="means"), "mean"),
    "model: gene": (lambda a, m: m.generate(3, genes=["cd3d"]), "CD3D"),
    "model: decode": (lambda a, m: m.decode(np.zeros((1, 2)), labels="Bcells", batch="first"), "B cells"),
    "model: transform_batch": (lambda a, m: m.get_denoised(transform_batch="secnd"), "second"),
    "model: scale": (lambda a, m: m.get_latent_jacobian(scale="log_1p"), "log1p"),
    "model: groups": (lambda a, m: m.differential_expression(groupby="celltype"), "cell_type"),
    "model: group": (lambda a, m: m.differential_expression(groupby="cell_type", group1="NK"), None),
    "tl: layer": (lambda a, m: lc.tl.vae(a, layer="Counts"), "counts"),
    "tl: column": (lambda a, m: lc.tl.cvae(a, "cell_types"), "cell_type"),
    "tl: mask": (lambda a, m: lc.tl.ae(a, mask_var="highly_variabl"), None),
    "tl: describe": (lambda a, m: lc.tl.describe_latent(a, "x_cvae"), "X_cvae"),
    "tl: describe groups": (lambda a, m: lc.tl.describe_latent(a, "X_cvae", "celltype"), "cell_type"),
    "tl: describe layer": (lambda a, m: lc.tl.describe_latent(a, "X_cvae", layer="coutns"), "counts"),
    "tl: genes of dimensions": (lambda a, m: lc.tl.rank_latent_genes(a, m, direction="dwn"), "down"),
    "tl: compare": (lambda a, m: lc.tl.compare(a, ["X_cvea"], "cell_type"), "X_cvae"),
    "tl: compare groups": (lambda a, m: lc.tl.compare(a, ["X_cvae"], "cell_tpye"), "cell_type"),
    "tl: augment": (lambda a, m: lc.tl.augment(a, m, target={"NKcells": 50}), "NK cells"),
    "tl: direction": (lambda a, m: lc.tl.move_along(a, m, "condition=stimulate"), "condition=stimulated"),
    "tl: interpolate": (
        lambda a, m: lc.tl.interpolate(a, m, "B cells", "NK cells", groupby="celltype"),
        "cell_type",
    ),
    "tl: knock_down": (lambda a, m: lc.tl.knock_down(a, m, "CD3D", groupby="cell-type"), "cell_type"),
    "tl: denoise": (lambda a, m: lc.tl.denoise(a, layer="counts", scale="log1"), "log1p"),
    "tl: report": (lambda a, m: lc.tl.report(a, m, "page.html", groupby="celltype"), "cell_type"),
    "tl: report colours": (lambda a, m: lc.tl.report(a, m, "page.html", color=["batches"]), "batch"),
    "tl: report genes": (lambda a, m: lc.tl.report(a, m, "page.html", genes=["CD3"]), "CD3D"),
    "tl: report basis": (lambda a, m: lc.tl.report(a, m, "page.html", basis="UMAP"), "umap"),
    "pl: basis": (lambda a, m: lc.pl.embedding(a, "X_cave", "cell_type"), "X_cvae"),
    "pl: colour": (lambda a, m: lc.pl.embedding(a, "X_cvae", "Cell type"), "cell_type"),
    "pl: gene": (lambda a, m: lc.pl.embedding(a, "X_cvae", "gene_3"), "GENE-3"),
    "pl: layer": (lambda a, m: lc.pl.embedding(a, "X_cvae", "CD3D", layer="count"), "counts"),
    "pl: groups": (lambda a, m: lc.pl.heatmap(a, "celltypes"), "cell_type"),
    "pl: history": (lambda a, m: lc.pl.history(HISTORY, "ebo"), "elbo"),
    "pl: key": (lambda a, m: lc.pl.latent_genes(a, key="rank_latent_gene"), "rank_latent_genes"),
    "pp: layer": (lambda a, m: lc.pp.check_counts(a, layer="conts"), "counts"),
    "metrics: groups": (lambda a, m: lc.metrics.fidelity(a, a, "celltype"), "cell_type"),
    "metrics: layer": (lambda a, m: lc.metrics.fidelity(a, a, layer="count"), "counts"),
}


@pytest.mark.parametrize("call", CALLS)
def test_errors_ask_what_was_meant(adata, model, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, expected = CALLS[call]
    with pytest.raises(DataError) as caught:
        run(adata.copy(), model)
    said = str(caught.value)
    if expected is None:
        assert "Did you mean" not in said
    else:
        assert said.endswith(f" Did you mean {expected!r}?")
