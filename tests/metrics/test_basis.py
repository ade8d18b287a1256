"""The view that fidelity compares cells in: genes and components are those that vary."""

import numpy as np
from scipy import sparse

from latentcell.metrics import _basis
from latentcell.metrics._cells import Cells

OPTIONS = {"counts": False, "n_top_genes": 3, "n_comps": 2, "n_trees": 2, "seed": 0}


def cells(values, groups):
    return Cells(sparse.csr_matrix(values), np.array(groups), np.array([f"c{i}" for i in range(len(values))]))


def test_genes_are_those_of_the_highest_variance_whatever_their_mean(rng):
    spread = np.array([0.1, 3.0, 0.2, 1.0, 2.0])
    values = rng.normal(size=(60, 5)) * spread + [50, 0, 9, -20, 5]
    found = _basis.Basis.fit(cells(values, ["a"] * 60), [], **OPTIONS)
    np.testing.assert_array_equal(found.genes, [1, 3, 4])


def test_correlated_genes_are_those_that_vary_most_within_groups(rng, monkeypatch):
    """A gene that only tells the groups apart varies most, and not within any of them."""
    monkeypatch.setattr(_basis, "N_CORRELATED", 1)
    groups = np.repeat(["a", "b"], 30)
    values = np.column_stack(
        [np.where(groups == "a", 0.0, 20.0), rng.normal(size=60), 3 * rng.normal(size=60), np.zeros(60)]
    )
    found = _basis.Basis.fit(cells(values, groups), ["a", "b"], **OPTIONS)
    np.testing.assert_array_equal(found.genes, [0, 1, 2])
    np.testing.assert_array_equal(found.correlated, [2])
    assert found.markers[1].tolist()[0] == 0  # of group b


def test_markers_are_the_fifty_genes_that_are_raised_most():
    groups = np.array(["a", "a", "b", "b"])
    values = np.where(groups[:, None] == "a", 0.0, np.arange(1.0, 61.0))
    found = _basis.Basis.fit(cells(values, groups), ["a", "b"], **OPTIONS | {"n_top_genes": 60})
    assert found.markers[0].size == 0
    np.testing.assert_array_equal(found.markers[1], np.arange(59, 9, -1))


def test_there_are_fewer_components_than_cells_and_no_more_than_genes(rng):
    for n_genes, expected in ((8, 4), (3, 3)):
        values = cells(rng.normal(size=(5, n_genes)), ["a"] * 5)
        found = _basis.Basis.fit(values, [], **OPTIONS | {"n_top_genes": 8, "n_comps": 30})
        assert found.pca.n_components_ == expected


def test_cells_of_any_depth_are_brought_to_the_target_and_empty_ones_stay_empty():
    counts = sparse.csr_matrix([[1.0, 0.0], [1.0, 3.0], [0.0, 0.0]])
    expected = np.log1p([[4.0, 0.0], [1.0, 3.0], [0.0, 0.0]])
    np.testing.assert_allclose(_basis._scaled(counts, 4.0).toarray(), expected)
