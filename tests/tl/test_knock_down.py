"""Genes held at zero at the input: the numbers against loops, and markers against genes of the same level."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

import latentcell as lc
from latentcell._errors import DataError

N_MARKERS = 3
"""Of each group: few, so that a cell's code rests on each."""


def make_cells(n: int = 120, seed: int = 0) -> ad.AnnData:
    """Overdispersed counts of three groups with three markers each, and 60 genes that say nothing."""
    rng = np.random.default_rng(seed)
    group = np.repeat(["a", "b", "c"], n // 3)
    level = np.concatenate([np.full(3 * N_MARKERS, 0.1), np.geomspace(0.1, 5, 60)])
    mean = np.tile(level, (n, 1))
    for at, name in enumerate("abc"):
        mean[np.ix_(group == name, range(N_MARKERS * at, N_MARKERS * (at + 1)))] = 3.0
    adata = ad.AnnData(rng.poisson(mean * rng.gamma(2.0, 0.5, mean.shape)).astype(np.float32))
    adata.obs_names, adata.var_names = [f"cell{i}" for i in range(n)], [f"g{j}" for j in range(len(level))]
    adata.obs["group"] = pd.Categorical(group)
    return adata


@pytest.fixture(scope="module")
def groups():
    adata = make_cells(300)
    lc.model.VAE.setup_anndata(adata)
    model = lc.model.VAE(adata, n_latent=4, hidden=(32,), gene_likelihood="nb")
    model.train(100, enable_progress_bar=False)
    return adata, model


def test_a_marker_moves_its_cells_more_than_genes_of_the_same_level(groups):
    adata, model = groups
    markers = [f"g{j}" for j in range(3 * N_MARKERS)]
    table = lc.tl.knock_down(adata, model, [*markers, "g62"], groupby="group")
    assert table["gene"].tolist() == np.repeat([*markers, "g62"], 3).tolist()
    assert table["group"].tolist() == ["a", "b", "c"] * 10
    assert (abs(table["mean"] - table["mean_null"]) < 0.3 * table["mean"].max()).all()
    own = np.array(["a", "b", "c"])[np.arange(9) // N_MARKERS]
    of_markers = table[table["gene"] != "g62"]
    mine = of_markers[of_markers["group"].to_numpy() == np.repeat(own, 3)]
    # of 20 others at most one moves the cells as far, in most groups none
    assert (mine["p"] < 0.1).all(), mine["p"]
    assert (mine["p"] == 1 / 21).mean() > 0.7, mine["p"]
    assert (mine["shift"] > 1.5 * mine["shift_null"]).all(), mine[["shift", "shift_null"]]
    assert (mine["kept"] < mine["kept_null"]).all()
    assert (mine["share_of_way"] > mine["way_null"] + 0.05).all(), mine[["share_of_way", "way_null"]]
    assert (mine["towards"] != mine["group"]).all()
    # g62 is one of many of its kind
    assert (table["p"][table["gene"] == "g62"] > 0.2).any()
    # all markers at once: more than each alone
    every = lc.tl.knock_down(adata, model, {"a": markers[:3]}, groupby="group").set_index("group").loc["a"]
    assert every["shift"] > 1.5 * mine["shift"][mine["group"] == "a"].max()
    assert every["own_after"] < every["own_before"] - 0.3
    assert every["p"] == 1 / 21


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_the_numbers_are_those_of_a_loop(groups, form):
    adata, model = groups
    adata = adata.copy()
    adata.X = form(adata.X)
    before = adata.X.copy()
    table = lc.tl.knock_down(adata, model, {"pair": ["g2", "g40"]}, groupby="group", n_null=2, n_neighbors=7)
    assert abs(adata.X - before).sum() == 0
    row = table.set_index("group").loc["b"]
    dense = np.asarray(adata.X.toarray() if sparse.issparse(adata.X) else adata.X)
    changed = adata.copy()
    changed.X = dense.copy()
    changed.X[:, [2, 40]] = 0
    z, w = (model.get_latent_representation(x).astype(float) for x in (adata, changed))
    codes = adata.obs["group"].to_numpy()
    mine = np.flatnonzero(codes == "b")
    shift = np.linalg.norm(w - z, axis=1) / np.sqrt(z.var(axis=0).sum())
    assert row["shift"] == pytest.approx(shift[mine].mean(), rel=1e-4)
    kept, own, was = [], [], []
    for i in mine:
        others = np.delete(np.arange(300), i)
        search = NearestNeighbors(n_neighbors=7).fit(z[others])
        near = [others[search.kneighbors(x[[i]], return_distance=False)[0]] for x in (z, w)]
        kept.append(len(set(near[0]) & set(near[1])) / 7)
        was.append((codes[near[0]] == "b").mean())
        own.append((codes[near[1]] == "b").mean())
    assert row["kept"] == pytest.approx(np.mean(kept), abs=1e-3)
    assert row["own_before"] == pytest.approx(np.mean(was), abs=1e-3)
    assert row["own_after"] == pytest.approx(np.mean(own), abs=1e-3)
    assert row["expressed"] == pytest.approx((dense[mine][:, [2, 40]] > 0).any(axis=1).mean())
    log = np.log1p(1e4 * dense / dense.sum(axis=1, keepdims=True))
    assert row["mean"] == pytest.approx(log[mine][:, [2, 40]].mean(), rel=1e-4)
    way = {other: z[codes == other].mean(0) - z[mine].mean(0) for other in "ac"}
    moved = (w - z)[mine].mean(0)
    shares = {other: d @ moved / (d @ d) for other, d in way.items()}
    assert row["towards"] == max(shares, key=shares.get)
    assert row["share_of_way"] == pytest.approx(max(shares.values()), rel=1e-3)


def test_the_null_genes_are_those_of_the_nearest_mean_in_the_group(groups):
    adata, model = groups
    table = lc.tl.knock_down(adata, model, "g0", groupby="group", n_null=3).set_index("group")
    log = np.log1p(1e4 * adata.X / adata.X.sum(axis=1, keepdims=True))
    z = model.get_latent_representation().astype(float)
    for group in "ab":
        mine = np.flatnonzero(adata.obs["group"] == group)
        means = log[mine].mean(axis=0)
        nulls = 1 + np.argsort(abs(means[1:] - means[0]))[:3]
        assert table.loc[group, "mean_null"] == pytest.approx(means[nulls].mean(), rel=1e-4)
        shifts = []
        for null in nulls:
            changed = adata.copy()
            changed.X[:, null] = 0
            moved = model.get_latent_representation(changed).astype(float) - z
            shifts.append((np.linalg.norm(moved, axis=1) / np.sqrt(z.var(axis=0).sum()))[mine].mean())
        assert table.loc[group, "shift_null"] == pytest.approx(np.mean(shifts), rel=1e-3)
        assert table.loc[group, "shift_null_high"] == pytest.approx(np.quantile(shifts, 0.95), rel=1e-3)
        assert table.loc[group, "p"] == (1 + sum(s >= table.loc[group, "shift"] for s in shifts)) / 4


def test_a_gene_that_no_cell_has_moves_nothing(groups):
    adata, model = groups
    adata = adata.copy()
    adata.X[:, 5] = 0
    row = lc.tl.knock_down(adata, model, "g5", n_null=2).iloc[0]
    assert row["group"] == "all"
    assert row["shift"] == 0
    assert row["kept"] == 1
    assert row["expressed"] == 0
    assert row["p"] == 1
    assert row["towards"] is None
    assert np.isnan(row["own_before"])


def test_layers_keys_and_order_of_genes_are_the_models():
    adata = make_cells()
    adata.layers["counts"] = sparse.csr_matrix(adata.X)
    adata.X = np.full(adata.shape, np.nan, dtype=np.float32)
    adata.obs["batch"], adata.obs["size"] = np.array(["x", "y"])[np.arange(120) % 2], 100.0
    lc.model.CVAE.setup_anndata(
        adata, layer="counts", labels_key="group", batch_key="batch", size_factor_key="size"
    )
    model = lc.model.CVAE(adata, n_latent=3, hidden=(8,))
    model.train(3, enable_progress_bar=False)
    table = lc.tl.knock_down(adata, model, ["g1", "g30"], groupby="group", n_null=4)
    turned = adata[:, ::-1].copy()
    pd.testing.assert_frame_equal(
        lc.tl.knock_down(turned, model, ["g1", "g30"], groupby="group", n_null=4), table
    )
    assert (table["shift"] > 0).all()
    sampled = lc.tl.knock_down(adata, model, ["g1"], groupby="group", n_null=4, max_cells=10)
    assert sampled["n_cells"].tolist() == [10, 10, 10]
    pd.testing.assert_frame_equal(
        sampled, lc.tl.knock_down(adata, model, ["g1"], groupby="group", n_null=4, max_cells=10)
    )


def test_backed_cells_and_cells_without_a_group(groups, tmp_path):
    adata, model = groups
    adata = adata.copy()
    adata.obs.loc[adata.obs_names[250:], "group"] = np.nan
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    tables = [
        lc.tl.knock_down(cells, model, "g7", groupby="group", n_null=2, max_cells=60)
        for cells in (adata, backed)
    ]
    pd.testing.assert_frame_equal(*tables)
    assert tables[0]["n_cells"].tolist() == [60, 60, 50]


def test_scaled_values_have_no_zero(groups):
    adata = make_cells()
    adata.X = (adata.X - adata.X.mean(axis=0)) / adata.X.std(axis=0)
    lowest = float(adata.X[:, 0].min())
    lc.model.AE.setup_anndata(adata)
    model = lc.model.AE(adata, n_latent=3, hidden=(8,))
    model.train(2, enable_progress_bar=False)
    with pytest.raises(DataError, match="values below 0 .*give with value="):
        lc.tl.knock_down(adata, model, "g0")
    row = lc.tl.knock_down(adata, model, "g0", value=lowest, n_null=3).iloc[0]
    changed = adata.copy()
    changed.X[:, 0] = lowest
    z, w = (model.get_latent_representation(x).astype(float) for x in (adata, changed))
    expected = np.linalg.norm(w - z, axis=1).mean() / np.sqrt(z.var(axis=0).sum())
    assert row["shift"] == pytest.approx(expected, rel=1e-4)


def test_bad_arguments_are_named(groups):
    adata, model = groups
    for arguments, message in (
        ({"genes": "none"}, "the model does not have these genes: \\['none'\\]"),
        ({"genes": []}, "name at least one gene"),
        ({"genes": {"empty": []}}, "name at least one gene"),
        ({"groupby": "none"}, "groupby='none' is not a column"),
        ({"n_null": 69}, "n_null=69, sets of 1: .* has 68 to compare with"),
        ({"n_null": 0}, "n_null must be at least 1"),
        ({"n_neighbors": 300}, "n_neighbors must be below the number of cells"),
        ({"max_cells": 0}, "max_cells must be at least 1"),
    ):
        with pytest.raises(DataError, match=message):
            lc.tl.knock_down(adata, model, **({"genes": "g0"} | arguments))
    lc.model.GAN.setup_anndata(adata)
    with pytest.raises(DataError, match="a GAN has no encoder"):
        lc.tl.knock_down(adata, lc.model.GAN(adata, n_latent=2, hidden=(4,)), "g0")
    alone = adata.copy()
    alone.X[0] = 0
    alone.X[0, 0] = 3
    with pytest.raises(DataError, match="cell 'cell0' has no counts left without 'g0'"):
        lc.tl.knock_down(alone, model, "g0", n_null=2)
