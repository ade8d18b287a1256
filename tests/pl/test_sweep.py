"""What the figures of a sweep show is what its table says."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import latentcell as lc
from latentcell._errors import DataError

COLUMNS = ["beta", "capacity", "seed", "metric", "factor", "value"]


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    rows = []
    for beta in (1.0, 4.0, 20.0):
        for capacity in (0.0, 10.0):
            for seed in range(4):
                noise = rng.normal(0, 0.02)
                rows += [
                    (beta, capacity, seed, "best_correlation", "all", 0.6 + 0.01 * beta + noise),
                    (beta, capacity, seed, "best_correlation", "activity", 0.5 + 0.01 * beta + noise),
                    (beta, capacity, seed, "best_correlation", "identity_1", 0.7 + noise),
                    (beta, capacity, seed, "ari", "all", 0.8 - 0.01 * beta),
                    (beta, capacity, seed, "kl", "all", 30 / beta + capacity + noise),
                    (beta, capacity, seed, "reconstruction_loss", "all", 100 + beta + noise),
                ]
    return pd.DataFrame(rows, columns=COLUMNS)


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def lines(ax):
    """Label: x, mean, half of the bar."""
    found = {}
    for container in ax.containers:
        line, _, bars = container.lines
        half = [0.0] * len(line.get_xdata())
        if bars:
            half = [np.ptp(path.vertices[:, 1]) / 2 for path in bars[0].get_paths()]
        found[container.get_label()] = (
            np.asarray(line.get_xdata(), float),
            np.asarray(line.get_ydata(), float),
            np.asarray(half),
        )
    return found


def test_means_and_intervals_are_those_of_the_table(table):
    one = table[table["capacity"] == 0]
    ax = lc.pl.disentanglement(one, "best_correlation")
    drawn = lines(ax)
    assert set(drawn) == {"activity", "identity_1", "all factors"}
    values = one[(one["metric"] == "best_correlation") & (one["factor"] == "activity")]
    for x, mean, half in zip(*drawn["activity"], strict=True):
        v = values.loc[values["beta"] == x, "value"]
        low, high = stats.t.interval(0.95, 3, v.mean(), stats.sem(v))
        assert (mean, half) == pytest.approx((v.mean(), (high - low) / 2))
    assert ax.get_xscale() == "log"
    assert [label.get_text() for label in ax.get_legend().get_texts()] == [
        "activity",
        "identity_1",
        "all factors",
    ]


def test_a_panel_per_metric_with_one_legend(table):
    figure = lc.pl.disentanglement(table)
    assert [ax.get_title() for ax in figure.axes] == ["best |r| of a dimension", "ARI of Leiden clusters"]
    assert [ax.get_legend() is not None for ax in figure.axes] == [False, True]
    figure.draw_without_rendering()
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["1", "4", "20"]


def test_hue_draws_a_line_per_value(table):
    table.loc[table["capacity"] == 10, "value"] += 0.1
    drawn = lines(lc.pl.disentanglement(table, "best_correlation", hue="capacity"))
    assert list(drawn) == ["capacity = 0", "capacity = 10"]
    rows = table.query("metric == 'best_correlation' and factor == 'all' and capacity == 10")
    assert drawn["capacity = 10"][1] == pytest.approx(rows.groupby("beta")["value"].mean().to_numpy())


def test_factors_can_be_chosen_or_left_out(table):
    assert set(lines(lc.pl.disentanglement(table, "best_correlation", factors=["activity"]))) == {
        "activity",
        "all factors",
    }
    ax = lc.pl.disentanglement(table, "best_correlation", factors=False)
    assert len(ax.containers) == 1
    assert ax.get_legend() is None


def test_another_setting_can_be_the_axis(table):
    ax = lc.pl.disentanglement(table, "ari", x="capacity")
    (drawn,) = lines(ax).values()
    assert drawn[0].tolist() == [0.0, 10.0]
    assert ax.get_xscale() == "linear"
    assert ax.get_xlabel() == "capacity"


def test_rate_distortion_joins_the_means_in_order(table):
    ax = lc.pl.rate_distortion(table[table["capacity"] == 0])
    (line,) = ax.lines
    rows = table[table["capacity"] == 0]
    for axis, metric in enumerate(["kl", "reconstruction_loss"]):
        means = rows[rows["metric"] == metric].groupby("beta")["value"].mean()
        assert line.get_xydata()[:, axis] == pytest.approx(means.to_numpy())
    assert [text.get_text() for text in ax.texts] == ["beta = 1", "4", "20"]
    (points,) = ax.collections
    assert len(points.get_offsets()) == 12  # a point per model


def test_rate_distortion_has_a_curve_per_hue(table):
    ax = lc.pl.rate_distortion(table, hue="capacity")
    assert [line.get_label() for line in ax.lines] == ["capacity = 0", "capacity = 10"]
    assert ax.get_xlabel() == "rate: KL (nats per cell)"


def test_they_draw_into_given_axes(table):
    _, given = plt.subplots()
    assert lc.pl.disentanglement(table, "ari", ax=given) is given
    assert lc.pl.rate_distortion(table, ax=given) is given


def test_settings_that_are_no_numbers_are_words_in_the_order_of_the_table(table):
    table["scale"] = [("gene", None, 0.5, "gene")[seed] for seed in table["seed"]]
    ax = lc.pl.disentanglement(table, "ari", x="scale")
    ax.figure.draw_without_rendering()
    assert [label.get_text() for label in ax.get_xticklabels()] == ["gene", "None", "0.5"]
    (container,) = ax.containers
    rows = table[table["metric"] == "ari"]
    expected = [
        rows[rows["scale"] == "gene"]["value"].mean(),
        rows[rows["scale"].isna()]["value"].mean(),
        rows[rows["scale"] == 0.5]["value"].mean(),
    ]
    assert container.lines[0].get_ydata() == pytest.approx(expected)


def test_models_with_a_setting_of_none_are_drawn(table):
    table["gene_scale"] = [None if beta == 1 else 0.5 for beta in table["beta"]]
    ax = lc.pl.rate_distortion(table[table["capacity"] == 0], x="beta")
    assert [text.get_text() for text in ax.texts] == ["beta = 1", "4", "20"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: lc.pl.disentanglement(t, "irs"), "'irs' is not in the table"),
        (lambda t: lc.pl.disentanglement(t, x="gamma"), "x='gamma' is not a setting of the table: 'beta'"),
        (lambda t: lc.pl.disentanglement(t, hue="metric"), "hue='metric' is not a setting"),
        (lambda t: lc.pl.disentanglement(t, hue="beta"), "both 'beta'"),
        (lambda t: lc.pl.disentanglement(t, factors=["batch"]), "factors: 'batch' is not in the table"),
        (lambda t: lc.pl.disentanglement(t.drop(columns="value")), r"no columns \['value'\]"),
        (lambda t: lc.pl.disentanglement(t[t["metric"] == "kl"]), "name metrics to draw"),
        (lambda t: lc.pl.disentanglement(t, ax=plt.gca()), "ax holds one panel"),
        (lambda t: lc.pl.rate_distortion(t[t["metric"] != "kl"]), "no metric 'kl'"),
    ],
)
def test_bad_tables_and_names_are_refused(table, call, message):
    with pytest.raises(DataError, match=message):
        call(table)
