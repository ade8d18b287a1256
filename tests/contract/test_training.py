"""Training of networks: what their history holds, presets, precision, sparse cells."""

import numpy as np
import pytest
import torch
from scipy import sparse

from latentcell._errors import DataError


def codes(model):
    return model.get_latent_representation()


def test_nothing_is_printed_past_python_either(make, Model, cells, capfd):
    model = make.train(Model, cells, train_arguments={"early_stopping": True, "train_size": 0.8})
    codes(model)
    assert capfd.readouterr() == ("", "")
    assert not model.module.training


# --- history ---


def test_history_holds_every_term_and_schedule(make, Model, cells):
    model = make.build(Model, cells)
    model.train(4, train_size=0.75, enable_progress_bar=False)
    history = model.history
    penalties = [penalty.name for penalty in model.module.penalties]
    terms = ["reconstruction_loss", *model.module.latent.kl_terms, *penalties, "kl_local", "elbo"]
    parts = [f"{term}_{part}" for term in terms for part in ("train", "validation")]
    expected = {*parts, "train_loss", "validation_loss", "lr", *model.module.schedule_values(1.0)}
    assert set(history) == expected
    for part in ("train", "validation"):
        kl = sum((history[f"{term}_{part}"].iloc[:, 0] for term in model.module.latent.kl_terms), start=0.0)
        total = history[f"reconstruction_loss_{part}"].iloc[:, 0] + kl
        np.testing.assert_allclose(history[f"elbo_{part}"].iloc[:, 0], total, rtol=1e-6)
    for name, value in model.module.schedule_values(1.0).items():
        assert history[name][name].iloc[-1] == pytest.approx(value)  # every schedule reached its end


def test_a_model_from_a_preset_trains_with_it(Model, cells):
    for preset in Model.PRESETS:
        likelihood = Model.PRESETS[preset]["model"]["gene_likelihood"]
        Model.setup_anndata(cells, layer=None if likelihood in ("nb", "zinb") else "log")
        model = Model.from_preset(preset, cells, n_latent=2)
        assert model.params["n_latent"] == 2
        for name, value in Model.PRESETS[preset]["train"].items():
            assert model.train_defaults[name] == value
        model.train(1, enable_progress_bar=False)
        assert codes(model).shape == (60, 2)
    with pytest.raises(DataError, match=f"{Model.__name__} has no preset 'best'; there are"):
        Model.from_preset("best", cells)


# --- precision ---


def mostly_zeros(cells):
    """Sparse counts of which a tenth is not zero: what training reads without making it dense."""
    rng = np.random.default_rng(0)
    counts = np.where(rng.random(cells.shape) < 0.1, rng.poisson(3.0, cells.shape) + 1, 0)
    counts[:, 0] += 1
    cells = cells.copy()
    cells.X = sparse.csr_matrix(counts.astype(np.float32))
    return cells


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_sparse_and_dense_cells_train_alike_in_every_precision(
    make, Model, any_data, any_likelihood, cells, precision
):
    found = mostly_zeros(cells)
    dense = found.copy()
    dense.X = found.X.toarray()
    first = make.train(Model, found, train_arguments={"precision": precision}, gene_likelihood="normal")
    second = make.train(Model, dense, train_arguments={"precision": precision}, gene_likelihood="normal")
    # the weights: codes of sparse and of dense cells are computed by different products
    theirs = dict(second.module.named_parameters())
    for name, weights in first.module.named_parameters():
        assert torch.equal(weights, theirs[name]), name


def test_sparse_and_dense_cells_train_alike(make, Model, any_data, any_likelihood, cells):
    found = mostly_zeros(cells)
    dense = found.copy()
    dense.X = found.X.toarray()
    # the more a small KL weighs, the more its rounding moves the weights: VAE(beta=4) does not pass either
    weight = {"beta": 1.0} if Model.__name__ == "DisentangledVAE" else {}
    for likelihood in ("normal", "nb"):
        first = make.train(Model, found, gene_likelihood=likelihood, **weight)
        second = make.train(Model, dense, gene_likelihood=likelihood, **weight)
        for name, curve in first.history.items():
            # Adam turns rounding into steps where a gradient is 0, as before batch norm: not to the last bit
            np.testing.assert_allclose(curve, second.history[name], rtol=3e-3, atol=1e-4, err_msg=name)


def test_a_model_trained_in_double_precision_is_saved_and_used_as_any(
    make, Model, any_data, any_likelihood, cells, tmp_path
):
    model = make.train(Model, cells, train_arguments={"precision": "64-true"})
    assert {weights.dtype for weights in model.module.parameters()} == {torch.float32}
    codes = model.get_latent_representation()
    assert codes.dtype == np.float32
    model.save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model", cells)
    np.testing.assert_array_equal(loaded.get_latent_representation(), codes)
    drawn, again = model.generate(5), loaded.generate(5)
    np.testing.assert_array_equal(
        *(new.X.toarray() if sparse.issparse(new.X) else new.X for new in (drawn, again))
    )


@pytest.mark.parametrize("precision", ["16-true", "bf16-true"])
def test_weights_in_half_precision_are_refused(make, Model, cells, precision):
    with pytest.raises(DataError, match="bf16-mixed"):
        make.train(Model, cells, train_arguments={"precision": precision})


def test_units_of_continuous_covariates_do_not_matter(make, Model):
    """Depth in counts or age in days would move expression by orders of magnitude in one step."""

    def trained(factor, shift):
        cells = make.cells()
        cells.obs["age"] = cells.obs["age"] * factor + shift
        keys = {"continuous_covariate_keys": ["age"]}
        model = make.train(Model, cells, keys=keys, max_epochs=10, train_arguments={"lr": 0.02})
        return model.get_reconstruction(cells), np.asarray(cells.X.sum())

    (small, total), (large, _) = trained(1.0, 0.0), trained(4096.0, 8192.0)
    np.testing.assert_allclose(large, small, rtol=0.02, atol=0.02)
    assert small.sum() == pytest.approx(total, rel=0.2)
