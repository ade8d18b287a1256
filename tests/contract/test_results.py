"""What comes out: shapes, units, orders; nothing is written, and nothing hangs on how cells are batched."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse, stats

from latentcell._errors import DataError, NotTrainedError


def per_cell(model, method, *args, **kwargs):
    """An array with a row per cell, whatever the method calls its arguments."""
    if method in ("get_elbo", "get_reconstruction_error", "get_marginal_ll"):
        kwargs["return_mean"] = False
    if method in ("get_elbo", "get_marginal_ll"):
        kwargs["n_samples" if method == "get_elbo" else "n_mc_samples"] = 16
    if method == "get_normalized_expression":
        kwargs["return_numpy"] = True
    if method == "get_denoised" and "batch_size" in kwargs:
        kwargs["chunk_size"] = kwargs.pop("batch_size")
    return getattr(model, method)(*args, **kwargs)


def fingerprint(adata):
    """Everything an AnnData holds, as text and bytes."""
    record = {"obs": adata.obs.to_csv(), "var": adata.var.to_csv(), "uns": repr(adata.uns)}
    matrices = {"X": adata.X, **adata.layers, **adata.obsm, **adata.varm, **adata.obsp, **adata.varp}
    for name, values in matrices.items():
        parts = (
            (values.data, values.indices, values.indptr) if sparse.issparse(values) else (np.asarray(values),)
        )
        record[f"matrix {name}"] = [(part.dtype.str, part.shape, part.tobytes()) for part in parts]
    return record


def test_an_untrained_model_says_so(make, Model, cells, method):
    model = make.build(Model, cells)
    with pytest.raises(NotTrainedError, match=rf"{Model.__name__} has not been trained; call train\(\)"):
        getattr(model, method)()


def test_results_are_float32_with_a_row_per_cell(trained, new_cells, method):
    values = per_cell(trained, method, new_cells)
    genes = ("get_reconstruction", "get_denoised", "get_normalized_expression")
    numbers = ("get_elbo", "get_marginal_ll", "get_reconstruction_error")
    columns = (20,) if method in genes else () if method in numbers else (3,)
    assert values.shape == (55, *columns)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()


def test_nothing_is_written_by_looking(trained, new_cells, method):
    adata = new_cells.copy()
    before = fingerprint(adata)
    getattr(trained, method)(adata)
    getattr(trained, method)(adata, indices=[4, 2])
    assert fingerprint(adata) == before


def test_looking_twice_gives_the_same_bits(trained, new_cells, method):
    first = per_cell(trained, method, new_cells)
    torch.rand(3)
    np.testing.assert_array_equal(per_cell(trained, method, new_cells), first)


def test_looking_leaves_global_random_states_alone(trained, new_cells, method):
    before = torch.get_rng_state(), str(np.random.get_state())  # noqa: NPY002
    getattr(trained, method)(new_cells)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert str(np.random.get_state()) == before[1]  # noqa: NPY002


@pytest.mark.parametrize("batch_size", [1, 2, 27, 54, 1000])
def test_batch_size_has_no_influence(trained, new_cells, method, batch_size):
    whole = per_cell(trained, method, new_cells)
    parts = per_cell(trained, method, new_cells, batch_size=batch_size)
    if method in ("get_elbo", "get_marginal_ll"):  # measured on draws, which differ
        assert abs((parts - whole).mean()) < 1
    elif method == "get_normalized_expression":
        assert np.corrcoef(np.log(parts).ravel(), np.log(whole).ravel())[0, 1] > 0.7
    else:
        np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-5)


def test_without_cells_the_models_own_are_taken(trained, method):
    own = per_cell(trained, method)
    np.testing.assert_array_equal(own, per_cell(trained, method, trained.adata.copy()))
    assert len(own) == 60


def test_means_are_means_over_cells(trained, new_cells, Model):
    for method in ("get_reconstruction_error", "get_elbo", "get_marginal_ll"):
        if hasattr(Model, method):
            mean = getattr(trained, method)(new_cells)
            assert isinstance(mean, float)
            values = getattr(trained, method)(new_cells, return_mean=False)
            assert mean == pytest.approx(values.mean(), rel=1e-5)


# --- reconstruction ---


def test_reconstructed_counts_follow_the_cells_depth_and_codes_do_not(trained, new_cells):
    deeper = new_cells.copy()
    deeper.X = deeper.X * 3
    expected = trained.get_reconstruction(new_cells)
    assert (expected > 0).all()
    np.testing.assert_allclose(trained.get_reconstruction(deeper), 3 * expected, rtol=1e-3)
    codes = trained.get_latent_representation(new_cells)
    np.testing.assert_allclose(trained.get_latent_representation(deeper), codes, rtol=1e-3, atol=1e-4)


def test_size_factor_stands_for_the_total_count(make, Model, cells, trained):
    cells.obs["total"] = np.asarray(cells.X.sum(1)).ravel()
    model = make.train(Model, cells, keys={"size_factor_key": "total"})
    np.testing.assert_array_equal(model.get_reconstruction(), trained.get_reconstruction())
    other = cells.copy()
    other.obs["total"] *= 2
    assert not np.allclose(model.get_reconstruction(other), model.get_reconstruction(), rtol=0.05)


@pytest.mark.parametrize("layer", ["unit", "log"])
def test_reconstruction_has_the_unit_of_the_data(make, Model, any_data, cells, layer):
    """At the start the decoder gives the data's mean; after training too, about."""
    model = make.train(Model, cells, keys={"layer": layer}, max_epochs=30, train_arguments={"lr": 0.01})
    reconstruction = model.get_reconstruction()
    if layer == "unit":
        assert (reconstruction > 0).all()
        assert (reconstruction < 1).all()
    data = cells.layers[layer]
    np.testing.assert_allclose(reconstruction.mean(0), data.mean(0), atol=0.35 * data.mean())
    assert stats.pearsonr(reconstruction.mean(0), data.mean(0)).statistic > 0.9


def test_reconstruction_error_is_the_likelihood_of_the_data_at_the_reconstruction(trained, new_cells):
    mu = trained.get_reconstruction(new_cells)
    theta = trained.module.likelihood.theta().detach().numpy()
    by_hand = -stats.nbinom.logpmf(new_cells.X.toarray(), theta, theta / (theta + mu)).sum(1)
    np.testing.assert_allclose(
        trained.get_reconstruction_error(new_cells, return_mean=False), by_hand, rtol=1e-4
    )


def test_genes_asked_for_come_in_their_order(trained, new_cells):
    whole = trained.get_reconstruction(new_cells)
    some = trained.get_reconstruction(new_cells, gene_list=["gene7", "gene0"], indices=[9, 3])
    np.testing.assert_allclose(some, whole[[9, 3]][:, [7, 0]], rtol=1e-5)
    with pytest.raises(DataError, match=r"does not have these genes: \['gene99'\]"):
        trained.get_reconstruction(new_cells, gene_list=["gene1", "gene99"])


# --- covariates ---


def test_covariates_reach_the_decoder(with_covariates, new_cells):
    expected = with_covariates.get_reconstruction(new_cells)
    for key, change in (
        ("batch", lambda column: column.cat.rename_categories({"Zürich": "北京", "北京": "Zürich"})),
        ("donor", lambda column: 30 - column),
        ("age", lambda column: column + 50),
    ):
        moved = new_cells.copy()
        moved.obs[key] = change(moved.obs[key])
        other = with_covariates.get_reconstruction(moved)
        assert np.abs(other - expected).max() > 1e-3, key
        codes = with_covariates.get_latent_representation(moved)
        np.testing.assert_array_equal(codes, with_covariates.get_latent_representation(new_cells))


def test_covariates_reach_the_encoder_if_asked(make, Model, cells):
    model = make.train(Model, cells, keys=make.KEYS, encode_covariates=True)
    look = getattr(model, "get_inclusion_probability", model.get_latent_representation)
    moved = cells.copy()
    moved.obs["batch"] = moved.obs["batch"].cat.rename_categories({"Zürich": "北京", "北京": "Zürich"})
    assert not np.allclose(look(moved), look(cells))


def test_labels_have_a_say_in_conditional_models_only(with_covariates, new_cells):
    moved = new_cells.copy()
    moved.obs["label"] = pd.Categorical(["1"] * 55)
    same = np.array_equal(
        with_covariates.get_reconstruction(moved), with_covariates.get_reconstruction(new_cells)
    )
    assert same != with_covariates.module.uses_labels
    del moved.obs["label"]
    if same:
        assert np.isfinite(with_covariates.get_reconstruction(moved)).all()
    else:
        with pytest.raises(DataError, match="obs has no 'label'"):
            with_covariates.get_reconstruction(moved)


# --- posterior ---


def test_posterior_and_draws(variational, new_cells):
    trained = variational
    mean, variance = trained.get_latent_representation(new_cells, return_dist=True)
    assert mean.shape == variance.shape == (55, 3)
    assert (variance > 0).all()
    draw = trained.get_latent_representation(new_cells, give_mean=False, seed=5)
    np.testing.assert_array_equal(draw, trained.get_latent_representation(new_cells, give_mean=False, seed=5))
    assert not np.array_equal(draw, trained.get_latent_representation(new_cells, give_mean=False, seed=6))
    assert not np.array_equal(draw, trained.get_latent_representation(new_cells))


def test_elbo_is_seeded_and_steadier_with_more_draws(variational, new_cells):
    trained = variational
    assert trained.get_elbo(new_cells, seed=1) == trained.get_elbo(new_cells, seed=1)
    assert trained.get_elbo(new_cells, seed=1) != trained.get_elbo(new_cells, seed=2)
    one = [trained.get_elbo(new_cells, seed=s) for s in range(12)]
    many = [trained.get_elbo(new_cells, seed=s, n_samples=16) for s in range(12)]
    assert np.std(many) < 0.6 * np.std(one)
    assert np.mean(many) == pytest.approx(np.mean(one), abs=4 * np.std(one) / 12**0.5)


@pytest.mark.parametrize("n_samples", [0, -1])
def test_an_elbo_needs_draws(variational, n_samples):
    with pytest.raises(DataError, match=f"n_samples must be at least 1, got {n_samples}"):
        variational.get_elbo(n_samples=n_samples)


# --- description ---


@pytest.mark.parametrize("arguments", [{}, {"hidden": (9, 5)}, {"hidden": (9, 5), "head_sizes": (4,)}])
def test_architecture_leads_from_the_genes_to_the_genes(make, Model, any_data, cells, arguments):
    model = make.build(Model, cells, **arguments)
    layers = model.get_architecture()
    assert all(set(layer) == {"part", "name", "size", "detail", "branch"} for layer in layers)
    assert (layers[0]["part"], layers[0]["size"]) == ("input", 20)
    assert (layers[-1]["part"], layers[-1]["size"]) == ("output", 20)
    parts = [layer["part"] for layer in layers]
    assert parts == sorted(parts, key=["input", "encoder", "latent", "decoder", "output"].index)
    shared = [layer["size"] for layer in layers if layer["part"] == "encoder" and layer["branch"] is None]
    assert shared == list(arguments.get("hidden", (8,)))
    heads = {
        layer["branch"] for layer in layers if layer["part"] == "encoder" and layer["branch"] is not None
    }
    assert heads == (set(model.module.latent.names) if "head_sizes" in arguments else set())
    code = [layer for layer in layers if layer["part"] == "latent"][-1]
    assert (code["name"], code["size"]) == ("code", 3)


def test_description_names_the_model(trained, Model, capsys):
    print(trained)  # noqa: T201
    shown = capsys.readouterr().out
    assert f"{Model.__name__} with 3 latent dimensions" in shown
    assert "Trained" in shown


def test_a_new_anndata_needs_no_set_up(trained, new_cells):
    needed = new_cells.obs[["label"]] if trained.module.uses_labels else None
    bare = ad.AnnData(new_cells.X.copy(), obs=needed, var=new_cells.var.copy())
    np.testing.assert_array_equal(
        trained.get_latent_representation(bare), trained.get_latent_representation(new_cells)
    )
