"""Training runs of a toy module, against a loop that anyone can read."""

import logging
import os
import random
import signal
import threading
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from latentcell._errors import ModelFileError, TrainingDivergedError
from latentcell.nn.schedules import Constant, Cosine, Linear
from latentcell.train.guards import all_finite, check_finite
from latentcell.train.loading import CellLoader, Cells
from latentcell.train.plan import TrainingPlan
from latentcell.train.run import CHECKPOINT, fit

N_CELLS, BATCH = 21, 5
N_STEPS = 4  # of an epoch: 5, 5, 5 and 6 cells


class Toy(nn.Module):
    """Least squares with a penalty; notes the progress it is told; may draw noise, fail or be interrupted."""

    lr_factor = 1.0

    def __init__(self, noise=0.0, at_step=None, happens=lambda: None):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 3))
        self.norm = nn.BatchNorm1d(3, affine=False)
        self.noise, self.at_step, self.happens = noise, at_step, happens
        self.seen = []

    def terms(self, batch, progress):
        factor = 1.0
        if self.training:
            if len(self.seen) == self.at_step:
                factor = self.happens() or 1.0
            self.seen.append((progress, batch["X"][:, 0].tolist()))
        x = self.norm(batch["X"]) if self.training else batch["X"]
        z = x @ self.weight + self.noise * torch.randn(len(x))
        reconstruction = factor * (z - batch["X"].sum(1)).square()
        kl = 0.1 * self.weight.square().sum().expand(len(x))
        return (reconstruction + (1 + progress) * kl).mean(), {
            "reconstruction_loss": reconstruction,
            "kl": kl,
        }

    def schedule_values(self, progress):
        return {"beta": 1 + progress}

    def parameter_groups(self):
        return [([self.weight], self.lr_factor, True)]


@pytest.fixture
def cells(rng):
    return Cells(rng.normal(size=(N_CELLS, 3)).astype(np.float32))


def run(toy, cells, max_epochs=3, held_out=0, lr=0.05, lr_schedule=None, weight_decay=0.0, seed=7, **kwargs):
    """Fit the toy; return the plan and whether the run was interrupted."""
    order = np.arange(N_CELLS)
    loader = CellLoader(cells, order[: N_CELLS - held_out], BATCH, shuffle=True, seed=seed)
    plan = TrainingPlan(
        toy,
        total_steps=max_epochs * len(loader),
        lr=lr,
        lr_schedule=lr_schedule or Constant(1.0),
        weight_decay=weight_decay,
    )
    arguments = {
        "accelerator": "cpu",
        "devices": "auto",
        "strategy": "auto",
        "precision": None,
        "gradient_clip": None,
        "early_stopping_patience": None,
        "progress_title": None,
        "checkpoint_dir": None,
        "resume": False,
    }
    validation = CellLoader(cells, order[N_CELLS - held_out :], BATCH) if held_out else None
    interrupted = fit(plan, loader, validation, max_epochs=max_epochs, seed=seed, **(arguments | kwargs))
    return plan, interrupted


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0)


# --- steps ---


@pytest.mark.parametrize("max_epochs", [1, 2, 5])
def test_progress_runs_from_0_to_1_whatever_the_length(cells, max_epochs):
    toy = Toy()
    plan, interrupted = run(toy, cells, max_epochs)
    assert not interrupted
    progress = [progress for progress, _ in toy.seen]
    np.testing.assert_allclose(progress, np.linspace(0, 1, max_epochs * N_STEPS))
    assert [record["epoch"] for record in plan.records] == list(range(max_epochs))
    assert plan.records[-1]["beta"] == 2.0  # the schedule's target is reached and recorded


def test_every_epoch_sees_every_cell_once_in_another_order(cells):
    toy = Toy()
    run(toy, cells, max_epochs=3)
    epochs = [
        sum((seen for _, seen in toy.seen[i : i + N_STEPS]), []) for i in range(0, 3 * N_STEPS, N_STEPS)
    ]
    assert all(sorted(epoch) == sorted(cells.matrix[:, 0].tolist()) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_decay_is_for_weight_matrices():
    """Biases, norms and scales, which are vectors, keep their values, and so do scales by batch: no decay."""
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
    network, scales = list(module[:2].parameters()), list(module[2].parameters())
    module.parameter_groups = lambda: [(network, 2.0, True), (scales, 2.0, False)]
    plan = TrainingPlan(module, total_steps=1, lr=0.1, lr_schedule=Constant(1.0), weight_decay=0.5)
    decay = {id(p): g["weight_decay"] for g in plan.configure_optimizers().param_groups for p in g["params"]}
    expected = {name: 0.5 if name == "0.weight" else 0.0 for name, _ in module.named_parameters()}
    assert {name: decay[id(p)] for name, p in module.named_parameters()} == expected


@pytest.mark.parametrize("schedule", [Constant(1.0), Cosine(1.0, 0.0, begin=0.1), Linear(0.1, 1.0)])
@pytest.mark.parametrize(("weight_decay", "clip", "factor"), [(0.0, None, 1.0), (0.3, 0.5, 4.0)])
def test_weights_are_those_of_a_plain_loop(cells, schedule, weight_decay, clip, factor):
    toy, plain = Toy(), Toy()
    toy.lr_factor = factor
    run(toy, cells, lr_schedule=schedule, weight_decay=weight_decay, gradient_clip=clip)
    optimizer = torch.optim.AdamW(
        plain.parameters(), lr=1.0, weight_decay=0.0
    )  # the toy has no matrix, so nothing decays
    loader = CellLoader(cells, np.arange(N_CELLS), BATCH, shuffle=True, seed=7)
    for step in range(3 * N_STEPS):
        loader.set_epoch(step // N_STEPS)
        batch = cells.batch(loader.batches()[step % N_STEPS])
        progress = step / (3 * N_STEPS - 1)
        optimizer.param_groups[0]["lr"] = 0.05 * factor * schedule(progress)
        optimizer.zero_grad()
        plain.terms(batch, progress)[0].backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(plain.parameters(), clip)
        optimizer.step()
    torch.testing.assert_close(toy.weight, plain.weight, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(toy.norm.running_mean, plain.norm.running_mean, rtol=1e-5, atol=1e-7)


def test_history_holds_means_over_cells(cells):
    """With a learning rate of 0 the means can be computed afterwards."""
    toy = Toy()
    before = state(toy)
    toy.norm = nn.Identity()
    plan, _ = run(toy, cells, max_epochs=2, held_out=8, lr=0.0)
    torch.testing.assert_close(toy.weight.detach(), before["weight"])
    X, weight = cells.matrix, before["weight"].numpy()
    errors = np.square(X @ weight - X.sum(1))
    kl = 0.1 * np.square(weight).sum()
    for part, error in (("train", errors[:-8]), ("validation", errors[-8:])):
        for record in plan.records:
            assert record[f"reconstruction_loss_{part}"] == pytest.approx(error.mean(), rel=1e-5)
            assert record[f"kl_{part}"] == record[f"kl_local_{part}"] == pytest.approx(kl, rel=1e-5)
            assert record[f"elbo_{part}"] == pytest.approx(error.mean() + kl, rel=1e-5)
    for record in plan.records:  # held out cells: with every weight at its end
        assert record["validation_loss"] == pytest.approx(errors[-8:].mean() + 2 * kl, rel=1e-5)
        assert record["lr"] == 0
    n = np.array([len(seen) for _, seen in toy.seen[:3]])
    beta = 1 + np.array([progress for progress, _ in toy.seen])[:3]
    expected = errors[:-8].mean() + kl * (n * beta).sum() / n.sum()
    assert plan.records[0]["train_loss"] == pytest.approx(expected, rel=1e-5)


# --- seeds and the caller's world ---


def test_same_seed_same_bits_another_seed_others(cells):
    a, b, c = Toy(noise=0.3), Toy(noise=0.3), Toy(noise=0.3)
    torch.rand(5)
    run(a, cells)
    torch.rand(3)
    run(b, cells)
    run(c, cells, seed=8)
    assert_same(state(a), state(b))
    assert not torch.equal(a.weight, c.weight)


def test_nothing_global_is_touched(cells, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loggers = [
        "",
        "lightning",
        "lightning.pytorch",
        "lightning.fabric",
        "lightning.pytorch.utilities.rank_zero",
    ]

    def world():
        return {
            "torch": torch.get_rng_state().tolist(),
            "numpy": str(np.random.get_state()),  # noqa: NPY002
            "random": random.getstate(),
            "filters": list(warnings.filters),
            "levels": [logging.getLogger(name).level for name in loggers],
            "handlers": [list(logging.getLogger(name).handlers) for name in loggers],
            "signals": {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)},
            "dtype": torch.get_default_dtype(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "grad": torch.is_grad_enabled(),
            "threads": (torch.get_num_threads(), threading.active_count()),
            "environment": dict(os.environ),
        }

    before = world()
    run(Toy(noise=0.3), cells, held_out=6, early_stopping_patience=2, progress_title="Toy")
    after = world()
    for name, value in before.items():
        assert after[name] == value, name
    assert not list(tmp_path.iterdir())


def test_progress_bar_writes_one_line_to_stderr_and_nothing_else(cells, capfd):
    run(Toy(), cells, progress_title="Training Toy")
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert "Training Toy" in err
    assert "3/3 epochs" in err
    run(Toy(), cells)
    assert capfd.readouterr() == ("", "")


# --- divergence ---


def test_a_loss_that_is_not_finite_stops_the_run_and_says_where(cells):
    toy = Toy(at_step=6, happens=lambda: float("nan"))
    with pytest.raises(TrainingDivergedError) as error:
        run(toy, cells, lr=0.05)
    message = str(error.value)
    assert "loss became nan at step 6" in message
    assert "reconstruction_loss in 5 cells" in message
    assert "learning rate 0.05" in message
    assert "train(lr=...)" in message
    assert all(torch.isfinite(value).all() for value in state(toy).values())


@pytest.mark.parametrize("step", [N_STEPS, N_STEPS + 3, 2 * N_STEPS + 1])
def test_a_diverged_run_returns_to_the_last_whole_epoch(cells, step):
    diverged = Toy(at_step=step, happens=lambda: float("inf"))
    with pytest.raises(TrainingDivergedError, match="last whole epoch were put back"):
        run(diverged, cells)
    stopped = Toy(at_step=step // N_STEPS * N_STEPS, happens=lambda: signal.raise_signal(signal.SIGINT))
    run(stopped, cells)
    torch.testing.assert_close(diverged.weight, stopped.weight, rtol=0, atol=0)
    assert not torch.equal(diverged.weight, Toy().weight)


def poison(toy):
    """An infinity that reaches batch norm's running mean, as an overflowing activation does."""
    toy.norm.running_mean.fill_(float("inf"))
    return float("inf")


def test_running_means_of_a_diverged_batch_are_not_kept(cells):
    toy = Toy(at_step=6)
    toy.happens = lambda: poison(toy)
    with pytest.raises(TrainingDivergedError, match="loss became inf at step 6"):
        run(toy, cells)
    assert all(torch.isfinite(value).all() for value in state(toy).values())


class BrokenGradient(Toy):
    """A finite loss whose gradient is NaN at one step."""

    def terms(self, batch, progress):
        loss, terms = super().terms(batch, progress)
        if len(self.seen) == self.at_step:
            loss = loss + torch.sqrt(0.0 * self.weight.sum())  # 0, with the gradient inf * 0
        return loss, terms


@pytest.mark.parametrize(
    "step", [2, 4, 5, 3 * N_STEPS]
)  # within an epoch, at the end of one, at the end of all
def test_a_gradient_that_is_not_finite_leaves_no_broken_weights(cells, step):
    toy = BrokenGradient(at_step=step)
    with pytest.raises(TrainingDivergedError, match=r"train\(lr=\.\.\.\)"):
        run(toy, cells)
    assert all_finite(toy)


def test_huge_learning_rate(cells):
    toy = Toy()
    with pytest.raises(TrainingDivergedError, match="learning rate 1e\\+30"):
        run(toy, cells, lr=1e30)
    assert all(torch.isfinite(value).all() for value in state(toy).values())


def test_guards():
    batch = {"X": torch.tensor([[1.0, -7.5]])}
    check_finite(
        torch.tensor(1.0), batch, {"kl": torch.tensor([float("nan")])}, 0, 0.1
    )  # only the loss counts
    with pytest.raises(
        TrainingDivergedError, match=r"kl in 1 cells; learning rate 0.1, largest value in the batch 7.5"
    ):
        check_finite(torch.tensor(float("inf")), batch, {"kl": torch.tensor([float("nan")])}, 0, 0.1)
    with pytest.raises(TrainingDivergedError, match="the loss itself"):
        check_finite(torch.tensor(float("nan")), batch, {"kl": torch.tensor([1.0])}, 0, 0.1)
    layer = nn.Linear(2, 2)
    assert all_finite(layer)
    layer.bias.data[1] = float("inf")
    assert not all_finite(layer)


# --- early stopping ---


def test_early_stopping_puts_the_best_weights_back(cells):
    """A toy whose held-out loss falls, then rises for ever."""
    toy = Toy()
    plan, _ = run(toy, cells, max_epochs=200, held_out=6, lr=0.3, early_stopping_patience=4)
    elbo = np.array([record["elbo_validation"] for record in plan.records])
    assert len(elbo) < 200
    assert np.argmin(elbo) == len(elbo) - 5
    toy.eval()
    _, terms = toy.terms(cells.batch(np.arange(N_CELLS - 6, N_CELLS)), 1.0)
    assert sum(term.mean() for term in terms.values()).item() == pytest.approx(elbo.min(), rel=1e-6)


def test_without_early_stopping_all_epochs_run_and_the_last_weights_stay(cells):
    toy = Toy()
    plan, _ = run(toy, cells, max_epochs=12, held_out=6, lr=0.3)
    elbo = [record["elbo_validation"] for record in plan.records]
    assert len(elbo) == 12
    toy.eval()
    _, terms = toy.terms(cells.batch(np.arange(N_CELLS - 6, N_CELLS)), 1.0)
    assert sum(term.mean() for term in terms.values()).item() == pytest.approx(elbo[-1], rel=1e-6)


# --- checkpoints ---


def fail():
    raise ZeroDivisionError("the power went out")


@pytest.mark.parametrize("held_out", [0, 6])
@pytest.mark.parametrize("step", [N_STEPS * 3, N_STEPS * 3 + 2])  # at the start of an epoch, and within one
def test_a_resumed_run_ends_with_the_bits_of_an_unbroken_one(cells, tmp_path, held_out, step):
    arguments = {
        "max_epochs": 6,
        "held_out": held_out,
        "lr_schedule": Cosine(1.0, 0.0),
        "early_stopping_patience": 50 if held_out else None,
    }
    whole = Toy(noise=0.5)
    plan, _ = run(whole, cells, **arguments)
    broken = Toy(noise=0.5, at_step=step - held_out // 6 * 3, happens=fail)  # 6 held out: 3 steps an epoch
    with pytest.raises(ZeroDivisionError):
        run(broken, cells, checkpoint_dir=tmp_path, **arguments)
    assert [file.name for file in tmp_path.iterdir()] == [CHECKPOINT]
    resumed = Toy(noise=0.5)
    with torch.no_grad():
        resumed.weight.fill_(9.0)  # whatever it starts from
    plan_resumed, _ = run(resumed, cells, checkpoint_dir=tmp_path, resume=True, **arguments)
    assert len(resumed.seen) < len(whole.seen)
    assert plan_resumed.records == plan.records
    assert_same(state(resumed), state(whole))


def test_resume_of_a_finished_run_changes_nothing(cells, tmp_path):
    first = Toy(noise=0.5)
    plan, _ = run(first, cells, checkpoint_dir=tmp_path)
    again = Toy(noise=0.5)
    plan_again, _ = run(again, cells, checkpoint_dir=tmp_path, resume=True)
    assert not again.seen
    assert plan_again.records == plan.records
    assert_same(state(again), state(first))


def test_resume_after_early_stopping_keeps_the_best_weights(cells, tmp_path):
    arguments = {"max_epochs": 60, "held_out": 6, "lr": 0.3, "early_stopping_patience": 4}
    first = Toy()
    plan, _ = run(first, cells, checkpoint_dir=tmp_path, **arguments)
    assert len(plan.records) < 60
    again = Toy()
    run(again, cells, checkpoint_dir=tmp_path, resume=True, **arguments)
    torch.testing.assert_close(again.weight, first.weight, rtol=0, atol=0)


def test_resume_of_a_run_that_did_all_epochs_keeps_the_best_weights(cells, tmp_path):
    """Lightning has nothing to train then, and calls no callback at the end."""
    arguments = {"max_epochs": 8, "held_out": 6, "lr": 0.3, "early_stopping_patience": 50}
    first = Toy()
    plan, _ = run(first, cells, checkpoint_dir=tmp_path, **arguments)
    elbo = [record["elbo_validation"] for record in plan.records]
    assert len(elbo) == 8
    assert np.argmin(elbo) < 7  # the best weights are not the last
    again = Toy()
    plan_again, _ = run(again, cells, checkpoint_dir=tmp_path, resume=True, **arguments)
    assert plan_again.records == plan.records
    assert_same(state(again), state(first))


def test_without_resume_a_run_starts_anew_beside_an_old_checkpoint(cells, tmp_path):
    first, second = Toy(noise=0.5), Toy(noise=0.5)
    run(first, cells, max_epochs=2, checkpoint_dir=tmp_path)
    run(second, cells, max_epochs=2, checkpoint_dir=tmp_path)
    assert len(second.seen) == len(first.seen)
    assert_same(state(first), state(second))
    assert [file.name for file in tmp_path.iterdir()] == [CHECKPOINT]


def test_resume_without_a_checkpoint_is_a_new_run(cells, tmp_path):
    first, second = Toy(), Toy()
    run(first, cells, max_epochs=2)
    run(second, cells, max_epochs=2, checkpoint_dir=tmp_path / "new", resume=True)
    assert_same(state(first), state(second))


# --- Ctrl-C ---


def test_ctrl_c_ends_the_run_and_leaves_ctrl_c_as_it_was(cells):
    toy = Toy(at_step=6, happens=lambda: signal.raise_signal(signal.SIGINT))
    before = signal.getsignal(signal.SIGINT)
    plan, interrupted = run(toy, cells, progress_title="Toy")
    assert interrupted
    assert len(plan.records) == 1
    assert signal.getsignal(signal.SIGINT) is before
    assert all_finite(toy)
    assert len(toy.seen) == 6


def test_an_exit_that_is_not_ctrl_c_is_passed_on(cells):
    def leave():
        raise SystemExit(3)

    with pytest.raises(SystemExit) as stop:
        run(Toy(at_step=2, happens=leave), cells)
    assert stop.value.code == 3


# --- damaged checkpoints ---


def test_a_damaged_checkpoint_or_one_of_another_run_is_refused_before_training(cells, tmp_path):
    run(Toy(), cells, max_epochs=2, checkpoint_dir=tmp_path)
    toy = Toy()
    with pytest.raises(ModelFileError, match="another run: seed was 7 and is 8"):
        run(toy, cells, max_epochs=4, checkpoint_dir=tmp_path, resume=True, seed=8)
    with pytest.raises(ModelFileError, match="another run: number of training cells was 21 and is 15"):
        run(toy, cells, max_epochs=4, checkpoint_dir=tmp_path, resume=True, held_out=6)
    data = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelFileError, match=r"last\.ckpt is damaged.*Remove it, or pass resume=False"):
        run(toy, cells, max_epochs=4, checkpoint_dir=tmp_path, resume=True)
    assert not toy.seen
    run(toy, cells, max_epochs=4, checkpoint_dir=tmp_path)  # begins anew
    assert len(toy.seen) == 4 * N_STEPS


def test_a_full_disk_ends_a_run_and_leaves_the_checkpoint_before(cells, tmp_path, monkeypatch):
    toy = Toy()

    def full(number):
        raise OSError(28, "No space left on device")

    def fill():
        monkeypatch.setattr("latentcell._atomic.os.fsync", full)

    toy.at_step, toy.happens = N_STEPS + 1, fill  # in the second epoch
    with pytest.raises(OSError, match=r"last\.ckpt could not be written: No space left on device"):
        run(toy, cells, checkpoint_dir=tmp_path)
    assert all_finite(toy)
    monkeypatch.undo()
    resumed, whole = Toy(), Toy()
    run(resumed, cells, checkpoint_dir=tmp_path, resume=True)
    run(whole, cells)
    assert len(resumed.seen) == 2 * N_STEPS
    assert_same(state(resumed), state(whole))


def test_callbacks_and_loggers_of_the_user_are_called(tmp_path):
    from lightning.pytorch.callbacks import Callback
    from lightning.pytorch.loggers import CSVLogger

    import latentcell as lc

    class Count(Callback):
        epochs = 0

        def on_train_epoch_end(self, trainer, pl_module):
            self.epochs += 1

    adata = lc.datasets.simulate_groups(seed=0)
    lc.model.AE.setup_anndata(adata)
    model, count = lc.model.AE(adata, n_latent=2, hidden=(8,)), Count()
    logger = CSVLogger(tmp_path, name="run", version=0)
    model.train(max_epochs=3, accelerator="cpu", enable_progress_bar=False, callbacks=[count], logger=logger)
    logger.finalize("success")
    assert count.epochs == 3
    logged = pd.read_csv(tmp_path / "run" / "version_0" / "metrics.csv").groupby("step").first()
    np.testing.assert_allclose(logged["train_loss"], model.history["train_loss"]["train_loss"], rtol=1e-6)
