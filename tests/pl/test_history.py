import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import latentcell as lc
from latentcell._errors import DataError


def frame(values, name="x", index="epoch"):
    return pd.DataFrame({name: values}, index=pd.RangeIndex(len(values), name=index))


@pytest.fixture
def curves():
    down, up = np.linspace(9, 1, 5), np.linspace(1, 3, 5)
    return {
        "beta": frame(np.linspace(0, 1, 5)),
        "lr": frame(np.full(5, 1e-3)),
        "elbo_validation": frame(down + 1),
        "elbo_train": frame(down),
        "kl_local_train": frame(up),
        "reconstruction_loss_train": frame(down),
        "reconstruction_loss_validation": frame(down + 2),
        "train_loss_epoch": frame(down),
        "validation_loss": frame(down),
    }


def drawn(ax):
    return {line.get_label(): line.get_ydata().tolist() for line in ax.lines}


def test_one_panel_per_quantity_loss_first_schedules_last(curves):
    figure = lc.pl.history(curves)
    assert isinstance(figure, Figure)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["loss", "ELBO", "KL local", "reconstruction loss", "beta", "learning rate"]
    panels = dict(zip(titles, figure.axes, strict=True))
    assert drawn(panels["ELBO"]) == {"train": [9, 7, 5, 3, 1], "validation": [10, 8, 6, 4, 2]}
    assert list(drawn(panels["loss"])) == ["train", "validation"]
    assert drawn(panels["beta"]) == {"beta": [0, 0.25, 0.5, 0.75, 1]}
    assert figure.get_supxlabel() == "epoch"
    assert len(plt.get_fignums()) == 1


def test_train_and_validation_keep_their_colours_and_are_named_once(curves):
    figure = lc.pl.history(curves)
    for ax in figure.axes:
        colors = {line.get_label(): to_hex(line.get_color()) for line in ax.lines}
        assert colors.get("train", to_hex("C0")) == to_hex("C0")
        assert colors.get("validation", to_hex("C1")) == to_hex("C1")
    legends = [ax.get_legend() for ax in figure.axes if ax.get_legend()]
    assert [[text.get_text() for text in legend.get_texts()] for legend in legends] == [
        ["train", "validation"]
    ]


def test_accepts_a_model_and_returns_axes_for_one_panel(curves):
    class Model:
        history = curves

    ax = lc.pl.history(Model(), "elbo")
    assert isinstance(ax, Axes)
    assert ax.get_title() == "ELBO"
    assert ax.get_xlabel() == "epoch"
    assert drawn(ax) == drawn(lc.pl.history(curves, ["elbo_train", "elbo_validation"]))


def test_keys_choose_and_order(curves):
    figure = lc.pl.history(curves, ["beta", "reconstruction_loss_validation", "elbo"])
    assert [ax.get_title() for ax in figure.axes] == ["beta", "reconstruction loss", "ELBO"]
    assert list(drawn(figure.axes[1])) == ["validation"]


def test_everything_goes_into_given_axes(curves):
    figure, (left, right) = plt.subplots(1, 2)
    assert lc.pl.history(curves, ["elbo", "beta"], ax=left) is left
    assert list(drawn(left)) == ["ELBO, train", "ELBO, validation", "beta"]
    assert [text.get_text() for text in left.get_legend().get_texts()] == list(drawn(left))
    assert lc.pl.history(curves, ax=right) is right
    assert right.get_title() == "loss"
    assert plt.get_fignums() == [figure.number]


def test_log_leaves_panels_with_zeros_or_negatives_linear(curves):
    curves["nll_train"] = frame([-1.0, -2.0])
    figure = lc.pl.history(curves, log=True)
    scales = {ax.get_title(): ax.get_yscale() for ax in figure.axes}
    assert scales == {
        "loss": "log",
        "ELBO": "log",
        "KL local": "log",
        "reconstruction loss": "log",
        "nll": "linear",
        "beta": "linear",
        "learning rate": "log",
    }


def test_steps_and_epochs_are_different_panels():
    history = {
        "train_loss_step": frame([3.0, 2.0, 1.0], index="step"),
        "train_loss_epoch": frame([2.0]),
    }
    figure = lc.pl.history(history)
    assert [(ax.get_title(), ax.get_xlabel()) for ax in figure.axes] == [
        ("loss", "epoch"),
        ("loss per step", "step"),
    ]
    assert figure.axes[0].lines[0].get_marker() == "o"


def test_missing_epochs_are_bridged_and_series_and_objects_are_numbers():
    history = {
        "elbo_train": pd.Series([3, np.nan, 1], dtype=object),
        "elbo_validation": frame([np.nan, 2, np.nan]),
    }
    ax = lc.pl.history(history)
    train, validation = ax.lines
    assert train.get_xdata().tolist() == [0, 2]
    assert train.get_ydata().tolist() == [3, 1]
    assert (validation.get_xdata().tolist(), validation.get_ydata().tolist()) == ([1], [2])


@pytest.mark.parametrize(
    ("history", "keys", "message"),
    [
        (object(), None, "object.*model.train"),
        ({}, None, "empty"),
        ({"elbo_train": frame([1.0])}, "loss", "'loss' is not in the history, which has: 'elbo_train'"),
        ({"elbo_train": frame([1.0])}, [], "at least one key"),
        ({"elbo_train": pd.DataFrame({"a": [1], "b": [2]})}, None, "elbo_train.*2 columns"),
        ({"elbo_train": frame(["high"])}, None, "elbo_train.*not a number"),
    ],
)
def test_what_is_wrong_is_named_and_leaves_no_figure(history, keys, message):
    with pytest.raises(DataError, match=message):
        lc.pl.history(history, keys)
    assert plt.get_fignums() == []


def test_untrained_scvi_like_model():
    class Model:
        history = None

    with pytest.raises(DataError, match="Train the model first"):
        lc.pl.history(Model())
