import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import latentcell as lc
from latentcell._errors import DataError

FAST = {"perplexity": 10, "resolutions": [0.5, 1.0]}


@pytest.fixture
def adata():
    adata = lc.datasets.simulate_groups(n_cells=20, n_rare=0)
    adata.obsm["X_good"] = adata.X[:, :300]
    adata.obsm["X_bad"] = adata.X[:, 300:310]
    return adata


def test_every_number_is_that_of_the_metric(adata):
    table = lc.tl.compare(adata, ["X_good", "X_bad"], "group", seeds=[3, 4], **FAST)
    assert list(table) == ["embedding", "run", "n_dims", "protocol", "seed", "metric", "value"]
    for key, n_dims in (("X_good", 300), ("X_bad", 10)):
        z, labels = adata.obsm[key], adata.obs["group"]
        for seed in (3, 4):
            expected = {
                "kmeans_tsne": lc.metrics.kmeans_tsne(z, labels, perplexity=10, seed=seed).iloc[0],
                "leiden": lc.metrics.leiden(z, labels, resolutions=[0.5, 1.0], seed=seed)
                .query("best")
                .iloc[0],
            }
            for protocol, scores in expected.items():
                rows = table[
                    (table["embedding"] == key) & (table["seed"] == seed) & (table["protocol"] == protocol)
                ]
                assert (rows["n_dims"] == n_dims).all()
                found = rows.set_index("metric")["value"].to_dict()
                assert found == pytest.approx(scores.drop("best", errors="ignore").to_dict())
    assert len(table) == 2 * 2 * (5 + 6)
    assert not table.duplicated(["embedding", "run", "protocol", "seed", "metric"]).any()
    assert table["value"].dtype == float


def test_the_better_embedding_wins(adata):
    table = lc.tl.compare(adata, ["X_good", "X_bad"], "group", seeds=[0], **FAST)
    wide = table.pivot_table(index="embedding", columns=["protocol", "metric"], values="value")
    for protocol in ("kmeans_tsne", "leiden"):
        assert wide.loc["X_good", (protocol, "ari")] == 1
        assert wide.loc["X_bad", (protocol, "ari")] < 0.3


def test_names_arrays_and_several_runs(adata):
    keys = {"array": np.asarray(adata.obsm["X_bad"]), "one": "X_good", "two runs": ["X_good", "X_bad"]}
    table = lc.tl.compare(adata, keys, "group", protocol="leiden", seeds=[0], resolutions=[1.0])
    assert table.groupby("embedding")["run"].unique().map(list).to_dict() == {
        "array": [0],
        "one": [0],
        "two runs": [0, 1],
    }
    value = table[table["metric"] == "nmi"].set_index(["embedding", "run"])["value"]
    assert value["one", 0] == value["two runs", 0]
    assert value["array", 0] == value["two runs", 1]


def test_cells_without_a_label_are_left_out_and_counted(adata):
    adata.obs["known"] = adata.obs["group"].where(np.arange(60) % 4 > 0)
    table = lc.tl.compare(adata, "X_good", "known", protocol="leiden", seeds=[0], resolutions=[1.0])
    kept = adata[adata.obs["known"].notna()]
    expected = lc.metrics.leiden(kept.obsm["X_good"], kept.obs["known"], resolutions=[1.0]).iloc[0]
    assert table.set_index("metric")["value"]["nmi"] == pytest.approx(expected["nmi"])
    assert table.attrs == {"groupby": "known", "n_cells": 45, "n_unlabelled": 15}


def test_nothing_is_written(adata):
    obs, slots = adata.obs.copy(), (list(adata.obsm), list(adata.uns), list(adata.obsp))
    lc.tl.compare(adata, "X_good", "group", seeds=[0], **FAST)
    pd.testing.assert_frame_equal(adata.obs, obs)
    assert (list(adata.obsm), list(adata.uns), list(adata.obsp)) == slots


def test_generators_are_used_up_only_once(adata):
    table = lc.tl.compare(
        adata,
        ["X_good", "X_bad"],
        "group",
        protocol=["leiden"],
        seeds=iter([0, 1]),
        resolutions=iter([0.5, 1.0]),
    )
    assert table.groupby("embedding")["seed"].unique().map(list).to_dict() == {
        "X_bad": [0, 1],
        "X_good": [0, 1],
    }


@pytest.mark.parametrize(
    ("keys", "groupby", "arguments", "message"),
    [
        (["X_none"], "group", {}, r"'X_none' is not in adata.obsm \(there: X_good, X_bad\)"),
        ([], "group", {}, "keys is empty"),
        ({"a": []}, "group", {}, "embedding 'a' has no keys"),
        ({"a": np.ones((5, 2))}, "group", {}, r"'a' has the shape \(5, 2\); it must be 60 x dimensions"),
        ("X_good", "type", {}, r"groupby='type' is not a column of adata.obs \(there: group, parent_group\)"),
        ("X_good", "group", {"protocol": "louvain"}, "protocol='louvain' must be"),
        ("X_good", "group", {"seeds": []}, "must not be empty"),
        ("X_good", "group", {"seeds": 0}, r"pass seeds=\[0\]"),
        ("X_good", "group", {"seeds": [-1]}, "seeds must be whole numbers from 0"),
        ({"a": np.full((60, 2), "b")}, "group", {}, "'a' holds <U1; it must hold numbers"),
    ],
)
def test_bad_input(adata, keys, groupby, arguments, message):
    with pytest.raises(DataError, match=message):
        lc.tl.compare(adata, keys, groupby, **arguments)


def test_one_group_is_refused(adata):
    adata.obs["one"] = "a"
    with pytest.raises(DataError, match=r"adata.obs\['one'\] has fewer than two groups"):
        lc.tl.compare(adata, "X_good", "one")


def test_tl_is_lazy():
    assert set(dir(lc.tl)) >= {"ae", "compare", "vae", "vsc"}
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = lc.tl.nothing


def test_a_broken_embedding_is_named_with_its_cell(adata):
    adata.obs_names = [f"cell {i}" for i in range(adata.n_obs)]
    adata.obs["known"] = adata.obs["group"].astype(object)
    adata.obs.loc["cell 3", "known"] = None  # does not shift what is named
    adata.obsm["X_broken"] = adata.obsm["X_good"].copy()
    adata.obsm["X_broken"][7, 1] = np.nan
    with pytest.raises(
        DataError, match=r"'X_broken' has values that are not finite, in 1 cells \(first: 'cell 7'\)"
    ):
        lc.tl.compare(adata, ["X_good", "X_broken"], "known", seeds=[0], **FAST)


def test_sparse_embeddings_and_tables_are_embeddings_too(adata):
    z = np.asarray(adata.obsm["X_good"])
    keys = {"plain": z, "sparse": sparse.csr_matrix(z), "table": pd.DataFrame(z, index=adata.obs_names)}
    table = lc.tl.compare(adata, keys, "group", protocol="leiden", seeds=[0], resolutions=[1.0])
    wide = table.pivot_table(index="metric", columns="embedding", values="value")
    for kind in ("sparse", "table"):
        np.testing.assert_array_equal(wide[kind], wide["plain"])
