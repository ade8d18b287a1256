"""SAUCIE and DESC: groups are found without their number, batches fade, new cells are told after loading."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import NearestNeighbors

import latentcell as lc
from latentcell._errors import DataError, NotTrainedError
from latentcell.model import _leiden, desc
from latentcell.model._leiden import leiden

CLUSTERED = [lc.model.SAUCIE, lc.model.DESC]


def cells(n_cells=300, n_groups=4, n_genes=40, shift=0.0, seed=0):
    """Log values of groups with genes of their own, in two batches of unlike composition."""
    rng = np.random.default_rng(seed)
    group = rng.integers(n_groups, size=n_cells)
    batch = (rng.random(n_cells) < np.linspace(0.2, 0.8, n_groups)[group]).astype(int)
    level = 3.0 * np.kron(np.eye(n_groups), np.ones(n_genes // n_groups))
    effect = shift * np.random.default_rng(99).normal(size=n_genes)
    x = level[group] + rng.normal(0, 0.5, size=(n_cells, n_genes)) + np.outer(batch, effect)
    adata = ad.AnnData(x.astype(np.float32))
    adata.obs["group"] = pd.Categorical(group.astype(str))
    adata.obs["batch"] = pd.Categorical(np.array(["a", "b"])[batch])
    return adata


def trained(Model, adata, epochs=60, batch_key=None, **arguments):
    Model.setup_anndata(adata, batch_key=batch_key)
    model = Model(adata, **({"hidden": (32,), "dropout": 0.0} | arguments))
    model.train(epochs, lr=5e-3, enable_progress_bar=False, accelerator="cpu")
    return model


def purity(z, batches, k=15):
    near = NearestNeighbors(n_neighbors=k).fit(z).kneighbors(return_distance=False)
    batches = np.asarray(batches)
    return float((batches[near] == batches[:, None]).mean())


@pytest.fixture(scope="module")
def models():
    """By class: cells and a model of them."""
    found = {}
    for Model in CLUSTERED:
        adata = cells()
        found[Model] = adata, trained(Model, adata)
    return found


@pytest.mark.parametrize("Model", CLUSTERED)
def test_groups_are_found_without_their_number(models, Model):
    adata, model = models[Model]
    clusters = model.get_clusters()
    assert set(clusters) - {-1} == {0, 1, 2, 3}
    assert adjusted_rand_score(adata.obs["group"], clusters) > 0.95


@pytest.mark.parametrize("Model", CLUSTERED)
def test_a_loaded_model_tells_clusters_of_new_cells(models, Model, tmp_path):
    adata, model = models[Model]
    model.save(tmp_path / "m")
    loaded = lc.model.load(tmp_path / "m")
    new = cells(100, seed=7)
    found = loaded.get_clusters(new)
    assert np.array_equal(found, model.get_clusters(new))
    assert adjusted_rand_score(new.obs["group"], found) > 0.95
    # the same names as in the training cells
    named = pd.crosstab(adata.obs["group"], model.get_clusters()).idxmax(axis=1)
    assert np.mean(named[new.obs["group"].to_numpy()].to_numpy() == found) > 0.95
    assert np.array_equal(loaded.get_clusters(new, indices=[9, 3]), found[[9, 3]])


def test_saucie_joins_what_no_valley_separates(models):
    adata, model = models[lc.model.SAUCIE]
    layer = model._layer
    # cut the first group in two by a unit that was off
    codes, z = (
        model._codes(lambda code, batch: layer.codes(code.mode), adata, None, None),
        model.get_embedding(),
    )
    own = np.flatnonzero(model.get_clusters() == 0)
    cut = codes.copy()
    free = np.setdiff1d(np.arange(len(layer.counts)), codes)[0]
    cut[own[z[own, 0] > np.median(z[own, 0])]] = free
    pairs, heights = lc.model._valleys.merges(z, cut, 2)
    assert set(pairs[0]) == {free, codes[own[0]]}
    assert heights[0] > 0.8 > heights[1:].max(initial=0.0)
    layer.remember(torch.from_numpy(cut), pairs, heights)
    joined, apart = (len(set(layer.clusters(2, valley).tolist()) - {-1}) for valley in (0.8, None))
    model._after_training()
    assert (joined, apart) == (4, 5)
    for valley in (0.0, 1.5, float("nan")):
        with pytest.raises(DataError, match="valley"):
            model.get_clusters(valley=valley)


def test_probabilities_are_a_confidence(models):
    adata, model = models[lc.model.DESC]
    probabilities = model.get_cluster_probabilities()
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-5)
    assert np.array_equal(probabilities.argmax(axis=1), model.get_clusters())
    # a cell between two groups is less sure than those of them
    between = adata[:2].copy()
    first, second = (adata.X[adata.obs["group"] == name].mean(axis=0) for name in ("0", "1"))
    between.X = np.vstack([first, (first + second) / 2])
    sure = model.get_cluster_probabilities(between).max(axis=1)
    assert sure[0] > sure[1]


def test_self_training_makes_cells_surer_and_batches_fade():
    adata = cells(400, shift=0.8)
    free, pressed = (trained(lc.model.DESC, adata, batch_key="batch", self_training=w) for w in (0.0, 1.0))
    confidence = [model.get_cluster_probabilities().max(axis=1).mean() for model in (free, pressed)]
    assert confidence[1] > confidence[0]
    found = [purity(m.get_latent_representation(), adata.obs["batch"]) for m in (free, pressed)]
    assert found[1] < found[0]


def test_desc_finds_clusters_in_rounds_and_its_history_says_when():
    adata = cells(120)
    lc.model.DESC.setup_anndata(adata)
    model = lc.model.DESC(adata, hidden=(16,), clusters_from=0.5, rounds=2)
    seen = []
    start = model._centroids.start
    model._centroids.start = lambda z, c: (seen.append(len(z)), start(z, c))
    model.train(10, enable_progress_bar=False, accelerator="cpu")
    assert seen == [120, 120]
    term = model.history["self_training_train"]["self_training_train"].to_numpy()
    assert not term[:5].any()
    assert (term[6:] > 0).all()
    assert int(model._centroids.n_starts) == 2


def test_desc_has_clusters_after_a_run_too_short_for_them_and_after_best_weights():
    adata = cells(120)
    lc.model.DESC.setup_anndata(adata)
    model = lc.model.DESC(adata, hidden=(16,), clusters_from=0.9)
    model.train(1, enable_progress_bar=False, accelerator="cpu")
    assert model.get_cluster_probabilities().shape[0] == 120
    again = lc.model.DESC(adata, hidden=(16,), self_training=1e4)
    again.train(12, early_stopping=True, enable_progress_bar=False, accelerator="cpu")
    assert again.get_cluster_probabilities().shape[1] >= 1


def test_desc_looks_for_clusters_among_some_of_very_many_cells(monkeypatch):
    monkeypatch.setattr(_leiden, "AT_MOST", 100)
    seen = []

    def watched(z, **how):
        seen.append(len(z))
        return leiden(z, **how)

    monkeypatch.setattr(desc, "leiden", watched)
    adata = cells()
    model = trained(lc.model.DESC, adata, n_neighbors=10)
    assert seen == [100, 100, 100]
    assert adjusted_rand_score(adata.obs["group"], model.get_clusters()) > 0.95
    some = _leiden.some_of(np.arange(300) + 5, seed=0)
    assert len(set(some)) == 100
    assert (np.diff(some) > 0).all()
    assert some.min() >= 5
    assert some.max() > 250
    assert (some == _leiden.some_of(np.arange(300) + 5, seed=0)).all()


def test_desc_goes_on_with_its_clusters_when_it_is_trained_again():
    adata = cells(120)
    model = trained(lc.model.DESC, adata, epochs=12)
    before, found = int(model._centroids.n_starts), model.get_clusters()
    model.train(3, lr=1e-4, enable_progress_bar=False, accelerator="cpu")
    assert int(model._centroids.n_starts) == before == 3
    assert (model.history["self_training_train"]["self_training_train"] > 0).all()
    assert adjusted_rand_score(found, model.get_clusters()) > 0.95


def test_more_clusters_than_room_are_an_error_that_says_what_to_do():
    adata = cells(120)
    lc.model.DESC.setup_anndata(adata)
    model = lc.model.DESC(adata, hidden=(16,), max_clusters=1)
    with pytest.raises(DataError, match="lower resolution or raise max_clusters"):
        model.train(20, enable_progress_bar=False, accelerator="cpu")
    # what is there can be used, what is not says so
    assert model.generate(5).shape == (5, 40)
    for get in (model.get_clusters, model.get_cluster_probabilities):
        with pytest.raises(NotTrainedError, match="no clusters were found: raise max_clusters"):
            get()


@pytest.mark.parametrize(
    ("Model", "wrong"),
    [
        (lc.model.DESC, {"clusters_from": 1.0}),
        (lc.model.DESC, {"rounds": 0}),
        (lc.model.DESC, {"resolution": 0.0}),
        (lc.model.DESC, {"n_neighbors": 0}),
        (lc.model.DESC, {"max_clusters": 0}),
        (lc.model.SAUCIE, {"n_units": 0}),
        (lc.model.SAUCIE, {"n_units": 17}),
        (lc.model.SAUCIE, {"bandwidth": 0.0}),
    ],
)
def test_arguments_out_of_range_are_refused(Model, wrong):
    adata = cells(20)
    Model.setup_anndata(adata)
    with pytest.raises(DataError, match=next(iter(wrong))):
        Model(adata, **wrong)


@pytest.mark.parametrize(
    "wrong", [{"valley": "a"}, {"valley": 0}, {"min_cells": "a"}, {"min_cells": np.nan}, {"min_cells": -1}]
)
def test_what_says_nothing_about_joining_is_refused(models, wrong):
    with pytest.raises(DataError, match=next(iter(wrong))):
        models[lc.model.SAUCIE][1].get_clusters(**wrong)


def test_a_desc_that_was_too_short_for_all_rounds_looks_again():
    adata = cells(120)
    lc.model.DESC.setup_anndata(adata)
    model = lc.model.DESC(adata, hidden=(16,), rounds=3)
    starts = []
    for epochs in (1, 12, 12):
        model.train(epochs, enable_progress_bar=False, accelerator="cpu")
        starts.append(int(model._centroids.n_starts))
    assert starts == [1, 3, 3]


def test_saucie_mixes_batches_and_keeps_groups():
    adata = cells(400, shift=0.8)
    free, mixed = (
        trained(lc.model.SAUCIE, adata, batch_key="batch", batch_discrepancy=w) for w in (0.0, 0.25)
    )
    found = [purity(m.get_embedding(), adata.obs["batch"]) for m in (free, mixed)]
    assert found[1] < found[0]
    assert adjusted_rand_score(adata.obs["group"], mixed.get_clusters()) > 0.9
    assert "batch_discrepancy_train" in mixed.history


def test_saucie_without_batches_has_no_such_term(models):
    _, model = models[lc.model.SAUCIE]
    assert "batch_discrepancy_train" not in model.history
    assert model.get_embedding().shape == (300, 2)
    assert np.array_equal(model.get_embedding(), model.get_latent_representation())


def test_rare_codes_are_unassigned(models):
    _, model = models[lc.model.SAUCIE]
    sizes = np.bincount(model.get_clusters(min_cells=1))
    assert (np.diff(sizes) <= 0).all()
    few = model.get_clusters(min_cells=int(sizes[1]))
    assert set(few) == {0, 1, -1}
    assert (few == -1).sum() == 300 - sizes[0] - sizes[1]


@pytest.mark.parametrize("Model", CLUSTERED)
def test_a_query_leaves_clusters_of_known_cells_as_they_are(Model):
    adata = cells(200, shift=0.3)
    model = trained(Model, adata, epochs=10, batch_key="batch", encode_covariates=True)
    new = cells(80, shift=0.3, seed=3)
    new.obs["batch"] = "c"
    query = Model.load_query_data(new, model)
    query.train(2, enable_progress_bar=False, accelerator="cpu")
    assert np.array_equal(query.get_clusters(adata), model.get_clusters())
    assert len(query.get_clusters()) == 80


def test_leiden_of_a_model_finds_blobs_and_is_the_same_with_the_same_seed():
    rng = np.random.default_rng(0)
    kind = np.arange(150) % 3
    z = rng.normal(size=(150, 2)) + 12 * np.eye(3)[kind][:, :2]
    found = leiden(z, n_neighbors=10, resolution=0.1, seed=0)
    assert adjusted_rand_score(kind, found) == 1.0
    assert (np.diff(np.bincount(found)) <= 0).all()
    assert np.array_equal(found, leiden(z, n_neighbors=10, resolution=0.1, seed=0))
    more = leiden(z, n_neighbors=10, resolution=3.0, seed=0)
    assert len(set(more)) > 3
    assert len(leiden(z[:2], n_neighbors=30, resolution=1.0, seed=0)) == 2


def test_centres_do_not_decay():
    adata = cells(60)
    lc.model.DESC.setup_anndata(adata)
    module = lc.model.DESC(adata, hidden=(8,)).module
    groups = module.parameter_groups()
    where = [
        decays
        for parameters, _, decays in groups
        if any(p is module.latent.clusters.centers for p in parameters)
    ]
    assert where == [False]
    counted = sum(p.numel() for parameters, _, _ in groups for p in parameters)
    assert counted == sum(p.numel() for p in module.parameters())


def test_verbs_write_clusters_and_confidence():
    adata = cells(120)
    lc.tl.saucie(adata, hidden=(16,), max_epochs=4, progress=False)
    lc.tl.desc(adata, hidden=(16,), max_epochs=10, progress=False, key_added="X_d")
    assert adata.obsm["X_saucie"].shape == (120, 2)
    assert {"saucie_clusters", "d_clusters", "d_confidence"} <= set(adata.obs)
    assert adata.uns["saucie"]["model"] == "SAUCIE"
    named = adata.obsm["d_probabilities"].argmax(axis=1).astype(str)
    assert np.array_equal(adata.obs["d_clusters"].astype(str).to_numpy(), named)
    assert np.array_equal(adata.obs["d_confidence"].to_numpy(), adata.obsm["d_probabilities"].max(axis=1))


def test_unassigned_cells_are_named_so(monkeypatch):
    adata = cells(60)
    found = np.where(np.arange(60) < 5, -1, np.where(np.arange(60) < 30, 10, 2))
    monkeypatch.setattr(lc.model.SAUCIE, "get_clusters", lambda self: found)
    lc.tl.saucie(adata, hidden=(8,), max_epochs=1, progress=False)
    assert adata.obs["saucie_clusters"].cat.categories.tolist() == ["2", "10", "unassigned"]
    assert adata.obs["saucie_clusters"].value_counts().to_dict() == {"2": 30, "10": 25, "unassigned": 5}


def test_units_of_a_step_are_drawn_from_the_models_seed():
    adata = cells(60)
    lc.model.SAUCIE.setup_anndata(adata)
    one, same, other = (lc.model.SAUCIE(adata, hidden=(8,), seed=seed).module for seed in (1, 1, 2))
    name = "latent.clusters.layers.1.weight"
    assert torch.equal(one.get_parameter(name), same.get_parameter(name))
    assert not torch.equal(one.get_parameter(name), other.get_parameter(name))
