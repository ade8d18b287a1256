"""Training: the same bits for the same seed, a whole history, cells split as asked, good weights kept."""

from typing import Any

import numpy as np
import pandas as pd
import torch

from latentcell._errors import NotTrainedError, TrainingDivergedError
from latentcell.nn.schedules import Constant

from ._case import Case
from ._cells import make_cells
from ._promises import close, finite, needs, promise, refused, same


def weights(model: Any) -> dict[str, np.ndarray]:
    """Copies of a model's weights by name; none of a model without a network."""
    module = getattr(model, "module", None)
    return {} if module is None else {name: v.numpy().copy() for name, v in module.state_dict().items()}


def same_weights(found: Any, expected: Any, broken: str) -> None:
    """Two models have the same bits."""
    theirs = weights(expected)
    for name, value in weights(found).items():
        same(value, theirs[name], f"{broken}: weight {name}")


# --- seeds ---


def check_same_seed_same_bits(case: Case) -> None:
    """The seed, and nothing else random, decides what is trained."""
    first = case.train(make_cells(), seed=4)
    torch.rand(7)
    again = case.train(make_cells(), seed=4)
    broken = "the same seed gives other bits"
    same_weights(again, first, broken)
    same(case.outcome(again), case.outcome(first), broken)
    if case.can("epochs"):
        other = case.train(make_cells(), seed=5)
        differs = not np.array_equal(case.outcome(first), case.outcome(other))
        promise(differs, "the seed of the model has no influence")
        order = case.train(make_cells(), seed=4, fit={"seed": 5})
        differs = not np.array_equal(case.outcome(first), case.outcome(order))
        promise(differs, "the seed of train() has no influence")


def check_an_untrained_model_is_a_function_of_its_seed(case: Case) -> None:
    """The weights a model starts with; the caller's random state is left alone."""
    before = torch.get_rng_state()
    first, again, other = (weights(case.build(make_cells(), seed=seed)) for seed in (1, 1, 2))
    promise(torch.equal(torch.get_rng_state(), before), "building a model draws from torch's random state")
    for name, value in first.items():
        same(again[name], value, f"the same seed starts at other weights: {name}")
    differs = not first or any(not np.array_equal(first[name], other[name]) for name in first)
    promise(differs, "the seed has no influence on the weights a model starts with")


def check_models_in_one_process_are_independent(case: Case) -> None:
    """A model that was built before another and is trained after it is what it is alone."""
    first = case.build(make_cells())
    other = case.train(make_cells(seed=9))
    case.outcome(other)
    case.fit(first)
    broken = "another model in the same process has an influence"
    same_weights(first, case.trained, broken)
    same(case.outcome(first), case.outcome(case.trained), broken)


# --- history ---


@needs("epochs")
def check_history_is_complete_and_finite(case: Case) -> None:
    """A curve per term, of training and held-out cells, with a finite value per epoch."""
    model = case.build(make_cells())
    model.train(4, accelerator="cpu", train_size=0.75, enable_progress_bar=False)
    history = model.history
    promise(history, "there is no history after training")
    for name, frame in history.items():
        broken = f"history[{name!r}]"
        promise(isinstance(frame, pd.DataFrame), f"{broken} is no DataFrame")
        promise(list(frame.columns) == [name], f"{broken} has columns {list(frame.columns)}")
        promise(frame.index.name == "epoch", f"{broken} has no index named 'epoch'")
        promise(frame.index.tolist() == [0, 1, 2, 3], f"{broken} does not have a row per epoch")
        finite(frame.to_numpy(), broken)
    for name in ("train_loss", "validation_loss"):
        promise(name in history, f"the history has no {name!r}")
    for name in [name for name in history if name.endswith("_train")]:
        held_out = f"{name.removesuffix('train')}validation"
        promise(held_out in history, f"the history has {name!r} and no {held_out!r}")


@needs("epochs", "reconstruct")
def check_held_out_elbo_is_the_models_on_the_held_out_cells(case: Case) -> None:
    """What ``history`` says of held-out cells is what the model says of them afterwards."""
    model = case.build(make_cells())
    model.train(3, accelerator="cpu", train_size=0.7, enable_progress_bar=False)
    held_out = model.validation_indices_
    promise(
        sorted([*held_out, *model.train_indices_]) == list(range(60)) and len(held_out) == 18,
        "training and held-out cells are not a split of the cells into 42 and 18",
    )
    recorded = model.history["elbo_validation"]["elbo_validation"].iloc[-1]
    _elbo_is(case, model, held_out, recorded, 5, "history's elbo_validation is not that of held-out cells")


def _elbo_is(case: Case, model: Any, rows: Any, recorded: float, spread: float, broken: str) -> None:
    """A held-out loss is the model's: within some standard deviations of its draws, or to rounding."""
    if case.can("posterior"):
        draws = [model.get_elbo(indices=rows, seed=seed) for seed in range(20)]
        found, room = float(np.mean(draws)), spread * float(np.std(draws)) + 1e-3
    else:
        found = model.get_reconstruction_error(indices=rows)
        room = 1e-5 * abs(found)
    promise(abs(recorded - found) <= room, f"{broken}: {recorded:.6g}, and it is {found:.6g}")


@needs("rates")
def check_training_lowers_the_loss(case: Case) -> None:
    """Of a model that is trained for 20 epochs."""
    history = case.informed.history
    name = "reconstruction_loss_train" if "reconstruction_loss_train" in history else "train_loss"
    loss = history[name][name]
    promise(loss.iloc[-3:].mean() < 0.98 * loss.iloc[0], f"20 epochs do not lower {name}")


@needs("rates")
def check_the_learning_rate_follows_its_schedule(case: Case) -> None:
    """Arguments of ``train`` win over the model's defaults."""
    model = case.build(make_cells())

    def schedule(progress: float) -> float:
        return 1 - progress / 2

    fixed = {"accelerator": "cpu", "enable_progress_bar": False, "batch_size": 20}
    model.train(5, lr=0.02, lr_schedule=schedule, **fixed)
    rates = model.history["lr"]["lr"]
    promise((np.diff(rates) < 0).all(), "a falling lr_schedule does not lower history['lr'] in every epoch")
    close(rates.iloc[-1], 0.01, "history['lr'] does not end where lr and lr_schedule end", rtol=1e-6)


@needs("rates")
def check_training_goes_on_from_where_it_was(case: Case) -> None:
    """A second ``train`` starts from the weights there are; its history is its own."""

    def weights(model: Any) -> dict[str, Any]:  # that the optimiser moves
        return {name: one.detach() for name, one in model.module.named_parameters() if one.requires_grad}

    model = case.train(make_cells())
    before = {name: value.clone() for name, value in weights(model).items()}
    case.fit(model, 1, lr=0.0)
    for name, value in weights(model).items():
        same(
            value,
            before[name],
            f"a second train() does not start from the weights there are: {name}",
        )
    promise(len(model.history["train_loss"]) == 1, "the history of a second train() is not its own")


# --- splits and arguments ---


@needs("epochs")
def check_cells_are_split_as_asked(case: Case) -> None:
    """By shares, at random by the seed, or the last ones."""
    asked: list[tuple[dict[str, Any], int, int]] = [
        ({}, 60, 0),
        ({"train_size": 0.9}, 54, 6),
        ({"validation_size": 0.2}, 48, 12),
        ({"train_size": 0.5, "validation_size": 0.25}, 30, 15),
        ({"early_stopping": True}, 54, 6),
    ]
    for arguments, n_train, n_held_out in asked:
        broken = f"train({arguments})"
        model = case.train(make_cells(), max_epochs=1, fit=arguments)
        train, held_out = model.train_indices_, model.validation_indices_
        sizes = (len(train), len(held_out))
        promise(sizes == (n_train, n_held_out), f"{broken} splits 60 cells into {sizes}")
        promise(len({*train, *held_out}) == sum(sizes), f"{broken} holds out cells that it trains on")
    again = case.train(make_cells(), max_epochs=1, fit=arguments)
    same(again.validation_indices_, held_out, "the same seed holds out other cells")
    ordered = case.train(make_cells(), max_epochs=1, fit={**arguments, "shuffle_set_split": False})
    same(
        ordered.train_indices_, np.arange(n_train), "shuffle_set_split=False does not hold out the last cells"
    )


@needs("epochs")
def check_training_arguments_out_of_range_are_refused(case: Case) -> None:
    """By name; the model stays untrained."""
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"train_size": 0.0}, "train_size must lie in (0, 1], got 0.0"),
        ({"train_size": 1.2}, "train_size must lie in"),
        ({"train_size": 0.8, "validation_size": 0.4}, "must not exceed 1"),
        ({"train_size": 0.01}, "at least 2 cells, there are 1"),
        ({"train_size": 1.0, "early_stopping": True}, "early_stopping needs held-out cells"),
        ({"batch_size": -5}, "batch_size must be at least 2"),
        ({"batch_size": 0}, "batch_size must be at least 2"),
        ({"max_epochs": -1}, "max_epochs 1"),
        ({"max_epochs": 0}, "max_epochs 1"),
    ]
    model = case.build(make_cells())
    for arguments, words in wrong:
        told = {"max_epochs": 1, "enable_progress_bar": False, **arguments}
        refused(lambda told=told: model.train(**told), words, broken=f"train({arguments}) is taken")  # type: ignore[misc]
        promise(model.history is None, f"train({arguments}) was refused and left a history")
    if case.can("encode"):
        refused(
            lambda: model.get_latent_representation(),
            broken="a model counts as trained after train() was refused",
            error=NotTrainedError,
        )


# --- the best and the last good weights ---


@needs("early stopping", "rates", "reconstruct")
def check_early_stopping_keeps_the_best_weights(case: Case) -> None:
    """Training stops, and the weights of the epoch with the lowest held-out ELBO are put back."""
    small: dict[str, Any] = {
        name: 0.0 for name in ("dropout", "input_dropout") if case.takes("__init__", name)
    }
    model = case.build(make_cells(), **small)
    overfit = {"lr": 0.1, "lr_schedule": Constant(1.0), "weight_decay": 0.0, "train_size": 0.6}
    stop = {"early_stopping": True, "early_stopping_patience": 4}
    model.train(150, accelerator="cpu", enable_progress_bar=False, **stop, **overfit)
    elbo = model.history["elbo_validation"]["elbo_validation"]
    promise(len(elbo) < 150, "early stopping does not stop")
    promise(elbo.argmin() == len(elbo) - 5, "training did not stop 4 epochs after the best one")
    _elbo_is(case, model, model.validation_indices_, elbo.min(), 4, "the best weights are not put back")


@needs("rates")
def check_a_diverged_run_says_so_and_leaves_finite_weights(case: Case) -> None:
    """The error names the learning rate; the model is usable with the weights it had."""
    model = case.train(make_cells())
    shape = case.outcome(model).shape
    refused(
        lambda: model.train(
            20, accelerator="cpu", lr=1e20, lr_schedule=lambda progress: 1.0, enable_progress_bar=False
        ),
        "learning rate 1e+20",
        "train(lr=...)",
        broken="a run that diverges does not say so",
        error=TrainingDivergedError,
    )
    for name, value in weights(model).items():
        finite(value, f"a run that diverged leaves a spoilt weight {name}")
    found = case.outcome(model)
    finite(found, "results after a run that diverged")
    promise(found.shape == shape, "results after a run that diverged have another shape")


CHECKS = (
    check_same_seed_same_bits,
    check_an_untrained_model_is_a_function_of_its_seed,
    check_models_in_one_process_are_independent,
    check_history_is_complete_and_finite,
    check_held_out_elbo_is_the_models_on_the_held_out_cells,
    check_training_lowers_the_loss,
    check_the_learning_rate_follows_its_schedule,
    check_training_goes_on_from_where_it_was,
    check_cells_are_split_as_asked,
    check_training_arguments_out_of_range_are_refused,
    check_early_stopping_keeps_the_best_weights,
    check_a_diverged_run_says_so_and_leaves_finite_weights,
)
