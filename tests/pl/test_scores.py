import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import latentcell as lc
from latentcell._errors import DataError


@pytest.fixture
def tidy():
    rows = [
        ("PCA", "NMI", 0, 0.75),
        ("VSC", "NMI", 0, 0.80),
        ("VSC", "NMI", 1, 0.84),
        ("PCA", "MMD", 0, 0.010),
        ("VSC", "MMD", 0, 0.002),
        ("VSC", "MMD", 1, 0.004),
    ]
    return pd.DataFrame(rows, columns=["embedding", "metric", "seed", "value"])


def labels(ax):
    return [t.get_text() for t in ax.get_yticklabels()], [t.get_text() for t in ax.get_xticklabels()]


def cells(ax):
    return {text.get_position()[::-1]: text for text in ax.texts}


def test_means_deviations_and_order(tidy):
    ax = lc.pl.scores(tidy)
    assert labels(ax) == (["PCA", "VSC"], ["NMI", "MMD"])
    assert {place: text.get_text() for place, text in cells(ax).items()} == {
        (0, 0): "0.750",
        (0, 1): "0.0100",
        (1, 0): "0.820\n± 0.028",
        (1, 1): "0.0030\n± 0.0014",
    }


def test_colours_are_scaled_by_column_and_direction(tidy):
    ax = lc.pl.scores(tidy)
    np.testing.assert_allclose(ax.images[0].get_array(), [[0, 1], [1, 0]])
    ax = lc.pl.scores(tidy, lower_is_better=["MMD"])
    np.testing.assert_allclose(ax.images[0].get_array(), [[0, 0], [1, 1]])
    assert labels(ax)[1] == ["NMI", "MMD ↓"]
    assert [text.get_fontweight() for text in ax.texts] == ["normal", "normal", "bold", "bold"]


def test_best_of_each_column_is_bold_and_ties_too():
    wide = pd.DataFrame(
        {"NMI": [0.8, 0.80001, 0.5], "ARI": [0.1, 0.2, 0.3], "alone": [np.nan, 1.0, np.nan]},
        index=["a", "b", "c"],
    )
    ax = lc.pl.scores(wide)
    bold = {place for place, text in cells(ax).items() if text.get_fontweight() == "bold"}
    assert bold == {(0, 0), (1, 0), (2, 1)}
    assert cells(ax)[0, 2].get_text() == "–"
    assert np.ma.getmaskarray(ax.images[0].get_array())[:, 2].tolist() == [True, False, True]
    unmarked = lc.pl.scores(wide, best=None)
    assert {text.get_fontweight() for text in unmarked.texts} == {"normal"}


def test_text_contrasts_with_its_cell(tidy):
    ax = lc.pl.scores(tidy, cmap="gray")
    assert {place: text.get_color() for place, text in cells(ax).items()} == {
        (0, 0): "white",
        (0, 1): "black",
        (1, 0): "black",
        (1, 1): "white",
    }


def test_wide_tables_keep_bookkeeping_out_and_average_seeds():
    wide = pd.DataFrame(
        {"model": ["a", "a", "b"], "seed": [0, 1, 0], "n_dims": [6, 6, 6], "NMI": [0.4, 0.6, 0.3]}
    )
    ax = lc.pl.scores(wide)
    assert labels(ax) == (["a", "b"], ["NMI"])
    assert [text.get_text() for text in ax.texts] == ["0.500\n± 0.141", "0.300"]


def test_other_column_names(tidy):
    renamed = tidy.rename(columns={"embedding": "method", "metric": "score", "value": "x"})
    ax = lc.pl.scores(renamed, index="method", columns="score", values="x")
    assert labels(ax) == (["PCA", "VSC"], ["NMI", "MMD"])


def test_dimensions_and_protocols_are_never_averaged():
    table = pd.DataFrame(
        [
            ("VSC", 6, "kmeans", "NMI", 0.1),
            ("VSC", 20, "kmeans", "NMI", 0.3),
            ("VSC", 6, "leiden", "NMI", 0.5),
            ("VSC", 20, "leiden", "NMI", 0.7),
            ("raw", np.nan, "leiden", "NMI", 0.2),
        ],
        columns=["embedding", "n_dims", "protocol", "metric", "value"],
    )
    ax = lc.pl.scores(table, lower_is_better=["NMI"])
    assert labels(ax) == (["VSC, 6 dims", "VSC, 20 dims", "raw"], ["NMI ↓\nkmeans", "NMI ↓\nleiden"])
    assert [text.get_text() for text in ax.texts] == ["0.100", "0.500", "0.300", "0.700", "–", "0.200"]


def test_digits_and_no_annotation(tidy):
    assert lc.pl.scores(tidy, digits=2).texts[0].get_text() == "0.75"
    assert list(lc.pl.scores(tidy, annotate=False).texts) == []
    seconds = pd.DataFrame({"model": ["a", "b"], "seconds": [1234.5, 3.21]})
    assert [text.get_text() for text in lc.pl.scores(seconds).texts] == ["1234", "3"]


def test_given_axes_are_used_and_the_colour_bar_explains(tidy):
    figure, ax = plt.subplots()
    assert lc.pl.scores(tidy, ax=ax) is ax
    assert plt.get_fignums() == [figure.number]
    bar = next(other for other in figure.axes if other is not ax)
    assert [text.get_text() for text in bar.get_yticklabels()] == ["worst of\ncolumn", "best of\ncolumn"]


def test_texts_fit_their_cells(overlaps):
    rng = np.random.default_rng(0)
    metrics = ["NMI", "ARI", "homogeneity", "completeness", "average precision", "batch mixing (iLISI)"]
    rows = [
        (m, k, s, rng.random()) for m in ["PCA-10", "a rather long name"] for k in metrics for s in range(3)
    ]
    ax = lc.pl.scores(pd.DataFrame(rows, columns=["model", "metric", "seed", "value"]))
    texts = [*ax.texts, *ax.get_xticklabels(), *ax.get_yticklabels()]
    assert overlaps(ax.figure, texts) == ([], [])


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda t: t.iloc[:0], {}, "no rows"),
        (lambda t: t, {"index": "method"}, "index='method'.*'embedding'"),
        (lambda t: t.drop(columns="embedding"), {}, "index: name the column.*'metric'"),
        (lambda t: t.assign(value="high"), {}, "values='value'.*numbers"),
        (lambda t: t.assign(seed=0), {}, "several values for .*VSC.*NMI"),
        (lambda t: t, {"lower_is_better": ["KL"]}, "lower_is_better.*KL"),
        (lambda t: t[["embedding", "metric"]], {}, "neither tidy.*nor wide"),
    ],
)
def test_what_is_wrong_is_named_and_leaves_no_figure(tidy, change, arguments, message):
    with pytest.raises(DataError, match=message):
        lc.pl.scores(change(tidy), **arguments)
    assert plt.get_fignums() == []


def test_the_table_is_not_changed(tidy):
    before = tidy.copy()
    lc.pl.scores(tidy)
    pd.testing.assert_frame_equal(tidy, before)


def test_models_may_be_the_index_of_a_tidy_table(tidy):
    assert labels(lc.pl.scores(tidy.set_index("embedding"), index="embedding")) == (
        ["PCA", "VSC"],
        ["NMI", "MMD"],
    )
