"""Cells in another condition by any model: shift or counterfactual, baselines, and the table of them all."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.decomposition import PCA

import latentcell as lc
from latentcell._errors import DataError

CHANGE = {"stimulated": "yes", "control": "no", "labels_key": "kind"}
TYPES = ["B", "Mono", "NK", "T"]


@pytest.fixture(scope="module")
def cells():
    """Four types with 8 genes each, in two conditions that differ in 8 more: log-normalised, and counts."""
    rng = np.random.default_rng(0)
    base = rng.gamma(2.0, 4.0, size=48) + 1
    rows, obs = [], []
    for k, kind in enumerate(TYPES):
        for drug in ("no", "yes"):
            rate = base.copy()
            rate[8 * k : 8 * k + 8] *= 3
            rate[40:] *= 4 if drug == "yes" else 1
            rows.append(rng.poisson(rate / rate.sum() * 500, size=(35, 48)))
            obs += [(kind, drug)] * 35
    counts = np.concatenate(rows).astype(np.float32)
    adata = ad.AnnData(np.log1p(counts / counts.sum(1, keepdims=True) * 500))
    adata.layers["counts"] = sparse.csr_matrix(counts)
    adata.obs = pd.DataFrame(obs, columns=["kind", "drug"], index=[f"cell{i}" for i in range(len(obs))])
    return adata


@pytest.fixture(scope="module")
def held_out(cells):
    return ((cells.obs["kind"] == "T") & (cells.obs["drug"] == "yes")).to_numpy()


@pytest.fixture(scope="module")
def seen(cells, held_out):
    return cells[~held_out].copy()


def train(Model, adata, setup=None, epochs=60, lr=5e-3, **arguments):
    own = adata.copy()
    Model.setup_anndata(own, **(setup or {}))
    arguments = {"n_latent": 8, "hidden": (32,)} | arguments
    model = Model(own, **arguments)
    model.train(epochs, accelerator="cpu", enable_progress_bar=False, lr=lr)
    return model


def error(predicted, cells, held_out):
    """Squared error of the predicted means, relative to that of no change."""
    real = cells.X[held_out].mean(0)
    start = cells.X[((cells.obs["kind"] == "T") & (cells.obs["drug"] == "no")).to_numpy()].mean(0)
    return np.square(predicted - real).mean() / np.square(start - real).mean()


@pytest.mark.parametrize("weighting", ["balanced", "similarity"])
def test_scgen_is_the_same_by_either_way(seen, weighting):
    for layer in (None, "counts"):
        model = train(lc.model.ScGen, seen, {"labels_key": "kind", "layer": layer}, epochs=5)
        own = model.predict(
            condition_key="drug", stimulated="yes", control="no", cell_type="T", weighting=weighting
        )
        new = lc.tl.perturb(
            seen, model, "drug", stimulated="yes", control="no", cell_type="T", weighting=weighting
        )
        np.testing.assert_allclose(new.X, own.X, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(new.obsm["X_scgen"], own.obsm["X_scgen"], rtol=1e-5, atol=1e-5)
        pd.testing.assert_frame_equal(new.obs, own.obs)
        assert set(new.uns["latentcell"]) == set(own.uns["latentcell"])
        assert new.uns["latentcell"]["unit"] == own.uns["latentcell"]["unit"]


@pytest.mark.parametrize("Model", [lc.model.AE, lc.model.VAE, lc.model.VSC])
def test_any_code_can_be_moved(seen, Model):
    """Codes are shifted by the mean of the other types' differences, and decoded there."""
    model = train(Model, seen)
    new = lc.tl.perturb(seen, model, "drug", **CHANGE, cell_type="T", weighting="balanced")
    codes, obs = model.get_latent_representation().astype(float), seen.obs
    mean = {key: codes[rows].mean(0) for key, rows in obs.groupby(["kind", "drug"]).indices.items()}
    shift = np.mean([mean[kind, "yes"] - mean[kind, "no"] for kind in ("B", "Mono", "NK")], axis=0)
    rows = ((obs["kind"] == "T") & (obs["drug"] == "no")).to_numpy()
    found = new.obsm[f"X_{Model.__name__.lower()}"]
    np.testing.assert_allclose(found, codes[rows] + shift, rtol=1e-4, atol=1e-4)
    assert new.uns["latentcell"]["source"] == "shift"
    np.testing.assert_allclose(new.X, model.decode(found).X, rtol=1e-4, atol=1e-4)


def test_arithmetic_on_components_is_that_of_scikit_learn(cells, seen, held_out):
    new = lc.tl.perturb(seen, "pca", "drug", **CHANGE, cell_type="T", weighting="balanced", n_comps=6)
    pca = PCA(6, svd_solver="full").fit(seen.X.astype(float))
    codes, obs = pca.transform(seen.X.astype(float)), seen.obs
    mean = {key: codes[rows].mean(0) for key, rows in obs.groupby(["kind", "drug"]).indices.items()}
    shift = np.mean([mean[kind, "yes"] - mean[kind, "no"] for kind in ("B", "Mono", "NK")], axis=0)
    start = codes[((obs["kind"] == "T") & (obs["drug"] == "no")).to_numpy()]
    np.testing.assert_allclose(new.X, pca.inverse_transform(start + shift), rtol=1e-4, atol=1e-4)
    assert error(new.X.mean(0), cells, held_out) < 0.05


def test_arithmetic_on_genes_moves_every_cell_by_the_same(seen):
    new = lc.tl.perturb(seen, "genes", "drug", **CHANGE, cell_type="T", weighting="balanced")
    moved = new.X - seen[new.obs["cell"]].X
    np.testing.assert_allclose(moved, np.broadcast_to(moved[0], moved.shape), atol=1e-5)
    some = lc.tl.perturb(
        seen, "genes", "drug", **CHANGE, cell_type="T", weighting="balanced", genes=["3", "0"]
    )
    np.testing.assert_array_equal(some.X, new[:, ["3", "0"]].X)


@pytest.mark.parametrize("model", ["genes", "pca", "VAE", "CVAE"])
def test_what_was_held_out_has_no_part_in_it(cells, seen, held_out, model):
    """With the real cells in the AnnData, with garbage in their place, and without them: the same bits."""
    if model in ("VAE", "CVAE"):
        keys = {"labels_key": "drug"} if model == "CVAE" else {}
        model = train(getattr(lc.model, model), seen, keys, epochs=3)
    garbage = cells.copy()
    garbage.X[held_out] = np.random.default_rng(3).normal(40, 30, size=(held_out.sum(), 48))
    found = [
        lc.tl.perturb(given, model, "drug", **CHANGE, cell_type="T", n_comps=5).X
        for given in (cells, garbage, seen)
    ]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[0], found[2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("told", ["labels_key", "batch_key", "categorical_covariate_keys"])
def test_a_model_that_is_told_the_condition_is_told_the_other_one(cells, seen, held_out, told):
    keys = {told: ["drug"] if told.endswith("keys") else "drug"}
    Model = lc.model.CVAE if told == "labels_key" else lc.model.VAE
    model = train(Model, seen, keys, epochs=100)
    new = lc.tl.perturb(seen, model, "drug", **CHANGE, cell_type="T")
    assert new.uns["latentcell"]["source"] == "counterfactual"
    assert (new.obs["drug"] == "yes").all()
    rows = ((seen.obs["kind"] == "T") & (seen.obs["drug"] == "no")).to_numpy()
    codes = model.get_latent_representation(seen, rows)
    asked = {"labels_key": {"labels": "yes"}, "batch_key": {"batch": "yes"}}
    by_hand = model.decode(codes, **asked.get(told, {"covariates": {"drug": "yes"}}))
    np.testing.assert_allclose(new.X, by_hand.X, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(new.obsm[f"X_{Model.__name__.lower()}"], codes, rtol=1e-6)
    # the genes that answer rise
    assert new.X[:, 40:].mean() > cells.X[rows.nonzero()[0]][:, 40:].mean() + 0.5


def test_cells_are_placed_among_the_codes_of_a_gan(seen):
    own = seen.copy()
    lc.model.ConditionalGAN.setup_anndata(own, labels_key="drug")
    told = lc.model.ConditionalGAN(own, n_latent=4, hidden=(16,), critic_hidden=(16,))
    told.train(3, accelerator="cpu", enable_progress_bar=False)
    new = lc.tl.perturb(seen, told, "drug", **CHANGE, cell_type="T")
    rows = np.flatnonzero((seen.obs["kind"] == "T") & (seen.obs["drug"] == "no"))
    assert new.uns["latentcell"]["source"] == "counterfactual"
    np.testing.assert_allclose(new.X, told.decode(told.project(seen, rows), labels="yes").X, rtol=1e-4)


def test_counts_are_not_negative_and_say_their_unit(seen):
    model = train(lc.model.VAE, seen, {"layer": "counts"}, epochs=5)
    new = lc.tl.perturb(seen, model, "drug", **CHANGE, cell_type="T")
    assert new.X.min() >= 0
    assert new.uns["latentcell"]["unit"] == "expected counts at the depth of the cell"
    np.testing.assert_allclose(new.X.sum(1), new.obs["library_size"], rtol=1e-4)
    drawn = lc.tl.perturb(seen, model, "drug", **CHANGE, cell_type="T", output="sample", seed=1)
    np.testing.assert_array_equal(drawn.X.data, np.round(drawn.X.data))
    assert drawn.uns["latentcell"]["unit"] == "counts"


def test_stored_codes_are_used(seen):
    model = train(lc.model.VAE, seen, epochs=3)
    own = seen.copy()
    own.obsm["X_mine"] = model.get_latent_representation() + 1.0
    computed, stored = (
        lc.tl.perturb(own, model, "drug", **CHANGE, cell_type="T", use_rep=rep).obsm["X_vae"]
        for rep in (None, "X_mine")
    )
    np.testing.assert_allclose(stored, computed + 1.0, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        ("umap", {}, "a trained model, 'pca' or 'genes'"),
        ("pca", {"n_comps": 100}, "n_comps must be from 1 to 47"),
        ("pca", {"layer": "counts"}, r"layers\['counts'\] holds whole numbers; log-normalise first"),
        ("pca", {"layer": "scaled"}, "layers has no 'scaled'"),
        ("pca", {"output": "sample"}, "needs a model"),
        ("genes", {"weighting": "mean"}, "weighting must be one of"),
        ("genes", {"cell_type": "Z"}, r"\['Z'\] not in"),
    ],
)
def test_what_makes_no_sense_is_refused(seen, model, given, message):
    with pytest.raises(DataError, match=message):
        lc.tl.perturb(seen, model, "drug", **CHANGE, **({"cell_type": "T"} | given))


@pytest.fixture(scope="module")
def compared(cells):
    """The table, and the cells that a method was given, in the order of types and seeds."""
    spied = []

    def scgen(given, seed):
        spied.append(given)
        return train(lc.model.ScGen, given, {"labels_key": "kind"}, decoder="linear", seed=seed)

    def counts(given, seed):
        keys = {"labels_key": "kind", "layer": "counts"}
        return train(lc.model.ScGen, given, keys, epochs=150, lr=None, decoder="linear", seed=seed)

    def told(given, seed):
        return train(lc.model.CVAE, given, {"labels_key": "drug"}, seed=seed)

    def perfect(given, seed):
        missing = sorted(set(cells.obs_names) - set(given.obs_names))
        return ad.AnnData(cells[missing].X[:, ::-1], var=cells.var.iloc[::-1])

    table = lc.tl.compare_perturbation(
        cells,
        {"ScGen": scgen, "counts": counts, "CVAE": told, "perfect": perfect},
        "drug",
        "kind",
        stimulated="yes",
        control="no",
        cell_types=["T", "B"],
        seeds=(0, 1),
        n_comps=8,
        n_top=(10, 4),
    )
    return table, spied


@pytest.fixture
def table(compared):
    return compared[0]


class TestTable:
    def test_a_row_for_each_type_method_weighting_and_seed(self, table):
        rows = table.groupby("method", sort=False)[["cell_type", "weighting", "seed"]].agg(
            ["nunique", "size"]
        )
        once = ["no change", "mean of other types", "mean shift"]
        expected = dict.fromkeys(once, 2) | {"genes": 4, "pca": 4, "half of the real cells": 4}
        expected |= {"ScGen": 8, "counts": 8, "CVAE": 4, "perfect": 4}
        assert rows["cell_type", "size"].to_dict() == expected
        assert table["cell_type"].unique().tolist() == ["T", "B"]
        assert set(table.loc[table["method"] == "ScGen", "weighting"]) == {"balanced", "similarity"}
        assert (table.loc[table["method"] == "CVAE", "weighting"] == "").all()

    def test_methods_never_see_what_they_predict(self, cells, compared):
        spied = compared[1]
        assert len(spied) == 4
        for given, kind in zip(spied, ["T", "T", "B", "B"], strict=True):
            gone = (given.obs["kind"] == kind) & (given.obs["drug"] == "yes")
            assert not gone.any()
            assert given.n_obs == cells.n_obs - 35

    def test_figures_are_those_of_the_parts(self, cells, held_out, seen, table):
        row = table[(table["method"] == "pca") & (table["cell_type"] == "T")].set_index("weighting")
        new = lc.tl.perturb(seen, "pca", "drug", **CHANGE, cell_type="T", n_comps=8)
        start = cells[((cells.obs["kind"] == "T") & (cells.obs["drug"] == "no")).to_numpy()].X
        by_hand = lc.metrics.perturbation_response(cells.X[held_out], new.X, start, n_top=[10, 4])
        found = row.loc["similarity"]
        for genes, ending in (("all", ""), ("top 10", "_top10"), ("top 4", "_top4")):
            for name in ("r2", "r2_score", "r2_variance", "delta_correlation", "direction"):
                assert found[name + ending] == pytest.approx(by_hand.loc[genes, name], rel=1e-4)
        assert "overlap" not in found
        pca = PCA(8, svd_solver="full").fit(seen.X.astype(float))
        places = [pca.transform(X.astype(float)) for X in (cells.X[held_out], new.X)]
        assert found["energy_distance"] == pytest.approx(lc.metrics.energy_distance(*places), rel=1e-3)
        assert found["mmd"] == pytest.approx(lc.metrics.mmd(*places), rel=1e-3)

    def test_methods_stand_where_they_should(self, table):
        means = table.groupby("method").mean(numeric_only=True)
        assert means.loc["perfect", "r2"] == pytest.approx(1.0)
        assert means.loc["perfect", "overlap_top10"] == 1.0
        assert means.loc["perfect", "energy_distance"] < 0.01
        for name in ("ScGen", "counts", "genes", "pca"):
            assert means.loc[name, "delta_correlation"] > 0.9
            assert means.loc[name, "r2"] > means.loc["no change", "r2"] + 0.1
        assert np.isnan(means.loc["no change", "delta_correlation"])
        assert means.loc["half of the real cells", "r2"] > 0.95

    def test_baselines_are_what_they_are_called(self, cells, held_out, table):
        start, real = (
            cells.X[((cells.obs["kind"] == "T") & (cells.obs["drug"] == drug)).to_numpy()].astype(float)
            for drug in ("no", "yes")
        )
        others = cells[(cells.obs["kind"] != "T").to_numpy()]
        on = (others.obs["drug"] == "yes").to_numpy()
        of_types = [others.X[on & (others.obs["kind"] == kind)].mean(0) for kind in ("B", "Mono", "NK")]
        means = {
            "no change": start.mean(0),
            "mean of other types": np.mean(of_types, axis=0),
            "mean shift": start.mean(0) + others.X[on].mean(0) - others.X[~on].mean(0),
        }
        rows = table[table["cell_type"] == "T"].set_index("method")
        for name, mean in means.items():
            expected = np.corrcoef(mean, real.mean(0))[0, 1] ** 2
            assert rows.loc[name, "r2"] == pytest.approx(expected, rel=1e-5)

    def test_what_makes_no_sense_is_refused(self, cells):
        def ask(adata=cells, methods=None, **given):
            told = {"stimulated": "yes", "control": "no", "n_comps": 4, "n_top": [4]} | given
            return lc.tl.compare_perturbation(adata, methods, "drug", "kind", **told)

        fewer = cells[:, :40].copy()
        for call, message in (
            (lambda: ask(min_cells=36), "no type has 36 cells in both conditions"),
            (lambda: ask(cell_types=["Z"]), "'Z' has too few cells"),
            (lambda: ask(weightings=["mean"]), "weightings: 'mean'"),
            (lambda: ask(seeds=()), "seeds must not be empty"),
            (lambda: ask(layer="counts"), "holds whole numbers"),
            (
                lambda: ask(methods={"x": lambda given, seed: fewer}, cell_types=["T"], baselines=False),
                "'x' predicts 40 genes, adata has 48",
            ),
        ):
            with pytest.raises(DataError, match=message):
                call()
