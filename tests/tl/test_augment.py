"""Real cells stay as they are and come first; what new cells have beside them is computed or missing."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import latentcell as lc
from latentcell._errors import DataError

SIZES = {"a": 40, "b": 15, "c": 5}
GENES = [f"gene{j}" for j in range(20)]


def cells(seed=0):
    """60 cells x 20 genes of three kinds, shuffled; X is log1p CP10k of layers["counts"]; and much else."""
    rng = np.random.default_rng(seed)
    kind = rng.permutation(np.repeat([0, 1, 2], list(SIZES.values())))
    rate = np.full((3, 20), 3.0)
    for k in range(3):
        rate[k, 5 * k : 5 * k + 5] = 20.0
    adata = ad.AnnData(sparse.csr_matrix(rng.poisson(rate[kind]).astype(np.float32)))
    adata.obs_names = [f"cell{i}" for i in range(60)]
    adata.var_names = GENES
    adata.obs["kind"] = pd.Categorical(np.array(["a", "b", "c"])[kind], ["c", "a", "b", "unused"])
    adata.obs["batch"] = pd.Categorical(np.array(["x", "y"])[np.arange(60) % 2])
    adata.obs["n"] = np.arange(60)
    adata.obs["score"] = rng.normal(size=60).astype(np.float32)
    adata.obs["doublet"] = np.arange(60) % 7 == 0
    adata.obs["note"] = [f"note {i}" for i in range(60)]
    adata.obs["grade"] = pd.Categorical(np.array(["low", "high"])[np.arange(60) % 2], ["low", "high"], True)
    adata.var["symbol"] = [name.upper() for name in GENES]
    adata.varm["loadings"] = rng.normal(size=(20, 2))
    adata.obsm["X_pca"] = rng.normal(size=(60, 3)).astype(np.float32)
    adata.layers["counts"] = adata.X.copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    adata.uns["kind_colors"] = ["#ff0000", "#00ff00", "#0000ff", "#000000"]
    adata.uns["neighbors"] = {"params": {"n_neighbors": 15}}
    return adata


def build(adata, Model=lc.model.CVAE, genes=None, **setup):
    """A model trained on (some genes of) a copy of `adata`, as lc.tl.cvae would do it."""
    own = (adata if genes is None else adata[:, genes]).copy()
    Model.setup_anndata(own, **({"layer": "counts", "labels_key": "kind", "batch_key": "batch"} | setup))
    model = Model(own, n_latent=3, hidden=(16,))
    model.train(60, lr=5e-3, enable_progress_bar=False, accelerator="cpu")
    return model


@pytest.fixture(scope="module")
def model():
    return build(cells())


@pytest.fixture
def adata():
    return cells()


def dense(matrix):
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)


def sizes(adata):
    return adata.obs["kind"].value_counts()[lambda n: n > 0].to_dict()


# --- who is added ---


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("balance", {"a": 40, "b": 40, "c": 40}),
        (20, {"a": 40, "b": 20, "c": 20}),
        ({"c": 12}, {"a": 40, "b": 15, "c": 12}),
        ({"c": 12, "a": 3, "b": 16}, {"a": 40, "b": 16, "c": 12}),
        (5, SIZES),
    ],
)
def test_targets_are_totals_and_larger_groups_stay(adata, model, target, expected):
    both = lc.tl.augment(adata, model, "kind", target)
    assert sizes(both) == expected
    assert sizes(both[~both.obs["is_generated"]]) == SIZES
    assert both.obs["is_generated"].dtype == bool


def test_new_cells_are_of_their_group(adata, model):
    both = lc.tl.augment(adata, model, target=60)
    new = both[both.obs["is_generated"]]
    means = {kind: dense(new[new.obs["kind"] == kind].layers["counts"]).mean(axis=0) for kind in "abc"}
    for k, kind in enumerate("abc"):
        own = np.zeros(20, dtype=bool)
        own[5 * k : 5 * k + 5] = True
        assert means[kind][own].min() > 2 * means[kind][~own].max()


def test_cells_can_be_added_in_the_proportions_of_the_data(adata):
    unlabelled = build(adata, lc.model.VAE, labels_key=None)
    both = lc.tl.augment(adata, unlabelled, n_cells=30)
    assert both.n_obs == 90
    assert both.obs["kind"].isna().tolist() == [False] * 60 + [True] * 30
    with pytest.raises(DataError, match="without labels_key.*n_cells="):
        lc.tl.augment(adata, unlabelled)


def test_unlabelled_cells_and_unknown_are_no_group(adata):
    adata.obs["kind"] = adata.obs["kind"].cat.add_categories("unknown")
    adata.obs.iloc[:30, adata.obs.columns.get_loc("kind")] = "unknown"
    with_unknown = build(adata, unlabeled_category="unknown")
    before = sizes(adata)
    assert before.pop("unknown") == 30
    largest = max(before.values())
    both = lc.tl.augment(adata, with_unknown)
    assert sizes(both) == dict.fromkeys(before, largest) | {"unknown": 30}
    adata.obs["kind"] = adata.obs["kind"].cat.remove_categories("unknown")
    assert sizes(lc.tl.augment(adata, with_unknown)) == dict.fromkeys(before, largest)


def test_an_augmented_set_can_be_augmented_again(adata, model):
    once = lc.tl.augment(adata, model, target={"c": 10})
    twice = lc.tl.augment(once, model, target={"c": 20}, seed=1)
    assert sizes(twice) == SIZES | {"c": 20}
    assert twice.obs["is_generated"].sum() == 15
    assert twice.obs_names.is_unique
    np.testing.assert_array_equal(dense(twice.X)[:65], dense(once.X))


def test_seed_and_options_reach_the_model(adata, model):
    def new(**options):
        both = lc.tl.augment(adata, model, target={"c": 25}, **options)
        return both[both.obs["is_generated"]]

    first, again, other = new(seed=3), new(seed=3), new(seed=4)
    expected = model.generate(labels={"c": 20}, seed=3)
    np.testing.assert_array_equal(dense(first.layers["counts"]), dense(expected.X))
    np.testing.assert_array_equal(dense(again.layers["counts"]), dense(first.layers["counts"]))
    assert not np.array_equal(dense(other.layers["counts"]), dense(first.layers["counts"]))
    assert (new(batch="y").obs["batch"] == "y").all()
    prior = lc.tl.augment(adata, model, target=10, source="prior", library_size=500.0)
    assert prior.uns["latentcell"]["source"] == "prior"
    assert prior.obs["library_size"].dropna().unique().tolist() == [500.0]


# --- what real cells keep ---


def test_real_cells_are_first_and_untouched_and_adata_is_not_changed(adata, model):
    before = adata.copy()
    both = lc.tl.augment(adata, model)
    real = both[:60]
    assert real.obs_names.tolist() == before.obs_names.tolist()
    assert both.obs_names.is_unique
    np.testing.assert_array_equal(dense(real.X), dense(before.X))
    np.testing.assert_array_equal(dense(real.layers["counts"]), dense(before.layers["counts"]))
    columns = ["kind", "batch", "score", "note", "grade"]
    pd.testing.assert_frame_equal(both.obs.iloc[:60][columns], before.obs[columns])
    assert real.obs["n"].tolist() == before.obs["n"].tolist()
    assert real.obs["doublet"].tolist() == before.obs["doublet"].tolist()
    assert not real.obs["is_generated"].any()
    pd.testing.assert_frame_equal(both.var, before.var)
    np.testing.assert_array_equal(both.varm["loadings"], before.varm["loadings"])
    # and adata
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    assert set(adata.uns) == set(before.uns)
    assert set(adata.obsm) == {"X_pca"}
    np.testing.assert_array_equal(dense(adata.X), dense(before.X))
    both.X[0, 0] = -1
    both.uns["kind_colors"][0] = "black"
    np.testing.assert_array_equal(dense(adata.X), dense(before.X))
    assert adata.uns["kind_colors"][0] == "#ff0000"


def test_columns_of_new_cells_are_the_models_or_missing(adata, model):
    both = lc.tl.augment(adata, model)
    new = both.obs[both.obs["is_generated"]]
    assert set(new["batch"]) == {"x", "y"}
    for column in ("n", "score", "doublet", "note", "grade"):
        assert new[column].isna().all()
    assert both.obs["kind"].cat.categories.tolist() == ["c", "a", "b", "unused"]
    assert both.obs["grade"].cat.ordered
    assert both.obs["n"].dtype == float
    assert both.obs["score"].dtype == np.float32
    assert both.obs["doublet"].dtype == "boolean"
    assert new["library_size"].gt(0).all()
    assert both.obs["library_size"].isna().tolist() == [True] * 60 + [False] * 60
    assert not any(column.startswith("_scvi") for column in both.obs)
    assert not any(key.startswith("_scvi") for key in both.uns)


def test_uns_and_obsm_of_real_cells_only_are_left_out(adata, model):
    both = lc.tl.augment(adata, model)
    assert set(both.uns) == {"kind_colors", "log1p", "latentcell"}
    assert both.uns["latentcell"]["model"] == "CVAE"
    assert both.uns["latentcell"]["seed"] == 0
    assert both.uns["latentcell"]["groupby"] == "kind"
    assert list(both.obsm) == []


def test_names_that_are_taken_are_left_out(adata, model):
    adata.obs_names = ["generated_1", "generated_3", *adata.obs_names[2:]]
    both = lc.tl.augment(adata, model, target={"c": 8})
    assert both.obs_names[60:].tolist() == ["generated_0", "generated_2", "generated_4"]
    assert both.obs_names[:2].tolist() == ["generated_1", "generated_3"]


def test_codes_of_the_model_are_continued_and_those_of_others_left_out(adata, model):
    adata.obsm["X_cvae"] = model.get_latent_representation(adata)
    adata.obsm["X_other"] = adata.obsm["X_cvae"][::-1].copy()
    both = lc.tl.augment(adata, model)
    assert list(both.obsm) == ["X_cvae"]
    np.testing.assert_array_equal(both.obsm["X_cvae"][:60], adata.obsm["X_cvae"])
    new = both[60:].copy()
    np.testing.assert_allclose(both.obsm["X_cvae"][60:], model.get_latent_representation(new), atol=1e-5)


def test_size_factors_serve_the_codes_of_new_cells(adata):
    adata.obs["size"] = dense(adata.layers["counts"]).sum(axis=1) * 2.0
    model = build(adata, size_factor_key="size")
    adata.obsm["X_cvae"] = model.get_latent_representation(adata)
    both = lc.tl.augment(adata, model, target={"c": 8})
    assert np.isfinite(both.obsm["X_cvae"]).all()


# --- which matrices new cells have ---


def test_x_of_new_cells_is_log_normalised_as_scanpy_does_it(adata, model):
    both = lc.tl.augment(adata, model)
    expected = ad.AnnData(both.layers["counts"].copy())
    sc.pp.normalize_total(expected, target_sum=1e4)
    sc.pp.log1p(expected)
    np.testing.assert_allclose(dense(both.X), dense(expected.X), rtol=1e-5)
    assert both.X.dtype == np.float32
    assert sparse.issparse(both.X)
    counts = dense(both.layers["counts"])
    np.testing.assert_array_equal(counts, np.round(counts))


def test_all_ways_that_are_known_are_found_and_others_left_out(adata, model):
    counts = dense(adata.layers["counts"])
    median = ad.AnnData(counts.copy())
    sc.pp.normalize_total(median)
    adata.layers["same"] = counts.astype(np.int64)
    adata.layers["median"] = median.X
    adata.layers["log"] = sparse.csc_matrix(np.log1p(counts))
    adata.layers["scaled"] = sc.pp.scale(dense(adata.X).copy())
    adata.layers["root"] = np.sqrt(counts)
    adata.layers["almost"] = dense(adata.X).copy()
    adata.layers["almost"][7, 3] += 0.01
    both = lc.tl.augment(adata, model)
    assert set(both.layers) - {None} == {"counts", "same", "median", "log"}
    counts = dense(both.layers["counts"])
    total = np.median(counts[:60].sum(axis=1))
    np.testing.assert_array_equal(both.layers["same"], counts)
    assert both.layers["same"].dtype == np.int64
    expected = counts / counts.sum(axis=1, keepdims=True) * total
    np.testing.assert_allclose(both.layers["median"], expected, rtol=1e-4)
    np.testing.assert_allclose(dense(both.layers["log"]), np.log1p(counts), rtol=1e-5)
    for key in ("same", "median", "log"):
        np.testing.assert_array_equal(dense(both.layers[key])[:60], dense(adata.layers[key]))


def test_a_model_of_some_genes_gives_those_genes_and_says_what_became_of_x(adata):
    few = ["gene12", "gene0", "gene6", "gene3"]
    model = build(adata, genes=few)
    with pytest.warns(UserWarning, match=r"X of the result holds layers\['counts'\].*sc.pp.normalize_total"):
        both = lc.tl.augment(adata, model)
    order = ["gene0", "gene3", "gene6", "gene12"]  # as in adata
    assert both.var_names.tolist() == order
    assert both.var["symbol"].tolist() == [name.upper() for name in order]
    np.testing.assert_array_equal(both.varm["loadings"], adata[:, order].varm["loadings"])
    np.testing.assert_array_equal(dense(both.layers["counts"])[:60], dense(adata[:, order].layers["counts"]))
    np.testing.assert_array_equal(dense(both.X), dense(both.layers["counts"]))
    assert "log1p" not in both.uns
    expected = model.generate(labels={"c": 35, "b": 25}, seed=0)[:, order]
    assert sorted(map(tuple, dense(both.X)[60:])) != sorted(map(tuple, dense(both.X)[:60]))
    np.testing.assert_array_equal(dense(both.layers["counts"])[60:], dense(expected.X))
    kinds = both.obs["kind"][60:].astype(str).tolist()
    assert kinds == ["c"] * 35 + ["b"] * 25
    # X is a matrix of its own: normalising it leaves the counts alone
    counts = dense(both.layers["counts"]).copy()
    sc.pp.normalize_total(both, target_sum=1e4)
    sc.pp.log1p(both)
    np.testing.assert_array_equal(dense(both.layers["counts"]), counts)


def test_genes_are_matched_by_name(adata, model):
    shuffled = adata[:, GENES[::-1]].copy()
    both, other = lc.tl.augment(adata, model), lc.tl.augment(shuffled, model)
    assert other.var_names.tolist() == GENES[::-1]
    np.testing.assert_array_equal(dense(other[:, GENES].X), dense(both.X))
    extra = adata[:, :1].copy()
    extra.var_names = ["extra"]
    more = ad.concat([extra, adata], axis=1, merge="first")
    with_extra = lc.tl.augment(more, model)
    assert with_extra.var_names.tolist() == GENES
    np.testing.assert_array_equal(dense(with_extra.X), dense(both.X))


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array])
def test_a_model_of_x_fills_x_in_the_form_that_it_has(adata, form):
    adata.X = form(dense(adata.layers["counts"]).astype(np.int32))
    adata.layers["lost"] = dense(adata.layers.pop("counts")) ** 2
    model = build(adata, layer=None)
    both = lc.tl.augment(adata, model)
    assert sparse.issparse(both.X) == sparse.issparse(adata.X)
    assert both.X.dtype == np.int32
    assert (dense(both.X).sum(axis=1) > 0).all()
    assert set(both.layers) <= {None}


def test_continuous_values_keep_their_scale(adata):
    model = build(adata, layer=None)  # log-normalised values: the normal distribution
    assert model.gene_likelihood == "normal"
    both = lc.tl.augment(adata, model)
    expected = model.generate(labels={"c": 35, "b": 25})
    np.testing.assert_allclose(dense(both.X)[60:], expected.X)
    assert set(both.layers) <= {None}  # counts cannot be had from these
    assert "log1p" in both.uns
    assert "library_size" not in both.obs


def test_x_may_be_empty(adata, model):
    del adata.X
    both = lc.tl.augment(adata, model)
    assert both.X is None
    assert both.layers["counts"].shape == (120, 20)


# --- other ways in and out ---


def test_it_follows_the_one_call_verbs(adata):
    model = lc.tl.cvae(adata, "kind", layer="counts", n_latent=3, hidden=(16,), max_epochs=5, progress=False)
    both = lc.tl.augment(adata, model)
    assert sizes(both) == dict.fromkeys("abc", 40)
    assert list(both.obsm) == ["X_cvae"]
    sc.pp.pca(both, n_comps=5)  # as a scanpy user would go on
    sc.pp.neighbors(both)
    assert np.isfinite(both.obsm["X_pca"]).all()


def test_it_goes_through_a_file(adata, model, tmp_path):
    adata.obsm["X_cvae"] = model.get_latent_representation(adata)
    both = lc.tl.augment(adata, model)
    both.write_h5ad(tmp_path / "both.h5ad")
    back = ad.read_h5ad(tmp_path / "both.h5ad")
    np.testing.assert_array_equal(dense(back.X), dense(both.X))
    assert back.obs["is_generated"].tolist() == [False] * 60 + [True] * 60
    assert back.obs["kind"].tolist() == both.obs["kind"].tolist()
    assert back.obs["note"].isna().tolist() == both.obs["note"].isna().tolist()
    assert back.uns["latentcell"]["model"] == "CVAE"


def test_a_view_is_read(adata, model):
    some = adata[10:]
    both = lc.tl.augment(some, model)
    assert some.is_view
    assert both.obs_names[:50].tolist() == adata.obs_names[10:].tolist()


# --- what is refused ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groupby": "batch"}, "groupby='batch'.*labels_key='kind'"),
        ({"target": "equal"}, "target='equal'.*'balance'"),
        ({"target": {"d": 5}}, r"\['d'\] unknown to the model.*'a'"),
        ({"target": {"a": 2.5}}, "'a' must be a whole number, got 2.5"),
        ({"target": -1}, "must be a whole number, got -1"),
        ({"target": 9, "n_cells": 5}, "leave groupby and target out"),
        ({"groupby": "kind", "n_cells": 5}, "leave groupby and target out"),
        ({"genes": ["gene1"]}, "genes cannot be given"),
        ({"output": "mean"}, "output cannot be given"),
        ({"batch": "z"}, "'z'"),
    ],
)
def test_arguments_that_do_not_fit_are_named(adata, model, arguments, message):
    with pytest.raises(DataError, match=message):
        lc.tl.augment(adata, model, **arguments)


def test_fractions_are_not_put_among_counts(adata):
    own = adata.copy()
    lc.model.AE.setup_anndata(own, layer="counts", labels_key="kind")
    model = lc.model.AE(own, n_latent=3, hidden=(16,), gene_likelihood="normal")
    model.train(2, enable_progress_bar=False, accelerator="cpu")
    with pytest.raises(DataError, match=r"layers\['counts'\] holds counts, and this AE generates others"):
        lc.tl.augment(adata, model)


def test_an_autoencoder_and_a_loaded_model_serve_as_well(adata, tmp_path):
    ae = build(adata, lc.model.AE)
    ae.save(tmp_path / "ae")
    both = lc.tl.augment(adata, lc.model.load(tmp_path / "ae"), target={"c": 20})
    assert both.uns["latentcell"]["source"] == "mixture"
    assert sizes(both) == SIZES | {"c": 20}
    np.testing.assert_array_equal(dense(both.X), dense(lc.tl.augment(adata, ae, target={"c": 20}).X))


def test_data_that_do_not_fit_are_named(adata, model, tmp_path):
    with pytest.raises(DataError, match="2 of the model's 20 genes.*'gene0', 'gene1'"):
        lc.tl.augment(adata[:, 2:], model)
    with pytest.raises(DataError, match="no 'counts'"):
        lc.tl.augment(ad.AnnData(adata.X, obs=adata.obs, var=adata.var), model)
    with pytest.raises(DataError, match="obs has no 'kind'"):
        lc.tl.augment(ad.AnnData(obs=adata.obs[["n"]], var=adata.var, layers=dict(adata.layers)), model)
    double = adata.copy()
    double.obs_names = ["one"] * 60
    with pytest.raises(DataError, match="obs_names_make_unique"):
        lc.tl.augment(double, model)
    marked = adata.copy()
    marked.obs["is_generated"] = "no"
    with pytest.raises(DataError, match="rename that column"):
        lc.tl.augment(marked, model)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    with pytest.raises(DataError, match="to_memory"):
        lc.tl.augment(backed, model)
    backed.file.close()
    adata.obs["kind"] = adata.obs["kind"].cat.rename_categories({"c": "z"})
    with pytest.raises(DataError, match="'z' unknown to the model"):
        lc.tl.augment(adata, model)
