import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import f1_score

from latentcell.metrics._groups import (
    centred,
    correlation_agreement,
    fold_change_agreement,
    fold_changes,
    group_means,
    label_f1,
    top_markers,
)

GROUPS = np.repeat([0, 1, 2], [30, 20, 10])
SHARE = np.array([30, 20, 10]) / 60


@pytest.fixture
def values(rng):
    return rng.normal(size=(60, 8)) + 2 * (np.arange(8) % 3 == GROUPS[:, None])


def test_fold_changes_are_group_less_rest(values):
    changes = fold_changes(values, GROUPS, SHARE)
    for group in range(3):
        expected = values[GROUPS == group].mean(axis=0) - values[GROUPS != group].mean(axis=0)
        assert changes[group] == pytest.approx(expected)


def test_fold_changes_do_not_depend_on_how_frequent_groups_are(values):
    rows = np.concatenate([np.flatnonzero(GROUPS == 0), np.tile(np.flatnonzero(GROUPS > 0), 5)])
    assert fold_changes(values[rows], GROUPS[rows], SHARE) == pytest.approx(
        fold_changes(values, GROUPS, SHARE)
    )


def test_groups_without_share_are_left_out(values):
    changes = fold_changes(values, GROUPS, SHARE * [1, 1, 0])
    a, b = (values[GROUPS == group].mean(axis=0) for group in (0, 1))
    assert changes[0] == pytest.approx(a - b)
    assert changes[1] == pytest.approx(b - a)
    assert np.isnan(changes[2]).all()
    assert np.isnan(fold_changes(values, GROUPS, SHARE * [1, 0, 0])).all()


def test_markers_are_the_genes_that_were_raised(values):
    markers = top_markers(values, GROUPS, 3, 3)
    assert set(markers[0]) == {0, 3, 6}
    assert set(markers[2]) <= {2, 5, *range(8)}
    assert all((fold_changes(values, GROUPS, SHARE)[g, m] > 0).all() for g, m in enumerate(markers))


def test_genes_that_are_lower_or_the_same_are_no_markers():
    values = np.array([[1.0, 2.0, 3.0], [0.75, 1.75, 3.0]])  # exact in binary, as are halves
    markers = top_markers(values, np.array([0, 1]), 2, 3)
    assert [genes.tolist() for genes in markers] == [[0, 1], []]


def test_slope_tells_how_far_differences_are_attenuated(values):
    markers = top_markers(values, GROUPS, 3, 3)
    changes = fold_changes(values, GROUPS, SHARE)
    shrunken = fold_changes(0.6 * values, GROUPS, SHARE)
    assert fold_change_agreement(changes, changes, markers, [0, 1, 2]) == pytest.approx(
        {"marker_lfc_pearson": 1, "marker_lfc_slope": 1}
    )
    assert fold_change_agreement(changes, shrunken, markers, [0, 1, 2]) == pytest.approx(
        {"marker_lfc_pearson": 1, "marker_lfc_slope": 0.6}
    )


def test_centred_values_have_no_group_means(values):
    assert group_means(centred(values, GROUPS), GROUPS, 3) == pytest.approx(np.zeros((3, 8)), abs=1e-12)


def test_correlation_agreement_is_numpys(rng):
    a, b = rng.normal(size=(40, 5)) @ rng.normal(size=(2, 5, 5))
    upper = np.triu_indices(5, k=1)
    expected = np.corrcoef(np.corrcoef(a.T)[upper], np.corrcoef(b.T)[upper])[0, 1]
    assert correlation_agreement(a, b) == pytest.approx(expected)
    assert correlation_agreement(a, 3 * a + 1) == pytest.approx(1)


def test_a_constant_gene_is_correlated_with_none(rng):
    a = rng.normal(size=(40, 2)) @ rng.normal(size=(2, 6))
    b = a.copy()
    b[:, 2] = 0.1
    correlations = np.corrcoef(a.T)
    without = correlations.copy()
    without[2] = without[:, 2] = 0
    upper = np.triu_indices(6, k=1)
    expected = np.corrcoef(correlations[upper], without[upper])[0, 1]
    assert correlation_agreement(a, b) == pytest.approx(expected)


def test_f1_is_sklearns_with_groups_as_frequent_as_asked(values):
    forest = RandomForestClassifier(5, max_depth=2, random_state=0).fit(values.astype(np.float32), GROUPS)
    answers = forest.predict(values.astype(np.float32))
    assert label_f1(forest, values, GROUPS, SHARE) == pytest.approx(f1_score(GROUPS, answers, average=None))
    # thrice the cells of one group, the same share
    rows = np.concatenate([np.arange(60), np.flatnonzero(GROUPS == 2), np.flatnonzero(GROUPS == 2)])
    assert label_f1(forest, values[rows], GROUPS[rows], SHARE) == pytest.approx(
        label_f1(forest, values, GROUPS, SHARE)
    )


def test_f1_of_groups_without_share_is_missing_and_their_cells_are_not_asked(values):
    forest = RandomForestClassifier(5, max_depth=2, random_state=0).fit(values.astype(np.float32), GROUPS)
    share = np.array([0.5, 0.5, 0])
    kept = GROUPS < 2
    answers = forest.predict(values[kept].astype(np.float32))
    weights = np.where(GROUPS[kept] == 0, 1 / 30, 1 / 20)
    expected = f1_score(GROUPS[kept], answers, labels=[0, 1], average=None, sample_weight=weights)
    f1 = label_f1(forest, values, GROUPS, share)
    assert f1[:2] == pytest.approx(expected)
    assert np.isnan(f1[2])
