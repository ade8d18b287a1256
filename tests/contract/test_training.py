"""Training: the same bits for the same seed, a whole history, nothing left behind, ways to break off."""

import signal
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from latentcell._errors import DataError, NotTrainedError, TrainingDivergedError
from latentcell.nn.schedules import Constant
from latentcell.train.loading import CellLoader


def codes(model):
    return model.get_latent_representation()


def weights(model):
    return {name: value.clone() for name, value in model.module.state_dict().items()}


def assert_same_weights(first, second):
    for name, value in weights(first).items():
        torch.testing.assert_close(weights(second)[name], value, rtol=0, atol=0)


# --- seeds ---


def test_same_seed_same_bits(make, Model, cells):
    first = make.train(Model, cells.copy(), seed=4)
    torch.rand(7)
    second = make.train(Model, cells.copy(), seed=4)
    assert_same_weights(first, second)
    np.testing.assert_array_equal(codes(first), codes(second))
    assert not np.array_equal(codes(first), codes(make.train(Model, cells.copy(), seed=5)))
    other_order = make.train(Model, cells.copy(), seed=4, train_arguments={"seed": 5})
    assert not np.array_equal(codes(first), codes(other_order))


def test_an_untrained_model_is_a_function_of_its_seed(make, Model, cells):
    before = torch.get_rng_state()
    first, second, other = (make.build(Model, cells.copy(), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert_same_weights(first, second)
    assert any(
        not torch.equal(a, b) for a, b in zip(weights(first).values(), weights(other).values(), strict=True)
    )


def test_the_callers_random_state_and_warnings_are_left_alone(
    make, Model, cells, capfd, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    torch_state, numpy_state = torch.get_rng_state(), str(np.random.get_state())  # noqa: NPY002
    filters = list(warnings.filters)
    model = make.train(Model, cells, train_arguments={"early_stopping": True, "train_size": 0.8})
    codes(model)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert str(np.random.get_state()) == numpy_state  # noqa: NPY002
    assert warnings.filters == filters
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())
    assert not model.module.training


# --- history ---


def test_history_is_complete_and_finite(make, Model, cells):
    model = make.build(Model, cells)
    model.train(4, train_size=0.75, enable_progress_bar=False)
    history = model.history
    terms = ["reconstruction_loss", *model.module.latent.kl_terms, "kl_local", "elbo"]
    parts = [f"{term}_{part}" for term in terms for part in ("train", "validation")]
    expected = {*parts, "train_loss", "validation_loss", "lr", *model.module.schedule_values(1.0)}
    assert set(history) == expected
    for name, frame in history.items():
        assert isinstance(frame, pd.DataFrame)
        assert list(frame.columns) == [name]
        assert frame.index.name == "epoch"
        assert frame.index.tolist() == [0, 1, 2, 3]
        assert np.isfinite(frame[name]).all()
    for part in ("train", "validation"):
        kl = sum((history[f"{term}_{part}"].iloc[:, 0] for term in model.module.latent.kl_terms), start=0.0)
        total = history[f"reconstruction_loss_{part}"].iloc[:, 0] + kl
        np.testing.assert_allclose(history[f"elbo_{part}"].iloc[:, 0], total, rtol=1e-6)
    for name, value in model.module.schedule_values(1.0).items():
        assert history[name][name].iloc[-1] == pytest.approx(value)  # every schedule reached its end


def test_held_out_elbo_is_the_models_on_the_held_out_cells(make, Model, cells):
    model = make.build(Model, cells)
    model.train(3, train_size=0.7, enable_progress_bar=False)
    held_out = model.validation_indices_
    assert sorted([*held_out, *model.train_indices_]) == list(range(60))
    assert len(held_out) == 18
    recorded = model.history["elbo_validation"]["elbo_validation"].iloc[-1]
    if hasattr(model, "get_elbo"):
        draws = [model.get_elbo(indices=held_out, seed=seed) for seed in range(20)]
        assert recorded == pytest.approx(np.mean(draws), abs=5 * np.std(draws) + 1e-3)
    else:
        assert recorded == pytest.approx(model.get_reconstruction_error(indices=held_out), rel=1e-5)


def test_training_lowers_the_loss(make, Model, cells):
    model = make.train(Model, cells, max_epochs=20, train_arguments={"lr": 0.02})
    error = model.history["reconstruction_loss_train"]["reconstruction_loss_train"]
    assert error.iloc[-3:].mean() < 0.98 * error.iloc[0]


def test_learning_rate_follows_its_schedule_and_arguments_win(make, Model, cells):
    model = make.build(Model, cells)
    model.train(
        5, lr=0.02, lr_schedule=lambda progress: 1 - progress / 2, batch_size=20, enable_progress_bar=False
    )
    rates = model.history["lr"]["lr"]
    assert (np.diff(rates) < 0).all()
    assert rates.iloc[-1] == pytest.approx(0.01)


def test_training_goes_on_from_where_it_was(make, Model, cells):
    model = make.train(Model, cells)
    before = weights(model)
    model.train(1, lr=0.0, weight_decay=0.0, enable_progress_bar=False)
    for name, parameter in model.module.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name], rtol=0, atol=0)
    assert len(model.history["train_loss"]) == 1


# --- what is written ---


def test_only_scvi_slots_are_written_by_set_up_and_nothing_by_training(make, Model, cells):
    before = cells.copy()
    model = make.build(Model, cells, keys=make.KEYS)

    def ours(keys):
        return [key for key in keys if not str(key).startswith("_scvi")]

    def check():
        assert ours(cells.obs) == list(before.obs)
        assert ours(cells.obsm) == ours(cells.uns) == list(cells.varm) == list(cells.obsp) == []
        pd.testing.assert_frame_equal(cells.obs[ours(cells.obs)], before.obs)
        pd.testing.assert_frame_equal(cells.var, before.var)
        assert set(cells.layers) == set(before.layers)
        for part in ("data", "indices", "indptr"):
            np.testing.assert_array_equal(getattr(cells.X, part), getattr(before.X, part))
            assert getattr(cells.X, part).dtype == getattr(before.X, part).dtype
        for layer in before.layers:
            np.testing.assert_array_equal(cells.layers[layer], before.layers[layer])

    check()
    slots = set(cells.obs) | set(cells.obsm) | set(cells.uns)
    model.train(2, enable_progress_bar=False, train_size=0.8)
    check()
    assert set(cells.obs) | set(cells.obsm) | set(cells.uns) == slots


# --- splits ---


@pytest.mark.parametrize(
    ("arguments", "n_train", "n_held_out"),
    [
        ({}, 60, 0),
        ({"train_size": 0.9}, 54, 6),
        ({"validation_size": 0.2}, 48, 12),
        ({"train_size": 0.5, "validation_size": 0.25}, 30, 15),
        ({"early_stopping": True}, 54, 6),
    ],
    ids=str,
)
def test_cells_are_split_as_asked(make, Model, cells, arguments, n_train, n_held_out):
    model = make.train(Model, cells, max_epochs=1, train_arguments=arguments)
    train, held_out = model.train_indices_, model.validation_indices_
    assert (len(train), len(held_out)) == (n_train, n_held_out)
    assert len({*train, *held_out}) == n_train + n_held_out
    if n_held_out:
        again = make.train(Model, cells.copy(), max_epochs=1, train_arguments=arguments)
        np.testing.assert_array_equal(again.validation_indices_, held_out)
        in_order = make.train(
            Model, cells.copy(), max_epochs=1, train_arguments=arguments | {"shuffle_set_split": False}
        )
        np.testing.assert_array_equal(in_order.train_indices_, np.arange(n_train))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train_size": 0.0}, r"train_size must lie in \(0, 1\], got 0.0"),
        ({"train_size": 1.2}, "train_size must lie in"),
        ({"train_size": 0.8, "validation_size": 0.4}, "must not exceed 1"),
        ({"train_size": 0.01}, "at least 2 cells, there are 1"),
        ({"train_size": 1.0, "early_stopping": True}, "early_stopping needs held-out cells"),
        ({"batch_size": -5}, "batch_size must be at least 2"),
        ({"batch_size": 0}, "batch_size must be at least 2"),
        ({"max_epochs": -1}, "max_epochs 1"),
        ({"max_epochs": 0}, "max_epochs 1"),
    ],
    ids=str,
)
def test_arguments_out_of_range_are_refused(make, Model, cells, arguments, message):
    model = make.build(Model, cells)
    with pytest.raises(DataError, match=message):
        model.train(**({"max_epochs": 1, "enable_progress_bar": False} | arguments))
    assert model.history is None
    with pytest.raises(NotTrainedError):
        codes(model)


# --- early stopping, checkpoints, breaks ---


def test_early_stopping_keeps_the_best_weights(make, Model, cells):
    model = make.build(Model, cells, dropout=0.0, input_dropout=0.0)
    overfit = {"lr": 0.1, "lr_schedule": Constant(1.0), "weight_decay": 0.0, "train_size": 0.6}
    model.train(150, early_stopping=True, early_stopping_patience=4, enable_progress_bar=False, **overfit)
    elbo = model.history["elbo_validation"]["elbo_validation"]
    assert len(elbo) < 150
    assert elbo.argmin() == len(elbo) - 5
    held_out = model.validation_indices_
    if hasattr(model, "get_elbo"):
        draws = [model.get_elbo(indices=held_out, seed=seed) for seed in range(20)]
        assert np.mean(draws) == pytest.approx(elbo.min(), abs=4 * np.std(draws) + 1e-3)
    else:
        assert model.get_reconstruction_error(indices=held_out) == pytest.approx(elbo.min(), rel=1e-5)


class PowerCut(Exception):
    pass


def break_off(monkeypatch, epoch, how):
    """Let `how` happen in the middle of an epoch."""
    original = CellLoader.__iter__

    def iterate(self):
        for i, batch in enumerate(original(self)):
            if self.shuffle and self.epoch == epoch and i == 1:
                how()
            yield batch

    monkeypatch.setattr(CellLoader, "__iter__", iterate)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_resumed_run_has_the_bits_of_an_unbroken_one(
    make, Model, cells, tmp_path, monkeypatch, early_stopping
):
    arguments = {"max_epochs": 6, "lr": 0.01, "early_stopping": early_stopping, "enable_progress_bar": False}
    whole = make.build(Model, cells.copy(), keys=make.KEYS)
    whole.train(**arguments)

    def cut():
        raise PowerCut

    with monkeypatch.context() as patch:
        break_off(patch, 3, cut)
        broken = make.build(Model, cells.copy(), keys=make.KEYS)
        with pytest.raises(PowerCut):
            broken.train(**arguments, checkpoint_dir=tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    resumed = make.build(Model, cells.copy(), keys=make.KEYS)
    resumed.train(**arguments, checkpoint_dir=tmp_path, resume=True)
    assert_same_weights(resumed, whole)
    np.testing.assert_array_equal(codes(resumed), codes(whole))
    for name, frame in whole.history.items():
        pd.testing.assert_frame_equal(resumed.history[name], frame)


def test_ctrl_c_leaves_a_usable_model_and_a_working_ctrl_c(make, Model, cells, monkeypatch):
    model = make.build(Model, cells)
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        break_off(patch, 2, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            model.train(8, enable_progress_bar=False)
    assert signal.getsignal(signal.SIGINT) is before
    assert np.isfinite(codes(model)).all()
    assert len(model.history["train_loss"]) == 2
    assert not model.module.training
    model.train(1, enable_progress_bar=False)


def test_ctrl_c_in_the_first_epoch_leaves_an_untrained_model(make, Model, cells, monkeypatch):
    model = make.build(Model, cells)
    with monkeypatch.context() as patch:
        break_off(patch, 0, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            model.train(3, enable_progress_bar=False)
    with pytest.raises(NotTrainedError):
        codes(model)
    model.train(1, enable_progress_bar=False)
    assert np.isfinite(codes(model)).all()


def test_a_diverged_run_says_so_and_leaves_finite_weights(make, Model, cells):
    model = make.train(Model, cells)
    before = codes(model)
    with pytest.raises(TrainingDivergedError, match=r"learning rate 1e\+20.*train\(lr=\.\.\.\)"):
        model.train(20, lr=1e20, lr_schedule=lambda progress: 1.0, enable_progress_bar=False)
    assert all(torch.isfinite(value).all() for value in weights(model).values())
    assert np.isfinite(codes(model)).all()
    assert codes(model).shape == before.shape


def test_a_model_from_a_preset_trains_with_it(Model, cells):
    for preset in Model.PRESETS:
        Model.setup_anndata(cells, layer="log")
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
def test_sparse_and_dense_cells_train_alike_in_every_precision(make, Model, any_data, cells, precision):
    found = mostly_zeros(cells)
    dense = found.copy()
    dense.X = found.X.toarray()
    first = make.train(Model, found, train_arguments={"precision": precision}, gene_likelihood="normal")
    second = make.train(Model, dense, train_arguments={"precision": precision}, gene_likelihood="normal")
    np.testing.assert_array_equal(codes(first), codes(second))


def test_sparse_and_dense_cells_train_alike(make, Model, any_data, cells):
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


@pytest.mark.parametrize("precision", ["16-true", "bf16-true"])
def test_weights_in_half_precision_are_refused(make, Model, cells, precision):
    with pytest.raises(DataError, match="bf16-mixed"):
        make.train(Model, cells, train_arguments={"precision": precision})
