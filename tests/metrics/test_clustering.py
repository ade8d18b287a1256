import random

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from sklearn import metrics
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

import latentcell as lc
from latentcell._errors import DataError

SCORES = ["nmi", "ari", "homogeneity", "completeness"]


@pytest.fixture
def blobs(rng):
    labels = np.repeat(["a", "b", "c", "d"], [40, 30, 20, 30])
    centres = {"a": (0, 0, 0), "b": (3, 0, 0), "c": (0, 3, 0), "d": (9, 9, 9)}
    return np.array([centres[label] for label in labels]) + rng.normal(size=(120, 3)), labels


# --- clustering


def test_closed_form():
    """Two labels of two cells each; one of them is split: I = log 2, H(C) = 3/2 log 2."""
    scores = lc.metrics.clustering(["T", "T", "B", "B"], [0, 0, 1, 2])
    assert scores["nmi"] == pytest.approx(1 / np.sqrt(1.5))
    assert scores["homogeneity"] == pytest.approx(1)
    assert scores["completeness"] == pytest.approx(2 / 3)
    assert scores["ari"] == pytest.approx(4 / 7)
    arithmetic = lc.metrics.clustering(["T", "T", "B", "B"], [0, 0, 1, 2], average_method="arithmetic")
    assert arithmetic["nmi"] == pytest.approx(2 / 2.5)


def test_is_sklearns(rng):
    labels, clusters = rng.integers(4, size=200), rng.integers(6, size=200)
    scores = lc.metrics.clustering(labels, clusters)
    assert list(scores) == SCORES
    assert scores["nmi"] == metrics.normalized_mutual_info_score(labels, clusters, average_method="geometric")
    assert scores["ari"] == metrics.adjusted_rand_score(labels, clusters)
    assert scores["homogeneity"] == metrics.homogeneity_score(labels, clusters)
    assert scores["completeness"] == metrics.completeness_score(labels, clusters)
    arithmetic = lc.metrics.clustering(labels, clusters, average_method="arithmetic")
    assert arithmetic["nmi"] == pytest.approx(metrics.v_measure_score(labels, clusters))


def test_symmetry_and_renaming(rng):
    labels, clusters = rng.integers(3, size=100), rng.integers(5, size=100)
    scores, swapped = lc.metrics.clustering(labels, clusters), lc.metrics.clustering(clusters, labels)
    assert swapped["nmi"] == pytest.approx(scores["nmi"])
    assert swapped["ari"] == pytest.approx(scores["ari"])
    assert swapped["homogeneity"] == pytest.approx(scores["completeness"])
    renamed = lc.metrics.clustering(pd.Categorical([f"g{label}" for label in labels]), clusters)
    assert renamed == pytest.approx(scores)


def test_perfect_and_random():
    labels = np.repeat([0, 1, 2], 2000)
    assert lc.metrics.clustering(labels, labels + 5) == pytest.approx(dict.fromkeys(SCORES, 1.0))
    scores = lc.metrics.clustering(labels, np.random.default_rng(0).permutation(labels))
    assert all(abs(value) < 0.01 for value in scores.values())


def test_one_cluster():
    scores = lc.metrics.clustering(["a", "a", "b"], [0, 0, 0])
    assert scores["nmi"] == 0
    assert scores["ari"] == 0


@pytest.mark.parametrize(
    ("labels", "clusters", "message"),
    [
        (["a", None, "b", np.nan], [0, 0, 1, 1], "labels is missing for 2 cells, first in rows 1, 3"),
        (["a", "b"], [0, np.nan], "clusters is missing for 1 cells, first in rows 1"),
        (["a", "b"], [0, 0, 1], "clusters has 3 entries for 2 cells"),
        ([], [], "labels is empty"),
    ],
)
def test_bad_labels(labels, clusters, message):
    with pytest.raises(DataError, match=message):
        lc.metrics.clustering(labels, clusters)


def test_bad_average():
    with pytest.raises(DataError, match="average_method='max' must be 'geometric'"):
        lc.metrics.clustering([0, 1], [0, 1], average_method="max")


# --- k-means on t-SNE


def test_kmeans_tsne_is_the_protocol_in_scikit_learn(blobs):
    z, labels = blobs
    table = lc.metrics.kmeans_tsne(z, labels, n_clusters=5, perplexity=20, seed=3)
    points = TSNE(perplexity=20, init="pca", random_state=3).fit_transform(z.astype(np.float32))
    found = KMeans(5, n_init=10, random_state=3).fit_predict(points)
    assert list(table) == ["n_clusters", *SCORES]
    assert table.iloc[0].to_dict() == pytest.approx({"n_clusters": 5, **lc.metrics.clustering(labels, found)})


def test_kmeans_tsne_takes_the_number_of_labels(blobs):
    z, labels = blobs
    table = lc.metrics.kmeans_tsne(z * [3, 3, 3], labels, perplexity=20)
    assert table["n_clusters"].iloc[0] == 4
    assert table["ari"].iloc[0] > 0.4


def test_kmeans_tsne_of_one_dimension(rng):
    z = np.concatenate([rng.normal(size=40), rng.normal(50, size=40)])[:, None]
    table = lc.metrics.kmeans_tsne(z, np.repeat([0, 1], 40), perplexity=10)
    assert table["ari"].iloc[0] == 1


# --- leiden


@pytest.mark.parametrize("n_neighbors", [10, 2])
def test_leiden_is_scanpys(blobs, n_neighbors):
    z, labels = blobs
    table = lc.metrics.leiden(z, labels, resolutions=(0.3, 1.0), n_neighbors=n_neighbors, seed=2)
    adata = sc.AnnData(z.copy())
    sc.pp.neighbors(adata, n_neighbors=n_neighbors, use_rep="X", random_state=2)
    for row, resolution in enumerate((0.3, 1.0)):
        sc.tl.leiden(
            adata, resolution=resolution, random_state=2, flavor="igraph", n_iterations=2, directed=False
        )
        expected = lc.metrics.clustering(labels, adata.obs["leiden"])
        assert table.loc[row, SCORES].to_dict() == pytest.approx(expected)
        assert table.loc[row, "resolution"] == resolution
        assert table.loc[row, "n_clusters"] == adata.obs["leiden"].nunique()


def test_leiden_marks_the_first_row_of_highest_nmi(blobs):
    table = lc.metrics.leiden(*blobs)
    assert len(table) == 20
    np.testing.assert_allclose(table["resolution"], np.arange(1, 21) / 10)
    assert table["best"].sum() == 1
    assert table.loc[table["best"], "nmi"].iloc[0] == table["nmi"].max()
    assert table.index[table["best"]][0] == table["nmi"].idxmax()


def test_same_seed_same_scores_and_no_global_state(blobs):
    before = np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    for protocol in (
        lambda: lc.metrics.leiden(*blobs, resolutions=[1.0], seed=4),
        lambda: lc.metrics.kmeans_tsne(*blobs, perplexity=10, seed=4),
    ):
        pd.testing.assert_frame_equal(protocol(), protocol())
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert random.getstate() == before[1]


@pytest.mark.parametrize(
    ("protocol", "arguments", "message"),
    [
        (
            lc.metrics.kmeans_tsne,
            {"perplexity": 120},
            "perplexity=120 must be above 0 and below the 120 cells",
        ),
        (
            lc.metrics.kmeans_tsne,
            {"n_clusters": 0},
            "n_clusters=0 must be at least 1 and at most the 120 cells",
        ),
        (lc.metrics.leiden, {"n_neighbors": 1}, "n_neighbors=1 must be at least 2 and below the 120 cells"),
        (lc.metrics.leiden, {"resolutions": []}, "must be numbers above 0, at least one"),
        (lc.metrics.leiden, {"resolutions": [0]}, "must be numbers above 0"),
    ],
)
def test_bad_parameters(blobs, protocol, arguments, message):
    with pytest.raises(DataError, match=message):
        protocol(*blobs, **arguments)


@pytest.mark.parametrize("protocol", [lc.metrics.kmeans_tsne, lc.metrics.leiden])
def test_bad_codes(blobs, protocol):
    z, labels = blobs
    with pytest.raises(DataError, match="All cells have the same code.*collapsed"):
        protocol(np.ones_like(z), labels)
    z[[3, 8], 1] = np.nan
    with pytest.raises(DataError, match="NaN or infinite values in 2 cells, first in rows 3, 8"):
        protocol(z, labels)
    with pytest.raises(DataError, match=r"its shape is \(120,\)"):
        protocol(np.ones(120), labels)
    with pytest.raises(DataError, match="dense array of numbers"):
        protocol(labels[:, None], labels)
    with pytest.raises(DataError, match="labels has 119 entries for 120 cells"):
        protocol(np.ones_like(z), labels[1:])


@pytest.mark.data
@pytest.mark.slow
def test_pbmc3k_principal_components(data_dir):
    """Reference figures of PCA-10 of 2,000 variable genes, scaled, against Seurat's nine clusters."""
    adata = lc.datasets.pbmc3k()
    lc.pp.seurat(adata, scale=True, subset=True)
    z = PCA(10, random_state=0).fit_transform(adata.layers["scaled"])
    labels = adata.obs["seurat_cluster"]
    document = lc.metrics.kmeans_tsne(z, labels).iloc[0]
    assert document["nmi"] == pytest.approx(0.77, abs=0.03)
    assert document["ari"] == pytest.approx(0.62, abs=0.06)
    graph = lc.metrics.leiden(z, labels, resolutions=[0.5, 0.8, 1.0, 1.2]).query("best").iloc[0]
    assert graph["nmi"] == pytest.approx(0.86, abs=0.04)
