import anndata as ad
import numpy as np
import pytest
from scipy import sparse, stats
from sklearn.decomposition import PCA

import latentcell as lc
from latentcell._errors import DataError

KEY = "variance_normalized"


@pytest.fixture
def counts(rng):
    mean = rng.gamma(1, 3, size=200)
    mean[:10] = 1
    X = rng.negative_binomial(4, 4 / (4 + mean), size=(150, 200)).astype(np.float64)
    X[:15, :10] += rng.poisson(20, size=(15, 10))
    X[:, 50] = 0
    return ad.AnnData(X)


def test_scale_follows_the_published_steps(counts):
    """The steps of MUDAN's normalizeVariance, gene by gene, from the residuals of the trend."""
    lc.pp.normalize_variance(counts)
    X, var, n = counts.X, counts.var, counts.n_obs
    for gene in np.flatnonzero(X.var(axis=0) > 0):
        ratio = np.exp(var[f"{KEY}_residual"].iloc[gene])
        if ratio > 1:
            adjusted = stats.chi2.isf(stats.f.sf(ratio, n, n), n - 1) / (n - 1)
        else:
            adjusted = stats.chi2.ppf(stats.f.cdf(ratio, n, n), n - 1) / (n - 1)
        adjusted = min(1e3, max(1e-3, adjusted))
        scale = np.sqrt(adjusted / X[:, gene].var(ddof=1))
        assert var[f"{KEY}_scale"].iloc[gene] == pytest.approx(scale, rel=1e-6)
        np.testing.assert_allclose(counts.layers[KEY][:, gene], X[:, gene] * scale, rtol=1e-6)
        assert counts.layers[KEY][:, gene].var(ddof=1) == pytest.approx(adjusted, rel=1e-6)
    varies = X.var(axis=0) > 0
    p = stats.f.sf(np.exp(var[f"{KEY}_residual"][varies]), n, n)
    np.testing.assert_allclose(var[f"{KEY}_pvals_adj"][varies], stats.false_discovery_control(p), rtol=1e-9)


def test_a_gene_on_the_trend_gets_a_variance_of_about_one(rng):
    adata = ad.AnnData(rng.poisson(rng.uniform(1, 30, size=500), size=(400, 500)).astype(np.float32))
    lc.pp.normalize_variance(adata)
    variance = adata.layers[KEY].var(axis=0, ddof=1)
    assert variance.mean() == pytest.approx(1, abs=0.02)
    assert variance.std() == pytest.approx(np.sqrt(2 / 400), rel=0.4)
    assert abs(adata.var[f"{KEY}_residual"].mean()) < 1e-9
    assert adata.var[f"{KEY}_overdispersed"].mean() < 0.02


def test_markers_of_a_small_group_are_overdispersed(counts):
    lc.pp.normalize_variance(counts, alpha=0.05)
    found = counts.var[f"{KEY}_overdispersed"]
    assert found[:10].all()
    assert found[10:].mean() < 0.05


def test_alpha_one_takes_every_gene_that_varies(counts):
    lc.pp.normalize_variance(counts, alpha=1)
    assert counts.var[f"{KEY}_overdispersed"].sum() == 199


def test_alpha_does_not_change_the_matrix(counts):
    low, high = (lc.pp.normalize_variance(counts, alpha=alpha, copy=True) for alpha in (0.001, 1))
    np.testing.assert_array_equal(low.layers[KEY], high.layers[KEY])


def test_constant_genes_become_zero(counts):
    counts.X[:, 51] = 0.1
    lc.pp.normalize_variance(counts)
    for gene in (50, 51):
        assert not counts.layers[KEY][:, gene].any()
        assert np.isnan(counts.var[f"{KEY}_residual"].iloc[gene])
        assert counts.var[f"{KEY}_pvals_adj"].iloc[gene] == 1
        assert not counts.var[f"{KEY}_overdispersed"].iloc[gene]


@pytest.mark.parametrize("to_format", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array])
def test_sparse_equals_dense_and_stays_sparse(counts, to_format):
    dense = lc.pp.normalize_variance(counts, copy=True)
    counts.X = to_format(counts.X)
    lc.pp.normalize_variance(counts)
    assert counts.layers[KEY].format == counts.X.format
    np.testing.assert_allclose(counts.layers[KEY].toarray(), dense.layers[KEY], rtol=1e-10)
    np.testing.assert_allclose(counts.var[f"{KEY}_scale"], dense.var[f"{KEY}_scale"], rtol=1e-10)


def test_k_two_is_a_straight_line(counts):
    lc.pp.normalize_variance(counts, k=2)
    varies = counts.X.var(axis=0) > 0
    log_mean = np.log(counts.X.mean(axis=0)[varies])
    log_variance = np.log(counts.X.var(axis=0, ddof=1)[varies])
    fit = np.polyval(np.polyfit(log_mean, log_variance, 1), log_mean)
    np.testing.assert_allclose(counts.var[f"{KEY}_residual"][varies], log_variance - fit, atol=1e-8)


def test_many_genes_of_the_same_mean(rng):
    X = np.eye(40)[:, rng.integers(40, size=300)]
    X = np.hstack([X, rng.poisson(3, size=(40, 40))])
    adata = ad.AnnData(X)
    lc.pp.normalize_variance(adata)
    assert np.isfinite(adata.layers[KEY]).all()


def test_all_genes_of_the_same_mean():
    adata = ad.AnnData(np.eye(20))
    lc.pp.normalize_variance(adata)
    np.testing.assert_allclose(adata.var[f"{KEY}_residual"], 0, atol=1e-12)


def test_thousands_of_cells_do_not_underflow(rng):
    X = rng.poisson(rng.uniform(1, 60, size=200), size=(6000, 200)).astype(np.float32)
    X[:, 2] = rng.binomial(40, 0.9, size=6000)
    for gene, high in ((0, 40), (1, 60)):
        X[:, gene] = 0
        X[:3000, gene] = high
    adata = ad.AnnData(X)
    lc.pp.normalize_variance(adata)
    p = stats.f.sf(np.exp(adata.var[f"{KEY}_residual"].to_numpy()), 6000, 6000)
    assert (p[:2] == 0).all()
    assert p[2] == 1
    variance = adata.layers[KEY].var(axis=0, ddof=1, dtype=np.float64)
    assert 1e-3 < variance[2] < 0.9
    assert 1.2 < variance[0] < variance[1] < 1e3


@pytest.mark.parametrize("seed", range(5))
def test_shows_the_rare_cells_in_two_components(seed):
    adata = lc.datasets.simulate_groups(seed=seed)
    lc.pp.normalize_variance(adata, alpha=1)
    raw, normalized = (
        lc.metrics.neighbor_purity(PCA(2, random_state=0).fit_transform(X), adata.obs["group"], "rare")
        for X in (adata.X, adata.layers[KEY])
    )
    assert normalized >= 0.95
    assert raw <= 0.8


def test_slots_and_layer(counts):
    counts.layers["other"] = counts.X.copy()
    before = counts.X.copy()
    counts.X = -counts.X
    assert lc.pp.normalize_variance(counts, layer="other", key_added="vn") is None
    assert set(counts.layers) - {None} == {"other", "vn"}
    assert list(counts.var) == ["vn_residual", "vn_pvals_adj", "vn_overdispersed", "vn_scale"]
    np.testing.assert_array_equal(counts.X, -before)
    np.testing.assert_array_equal(counts.layers["other"], before)


def test_copy_leaves_the_input_alone(counts):
    result = lc.pp.normalize_variance(counts, copy=True)
    assert KEY in result.layers
    assert KEY not in counts.layers
    assert not list(counts.var)
    assert lc.pp.normalize_variance(counts[:100], copy=True).shape == (100, 200)


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda a: a, {"alpha": 0}, "alpha=0 must be above 0"),
        (lambda a: a, {"k": 1}, "k=1 must be at least 2"),
        (lambda a: a, {"layer": "none"}, "layer='none' is not in adata.layers"),
        (lambda a: a[:, :6], {"copy": True}, "6 genes that vary.*too few.*k=5"),
        (lambda a: a[:10], {}, "a view of another AnnData; normalize_variance would change a hidden copy"),
        (lambda a: ad.AnnData(a.X - 1), {}, "X holds negative values.*cell '0', gene '"),
        (lambda a: ad.AnnData(np.where(a.X == 0, np.nan, a.X)), {}, "X holds NaN or inf: cell '0', gene '"),
    ],
)
def test_bad_input(counts, change, arguments, message):
    with pytest.raises(DataError, match=message):
        lc.pp.normalize_variance(change(counts), **arguments)
