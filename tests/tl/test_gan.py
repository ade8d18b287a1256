"""One call to a GAN: what is written, which class it is, and that its cells go on into scanpy."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import latentcell as lc
from latentcell._errors import DataError

QUICK = {"max_epochs": 2, "progress": False, "n_latent": 3, "hidden": (8,), "critic_hidden": (8,)}
KINDS = {"gan": (None, lc.model.GAN), "conditionalgan": ("label", lc.model.ConditionalGAN)}


@pytest.fixture
def cells() -> ad.AnnData:
    """60 cells x 24 genes: X as log1p, counts as a layer, 10 variable genes, two batches, three labels."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(1.0, 3.0, size=(3, 24))[np.arange(60) % 3]).astype(np.float32)
    counts[:, :12] += 1
    adata = ad.AnnData(np.log1p(counts), layers={"counts": sparse.csr_matrix(counts)})
    adata.var["highly_variable"] = np.arange(24) % 12 < 5
    adata.obs["batch"] = pd.Categorical(np.array(["a", "b"])[np.arange(60) % 2])
    adata.obs["label"] = pd.Categorical(np.array(["T", "B", "NK"])[np.arange(60) % 3])
    return adata


@pytest.mark.parametrize("name", KINDS)
def test_codes_and_record_are_written_and_nothing_else(cells, name):
    before = cells.copy()
    labels_key, Model = KINDS[name]
    model = lc.tl.gan(cells, labels_key, layer="counts", batch_key="batch", seed=3, **QUICK)
    assert type(model) is Model
    assert set(cells.obsm) == {f"X_{name}"}
    assert set(cells.uns) == {name}
    np.testing.assert_array_equal(cells.X, before.X)
    pd.testing.assert_frame_equal(cells.obs, before.obs)
    codes = cells.obsm[f"X_{name}"]
    assert (codes.shape, codes.dtype) == ((60, 3), np.float32)
    np.testing.assert_array_equal(codes, model.project())
    record = cells.uns[name]
    assert record["model"] == Model.__name__
    assert (record["gene_likelihood"], record["layer"], record["n_genes"]) == ("poisson", "counts", 10)
    assert (record["batch_key"], record.get("labels_key")) == ("batch", labels_key)
    assert record["params"]["seed"] == 3
    for key in ("coverage_train", "lowest_coverage_train", "energy_distance_train", "critic_gap_train"):
        assert record["final"][key] == model.history[key][key].iloc[-1]


def test_the_key_can_be_chosen_and_survives_a_file(cells, tmp_path):
    lc.tl.gan(cells, "label", key_added="X_mine", **QUICK)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    again = ad.read_h5ad(tmp_path / "cells.h5ad")
    np.testing.assert_array_equal(again.obsm["X_mine"], cells.obsm["X_mine"])
    assert again.uns["mine"]["model"] == "ConditionalGAN"
    assert set(again.uns) == {"mine"}


def test_cells_of_labels_fill_up_groups(cells):
    model = lc.tl.gan(cells, "label", mask_var=None, layer="counts", **QUICK)
    few = cells[(cells.obs["label"] != "NK") | (np.arange(60) < 12)].copy()
    both = lc.tl.augment(few, model)
    assert both.obs["label"].value_counts().to_dict() == {"T": 20, "B": 20, "NK": 20}
    assert (both.obs["label"][both.obs["is_generated"]] == "NK").all()
    counts = both[both.obs["is_generated"]].layers["counts"].toarray()
    assert (counts == np.round(counts)).all()


def test_a_column_that_is_not_there_is_named(cells):
    with pytest.raises(DataError, match=r"obs has no 'kind' \(labels_key\)"):
        lc.tl.gan(cells, "kind", **QUICK)
    assert not cells.obsm


def test_the_drawing_shows_generator_and_critic(cells):
    model = lc.tl.gan(cells, "label", **QUICK)
    texts = [text.get_text() for text in lc.pl.architecture(model).texts]
    for part in ("latent", "generator", "critic"):
        assert part in texts
    assert "encoder" not in texts
    assert any("projection on the label" in text.replace("\n", " ") for text in texts)
