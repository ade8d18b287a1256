import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

import latentcell as lc
from latentcell._errors import DataError


@pytest.fixture
def sparse_code(rng):
    """Codes with many ties at zero and a sign, as spike-and-slab models give them."""
    labels = np.repeat(["a", "b", "c"], [50, 30, 5])
    z = rng.normal(size=(85, 6)) * (rng.random((85, 6)) < 0.5)
    z[:50, 1] += 1
    z[50:80, 2] -= 2
    z[80:, 4] += 3
    return z.round(1), labels


def reference(z, labels, directions):
    """The same table by a loop over scikit-learn."""
    table = {}
    for group in sorted(set(labels)):
        member = labels == group
        options = [(dim, sign) for sign in directions for dim in range(z.shape[1])]
        auroc = [roc_auc_score(member, sign * z[:, dim]) for dim, sign in options]
        precision = [average_precision_score(member, sign * z[:, dim]) for dim, sign in options]
        table[group] = (max(auroc), options[np.argmax(auroc)], max(precision), options[np.argmax(precision)])
    return table


@pytest.mark.parametrize(("direction", "signs"), [("both", (1, -1)), ("positive", (1,))])
def test_is_scikit_learns_in_a_loop(sparse_code, direction, signs):
    z, labels = sparse_code
    table = lc.metrics.dimension_scores(z, labels, direction=direction)
    for group, (auroc, auroc_at, precision, precision_at) in reference(z, labels, signs).items():
        row = table.loc[group]
        assert row["auroc"] == pytest.approx(auroc, abs=1e-12)
        assert (row["auroc_dim"], row["auroc_sign"]) == auroc_at
        assert row["average_precision"] == pytest.approx(precision, abs=1e-12)
        assert (row["average_precision_dim"], row["average_precision_sign"]) == precision_at


def test_table(sparse_code):
    z, labels = sparse_code
    table = lc.metrics.dimension_scores(z, pd.Series(labels, dtype="category"))
    assert list(table.index) == ["a", "b", "c"]
    assert table.index.name == "group"
    assert table["n_cells"].tolist() == [50, 30, 5]
    assert table["prevalence"].tolist() == [50 / 85, 30 / 85, 5 / 85]
    assert table.loc["b", "auroc_dim"] == 2
    assert table.loc["b", "auroc_sign"] == -1
    assert table.loc["c", "average_precision_dim"] == 4


def test_a_planted_dimension_is_perfect():
    z = np.eye(4).repeat(5, axis=0)
    table = lc.metrics.dimension_scores(z, np.arange(4).repeat(5))
    assert (table["auroc"] == 1).all()
    assert (table["average_precision"] == 1).all()
    assert table["auroc_dim"].tolist() == [0, 1, 2, 3]


def test_a_constant_code_is_at_chance():
    table = lc.metrics.dimension_scores(np.ones((10, 2)), [0] * 3 + [1] * 7)
    assert table["auroc"].tolist() == [0.5, 0.5]
    assert table["average_precision"].tolist() == pytest.approx([0.3, 0.7])


def test_monotone_changes_of_a_dimension_do_not_matter(sparse_code):
    z, labels = sparse_code
    pd.testing.assert_frame_equal(
        lc.metrics.dimension_scores(z, labels),
        lc.metrics.dimension_scores(np.exp(z) * [1, 2, 3, 4, 5, 6], labels),
    )


def test_both_directions_are_at_least_as_good_as_one(sparse_code):
    both, positive = (lc.metrics.dimension_scores(*sparse_code, direction=d) for d in ("both", "positive"))
    for score in ("auroc", "average_precision"):
        assert (both[score] >= positive[score]).all()
    flipped = lc.metrics.dimension_scores(-sparse_code[0], sparse_code[1])
    np.testing.assert_allclose(flipped[["auroc", "average_precision"]], both[["auroc", "average_precision"]])


def test_bad_input(sparse_code):
    z, labels = sparse_code
    with pytest.raises(DataError, match="All cells have the label 'a'"):
        lc.metrics.dimension_scores(z, ["a"] * 85)
    with pytest.raises(DataError, match="direction='up' must be"):
        lc.metrics.dimension_scores(z, labels, direction="up")
    with pytest.raises(DataError, match="labels is missing for 1 cells, first in rows 0"):
        lc.metrics.dimension_scores(z, [None, *labels[1:]])
