"""The table of dimensions, against a slow loop that anyone can read."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score

import latentcell as lc
from latentcell._errors import DataError
from latentcell.tl import _describe


@pytest.fixture
def cells():
    """50 cells, 9 genes, four sparse dimensions, signed codes, three groups and two unlabelled."""
    rng = np.random.default_rng(0)
    group = np.arange(50) % 3
    on = (
        rng.random((50, 4))
        < np.array([[0.9, 0.1, 0.1, 0.5], [0.1, 0.8, 0.1, 0.5], [0.1, 0.1, 0.9, 0.5]])[group]
    )
    codes = np.where(on, rng.gamma(3, 1, (50, 4)), 0.0).astype(np.float32)
    adata = ad.AnnData((codes @ rng.random((4, 9)) + rng.normal(size=(50, 9))).astype(np.float32))
    adata.obs["type"] = pd.Categorical(np.array(["T/a", "B", "NK"])[group])
    adata.obs.loc[adata.obs_names[[4, 31]], "type"] = np.nan
    adata.obsm["X_sparse"] = codes
    signed = codes - 1.3 + 0.01 * rng.normal(size=codes.shape).astype(np.float32)
    adata.obsm["X_signed"] = signed * np.array([1, -1, 1, 1], dtype=np.float32)
    return adata


def slow(adata, key, on):
    """Row by row, group by group."""
    codes = adata.obsm[key].astype(float)
    labels = adata.obs["type"]
    rows = []
    for dim in range(codes.shape[1]):
        z = codes[:, dim]
        shares, areas = {}, {}
        for group in ["B", "NK", "T/a"]:
            shares[group] = on[(labels == group).to_numpy(), dim].mean()
            known = labels.notna().to_numpy()
            areas[group] = roc_auc_score(labels[known] == group, z[known])
        merit = {name: area if codes.min() >= 0 else max(area, 1 - area) for name, area in areas.items()}
        best = max(merit, key=merit.get)
        predicted = LinearRegression().fit(z[:, None], adata.X).predict(z[:, None])
        others = [
            (abs(np.corrcoef(z, codes[:, other])[0, 1]), f"dim_{other}")
            for other in range(codes.shape[1])
            if other != dim
        ]
        rows.append(
            {
                "std": z.std(),
                "active": True,
                "on_fraction": on[:, dim].mean(),
                "best_group": best,
                "auroc": merit[best],
                "direction": "high" if merit[best] == areas[best] else "low",
                "on_group": max(shares, key=shares.get),
                "variance_explained": predicted.var(0).sum() / adata.X.var(0).sum(),
                "redundancy": max(others)[0],
                "redundant_with": max(others)[1],
                **{f"on: {name}": share for name, share in shares.items()},
                **{f"auroc: {name}": area for name, area in areas.items()},
            }
        )
    index = pd.Index([f"dim_{dim}" for dim in range(len(rows))], name="dimension")
    return pd.DataFrame(rows, index=index)


@pytest.mark.parametrize("form", ["dense", "csr", "blocks", "backed"])
@pytest.mark.parametrize("key", ["X_sparse", "X_signed"])
def test_every_column_is_what_a_slow_loop_finds(cells, key, form, tmp_path, monkeypatch):
    codes = cells.obsm[key]
    on = codes != 0
    if key == "X_signed":
        on = np.abs(codes - np.median(codes, axis=0)) > codes.std(axis=0)
    expected = slow(cells, key, on)
    directions = ["high", "high", "high", "high"] if key == "X_sparse" else ["high", "low", "high", "high"]
    assert expected["direction"].tolist() == directions
    if form == "csr":
        cells.X = sparse.csr_matrix(cells.X)
    if form == "blocks":
        monkeypatch.setattr(_describe, "_BLOCK", 70)
    if form == "backed":
        cells.write_h5ad(tmp_path / "cells.h5ad")
        cells = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    found = lc.tl.describe_latent(cells, key, "type")
    pd.testing.assert_frame_equal(found, expected, rtol=1e-5, check_dtype=False)


def test_hard_codes_say_where_a_dimension_is_on(cells):
    cells.obsm["sparse_hard"] = np.where(cells.obsm["X_sparse"] > 3, cells.obsm["X_sparse"], 0.0)
    found = lc.tl.describe_latent(cells, "X_sparse", "type")
    np.testing.assert_allclose(found["on_fraction"], (cells.obsm["X_sparse"] > 3).mean(0))


def test_threshold_widens_what_counts_as_on(cells):
    codes = cells.obsm["X_signed"]
    found = lc.tl.describe_latent(cells, "X_signed", "type", threshold=0.5)
    distance = np.abs(codes - np.median(codes, axis=0)) / codes.std(axis=0)
    np.testing.assert_allclose(found["on_fraction"], (distance > 0.5).mean(0))


def test_low_values_mark_a_group_of_signed_codes_only(cells):
    labels = cells.obs["type"].astype(object)
    cells.obsm["X_one"] = np.where(labels == "B", -2.0, 1.0)[:, None] + np.linspace(0, 0.1, 50)[:, None]
    row = lc.tl.describe_latent(cells, "X_one", "type").iloc[0]
    assert (row["best_group"], row["auroc"], row["direction"]) == ("B", 1.0, "low")
    assert (row["redundancy"], row["redundant_with"]) == (0, "")
    cells.obsm["X_one"] += 2
    row = lc.tl.describe_latent(cells, "X_one", "type").iloc[0]
    assert row["best_group"] != "B"
    assert row["direction"] == "high"
    assert row["auroc: B"] == 0


def table_of(key, **groups):
    parts = {
        name: np.rec.fromarrays([values[i] for values in groups.values()], names=list(groups))
        for i, name in enumerate(("names", "scores"))
    }
    return {"params": {"groupby": key}, **parts}


def test_genes_are_those_of_the_table_of_these_codes(cells):
    genes = np.array(["g1", "g2", "g3"], dtype=object)
    cells.uns["mine"] = table_of(
        "X_sparse",
        dim_1=(genes, np.array([3.0, 2.0, -1.0])),
        dim_1_down=(genes[::-1], np.array([1.0, -2.0, -3.0])),
        dim_3=(genes, np.array([3.0, 2.0, 1.0])),
    )
    found = lc.tl.describe_latent(cells, "X_sparse", "type", genes_key="mine", n_genes=2)
    assert found["genes_up"].tolist() == ["", "g1, g2", "", "g1, g2"]
    assert found["genes_down"].tolist() == ["", "g3", "", ""]
    assert "genes_up" not in lc.tl.describe_latent(cells, "X_sparse", "type")
    cells.uns["rank_latent_genes"] = cells.uns["mine"]
    assert lc.tl.describe_latent(cells, "X_sparse", "type")["genes_up"].notna().all()
    assert "genes_up" not in lc.tl.describe_latent(cells, "X_signed", "type")


def test_genes_of_other_codes_are_refused_where_they_were_asked_for(cells):
    cells.uns["rank_latent_genes"] = table_of("X_sparse", dim_0=(np.array(["g1"]), np.array([1.0])))
    with pytest.raises(DataError, match="is of 'X_sparse', not of 'X_signed'.*use_rep='X_signed'"):
        lc.tl.describe_latent(cells, "X_signed", "type", genes_key="rank_latent_genes")
    with pytest.raises(DataError, match=r"genes_key='mine' is not in adata\.uns.*key_added='mine'"):
        lc.tl.describe_latent(cells, "X_sparse", "type", genes_key="mine")


@pytest.mark.parametrize("key", ["X_sparse", "X_signed"])
def test_a_dead_dimension_has_no_cells_groups_genes_or_partners(cells, key):
    """It is a faint copy of a live one, so that everything scale-free would take it for alive."""
    genes = np.array(["g1", "g2"], dtype=object), np.array([2.0, 1.0])
    cells.uns["rank_latent_genes"] = table_of(key, **{f"dim_{dim}": genes for dim in range(5)})
    alone = lc.tl.describe_latent(cells, key, "type")
    codes = cells.obsm[key]
    faint = 0.05 * codes[:, 0] / codes[:, 0].std()
    cells.obsm[key] = np.column_stack([codes, faint - (0.1 if key == "X_sparse" else 0.0)])
    found = lc.tl.describe_latent(cells, key, "type")
    pd.testing.assert_frame_equal(found.iloc[:4], alone)
    row = found.loc["dim_4"]
    assert row["std"] == pytest.approx(0.05, rel=1e-5)
    assert not row["active"]
    assert (row[["on_fraction", "on: B", "on: NK", "on: T/a"]] == 0).all()
    assert (row[["best_group", "direction", "on_group", "genes_up", "redundant_with"]] == "").all()
    numbers = ["auroc", "variance_explained", "redundancy", "auroc: B", "auroc: NK", "auroc: T/a"]
    assert row[numbers].isna().all()


def test_dimensions_that_a_vae_leaves_at_its_prior_are_dead():
    """As beta rises a VAE collapses: at 500, of three programmes nothing is in the codes."""
    adata = lc.datasets.simulate_groups(n_rare=0, seed=0)
    lc.tl.vae(adata, n_latent=4, hidden=(16,), beta=500.0, max_epochs=30, progress=False)
    codes = adata.obsm["X_vae"]
    assert 0 < codes.std(axis=0).max() < 0.1
    found = lc.tl.describe_latent(adata, "X_vae", "group")
    assert not found["active"].any()
    assert (found["on_fraction"] == 0).all()
    assert (found["best_group"] == "").all()
    adata.obsm["X_mine"] = codes
    unknown = lc.tl.describe_latent(adata, "X_mine", "group")
    assert unknown["active"].any()


def test_a_dimension_that_tells_no_group_names_none(cells):
    """Two values, as often in each group; and with a threshold that no cell reaches."""
    labels = cells.obs["type"].astype(object)
    pattern = np.full(50, 1e-3)
    for group in ("B", "NK", "T/a"):
        rows = np.flatnonzero(labels == group)
        pattern[rows[: len(rows) // 2 * 2]] = np.tile([-1.0, 1.0], len(rows) // 2)
    cells.obsm["X_one"] = pattern[:, None]
    row = lc.tl.describe_latent(cells, "X_one", "type", threshold=9.0).iloc[0]
    assert row["active"]
    assert (row["auroc"], row["best_group"], row["direction"]) == (0.5, "", "")
    assert (row["on_fraction"], row["on_group"], row["redundancy"], row["redundant_with"]) == (0, "", 0, "")


def test_constant_matrices_are_not_explained(cells):
    cells.layers["flat"] = np.ones(cells.shape)
    flat = lc.tl.describe_latent(cells, "X_sparse", "type", layer="flat")
    assert (flat["variance_explained"] == 0).all()


def test_nothing_is_written(cells):
    before = cells.copy()
    lc.tl.describe_latent(cells, "X_sparse", "type")
    assert (set(cells.uns), set(cells.obsm), set(cells.varm)) == (set(), set(before.obsm), set())
    np.testing.assert_array_equal(cells.obsm["X_sparse"], before.obsm["X_sparse"])


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        (("X_none", "type"), {}, "'X_none' is not in adata.obsm"),
        (("X_sparse", "none"), {}, "groupby='none' is not a column"),
        (("X_sparse", "one"), {}, "fewer than two groups"),
        (("X_sparse", "type"), {"layer": "none"}, "layers has no 'none'"),
        (("X_sparse", "type"), {"layer": "nan"}, "NaN or infinite, first in gene '5'"),
        (("X_nan", "type"), {}, "NaN or infinite values, first in row 7"),
        (("X_signed", "type"), {"threshold": 0}, "threshold must be positive"),
        (("X_sparse", "type"), {"n_genes": 0}, "n_genes must be at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(cells, args, kwargs, message):
    cells.obs["one"] = "same"
    cells.layers["nan"] = np.where(np.arange(9) == 5, np.nan, cells.X)
    cells.obsm["X_nan"] = np.where(np.arange(50)[:, None] == 7, np.nan, cells.obsm["X_sparse"])
    with pytest.raises(DataError, match=message):
        lc.tl.describe_latent(cells, *args, **kwargs)
