import numpy as np
import pytest
from scipy import sparse, stats

import latentcell as lc
from latentcell._errors import DataError
from latentcell.metrics._marginals import kolmogorov_smirnov


@pytest.fixture
def sets(rng):
    rate = rng.gamma(0.5, 3, size=30)
    return rng.poisson(rate, size=(50, 30)).astype(float), rng.poisson(0.8 * rate, size=(40, 30)).astype(
        float
    )


def test_kolmogorov_smirnov_is_scipys(sets, rng):
    continuous = rng.normal(size=(50, 30)), rng.normal(0.3, size=(40, 30))
    for a, b in (sets, continuous):
        expected = [stats.ks_2samp(a[:, j], b[:, j], method="asymp").statistic for j in range(30)]
        assert kolmogorov_smirnov(a, b) == pytest.approx(expected)


def test_scores_are_scipys(sets):
    a, b = sets
    scores = lc.metrics.gene_marginals(a, b)
    assert list(scores) == [
        "mean_pearson",
        "mean_spearman",
        "variance_spearman",
        "zero_fraction_rmse",
        "ks",
    ]
    means = a.mean(axis=0), b.mean(axis=0)
    assert scores["mean_pearson"] == pytest.approx(stats.pearsonr(*means).statistic)
    assert scores["mean_spearman"] == pytest.approx(stats.spearmanr(*means).statistic)
    assert scores["variance_spearman"] == pytest.approx(stats.spearmanr(a.var(0), b.var(0)).statistic)
    zeros = [np.mean(a[:, j] == 0) - np.mean(b[:, j] == 0) for j in range(30)]
    assert scores["zero_fraction_rmse"] == pytest.approx(np.linalg.norm(zeros) / np.sqrt(30))


def test_permuted_genes_are_ideal(sets, rng):
    scores = lc.metrics.gene_marginals(sets[0], rng.permuted(sets[0], axis=0))
    assert scores == pytest.approx(
        {"mean_pearson": 1, "mean_spearman": 1, "variance_spearman": 1, "zero_fraction_rmse": 0, "ks": 0},
        abs=1e-12,
    )


def test_is_symmetric_and_takes_sparse(sets):
    a, b = sets
    scores = lc.metrics.gene_marginals(a, b)
    assert lc.metrics.gene_marginals(b, a) == pytest.approx(scores)
    assert lc.metrics.gene_marginals(sparse.csr_matrix(a), sparse.csc_matrix(b)) == scores


def test_correlation_of_constant_means_is_missing(sets):
    scores = lc.metrics.gene_marginals(np.ones((5, 30)), sets[1])
    assert np.isnan(scores["mean_pearson"])
    assert np.isnan(scores["variance_spearman"])
    assert 0 < scores["ks"] <= 1


def test_refuses_other_genes(sets):
    with pytest.raises(DataError, match="real has 30, generated has 29"):
        lc.metrics.gene_marginals(sets[0], sets[1][:, 1:])
