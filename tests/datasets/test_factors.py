"""Simulated programmes: the truth is in the counts, and the counts are Splat's."""

import anndata
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit

import latentcell as lc
from latentcell._errors import DataError
from latentcell.datasets import ContinuousFactor, DiscreteFactor, _factors, simulate_factors
from latentcell.datasets._programmes import share_out
from latentcell.datasets._splat import effects

quick = settings(max_examples=50, deadline=None, derandomize=True)
PROGRAMMES = [*(f"identity_{k}" for k in range(1, 6)), "activity"]
# every cell and gene has the same mean as all others of its kind: what is left is noise
STILL = {"library_scale": 0, "outlier_share": 0, "bcv_df": None}


@pytest.fixture(scope="module")
def default():
    return simulate_factors(truth=True)


def test_default_is_a_star_of_five_identities_and_an_activity_across_it(default):
    assert default.shape == (1200, 400)
    assert isinstance(default.X, sp.csr_matrix)
    assert default.X.dtype == np.float32
    assert (default.X.data > 0).all()
    assert (default.X.data == np.round(default.X.data)).all()
    usage, lfc = default.obsm["factors"], default.varm["factor_genes"]
    assert list(usage.columns) == list(lfc.columns) == PROGRAMMES
    assert usage.index.equals(default.obs_names)
    assert lfc.index.equals(default.var_names)
    arms = usage.to_numpy()[:, :5]
    assert ((arms > 0).sum(axis=1) == 1).all()
    assert list(default.obs["identity"]) == [PROGRAMMES[k] for k in arms.argmax(axis=1)]
    assert default.obs["identity"].value_counts().tolist() == [240] * 5
    assert stats.kstest(arms.max(axis=1), "uniform").pvalue > 0.01
    active = usage["activity"].to_numpy()
    assert (active > 0).sum() == 360
    assert stats.kstest(active[active > 0], "uniform").pvalue > 0.01
    # a share of every arm, and to a degree that does not depend on the arm's
    assert default.obs["identity"][active > 0].value_counts().between(50, 95).all()
    assert abs(np.corrcoef(arms.max(axis=1), active)[0, 1]) < 0.1
    assert ((lfc != 0).sum() == 40).all()


def test_library_sizes(default):
    size = default.obs["expected_library_size"].to_numpy()
    np.testing.assert_allclose(default.layers["true_means"].sum(axis=1), size, rtol=1e-4)
    log = np.log(size)
    assert log.mean() == pytest.approx(np.log(3000), abs=4 * 0.2 / np.sqrt(1200))
    assert log.std() == pytest.approx(0.2, rel=4 / np.sqrt(2 * 1200))
    total = np.asarray(default.X.sum(axis=1)).ravel()
    assert total.mean() == pytest.approx(size.mean(), rel=0.01)
    assert np.corrcoef(total, size)[0, 1] > 0.9


def test_log_means_regressed_on_usages_return_the_fold_changes():
    """All is additive in the log, but for the scaling of cells: that of any gene without a programme."""
    adata = simulate_factors(300, 80, batches=2, truth=True)
    lfc = adata.varm["factor_genes"].to_numpy()
    shift = adata.varm["batch_effects"].to_numpy()
    log = np.log(adata.layers["true_means"].astype(float))
    untouched = np.flatnonzero((lfc == 0).all(axis=1))
    assert len(untouched) > 20
    second = (adata.obs["batch"] == "batch2").to_numpy(float)
    design = np.column_stack([np.ones(300), adata.obsm["factors"], second])
    relative = log - log[:, untouched[:1]]
    found, *_ = np.linalg.lstsq(design, relative, rcond=None)
    reference = untouched[0]
    np.testing.assert_allclose(found[1:-1].T, lfc, atol=1e-5)
    np.testing.assert_array_equal(lfc[untouched], 0)
    difference = shift[:, 1] - shift[:, 0]
    np.testing.assert_allclose(found[-1], difference - difference[reference], atol=1e-5)
    base = np.log(adata.var["base_mean"].to_numpy()) + shift[:, 0]
    np.testing.assert_allclose(found[0], base - base[reference], atol=1e-5)


def test_counts_show_the_fold_changes_and_only_in_their_genes(default):
    """An oracle that knows the usages: least squares of log1p CP10k on them."""
    x = default.X.toarray()
    share = x / x.sum(axis=1, keepdims=True)
    design = np.column_stack([np.ones(len(x)), default.obsm["factors"]])
    slope = np.linalg.lstsq(design, np.log1p(1e4 * share), rcond=None)[0][1:].T
    lfc = default.varm["factor_genes"].to_numpy()
    expressed = default.var["base_mean"].to_numpy() > 1
    for k in range(6):
        assert np.corrcoef(slope[expressed, k], lfc[expressed, k])[0, 1] > 0.85
        acted_on = lfc[:, k] != 0
        assert abs(slope[acted_on, k]).mean() > 3 * abs(slope[~acted_on & (lfc == 0).all(axis=1), k]).mean()


def test_variance_is_gamma_poisson():
    """One population: every column has its mean m and variance m + bcv^2 m^2, bcv = common + 1 / sqrt(m)."""
    adata = simulate_factors(20_000, 60, {}, library_size=600, bcv_common=0.3, truth=True, **STILL)
    m = adata.layers["true_means"][0].astype(float)
    np.testing.assert_array_equal(
        adata.layers["true_means"], adata.layers["true_means"][:1].repeat(20_000, 0)
    )
    m, x = m[m > 0.5], adata.X.toarray()[:, m > 0.5]
    assert len(m) > 40
    bcv = 0.3 + 1 / np.sqrt(m)
    variance = m + bcv**2 * m**2
    assert (abs(x.mean(axis=0) - m) < 4.5 * np.sqrt(variance / len(x))).all()
    np.testing.assert_allclose(x.var(axis=0), variance, rtol=0.15)
    assert (x.var(axis=0) / variance).mean() == pytest.approx(1, abs=0.02)
    assert (variance > 1.5 * m).all()  # so that a Poisson draw would fail


def test_spread_of_bcv_is_chi_square():
    scale = simulate_factors(2, 4000, {}, bcv_df=10).var["bcv_scale"]
    assert stats.kstest(10 / scale**2, stats.chi2(10).cdf).pvalue > 0.01
    assert (simulate_factors(2, 50, {}, bcv_df=None).var["bcv_scale"] == 1).all()
    # and it acts: the gene's excess variance grows with its square
    adata = simulate_factors(
        5000, 60, {}, library_size=6000, bcv_df=3, mean_shape=5, library_scale=0, truth=True
    )
    x, m = adata.X.toarray(), adata.layers["true_means"][0].astype(float)
    bcv = (0.1 + 1 / np.sqrt(m)) * adata.var["bcv_scale"]
    np.testing.assert_allclose(np.sqrt((x.var(axis=0) - m) / m**2), bcv, rtol=0.2)


def test_dropout_is_logistic_in_the_log_of_the_poisson_rate():
    """One population, so one gamma distribution of rates per gene: the share lost is an integral over it."""
    setting = {"library_size": 40_000, "mean_shape": 1, "bcv_common": 0, "truth": True, "dropout": 5.0}
    adata = simulate_factors(4000, 80, {}, dropout_shape=-2, **setting, **STILL)
    m, before = adata.layers["true_means"][0].astype(float), adata.layers["true_counts"].toarray()
    after = adata.X.toarray()
    kept = after > 0
    np.testing.assert_array_equal(after[kept], before[kept])
    assert adata.X.nnz < adata.layers["true_counts"].nnz
    # E over the gamma rate r (mean m, bcv^2 = 1 / m, so scale 1) of P(lost | r), by quadrature
    for j in np.flatnonzero(m > 20):
        r = stats.gamma(m[j]).ppf((np.arange(2000) + 0.5) / 2000)
        expected = expit(-2 * (np.log(r) - 5)).mean()
        lost = 1 - kept[:, j].sum() / (before[:, j] > 0).sum()
        assert lost == pytest.approx(expected, abs=4.5 * np.sqrt(0.25 / 4000))
    low, high = abs(m - np.exp(3)).argmin(), m.argmax()
    assert kept[:, low].mean() < 0.2 < 0.8 < kept[:, high].mean()


def test_no_dropout_leaves_the_counts_alone():
    none, false, never = (simulate_factors(50, 40, dropout=d) for d in (None, False, -500.0))
    np.testing.assert_array_equal(none.X.toarray(), false.X.toarray())
    np.testing.assert_array_equal(none.X.toarray(), never.X.toarray())
    assert "true_counts" not in simulate_factors(50, 40, truth=True).layers
    assert set(none.layers) <= {None}


def test_outliers_are_multiples_of_the_median():
    adata = simulate_factors(2, 4000, {}, outlier_share=0.2, outlier_loc=3, outlier_scale=0.5)
    base, outlier = adata.var["base_mean"], adata.var["is_outlier"]
    assert outlier.mean() == pytest.approx(0.2, abs=0.02)
    assert stats.kstest(base[~outlier], stats.gamma(0.6, scale=1 / 0.3).cdf).pvalue > 0.01
    median = stats.gamma(0.6, scale=1 / 0.3).median()
    assert stats.kstest(np.log(base[outlier]), stats.norm(3 + np.log(median), 0.5).cdf).pvalue > 0.001


@quick
@given(st.floats(-2, 2), st.floats(0.01, 2), st.floats(0, 1))
def test_effects_are_folded_normal_with_signs(loc, scale, down):
    x = effects(np.random.default_rng(0), 4000, loc, scale, down)
    folded = stats.foldnorm(abs(loc) / scale, scale=scale)
    assert abs(x).mean() == pytest.approx(folded.mean(), abs=5 * folded.std() / np.sqrt(4000))
    assert (x < 0).mean() == pytest.approx(down, abs=0.04)


def test_batches_shift_every_gene_at_random():
    adata = simulate_factors(600, 300, {}, batches=[100, 500], batch_loc=0.4, batch_scale=0.1, truth=True)
    assert adata.obs["batch"].tolist() == ["batch1"] * 100 + ["batch2"] * 500
    shift = adata.varm["batch_effects"]
    assert list(shift.columns) == ["batch1", "batch2"]
    assert abs(shift.to_numpy()).mean() == pytest.approx(0.4, abs=0.03)
    assert (shift < 0).to_numpy().mean() == pytest.approx(0.5, abs=0.1)
    x = adata.X.toarray()
    x = x / x.sum(axis=1, keepdims=True)
    expressed = (adata.var["base_mean"] > 3).to_numpy()
    seen = np.log(x[100:, expressed].mean(axis=0) / x[:100, expressed].mean(axis=0))
    assert np.corrcoef(seen, (shift["batch2"] - shift["batch1"])[expressed])[0, 1] > 0.9
    assert "batch_effects" not in simulate_factors(50, 40).varm
    assert simulate_factors(7, 40, {}, batches=3).obs["batch"].value_counts(sort=False).tolist() == [3, 2, 2]


def test_levels_of_a_factor():
    factors = {
        "type": DiscreteFactor(3, (6, 3, 1), usage=(1, 1), gene_share=0.2, loc=2, scale=0, down=0),
        "zone": DiscreteFactor(2, usage=(0.4, 0.6), loc=0.5, scale=0, down=1),
        "age": ContinuousFactor(cell_share=1, usage=(0.1, 0.7)),
    }
    adata = simulate_factors(500, 50, factors)
    usage, lfc = adata.obsm["factors"], adata.varm["factor_genes"]
    assert list(usage.columns) == ["type_1", "type_2", "type_3", "zone_1", "zone_2", "age"]
    assert adata.obs["type"].value_counts().to_dict() == {"type_1": 300, "type_2": 150, "type_3": 50}
    assert set(np.unique(usage.filter(like="type"))) == {0.0, 1.0}
    zone = usage.filter(like="zone").to_numpy()
    assert ((zone == 0).sum(axis=1) == 1).all()
    assert zone.max(axis=1).min() >= 0.4
    assert zone.max() <= 0.6
    assert usage["age"].between(0.1, 0.7).all()
    assert set(np.unique(lfc.filter(like="type"))) == {0.0, 2.0}
    assert set(np.unique(lfc.filter(like="zone"))) == {-0.5, 0.0}
    assert (lfc != 0).sum().tolist() == [10, 10, 10, 5, 5, 5]
    # no two factors follow each other
    table = np.histogram2d(adata.obs["type"].cat.codes, adata.obs["zone"].cat.codes, bins=(3, 2))[0]
    assert stats.chi2_contingency(table).pvalue > 0.01


def test_shorthand_is_the_factor_of_that_kind():
    a = simulate_factors(60, 40, {"identity": 5, "activity": "continuous"})
    b = simulate_factors(60, 40, {"identity": DiscreteFactor(5), "activity": ContinuousFactor()})
    c = simulate_factors(60, 40)
    np.testing.assert_array_equal(a.X.toarray(), b.X.toarray())
    np.testing.assert_array_equal(a.X.toarray(), c.X.toarray())


def test_programmes_share_genes_unless_disjoint():
    ten = {"type": DiscreteFactor(10, gene_share=0.1)}
    shared = (simulate_factors(20, 200, ten).varm["factor_genes"] != 0).sum(axis=1)
    apart = (simulate_factors(20, 200, ten, disjoint=True).varm["factor_genes"] != 0).sum(axis=1)
    assert shared.max() > 1
    assert shared.sum() == 200
    assert (apart == 1).all()
    with pytest.raises(DataError, match="disjoint=True needs 220 genes for 11 programmes, and n_genes=200"):
        simulate_factors(20, 200, {**ten, "activity": "continuous"}, disjoint=True)


@quick
@given(st.integers(1, 500), st.lists(st.floats(0.01, 100), min_size=1, max_size=9))
def test_cells_are_shared_out_to_within_one(n, shares):
    sizes = np.array(share_out(n, shares))
    assert sizes.sum() == n
    assert (abs(sizes - n * np.array(shares) / sum(shares)) < 1 + 1e-9).all()


def test_seed_decides_and_no_global_state_is_touched():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    a, b, c = (simulate_factors(80, 60, batches=2, dropout=1.0, seed=seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(a.X.toarray(), b.X.toarray())
    for slot, key in (("obsm", "factors"), ("varm", "factor_genes"), ("varm", "batch_effects")):
        assert getattr(a, slot)[key].equals(getattr(b, slot)[key])
        assert not getattr(a, slot)[key].equals(getattr(c, slot)[key])
    assert a.obs.equals(b.obs)
    assert a.var.equals(b.var)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_blocks_of_cells_are_of_the_same_simulation(monkeypatch):
    whole = simulate_factors(400, 50, truth=True, dropout=1.0)
    monkeypatch.setattr(_factors, "VALUES_AT_ONCE", 50 * 60)
    blocks = simulate_factors(400, 50, truth=True, dropout=1.0)
    np.testing.assert_allclose(blocks.layers["true_means"], whole.layers["true_means"], rtol=1e-6)
    assert blocks.X.shape == whole.X.shape
    assert (blocks.X != whole.X).nnz > 0  # other draws of the same means
    gap = abs(blocks.layers["true_counts"] - whole.layers["true_means"]).mean()
    assert gap == pytest.approx(
        abs(whole.layers["true_counts"] - whole.layers["true_means"]).mean(), rel=0.05
    )


@pytest.mark.parametrize("factors", [None, {}, {"type": DiscreteFactor(2, (1, 2))}])
def test_file_holds_everything(tmp_path, factors):
    adata = simulate_factors(30, 20, factors, batches=2, dropout=1.0, bcv_df=None, truth=True, seed=3)
    adata.write_h5ad(tmp_path / "a.h5ad")
    back = anndata.read_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(back.X.toarray(), adata.X.toarray())
    np.testing.assert_array_equal(back.obsm["factors"].to_numpy(), adata.obsm["factors"].to_numpy())
    assert list(back.varm["factor_genes"].columns) == list(adata.varm["factor_genes"].columns)
    about = back.uns["latentcell"]
    assert (about["model"], about["latentcell"], about["seed"]) == ("simulate_factors", lc.__version__, 3)
    assert about["dropout"] == 1.0
    assert "bcv_df" not in about
    assert list(about["batches"]) == [15, 15]
    if factors:
        assert about["factors"]["type"]["kind"] == "discrete"
        assert list(about["factors"]["type"]["proportions"]) == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_cells": 0}, "n_cells=0 must be a whole number of at least 1"),
        ({"n_genes": 2.5}, "n_genes=2.5 must be a whole number"),
        ({"library_size": 0}, "library_size=0 must be a finite number above 0"),
        ({"bcv_common": -0.1}, "bcv_common=-0.1 must be a finite number at least 0"),
        ({"bcv_df": 0}, "bcv_df=0 must be a finite number above 0"),
        ({"outlier_share": 1.5}, "outlier_share=1.5 must be a finite number at least 0 and at most 1"),
        ({"dropout": True}, "dropout=True must be a finite number"),
        ({"dropout_shape": np.nan}, "dropout_shape=nan must be a finite number"),
        ({"batches": 0}, "batches=0 must be a whole number of at least 1"),
        ({"batches": [600, 500]}, r"batches=\[600, 500\] sum to 1100, and n_cells=1200"),
        ({"n_cells": 3, "batches": 4}, "size in batches=0 must be a whole number of at least 1"),
        ({"factors": ["identity"]}, "factors must be a mapping of names to factors, not list"),
        ({"factors": {"a": True}}, r"factors\['a'\]=True must be a number of levels"),
        ({"factors": {"a": "discrete"}}, r"factors\['a'\]='discrete' must be a number of levels"),
        ({"factors": {"a/b": 2}}, "factors has the name 'a/b': give a string"),
        ({"factors": {"a": 2, "a_1": "continuous"}}, "factors give two programmes the name 'a_1'"),
        ({"factors": {"batch": 2}}, "discrete factor 'batch', which is a column of obs: rename it"),
        ({"n_cells": 4}, "n_cells=4 are too few for 5 levels"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(DataError, match=message):
        simulate_factors(**arguments)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (DiscreteFactor, {"n_levels": 0}, "n_levels=0 must be a whole number of at least 1"),
        (DiscreteFactor, {"n_levels": 2, "proportions": [1]}, "proportions has 1 values for n_levels=2"),
        (
            DiscreteFactor,
            {"n_levels": 2, "proportions": [1, 0]},
            "proportions=0 must be a finite number above 0",
        ),
        (DiscreteFactor, {"usage": (0.5, 0.2)}, r"usage=\(0.5, 0.2\) must be \(lowest, highest\)"),
        (ContinuousFactor, {"usage": 1}, r"usage=1 must be \(lowest, highest\)"),
        (ContinuousFactor, {"cell_share": 0}, "cell_share=0 must be a finite number above 0 and at most 1"),
        (ContinuousFactor, {"gene_share": 2}, "gene_share=2 must be a finite number above 0 and at most 1"),
        (ContinuousFactor, {"down": -1}, "down=-1 must be a finite number at least 0 and at most 1"),
        (ContinuousFactor, {"loc": np.inf}, "loc=inf must be a finite number"),
    ],
)
def test_bad_factors(kind, arguments, message):
    with pytest.raises(DataError, match=message):
        kind(**arguments)
