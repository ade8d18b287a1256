"""Simple generators: distributions against closed forms, and the interface that generators share."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import optimize, sparse, stats

import latentcell as lc
from latentcell._errors import DataError, ModelFileError, NotTrainedError
from latentcell.model._record import seal
from latentcell.model.baselines._dependence import Dependence, shrinkage_intensity, standard_scores
from latentcell.model.baselines._margins import (
    EmpiricalMargins,
    NegativeBinomialMargins,
    fit_negative_binomial,
    value_counts,
)
from latentcell.model.baselines.gene_shuffle import shuffled
from latentcell.model.baselines.pca_gaussian import covariance_factor

BASELINES = ["GeneShuffle", "GaussianCopula", "PCAGaussian"]


def make_cells(n_cells: int = 240, n_genes: int = 15, seed: int = 0) -> ad.AnnData:
    """Counts of three types in two batches; depth varies, so that genes vary together."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n_cells) % 3
    rate = rng.gamma(1.0, 3.0, size=(3, n_genes))[kind] * rng.gamma(5.0, 0.2, size=(n_cells, 1))
    counts = rng.poisson(rate).astype(np.float32)
    counts[:, 0] += 1  # no empty cells
    counts[kind == 1, 3] = 0  # a gene that one type does not have
    adata = ad.AnnData(sparse.csr_matrix(counts))
    adata.obs_names = [f"cell{i}" for i in range(n_cells)]
    adata.var_names = [f"gene{j}" for j in range(n_genes)]
    adata.var["length"] = np.arange(n_genes)
    adata.layers["log"] = np.log1p(counts)
    adata.obs["type"] = pd.Categorical(np.array(["B cells", "3", "NK"])[kind])
    adata.obs["batch"] = pd.Categorical(np.array(["Zürich", "北京"])[np.arange(n_cells) // 3 % 2])
    return adata


def fit(name, adata, keys=None, **arguments):
    Model = getattr(lc.model, name)
    Model.setup_anndata(adata, **({"labels_key": "type"} if keys is None else keys))
    model = Model(adata, **arguments)
    model.train()
    return model


def dense(new):
    return new.X.toarray() if sparse.issparse(new.X) else new.X


@pytest.fixture(scope="module", params=BASELINES)
def trained(request):
    return fit(request.param, make_cells(), {"labels_key": "type", "batch_key": "batch"})


# --- distributions of genes ---


def test_value_counts_are_those_of_a_loop(rng):
    x = rng.poisson(1.0, size=(30, 6)) * rng.choice([-1, 1], size=6)
    x[:, 2] = 0
    found = value_counts(sparse.csc_matrix(x))
    expected = [
        (j, value, number)
        for j in range(6)
        for value, number in zip(*np.unique(x[:, j], return_counts=True), strict=True)
    ]
    assert list(zip(*found, strict=True)) == expected


def test_maximum_likelihood_is_that_of_a_general_optimiser(rng):
    x = np.stack([rng.negative_binomial(r, r / (r + m), size=60) for r, m in [(0.5, 2), (3, 9), (1, 0.4)]], 1)
    mean, size = fit_negative_binomial(value_counts(sparse.csc_matrix(x)), *x.shape)
    np.testing.assert_allclose(mean, x.mean(0))
    for j in range(3):
        found = optimize.minimize_scalar(
            lambda log, j=j: -stats.nbinom.logpmf(
                x[:, j], np.exp(log), 1 / (1 + mean[j] / np.exp(log))
            ).sum(),
            bounds=(-5, 8),
            method="bounded",
            options={"xatol": 1e-8},
        )
        np.testing.assert_allclose(size[j], np.exp(found.x), rtol=1e-4)


def test_a_gene_is_poisson_unless_its_variance_exceeds_its_mean():
    x = np.array([[0, 1, 5, 0], [0, 2, 5, 0], [0, 1, 5, 0], [0, 0, 5, 9]])
    mean, size = fit_negative_binomial(value_counts(sparse.csc_matrix(x)), *x.shape)
    np.testing.assert_array_equal(mean, [0, 1, 5, 2.25])
    np.testing.assert_array_equal(np.isinf(size), [True, True, True, False])


def test_quantiles_of_negative_binomials_are_scipys(rng):
    margins = NegativeBinomialMargins(
        np.array([0.0, 0.1, 3.0, 400.0, 6.0]), np.array([np.inf, 0.2, 2, 5, np.inf])
    )
    z = rng.normal(size=(2000, 5))
    u = stats.norm.cdf(z)
    expected = np.zeros_like(z)
    for j in (1, 2, 3):
        size, mean = margins.size[j], margins.mean[j]
        expected[:, j] = stats.nbinom.ppf(u[:, j], size, size / (size + mean))
    expected[:, 4] = stats.poisson.ppf(u[:, 4], 6.0)
    np.testing.assert_array_equal(margins.quantile(z).toarray(), expected)


def test_quantiles_of_large_counts_are_found_where_scipys_never_end():
    """scipy's do not come to an end (negative binomial) or are NaN (Poisson) for these means."""
    mean = np.array([1e6, 1e9, 1e14, 1e15])
    size = np.array([3e-3, 1.0, 20.0, np.inf])
    z = np.array([[-0.5], [0.0], [1.3], [3.0]]) * np.ones(4)
    found = NegativeBinomialMargins(mean, size).quantile(z).toarray()
    # Poisson noise is nothing beside a gamma's where mean / size is large, nor is a normal's skewness here
    expected = stats.gamma.ppf(stats.norm.cdf(z[:, :3]), size[:3], scale=mean[:3] / size[:3])
    assert (found[:2, 0] == 0).all()  # of a gene that nearly all cells lack
    np.testing.assert_allclose(found[:, 1:3], expected[:, 1:], rtol=1e-6)
    np.testing.assert_allclose(found[3, 0], expected[3, 0], rtol=1e-4)
    np.testing.assert_allclose(found[:, 3], 1e15 + z[:, 3] * np.sqrt(1e15), rtol=1e-7)


def test_quantiles_at_the_ends_are_finite():
    x = sparse.csc_matrix(np.array([[0.0, 1, 3], [9, 1, 7], [40, 1, 0]]))
    z = np.array([[40.0] * 3, [-40.0] * 3], dtype=np.float32)
    for margins in (NegativeBinomialMargins.fit(x), EmpiricalMargins.fit(x)):
        values = margins.quantile(z).toarray()
        assert np.isfinite(values).all()
        assert (values[0] >= values[1]).all()
    np.testing.assert_array_equal(values, [[40, 1, 7], [0, 1, 0]])  # of the empirical margins


@pytest.mark.parametrize("shift", [0, -2, 3])
def test_empirical_quantiles_are_numpys(rng, shift):
    """With zeros as smallest values, with negative values, and without zeros."""
    x = rng.poisson(2.0, size=(40, 7)) + float(shift)
    z = rng.normal(size=(500, 7))
    found = EmpiricalMargins.fit(sparse.csc_matrix(x)).quantile(z).toarray()
    for j in range(7):
        expected = np.quantile(x[:, j], stats.norm.cdf(z[:, j]), method="inverted_cdf")
        np.testing.assert_array_equal(found[:, j], expected)


# --- dependence ---


def test_scores_share_mid_ranks(rng):
    x = rng.poisson(1.0, size=(50, 8)).astype(float)
    x[:, 5] = 4
    z = standard_scores(x)
    for j in range(8):
        expected = stats.norm.ppf((stats.rankdata(x[:, j]) - 0.5) / 50)
        expected = np.zeros(50) if j == 5 else (expected - expected.mean()) / expected.std(ddof=1)
        np.testing.assert_allclose(z[:, j], expected, atol=1e-12)


@pytest.mark.parametrize("shrinkage", [0.0, 0.3, 1.0, "ledoit-wolf"])
def test_draws_have_the_shrunken_correlation(rng, shrinkage):
    """Exactly: a draw is a linear map of standard normal numbers, whose covariance is written down here."""
    x = rng.poisson(rng.gamma(2.0, 1.0, size=(12, 1)) * np.linspace(0.2, 3, 30)).astype(float)
    x[:, 7], x[:, 8] = 5, 0
    x[:, 9] = rng.normal(size=12)  # no zeros
    share = shrinkage_intensity(standard_scores(x)) if shrinkage == "ledoit-wolf" else shrinkage
    found = Dependence.fit(x, shrinkage)
    scores = found.scores.toarray() + found.offset
    sample = np.corrcoef(np.delete(standard_scores(x), [7, 8], axis=1).T)
    covariance = scores.T @ scores + np.diag(found.noise**2)
    np.testing.assert_allclose(np.diag(covariance), 1.0, atol=1e-6)
    between = np.delete(np.delete(covariance, [7, 8], 0), [7, 8], 1)
    np.testing.assert_allclose(between, (1 - share) * sample + share * np.eye(28), atol=1e-6)
    np.testing.assert_allclose(covariance[[7, 8]], np.eye(30)[[7, 8]], atol=1e-6)


def test_draws_are_that_linear_map(rng):
    x = rng.poisson(2.0, size=(25, 6)).astype(float)
    found = Dependence.fit(x, 0.2)
    z = found.draw(200_000, np.random.default_rng(1))
    scores = found.scores.toarray() + found.offset
    np.testing.assert_allclose(np.cov(z.T), scores.T @ scores + np.diag(found.noise**2), atol=0.012)
    assert max(stats.kstest(column[:20_000], "norm").statistic for column in z.T) < 2 / np.sqrt(20_000)


def test_shrinkage_is_that_of_a_loop_over_genes(rng):
    x = rng.normal(size=(20, 1)) * np.linspace(0, 1, 9) + rng.normal(size=(20, 9))
    z = standard_scores(x)
    n, noise, signal = len(z), 0.0, 0.0
    for i in range(9):
        for j in range(9):
            if i != j:
                w = z[:, i] * z[:, j]
                noise += n / (n - 1) ** 3 * ((w - w.mean()) ** 2).sum()
                signal += (w.sum() / (n - 1)) ** 2
    assert 0 < noise / signal < 1
    np.testing.assert_allclose(shrinkage_intensity(z), noise / signal)
    independent = standard_scores(rng.normal(size=(20, 200)))
    assert shrinkage_intensity(independent) > 0.9
    assert shrinkage_intensity(np.zeros((5, 3))) == 1.0


# --- what generated cells keep ---


def test_copula_recovers_mean_and_variance_of_negative_binomials():
    rng = np.random.default_rng(0)
    mean, size = np.array([0.3, 2.0, 15.0, 80.0]), np.array([0.8, 2.0, 5.0, 1.5])
    adata = ad.AnnData(rng.negative_binomial(size, size / (size + mean), size=(5000, 4)).astype(np.float32))
    adata = adata[adata.X.sum(1) > 0].copy()
    model = fit("GaussianCopula", adata, {})
    margins = model._groups[0].margins
    x = dense(model.generate(50_000, seed=1)).astype(float)
    variance = margins.mean + margins.mean**2 / margins.size
    np.testing.assert_allclose(x.mean(0), margins.mean, atol=5 * np.sqrt(variance / 50_000).max())
    np.testing.assert_allclose(x.mean(0) / margins.mean, 1.0, atol=0.03)
    np.testing.assert_allclose(x.var(0) / variance, 1.0, atol=0.08)
    np.testing.assert_allclose(margins.size, size, rtol=0.15)
    for j in range(4):
        # distance of two samples from one distribution: 1.95 sqrt(1/n + 1/m) is passed once in 1,000
        distance = stats.ks_2samp(x[:, j], np.asarray(adata.X[:, j])).statistic
        assert distance < 1.95 * np.sqrt(1 / 50_000 + 1 / len(adata))


@pytest.mark.parametrize("margins", ["nb", "empirical"])
def test_copula_recovers_correlations(margins):
    rng = np.random.default_rng(0)
    truth = np.array([[1, 0.8, -0.5], [0.8, 1, 0.0], [-0.5, 0.0, 1]])
    u = stats.norm.cdf(rng.multivariate_normal(np.zeros(3), truth, size=4000))
    adata = ad.AnnData(stats.nbinom.ppf(u, 3.0, 3 / (3 + 20)).astype(np.float32))
    adata = adata[adata.X.sum(1) > 0].copy()
    model = fit("GaussianCopula", adata, {}, margins=margins, shrinkage=0.0, max_cells=10_000)
    new = dense(model.generate(20_000))
    spearman = 6 / np.pi * np.arcsin(truth / 2)  # of a Gaussian copula; ties are few at a mean of 20
    np.testing.assert_allclose(stats.spearmanr(new).statistic, spearman, atol=0.04)
    shrunken = fit("GaussianCopula", adata, {}, margins=margins, shrinkage=0.5, max_cells=10_000)
    half = stats.spearmanr(dense(shrunken.generate(20_000))).statistic
    np.testing.assert_allclose(half[0, 1], 6 / np.pi * np.arcsin(0.4 / 2), atol=0.04)


def test_copula_keeps_depth_that_shuffling_loses():
    adata = make_cells(900)
    real = np.asarray(adata.X.sum(1)).ravel()
    spread = {}
    for name in ("GaussianCopula", "GeneShuffle"):
        new = fit(name, adata).generate(4000)
        spread[name] = np.std(new.obs["library_size"])
        np.testing.assert_array_equal(new.obs["library_size"], dense(new).sum(1))
    assert abs(spread["GaussianCopula"] / real.std() - 1) < 0.2
    assert spread["GeneShuffle"] / real.std() < 0.75


def test_shuffling_is_a_draw_of_every_gene_by_itself(rng):
    x = sparse.csc_matrix(np.array([[1.0, 0, 7], [2, 0, 0], [3, 0, 0], [0, 0, 7]]))
    new = shuffled(x, 40_000, rng).toarray()
    for j, column in enumerate(x.toarray().T):
        values, numbers = np.unique(column, return_counts=True)
        shares = [np.mean(new[:, j] == value) for value in values]
        np.testing.assert_allclose(shares, numbers / 4, atol=0.012)
    assert abs(np.corrcoef(new[:, 0], new[:, 2])[0, 1]) < 0.02
    assert np.corrcoef(x.toarray()[:, 0], x.toarray()[:, 2])[0, 1] < -0.4


def test_shuffled_values_occur_in_the_type_and_correlations_do_not():
    adata = make_cells(900)
    model = fit("GeneShuffle", adata)
    new = model.generate(labels={"NK": 3000, "3": 500})
    real = adata[adata.obs["type"] == "NK"].X.toarray()
    x = dense(new)[:3000]
    for j in range(adata.n_vars):
        assert set(x[:, j]) <= set(real[:, j])
    genes = real.mean(0) > 1
    between = ~np.eye(genes.sum(), dtype=bool)
    assert np.corrcoef(real[:, genes].T)[between].mean() > 0.15
    assert abs(np.corrcoef(x[:, genes].T)[between].mean()) < 0.01
    np.testing.assert_allclose(x.mean(0), real.mean(0), atol=5 * (real.std(0) / np.sqrt(3000)).max())
    assert (dense(new)[3000:, 3] == 0).all()  # the gene that type "3" does not have


def test_factors_of_covariances(rng):
    for n in (1, 2, 3, 5, 40):
        scores = rng.normal(size=(n, 5)) * np.arange(1, 6)
        factor = covariance_factor(scores)
        expected = np.cov(scores.T) if n > 1 else np.zeros((5, 5))
        np.testing.assert_allclose(factor.T @ factor, expected, atol=1e-12)
        assert len(factor) <= max(5, 2)


def test_pca_gaussian_has_the_moments_of_scores_in_each_type():
    adata = make_cells(600)
    model = fit("PCAGaussian", adata, n_components=3)
    counts = adata.X.toarray()
    logged = np.log1p(counts / counts.sum(1, keepdims=True) * 1e4)
    centered = logged - logged.mean(0)
    components = np.linalg.svd(centered, full_matrices=False)[2][:3]
    np.testing.assert_allclose(np.abs(model._components @ components.T), np.eye(3), atol=1e-5)
    new = model.generate(20_000, labels="NK")
    scores = (centered @ model._components.T)[(adata.obs["type"] == "NK").to_numpy()]
    codes = new.obsm["X_pcagaussian"]
    np.testing.assert_allclose(
        codes.mean(0), scores.mean(0), atol=5 * (scores.std(0) / np.sqrt(20_000)).max()
    )
    deviation = np.sqrt(np.outer(scores.var(0), scores.var(0)))
    np.testing.assert_allclose(np.cov(codes.T) / deviation, np.cov(scores.T) / deviation, atol=0.05)
    mapped = codes @ model._components + logged.mean(0)
    np.testing.assert_allclose(new.X, np.maximum(mapped, 0), rtol=1e-4, atol=1e-4)
    assert (mapped < 0).any()


def test_pca_gaussian_says_that_it_gives_no_counts():
    model = fit("PCAGaussian", make_cells())
    new = model.generate(10)
    assert new.uns["latentcell"]["scale"] == "log1p"
    assert new.X.dtype == np.float32
    assert "library_size" not in new.obs
    with pytest.raises(DataError, match="output='counts' needs a model of counts"):
        model.generate(10, output="counts")


def test_augmenting_puts_no_log_values_beside_counts():
    adata = make_cells()
    with pytest.raises(DataError, match="fitted to counts and gives log-normalised values"):
        lc.tl.augment(adata, fit("PCAGaussian", adata), "type", 90)
    logged = make_cells()
    logged.X = logged.layers.pop("log")
    for cells, name in ((logged, "PCAGaussian"), (adata, "GaussianCopula"), (adata, "GeneShuffle")):
        both = lc.tl.augment(cells, fit(name, cells), "type", {"NK": 90})
        assert both.obs["is_generated"].sum() == 10
        assert set(both.obs["type"][-10:]) == {"NK"}
        np.testing.assert_array_equal(dense(both)[:240], dense(cells))


def test_negative_data_stay_negative():
    adata = make_cells()
    adata.X = adata.layers["log"] - 1.0
    for name, arguments in (
        ("PCAGaussian", {}),
        ("GaussianCopula", {"margins": "empirical"}),
        ("GeneShuffle", {}),
    ):
        new = fit(name, adata, **arguments).generate(200)
        assert new.uns["latentcell"]["scale"] == "data"
        assert isinstance(new.X, np.ndarray)
        assert new.X.min() < -0.9
        if name != "PCAGaussian":
            assert new.X.min() == -1.0
        assert "library_size" not in new.obs


# --- small groups ---


@pytest.mark.filterwarnings("ignore:Category .* has fewer than 3 cells")
@pytest.mark.parametrize("name", BASELINES)
def test_types_of_one_and_two_cells(name):
    adata = make_cells()
    kinds = adata.obs["type"].astype(object).to_numpy(copy=True)
    kinds[0], kinds[1], kinds[2] = "one", "two", "two"
    adata.obs["type"] = kinds
    x = dense(fit(name, adata).generate(labels={"one": 400, "two": 400}, seed=0))
    assert np.isfinite(x).all()
    first, pair = adata.X[0].toarray()[0], adata.X[1:3].toarray()
    if name == "GeneShuffle":
        assert (x[:400] == first).all()
        assert all(set(x[400:, j]) <= set(pair[:, j]) for j in range(adata.n_vars))
    elif name == "GaussianCopula":  # Poisson about the one cell
        np.testing.assert_allclose(x[:400].mean(0), first, atol=5 * np.sqrt(first.max() / 400))
        assert (x[:400, first == 0] == 0).all()
    else:
        assert np.ptp(x[:400], axis=0).max() < 1e-5


def test_one_gene_or_component_more_than_there_are():
    adata = make_cells(6)
    new = fit("PCAGaussian", adata, {}, n_components=50).generate(5)
    assert new.obsm["X_pcagaussian"].shape == (5, 5)


def test_correlations_of_large_groups_are_taken_from_some_cells():
    adata = make_cells(600)
    model = fit("GaussianCopula", adata, {}, max_cells=50)
    assert model._groups[0].dependence.scores.shape[0] == 50
    np.testing.assert_allclose(model._groups[0].margins.mean, adata.X.toarray().mean(0, dtype=float))
    other = lc.model.GaussianCopula(adata, max_cells=50)
    other.train(seed=1)
    assert (model.generate(20).X != other.generate(20).X).nnz > 0


# --- the interface ---


def test_new_cells_carry_what_is_known_of_them(trained):
    new = trained.generate(50, seed=3)
    assert new.shape == (50, 15)
    assert list(new.obs_names) == [f"generated_{i}" for i in range(50)]
    assert new.obs["is_generated"].all()
    assert set(new.obs["type"]) <= {"B cells", "3", "NK"}
    assert set(new.obs["batch"]) == {"Zürich", "北京"}
    assert list(new.var["length"]) == list(range(15))
    found = new.uns["latentcell"]
    assert (found["model"], found["source"], found["seed"]) == (type(trained).__name__, "baseline", 3)
    if found["scale"] == "counts":
        assert new.X.format == "csr"
        assert new.X.dtype == np.float32
        assert (new.X.data == np.round(new.X.data)).all()
        assert new.X.data.min() > 0
        np.testing.assert_array_equal(new.obs["library_size"], dense(new).sum(1))
    assert list(new.obsm) == (["X_pcagaussian"] if found["model"] == "PCAGaussian" else [])


def test_labels_and_batches_by_name_in_any_order(trained):
    new = trained.generate(labels={"NK": 5, "3": 7}, batch="北京")
    assert list(new.obs["type"]) == ["NK"] * 5 + ["3"] * 7
    assert set(new.obs["batch"]) == {"北京"}
    mixed = ["3", "NK", "B cells", "3"] * 10
    new = trained.generate(labels=mixed)
    assert list(new.obs["type"]) == mixed
    of_three = dense(new)[new.obs["type"] == "3", 3]
    if (
        type(trained).__name__ != "PCAGaussian"
    ):  # rows are in the order of the labels: the gene is off in them
        assert (of_three == 0).all()
        assert dense(new)[new.obs["type"] != "3", 3].any()
    assert trained.generate().n_obs == 240


def test_proportions_are_those_of_the_training_cells():
    adata = make_cells()[:200]
    adata = adata[(adata.obs["type"] != "NK") | (np.arange(200) < 30)].copy()
    new = fit("GeneShuffle", adata).generate(20_000)
    expected = adata.obs["type"].value_counts(normalize=True)
    np.testing.assert_allclose(
        new.obs["type"].value_counts(normalize=True)[expected.index], expected, atol=0.015
    )


def test_what_does_not_fit_is_refused(trained):
    for arguments, message in (
        ({"labels": "T cells"}, "'T cells' unknown to the model; it knows"),
        ({"labels": {"NK": -1}}, "must be a whole number"),
        ({"n_cells": 3, "labels": {"NK": 2}}, "leave n_cells out"),
        ({"n_cells": 0}, "n_cells must be at least 1"),
        ({"batch": "Wien"}, "'Wien' is not a batch"),
        ({"output": "mean"}, "has no mean of a cell"),
        ({"output": "guess"}, "output must be one of"),
        ({"genes": ["gene1", "TP53"]}, r"does not have these genes: \['TP53'\]"),
        ({"chunk_size": 0}, "chunk_size must be at least 1"),
        ({"out": "new.csv"}, r"must end in \.h5ad or \.zarr"),
    ):
        with pytest.raises(DataError, match=message):
            trained.generate(**arguments)


def test_a_batch_without_the_label_is_refused():
    adata = make_cells()
    adata = adata[(adata.obs["type"] != "NK") | (adata.obs["batch"] == "Zürich")].copy()
    model = fit("GeneShuffle", adata, {"labels_key": "type", "batch_key": "batch"})
    assert set(model.generate(labels={"NK": 9}).obs["batch"]) == {"Zürich"}
    with pytest.raises(DataError, match="no training cells of 'NK' in '北京'"):
        model.generate(labels={"B cells": 3, "NK": 9}, batch="北京")


def test_batches_are_groups_of_their_own():
    adata = make_cells()
    x = adata.X.toarray()
    x[(adata.obs["batch"] == "Zürich").to_numpy(), 5] = 100
    adata.X = sparse.csr_matrix(x)
    for name in ("GeneShuffle", "GaussianCopula"):
        new = fit(name, adata, {"labels_key": "type", "batch_key": "batch"}).generate(400)
        means = pd.Series(dense(new)[:, 5]).groupby(new.obs["batch"].to_numpy()).mean()
        assert abs(means["Zürich"] - 100) < 5
        assert means["北京"] < 30


def test_without_keys_all_cells_are_one_group():
    adata = make_cells()
    for name in BASELINES:
        new = fit(name, adata, {}).generate(7)
        assert list(new.obs.columns) in (["is_generated", "library_size"], ["is_generated"])
        with pytest.raises(DataError, match="labels need a model with"):
            fit(name, adata, {}).generate(labels="NK")


def test_same_seed_same_bits(trained):
    first, again, other = (trained.generate(60, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(dense(first), dense(again))
    pd.testing.assert_frame_equal(first.obs, again.obs)
    assert not np.array_equal(dense(first), dense(other))


def test_some_genes_are_columns_of_all(trained):
    every = trained.generate(30, seed=1)
    some = trained.generate(30, seed=1, genes=["gene7", "gene2"])
    assert list(some.var_names) == ["gene7", "gene2"]
    np.testing.assert_array_equal(dense(some), dense(every[:, ["gene7", "gene2"]]))
    pd.testing.assert_frame_equal(some.obs, every.obs)


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_files_hold_the_same_cells(trained, suffix, tmp_path):
    path = trained.generate(100, seed=1, chunk_size=30, out=tmp_path / f"new.{suffix}")
    read = (ad.read_h5ad if suffix == "h5ad" else ad.read_zarr)(path)
    memory = trained.generate(100, seed=1, chunk_size=30)
    np.testing.assert_array_equal(dense(read), dense(memory))
    assert list(read.obs.columns) == list(memory.obs.columns)
    for column in memory.obs:
        assert list(read.obs[column]) == list(memory.obs[column])
    for key in memory.obsm:
        np.testing.assert_array_equal(read.obsm[key], memory.obsm[key])
    assert read.uns["latentcell"] == memory.uns["latentcell"]


# --- saving ---


@pytest.mark.parametrize("margins", ["nb", "empirical"])
def test_a_loaded_copula_draws_the_same_cells_without_data(margins, tmp_path):
    model = fit("GaussianCopula", make_cells(), margins=margins)
    assert_loaded_is_same(model, tmp_path)


def test_a_loaded_pca_gaussian_draws_the_same_cells_without_data(tmp_path):
    assert_loaded_is_same(fit("PCAGaussian", make_cells()), tmp_path)


def assert_loaded_is_same(model, tmp_path):
    model.save(tmp_path / "model")
    loaded = lc.model.load(tmp_path / "model")
    assert type(loaded) is type(model)
    assert loaded.is_trained
    new, expected = loaded.generate(50, seed=4), model.generate(50, seed=4)
    np.testing.assert_array_equal(dense(new), dense(expected))
    pd.testing.assert_frame_equal(new.obs, expected.obs)
    loaded.save(tmp_path / "again")
    first, second = (json.loads((tmp_path / name / "model.json").read_text()) for name in ("model", "again"))
    assert first == second


def test_gene_shuffle_keeps_no_expression_and_asks_for_cells(tmp_path):
    adata = make_cells()
    model = fit("GeneShuffle", adata)
    model.save(tmp_path / "model", save_anndata=True)
    assert (tmp_path / "model" / "model.safetensors").stat().st_size < 1000
    with pytest.raises(DataError, match=r"draws from real cells: load\(dir, adata\)"):
        lc.model.load(tmp_path / "model").generate(5)
    loaded = lc.model.load(tmp_path / "model", ad.read_h5ad(tmp_path / "model" / "adata.h5ad"))
    np.testing.assert_array_equal(dense(loaded.generate(50)), dense(model.generate(50)))
    reordered = make_cells()[:, ::-1].copy()
    np.testing.assert_array_equal(
        dense(lc.model.load(tmp_path / "model", reordered).generate(50)), dense(model.generate(50))
    )
    with pytest.raises(DataError, match="lack a label or batch"):
        lc.model.load(tmp_path / "model", adata[adata.obs["type"] != "NK"].copy()).generate(labels="NK")


def test_untrained_stays_untrained(tmp_path):
    adata = make_cells()
    for name in BASELINES:
        Model = getattr(lc.model, name)
        Model.setup_anndata(adata)
        Model(adata).save(tmp_path / name)
        loaded = Model.load(tmp_path / name)
        assert not loaded.is_trained
        with pytest.raises(NotTrainedError, match="call train"):
            loaded.generate(3)
        with pytest.raises(DataError, match="loaded without cells"):
            loaded.train()
        loaded.attach(adata)
        loaded.train()
        assert loaded.generate(3).n_obs == 3


def test_damaged_files_and_other_classes_are_refused(trained, tmp_path):
    folder = tmp_path / "model"
    trained.save(folder)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        trained.save(folder)
    with pytest.raises(ModelFileError, match=f"holds a {type(trained).__name__}, not a VAE"):
        lc.model.VAE.load(folder)
    record = json.loads((folder / "model.json").read_text())
    for change in ({"kind": "x"}, {"params": {"colour": 1}}, {"registry": {}}, {"kind": [1]}):
        (folder / "model.json").write_text(json.dumps(seal(record | change)))
        with pytest.raises(ModelFileError, match="damaged or of another version"):
            lc.model.load(folder)
    other = lc.model.GeneShuffle(make_set_up())
    other.save(tmp_path / "other")
    weights = (tmp_path / "other" / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "model.json").write_text(json.dumps(record))
    with pytest.raises(ModelFileError, match="checksum"):
        lc.model.load(folder)


def make_set_up():
    adata = make_cells()
    lc.model.GeneShuffle.setup_anndata(adata)
    return adata


# --- input ---


@pytest.mark.parametrize("name", BASELINES)
def test_any_kind_of_matrix_gives_the_same_cells(name, tmp_path):
    adata = make_cells()
    expected = dense(fit(name, adata).generate(40))
    for make in (lambda x: x.toarray(), sparse.csc_matrix, lambda x: x.astype(np.int64)):
        other = make_cells()
        other.X = make(adata.X)
        np.testing.assert_array_equal(dense(fit(name, other).generate(40)), expected)
    adata = make_cells()
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    np.testing.assert_array_equal(dense(fit(name, backed).generate(40)), expected)
    backed.file.close()


def test_values_that_do_not_fit_are_refused():
    adata = make_cells()
    lc.model.GaussianCopula.setup_anndata(adata, layer="log")
    with pytest.raises(DataError, match=r"layers\['log'\] holds fractional values where counts are needed"):
        lc.model.GaussianCopula(adata)
    assert lc.model.GaussianCopula(adata, margins="empirical").gene_likelihood == "empirical"
    adata.layers["log"][3, 4] = np.nan
    for name in BASELINES:
        Model = getattr(lc.model, name)
        Model.setup_anndata(adata, layer="log")
        with pytest.raises(DataError, match="NaN or inf.*'cell3', gene 'gene4'"):
            Model(adata)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("GaussianCopula", {"margins": "normal"}, "margins must be one of"),
        ("GaussianCopula", {"shrinkage": 1.5}, r"shrinkage must lie in \[0, 1\]"),
        ("GaussianCopula", {"shrinkage": "much"}, "'ledoit-wolf'"),
        ("GaussianCopula", {"max_cells": 0}, "max_cells must be at least 1"),
        ("PCAGaussian", {"n_components": 0}, "n_components must be at least 1"),
    ],
)
def test_arguments_out_of_range_are_refused(name, arguments, message):
    adata = make_cells()
    Model = getattr(lc.model, name)
    Model.setup_anndata(adata)
    with pytest.raises(DataError, match=message):
        Model(adata, **arguments)


def test_cells_must_be_set_up():
    for name in BASELINES:
        Model = getattr(lc.model, name)
        with pytest.raises(DataError, match=rf"first call {name}\.setup_anndata"):
            Model(make_cells())
        with pytest.raises(DataError, match=f"{name} needs an AnnData"):
            Model()
        with pytest.raises(DataError, match="obs has no 'kind'"):
            Model.setup_anndata(make_cells(), labels_key="kind")
