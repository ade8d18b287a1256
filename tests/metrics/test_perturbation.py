import numpy as np
import pytest
from scipy import sparse, stats
from sklearn.metrics import r2_score

import latentcell as lc
from latentcell._errors import DataError


@pytest.fixture
def sets(rng):
    """Real stimulated, predicted and control cells of 40 genes, 8 of which respond."""
    base = rng.gamma(2.0, 1.0, size=40)
    change = np.concatenate([np.linspace(-3, 4, 8), np.zeros(32)])
    real = base + change + rng.normal(0, 0.5, size=(70, 40))
    predicted = base + 0.8 * change + rng.normal(0, 0.3, size=(50, 40))
    return real, predicted, base + rng.normal(0, 0.5, size=(60, 40))


def test_every_number_is_that_of_a_library_gene_by_gene(sets):
    real, predicted, control = sets
    table = lc.metrics.perturbation_response(*sets, n_top=[10, 4])
    t = np.abs(stats.ttest_ind(real, control, equal_var=False).statistic)
    ranked = sorted(range(40), key=lambda gene: -t[gene])
    assert table.index.tolist() == ["all", "top 10", "top 4"]
    for name, genes in {"all": range(40), "top 10": ranked[:10], "top 4": ranked[:4]}.items():
        genes, row = list(genes), table.loc[name]
        m, p, c = (X[:, genes].mean(0) for X in (real, predicted, control))
        v, w = (X[:, genes].var(0, ddof=1) for X in (real, predicted))
        assert row["n_genes"] == len(genes)
        assert row["r2"] == pytest.approx(stats.pearsonr(m, p).statistic ** 2)
        assert row["r2_score"] == pytest.approx(r2_score(m, p))
        assert row["r2_variance"] == pytest.approx(stats.pearsonr(v, w).statistic ** 2)
        assert row["r2_score_variance"] == pytest.approx(r2_score(v, w))
        assert row["delta_correlation"] == pytest.approx(stats.pearsonr(m - c, p - c).statistic)
        assert row["direction"] == np.mean([(m[i] > c[i]) == (p[i] > c[i]) for i in range(len(genes))])
    change = [np.abs(X.mean(0) - control.mean(0)) for X in (real, predicted)]
    for n in (10, 4):
        tops = [set(np.argsort(-delta)[:n]) for delta in change]
        assert table.loc[f"top {n}", "overlap"] == len(tops[0] & tops[1]) / n
    assert np.isnan(table.loc["all", "overlap"])


def test_real_cells_score_best(sets):
    real, _, control = sets
    table = lc.metrics.perturbation_response(real, real, control, n_top=[10])
    for name in ("r2", "r2_score", "r2_variance", "r2_score_variance", "delta_correlation", "direction"):
        np.testing.assert_allclose(table[name], 1.0, err_msg=name)
    assert table.loc["top 10", "overlap"] == 1.0


def test_no_change_is_high_in_r2_and_says_nothing_of_the_change(sets):
    real, _, control = sets
    table = lc.metrics.perturbation_response(real, control, control, n_top=[8])
    assert table.loc["all", "r2"] > 0.5
    assert table["delta_correlation"].isna().all()
    assert (table["direction"] == 0).all()
    assert table.loc["top 8", "overlap"] == 0


def test_one_r2_forgives_scale_and_the_other_does_not(sets):
    real, _, control = sets
    table = lc.metrics.perturbation_response(real, 3 * real - 7, control, n_top=[8])
    np.testing.assert_allclose(table["r2"], 1.0)
    assert (table["r2_score"] < 0).all()


def test_sparse_matrices_give_the_same(sets):
    found = lc.metrics.perturbation_response(*(sparse.csr_matrix(X) for X in sets), n_top=[5])
    expected = lc.metrics.perturbation_response(*sets, n_top=[5])
    np.testing.assert_allclose(found.to_numpy(), expected.to_numpy())


def test_genes_are_ranked_by_welchs_t(sets):
    real, _, control = sets
    t = stats.ttest_ind(real, control, equal_var=False).statistic
    found = lc.metrics.rank_differential_genes(real, control)
    np.testing.assert_array_equal(found, np.argsort(-np.abs(t)))
    np.testing.assert_array_equal(found, lc.metrics.rank_differential_genes(control, real))


def test_constant_genes_come_first_if_they_differ_and_last_if_not(rng):
    real, control = rng.normal(5.0, size=(9, 3)), rng.normal(size=(9, 3))
    real[:, 0] = control[:, 0] = 2.0
    real[:, 2], control[:, 2] = 1.0, 0.0
    assert lc.metrics.rank_differential_genes(real, control).tolist() == [2, 1, 0]


@pytest.mark.parametrize("n", [0, 1, 41])
def test_a_set_that_cannot_be_is_refused(sets, n):
    with pytest.raises(DataError, match=f"n_top={n} must be from 2 to the number of genes"):
        lc.metrics.perturbation_response(*sets, n_top=[n])


def test_sets_that_do_not_fit_are_refused(sets):
    real, predicted, control = sets
    with pytest.raises(DataError, match="predicted has 39"):
        lc.metrics.perturbation_response(real, predicted[:, 1:], control, n_top=[5])
    with pytest.raises(DataError, match="control has 1 cells"):
        lc.metrics.perturbation_response(real, predicted, control[:1], n_top=[5])
