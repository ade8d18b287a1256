"""New cells and trained models: genes matched or filled by name, new batches learned, all else unchanged."""

import copy
import json
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

import latentcell as lc
from latentcell._errors import DataError, NotTrainedError

MODELS = ["AE", "VAE", "VSC"]
N_GENES, N_LATENT, HIDDEN = 40, 4, 16
SIZES = {"n_latent": N_LATENT, "hidden": (HIDDEN,)}
QUIET = {"accelerator": "cpu", "enable_progress_bar": False}


def simulate(batches, *, n_cells=120, n_genes=N_GENES, seed=0):
    """Counts of four kinds of cells; in each batch, another third of the genes is measured six times as well.

    The same seed gives the same kinds; what a batch is depends on its name.
    """
    rate = np.random.default_rng(seed).gamma(1.0, 2.0, size=(4, n_genes)) + 0.3
    kind = np.arange(n_cells) % 4
    found = []
    for batch in batches:
        rng = np.random.default_rng([seed, *str(batch).encode()])
        counts = rng.poisson(rate[kind] * np.where(rng.random(n_genes) < 0.3, 6.0, 1.0))
        counts[:, 0] += 1
        obs = {"batch": [batch] * n_cells, "kind": kind.astype(str), "donor": np.where(kind > 1, "d1", "d2")}
        obs["age"] = rng.normal(size=n_cells)
        names = [f"{batch}-{i}" for i in range(n_cells)]
        found.append(
            ad.AnnData(sparse.csr_matrix(counts.astype(np.float32)), obs=pd.DataFrame(obs, index=names))
        )
    cells = ad.concat(found)
    cells.var_names = [f"gene{j}" for j in range(n_genes)]
    return cells


def fit(Model, cells, *, keys=None, max_epochs=3, **arguments):
    Model.setup_anndata(cells, **({"batch_key": "batch"} | (keys or {})))
    model = Model(cells, **(SIZES | arguments))
    model.train(max_epochs, lr=5e-3, **QUIET)
    return model


def state(model):
    return {name: value.clone() for name, value in model.module.state_dict().items()}


def moved(before, after):
    """Which entries of which weights and running means differ."""
    different = {name: (before[name] != after[name]).numpy() for name in before}
    return {name: where for name, where in different.items() if where.any()}


@pytest.fixture(scope="module")
def old():
    """Cells of the reference. Not to be changed."""
    return simulate(["a", "b"])


@pytest.fixture(scope="module")
def new():
    """Cells of a batch that the reference does not know. Not to be changed."""
    return simulate(["c"])


@pytest.fixture(scope="module", params=MODELS)
def Model(request):
    return getattr(lc.model, request.param)


@pytest.fixture(scope="module")
def reference(Model, old):
    """A model whose encoder sees the batch too. Not to be changed."""
    return fit(Model, old.copy(), encode_covariates=True)


@pytest.fixture(scope="module")
def one(old):
    """A model that stands for all where they share the code. Not to be changed."""
    return fit(lc.model.AE, old.copy())


# --- what moves ---


@pytest.mark.parametrize("encode_covariates", [False, True])
def test_training_moves_the_weights_of_the_new_batch_and_nothing_else(Model, old, new, encode_covariates):
    model = fit(Model, old.copy(), encode_covariates=encode_covariates)
    before, codes = state(model), model.get_latent_representation(old)
    reconstruction = model.get_reconstruction(old)
    query = Model.load_query_data(new, model)
    start = state(query)
    np.testing.assert_array_equal(query.get_latent_representation(old), codes)
    # the largest decay that AE has by itself, a rate at which everything would move, several ways to stop
    query.train(5, lr=0.05, weight_decay=2.0, gradient_clip=100.0, early_stopping=True, **QUIET)

    if Model is lc.model.VSC:
        expected = {"decoder.covariate_weight.mean": np.s_[:, 2]}
    else:
        expected = {"decoder.body.layers.0.weight": np.s_[N_LATENT + 2, :]}
        expected["decoder.heads.mean.weight"] = np.s_[:, HIDDEN + 2]
    if encode_covariates:
        expected["encoder.layers.0.weight"] = np.s_[N_GENES + 2, :]
    found = moved(start, state(query))
    assert found.keys() == expected.keys()
    for name, where in found.items():
        assert where[expected[name]].mean() > 0.9  # a unit of the network may be dead
        where[expected[name]] = False
        assert not where.any()

    np.testing.assert_array_equal(query.get_latent_representation(old), codes)
    np.testing.assert_allclose(query.get_reconstruction(old), reconstruction, rtol=1e-5, atol=1e-6)
    assert moved(before, state(model)) == {}
    assert model.spec.batch == ["a", "b"]
    np.testing.assert_array_equal(model.get_latent_representation(old), codes)


@pytest.mark.parametrize("batch_size", [None, 7])
def test_codes_of_known_batches_keep_their_bits_at_the_size_of_real_data(batch_size):
    """A product over more columns adds in another order: 2,000 genes show it, 40 do not."""
    old, new = (simulate(batches, n_cells=50, n_genes=2000) for batches in (["a", "b"], ["c", "d"]))
    model = fit(lc.model.VAE, old, encode_covariates=True, max_epochs=1, hidden=(128,))
    query = lc.model.VAE.load_query_data(new, model)
    query.train(1, **QUIET)
    mixed = old[np.random.default_rng(0).permutation(old.n_obs)].copy()
    for cells in (old, mixed, old[:2]):
        np.testing.assert_array_equal(
            query.get_latent_representation(cells, batch_size=batch_size),
            model.get_latent_representation(cells, batch_size=batch_size),
        )


def test_only_the_latent_is_in_training_mode(reference, Model, new):
    query = Model.load_query_data(new, reference)
    query.module.train()
    training = {name for name, part in query.module.named_modules() if part.training}
    assert training == {name for name, _ in query.module.named_modules() if name.startswith("latent")}
    query.module.eval()
    assert not any(part.training for part in query.module.modules())


def test_all_other_columns_stay_where_they_belong(Model, old, new):
    """Batch columns are followed by those of covariates, in the encoder and in the decoder."""
    keys = {"categorical_covariate_keys": ["donor"], "continuous_covariate_keys": ["age"]}
    model = fit(Model, old.copy(), keys=keys, encode_covariates=True)
    query = Model.load_query_data(new, model)
    query.train(2, lr=0.05, **QUIET)
    np.testing.assert_array_equal(query.get_latent_representation(old), model.get_latent_representation(old))
    np.testing.assert_allclose(
        query.get_reconstruction(old), model.get_reconstruction(old), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("hidden", [(), (12, 6)])
def test_networks_of_any_depth(Model, old, new, hidden):
    arguments = {"hidden": hidden, "head_sizes": (5,) if hidden else ()}
    if Model is lc.model.VSC:
        arguments["decoder"] = "mlp"
    model = fit(Model, old.copy(), encode_covariates=True, **arguments)
    query = Model.load_query_data(new, model)
    before = query.get_reconstruction_error()
    query.train(3, lr=0.05, weight_decay=2.0, **QUIET)
    assert query.get_reconstruction_error() < before
    np.testing.assert_allclose(
        query.get_latent_representation(old), model.get_latent_representation(old), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        query.get_reconstruction(old), model.get_reconstruction(old), rtol=1e-4, atol=1e-5
    )


def test_dispersions_of_the_new_batch_are_learned(Model, old, new):
    model = fit(Model, old.copy(), gene_likelihood="nb", dispersion="gene-batch")
    query = Model.load_query_data(new, model)
    start, known = query.module.likelihood.log_theta.detach().clone(), model.module.likelihood.log_theta
    assert start.shape == (3, N_GENES)
    torch.testing.assert_close(start[:2], known.detach(), rtol=0, atol=0)
    torch.testing.assert_close(start[2], known.detach().mean(0))
    query.train(2, **QUIET)
    end = query.module.likelihood.log_theta.detach()
    torch.testing.assert_close(end[:2], start[:2], rtol=0, atol=0)
    assert (end[2] != start[2]).all()


def test_a_new_batch_starts_as_the_mean_of_the_known_ones(reference, Model, new):
    query = Model.load_query_data(new, reference)
    for name, value in query.module.state_dict().items():
        before = reference.module.state_dict()[name]
        if value.shape != before.shape:
            (dim,) = [d for d in (0, 1) if value.shape[d] != before.shape[d]]
            at = before.shape[dim]
            column = value.select(dim, at)
            torch.testing.assert_close(column, before.narrow(dim, at - 2, 2).mean(dim))


def test_unfrozen_moves_everything(reference, Model, old, new):
    query = Model.load_query_data(new, reference, unfrozen=True)
    start, codes = state(query), query.get_latent_representation(old)
    np.testing.assert_array_equal(codes, reference.get_latent_representation(old))
    query.train(2, **QUIET)
    assert moved(start, state(query)).keys() >= {name for name, _ in query.module.named_parameters()}
    assert not np.allclose(query.get_latent_representation(old), codes)


def test_a_copy_is_frozen_too(reference, Model, old, new):
    query = copy.deepcopy(Model.load_query_data(new, reference))
    query.train(2, lr=0.05, weight_decay=2.0, **QUIET)
    np.testing.assert_array_equal(
        query.get_latent_representation(old), reference.get_latent_representation(old)
    )


# --- what it is good for ---


def test_training_fits_the_new_batch(Model, old, new):
    model = fit(Model, old.copy(), max_epochs=25)
    query = Model.load_query_data(new, model)
    before = query.get_reconstruction_error()
    query.train(30, lr=0.02, **QUIET)
    after = query.get_reconstruction_error()
    own = model.get_reconstruction_error()
    assert after < before - 0.2 * (before - own)
    curve = query.history["reconstruction_loss_train"].to_numpy()[:, 0]
    assert curve[-1] < curve[0]


def test_codes_come_nearer_to_those_of_their_kind():
    """Distance to the mean code of the own kind, over that to the nearest other; 6 of 6 seeds of a VAE."""
    old, new = simulate(["a", "b"]), simulate(["c"])
    model = fit(lc.model.VAE, old, encode_covariates=True, max_epochs=40, hidden=(32,))
    query = lc.model.VAE.load_query_data(new, model)
    kinds = np.unique(old.obs["kind"])
    codes = model.get_latent_representation()
    means = np.stack([codes[old.obs["kind"] == kind].mean(0) for kind in kinds])

    def ratio():
        distances = np.linalg.norm(query.get_latent_representation()[:, None] - means, axis=2)
        own = new.obs["kind"].to_numpy()[:, None] == kinds
        return distances[own].mean() / np.where(own, np.inf, distances).min(1).mean()

    before = ratio()
    query.train(50, lr=0.02, **QUIET)
    assert ratio() < 0.95 * before


# --- what comes out ---


def test_a_query_model_is_at_once_as_good_as_the_reference(reference, Model, new):
    query = Model.load_query_data(new, reference)
    assert query.adata is new
    assert query.spec.batch == ["a", "b", "c"]
    assert query.summary_stats["n_batch"] == 3
    assert query.history is None
    assert query.train_defaults == reference.train_defaults
    codes = query.get_latent_representation()
    assert codes.shape == (new.n_obs, N_LATENT)
    assert np.isfinite(codes).all()
    assert [key for key in (*new.obs, *new.obsm, *new.uns) if key.startswith("_scvi")] == []


def test_the_encoder_that_is_not_told_the_batch_gives_the_same_codes_after_training(one, old, new):
    query = lc.model.AE.load_query_data(new, one)
    before = query.get_latent_representation()
    query.train(3, lr=0.05, **QUIET)
    np.testing.assert_array_equal(query.get_latent_representation(), before)
    as_known = new.copy()
    as_known.obs["batch"] = "a"
    np.testing.assert_array_equal(one.get_latent_representation(as_known), before)


def test_genes_in_any_order_and_cells_of_old_and_new_batches(reference, Model, old, new):
    both = ad.concat([new, old[:30]])
    shuffled = both[:, ::-1].copy()
    query, other = (Model.load_query_data(cells, reference) for cells in (both, shuffled))
    for model in (query, other):
        model.train(2, seed=1, **QUIET)
    np.testing.assert_array_equal(query.get_latent_representation(), other.get_latent_representation())
    assert query.spec.batch == ["a", "b", "c"]


def test_a_query_model_can_be_the_reference_of_the_next(reference, Model, old, new):
    first = Model.load_query_data(new, reference)
    first.train(2, lr=0.05, **QUIET)
    third = simulate(["e", "d"])
    second = Model.load_query_data(third, first)
    assert second.spec.batch == ["a", "b", "c", "d", "e"]
    start = state(second)
    second.train(2, lr=0.05, **QUIET)
    rows = moved(start, state(second))["encoder.layers.0.weight"].any(1)
    assert np.flatnonzero(rows).tolist() == [N_GENES + 3, N_GENES + 4]
    both = ad.concat([old, new])
    np.testing.assert_array_equal(
        second.get_latent_representation(both), first.get_latent_representation(both)
    )


@pytest.mark.parametrize(
    ("known", "added", "expected"),
    [
        (["a", "b"], [7], ["a", "b", 7]),
        ([1, 2], [10, 9], [1, 2, 10, 9]),
        ([True], [False], [True, False]),
        ([0.5, 2.0], ["x y\n'"], [0.5, 2.0, "x y\n'"]),
    ],
    ids=str,
)
def test_batches_of_any_kind(known, added, expected, tmp_path):
    old, new = (simulate(batches, n_cells=12) for batches in (known, added))
    query = lc.model.AE.load_query_data(new, fit(lc.model.AE, old))
    query.save(tmp_path / "query")
    for model in (query, lc.model.load(tmp_path / "query", new)):
        assert model.spec.batch == expected
        assert [type(value) for value in model.spec.batch] == [type(value) for value in expected]
        np.testing.assert_array_equal(model.get_reconstruction(), query.get_reconstruction())


FORMATS = {
    "dense": lambda X: X.toarray(),
    "csr": lambda X: X,
    "csc": sparse.csc_matrix,
    "csr array": sparse.csr_array,
    "csc array": sparse.csc_array,
}


@pytest.fixture(params=[*FORMATS, *(f"backed {kind}" for kind in ("dense", "csr", "csc")), "view"])
def as_format(request, tmp_path):
    """Turns an AnnData into one with the same numbers in another kind of matrix."""
    opened = []

    def convert(cells):
        if request.param == "view":
            more = ad.concat([cells, cells], index_unique="-", keys=["first", "second"])
            return more[: cells.n_obs]
        backed = request.param.startswith("backed ")
        found = cells.copy()
        found.X = FORMATS[request.param.removeprefix("backed ")](cells.X)
        if not backed:
            return found
        found.write_h5ad(tmp_path / "cells.h5ad")
        opened.append(ad.read_h5ad(tmp_path / "cells.h5ad", backed="r"))
        return opened[-1]

    yield convert
    for cells in opened:
        cells.file.close()


def test_every_kind_of_matrix_gives_the_same_query(one, new, as_format):
    expected = lc.model.AE.load_query_data(new, one)
    expected.train(2, seed=0, **QUIET)
    query = lc.model.AE.load_query_data(as_format(new), one)
    query.train(2, seed=0, **QUIET)
    np.testing.assert_array_equal(query.get_reconstruction(new), expected.get_reconstruction(new))


# --- saved ---


def test_a_saved_query_model_is_the_same_and_stays_frozen(reference, Model, old, new, tmp_path):
    query = Model.load_query_data(new, reference)
    query.train(2, lr=0.05, **QUIET)
    query.save(tmp_path / "query")
    loaded = lc.model.load(tmp_path / "query", new)
    for cells in (old, new):
        np.testing.assert_array_equal(
            loaded.get_latent_representation(cells), query.get_latent_representation(cells)
        )
        np.testing.assert_array_equal(loaded.get_reconstruction(cells), query.get_reconstruction(cells))
    start = state(loaded)
    for model in (loaded, query):
        model.train(2, lr=0.05, weight_decay=2.0, seed=3, **QUIET)
    found = moved(start, state(loaded))
    assert set(found) == set(query.module.free)
    np.testing.assert_array_equal(
        loaded.get_latent_representation(old), reference.get_latent_representation(old)
    )
    assert moved(state(loaded), state(query)) == {}


def test_a_folder_is_as_good_as_a_model(reference, Model, new, tmp_path):
    reference.save(tmp_path / "reference")
    files = {path: path.read_bytes() for path in (tmp_path / "reference").iterdir()}
    expected = Model.load_query_data(new, reference)
    for given in (tmp_path / "reference", str(tmp_path / "reference")):
        query = Model.load_query_data(new, given)
        assert moved(state(expected), state(query)) == {}
        assert query.module.free == expected.module.free
        prepared = Model.prepare_query_anndata(new, given)
        np.testing.assert_array_equal(prepared.X.toarray(), new.X.toarray())
    assert {path: path.read_bytes() for path in files} == files


def test_models_that_are_not_frozen_are_saved_as_ever(reference, Model, new, tmp_path):
    for name, model in {
        "reference": reference,
        "unfrozen": Model.load_query_data(new, reference, unfrozen=True),
    }.items():
        model.save(tmp_path / name)
        assert "free" not in json.loads((tmp_path / name / "model.json").read_text())
        loaded = Model.load(tmp_path / name, new if name == "unfrozen" else None)
        assert loaded.module.free is None
        assert all(parameter.requires_grad for parameter in loaded.module.parameters())


# --- refusals ---


def test_a_reference_without_batches_has_nothing_to_learn(old, new):
    model = fit(lc.model.AE, old.copy(), keys={"batch_key": None}, max_epochs=1)
    with pytest.raises(DataError, match=r"without batch_key.*get_latent_representation\(adata\)"):
        lc.model.AE.load_query_data(new, model)
    assert model.get_latent_representation(new).shape == (new.n_obs, N_LATENT)


def test_known_batches_leave_nothing_to_train(one, old):
    query = lc.model.AE.load_query_data(old, one)
    np.testing.assert_array_equal(query.get_reconstruction(), one.get_reconstruction())
    with pytest.raises(DataError, match=r"nothing to train.*unfrozen=True"):
        query.train(1, **QUIET)
    free = lc.model.AE.load_query_data(old, one, unfrozen=True)
    free.train(1, **QUIET)


def test_an_untrained_reference_is_refused(old, new):
    cells = old.copy()
    lc.model.AE.setup_anndata(cells, batch_key="batch")
    with pytest.raises(NotTrainedError, match=r"call train\(\) first"):
        lc.model.AE.load_query_data(new, lc.model.AE(cells, **SIZES))


@pytest.mark.parametrize("method", ["load_query_data", "prepare_query_anndata"])
def test_another_class_is_refused(one, new, method, tmp_path):
    for given, name in [(one, "AE"), (new, "AnnData"), (None, "NoneType")]:
        with pytest.raises(DataError, match=f"must be a VAE or the folder of a saved one, got a {name}"):
            getattr(lc.model.VAE, method)(new, given)
    one.save(tmp_path / "ae")
    with pytest.raises(ValueError, match="holds a AE, not a VAE"):
        getattr(lc.model.VAE, method)(new, tmp_path / "ae")


def test_new_labels_and_covariates_are_named(old, new):
    keys = {"labels_key": "kind", "categorical_covariate_keys": ["donor"]}
    model = fit(lc.model.AE, old.copy(), keys=keys, max_epochs=1, dispersion="gene-label")
    for key in ("kind", "donor"):
        cells = new.copy()
        cells.obs.loc[cells.obs_names[3], key] = "martian"
        with pytest.raises(DataError, match=rf"obs\['{key}'\] holds 'martian', unknown to the model"):
            lc.model.AE.load_query_data(cells, model)


def test_missing_keys_genes_and_values_are_named(one, new):
    with pytest.raises(DataError, match=r"obs has no 'batch' \(batch_key='batch'\)"):
        lc.model.AE.load_query_data(ad.AnnData(new.X, var=new.var), one)
    with pytest.raises(DataError, match="2 of the model's 40 genes are not in adata.var_names: 'gene0'"):
        lc.model.AE.load_query_data(new[:, 2:].copy(), one)
    cells = new.copy()
    cells.obs.loc["c-3", "batch"] = np.nan
    with pytest.raises(DataError, match="missing for 1 cells, e.g. 'c-3'"):
        lc.model.AE.load_query_data(cells, one)


def test_a_batch_that_differs_in_type_only_is_refused():
    model = fit(lc.model.AE, simulate([1, 2], n_cells=12), max_epochs=1)
    with pytest.raises(DataError, match=r"obs\['batch'\] holds '2', which the model knows as 2;.*: int"):
        lc.model.AE.load_query_data(simulate(["2"], n_cells=12), model)


# --- genes ---


def test_genes_are_taken_by_name_and_missing_ones_are_0(one, new, as_format):
    more = new.copy()
    more.var_names = [f"other{j}" for j in range(N_GENES)]
    both = ad.concat([new[:, 10:], more], axis=1, merge="first")
    cells = as_format(both[:, np.random.default_rng(0).permutation(both.n_vars)].copy())
    prepared = lc.model.AE.prepare_query_anndata(cells, one)

    expected = new.X.toarray()
    expected[:, :10] = 0.0
    assert prepared.var_names.tolist() == new.var_names.tolist()
    assert prepared.var["is_filled"].tolist() == [True] * 10 + [False] * 30
    assert prepared.var["is_filled"].dtype == bool
    pd.testing.assert_frame_equal(prepared.obs, pd.DataFrame(cells.obs))
    assert not prepared.is_view
    assert not prepared.isbacked
    found = prepared.X.toarray() if sparse.issparse(prepared.X) else prepared.X
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32
    kind = getattr(cells.X, "format", None)
    assert getattr(prepared.X, "format", None) == kind
    if kind is not None:
        assert prepared.X.has_sorted_indices
        assert prepared.X.nnz == np.count_nonzero(expected)
    with pytest.raises(DataError, match="10 of the model's 40 genes are not in"):
        one.get_latent_representation(cells)
    assert lc.model.AE.load_query_data(prepared, one).get_latent_representation().shape == (120, N_LATENT)


def test_nothing_is_filled_where_nothing_is_missing(one, new):
    before = new.copy()
    prepared = lc.model.AE.prepare_query_anndata(new[:, ::-1], one)
    assert not prepared.var["is_filled"].any()
    np.testing.assert_array_equal(prepared.X.toarray(), new.X.toarray())
    prepared.X[0, 0] = 99.0
    prepared.obs["batch"] = "z"
    np.testing.assert_array_equal(new.X.toarray(), before.X.toarray())
    pd.testing.assert_frame_equal(new.obs, before.obs)


@pytest.mark.parametrize("dtype", [np.int64, np.float64, np.uint8, np.float32])
@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_numbers_keep_their_type(one, new, dtype, kind):
    cells = new[:, 1:].copy()
    cells.X = FORMATS[kind](cells.X.astype(dtype))
    prepared = lc.model.AE.prepare_query_anndata(cells, one)
    assert prepared.X.dtype == dtype
    assert prepared.X.sum() == cells.X.sum()


def test_the_layer_that_the_model_reads_is_taken(old, new):
    def moved_to_layer(cells):
        cells = cells.copy()
        cells.layers["counts"], cells.layers["other"] = cells.X, cells.X * 2
        cells.X = np.full(cells.shape, -1.0, dtype=np.float32)
        return cells

    model = fit(lc.model.AE, moved_to_layer(old), keys={"layer": "counts"}, max_epochs=1)
    prepared = lc.model.AE.prepare_query_anndata(moved_to_layer(new)[:, 5:], model)
    assert prepared.X is None
    assert list(prepared.layers) == ["counts"]
    np.testing.assert_array_equal(prepared.layers["counts"][:, 5:].toarray(), new.X[:, 5:].toarray())
    assert prepared.layers["counts"][:, :5].nnz == 0
    query = lc.model.AE.load_query_data(prepared, model)
    query.train(1, **QUIET)
    with pytest.raises(DataError, match=r"layers has no 'counts'; there are \[\]"):
        lc.model.AE.prepare_query_anndata(new, model)


def test_too_few_genes_are_refused_with_figures_and_names(one, new):
    half = lc.model.AE.prepare_query_anndata(new[:, 20:], one)
    assert half.var["is_filled"].sum() == 20
    with pytest.raises(
        DataError,
        match=r"only 19 of the model's 40 genes \(48%\) .*at least 50% .*missing are 'gene0', .*'gene4', \.",
    ):
        lc.model.AE.prepare_query_anndata(new[:, 21:], one)


def test_repeated_genes_are_refused(one, new):
    cells = new.copy()
    cells.var_names = ["gene1", *cells.var_names[1:]]
    with pytest.raises(DataError, match="1 gene names occur more than once, e.g. 'gene1'"):
        lc.model.AE.prepare_query_anndata(cells, one)


@pytest.mark.data
def test_real_batches_of_another_protocol(data_dir: Path):
    """Drop-seq cells of three lines, mapped to CEL-seq2 cells of five."""
    cells = ad.read_h5ad(data_dir / "cellmix_batches.h5ad")
    cells.obs["batch"] = cells.obs["batch"].astype(str)
    old = cells[cells.obs["protocol"] == "CEL-seq2"].copy()
    new = cells[cells.obs["protocol"] == "Drop-seq"].copy()
    model = fit(lc.model.VAE, old, encode_covariates=True, max_epochs=30, n_latent=10, hidden=(64,))
    query = lc.model.VAE.load_query_data(new, model)
    before = query.get_reconstruction_error()
    query.train(40, **QUIET)
    assert query.get_reconstruction_error() < before - 20
    np.testing.assert_array_equal(query.get_latent_representation(old), model.get_latent_representation(old))
    codes, known = query.get_latent_representation(), model.get_latent_representation()
    nearest = np.linalg.norm(codes[:, None] - known, axis=2).argmin(1)
    hits = old.obs["cell_type"].to_numpy()[nearest] == new.obs["cell_type"].to_numpy()
    assert hits.mean() > 0.95
