import tracemalloc

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import sparse

import latentcell as lc
from latentcell._errors import DataError
from latentcell.pl import _layers

FORMS = ["dense", "integer", "csr", "csc", "csr array", "unsummed", "view", "csc view"]
BACKED = ["backed dense", "backed csr", "backed csc", "backed view", "backed csr view"]


def dots(ax):
    """Means and variances that are drawn, genes x 2."""
    (collection,) = ax.collections
    return np.asarray(collection.get_offsets())


def moments(values):
    values = np.asarray(values, dtype=float)
    return np.stack([values.mean(axis=0), values.var(axis=0)], axis=1)


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def line(ax, start):
    (found,) = [line for line in ax.lines if line.get_label().startswith(start)]
    return found.get_xdata(), found.get_ydata()


def dispersion(ax):
    (text,) = [text for text in legend(ax) if "φ = " in text]
    return float(text.split("φ = ")[1].split()[0])


def negative_binomial(means, dispersion, n_cells, seed=0):
    rng = np.random.default_rng(seed)
    shape = 1 / dispersion
    return rng.negative_binomial(shape, shape / (shape + means), size=(n_cells, len(means))).astype(float)


def adata_of(values, **layers):
    n_cells, n_genes = values.shape
    return AnnData(
        values,
        obs=pd.DataFrame(index=[f"cell{i}" for i in range(n_cells)]),
        var=pd.DataFrame(index=[f"gene{i}" for i in range(n_genes)]),
        layers=layers,
    )


@pytest.fixture
def counts():
    """40 cells x 30 genes in float32, each gene in some cell, and in many cells 0."""
    return negative_binomial(np.geomspace(0.3, 300, 30), 0.4, 40).astype(np.float32)


def stored(values, form, tmp_path):
    """An AnnData with `values` in X and their square roots in a layer, stored in one of the forms."""
    adata = adata_of(values.copy(), denoised=np.sqrt(values))
    if form == "integer":
        adata.X = values.astype(np.int32)
    if "csr" in form:
        adata.X = (sparse.csr_array if form == "csr array" else sparse.csr_matrix)(values)
    if "csc" in form:
        adata.X = sparse.csc_matrix(values)
    if form == "unsummed":  # each value is stored as the sum of a half and a half
        rows, columns = values.nonzero()
        half = values[rows, columns] / 2
        twice = sparse.coo_matrix((np.r_[half, half], (np.r_[rows, rows], np.r_[columns, columns])))
        order = np.argsort(twice.row, kind="stable")
        pointers = np.r_[0, np.cumsum(np.bincount(twice.row, minlength=len(values)))]
        adata.X = sparse.csr_matrix((twice.data[order], twice.col[order], pointers), shape=values.shape)
    if form.startswith("backed"):
        adata.write_h5ad(tmp_path / "cells.h5ad")
        adata = sc.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    if form.endswith("view"):
        adata = adata[[7, 3, 30, *range(8, 20)], 2:25]
    return adata


@pytest.mark.parametrize("block", [64, 2**22])
@pytest.mark.parametrize("form", [*FORMS, *BACKED])
def test_dots_are_numpys_means_and_variances(counts, form, block, tmp_path, monkeypatch):
    monkeypatch.setattr(_layers, "_BLOCK", block)
    adata = stored(counts, form, tmp_path)
    values = counts
    if form.endswith("view"):
        values = counts[[7, 3, 30, *range(8, 20)], 2:25]
        values = values[:, values.any(axis=0)]
    figure = lc.pl.mean_variance(adata)
    observed, denoised = figure.axes
    np.testing.assert_allclose(dots(observed), moments(values), rtol=1e-10)
    np.testing.assert_allclose(dots(denoised), moments(np.sqrt(values)), rtol=1e-10)
    assert adata.is_view == form.endswith("view")
    if form.startswith("backed"):
        adata.file.close()


def test_variance_is_exact_where_the_mean_is_large():
    rng = np.random.default_rng(0)
    values = 1e5 + rng.normal(size=(500, 4))
    ax = lc.pl.mean_variance(adata_of(values), layers=None, log=False)
    np.testing.assert_allclose(dots(ax)[:, 1], values.var(axis=0), rtol=1e-9)


@pytest.mark.parametrize(("truth", "lowest"), [(0.2, 0.5), (0.5, 0.5), (1.5, 0.5), (0.5, 0.11)])
def test_the_dispersion_of_negative_binomial_counts_is_found(truth, lowest):
    # with the last one, only means below 1: the lower floor
    means = np.geomspace(lowest, 30 if lowest == 0.5 else 0.9, 200)
    values = negative_binomial(means, truth, 4000)
    values[:, :20] = 0  # too low to count
    values[0, :20] = 10
    ax = lc.pl.mean_variance(adata_of(sparse.csr_matrix(values)), layers=None)
    assert dispersion(ax) == pytest.approx(truth, rel=0.08)
    x, y = line(ax, "negative binomial")
    np.testing.assert_allclose((y - x) / x**2, dispersion(ax), rtol=0.01)


def test_the_dispersion_is_not_moved_by_a_few_genes():
    values = negative_binomial(np.geomspace(1.5, 30, 200), 0.5, 2000)
    values[:3, ::10] = 5000
    ax = lc.pl.mean_variance(adata_of(values), layers=None)
    assert dispersion(ax) == pytest.approx(0.5, rel=0.1)


def test_no_trend_above_poisson_where_there_is_none():
    means = np.geomspace(0.5, 30, 100)
    smooth = np.random.default_rng(0).gamma(400, means / 400, size=(300, 100))
    ax = lc.pl.mean_variance(adata_of(smooth), layers=None)
    assert legend(ax) == ["Poisson: variance = mean", "negative binomial: φ = 0 (not above Poisson)"]
    assert len(line(ax, "negative binomial")[0]) == 0
    few = lc.pl.mean_variance(adata_of(smooth[:, :9]), layers=None)
    assert legend(few)[1] == "negative binomial: too few means above 0.1"


@pytest.mark.parametrize("log", [True, False])
def test_panels_share_limits_that_hold_all_genes_and_the_poisson_line_is_the_diagonal(counts, log):
    adata = adata_of(counts, denoised=0.1 * counts, other=3 * counts)
    figure = lc.pl.mean_variance(adata, layers=[None, "denoised", "other"], titles=["a", "b", "c"], log=log)
    assert [panel.get_title() for panel in figure.axes] == [f"{name}\n30 genes" for name in "abc"]
    limits = {(panel.get_xlim(), panel.get_ylim()) for panel in figure.axes}
    assert len(limits) == 1
    ((x_low, x_high), (y_low, y_high)) = limits.pop()
    everything = np.concatenate([dots(panel) for panel in figure.axes])
    assert x_low < everything[:, 0].min() < everything[:, 0].max() < x_high
    assert y_low < everything[:, 1].min() < everything[:, 1].max() < y_high
    for panel in figure.axes:
        assert panel.get_xscale() == panel.get_yscale() == ("log" if log else "linear")
        x, y = line(panel, "Poisson")
        np.testing.assert_array_equal(x, y)
        assert x[-1] == pytest.approx(x_high)


def test_genes_without_a_place_on_logarithmic_axes_are_counted(counts):
    counts[:, [3, 4]] = 0
    counts[:, 5] = 0.1  # variance 0, though a sum of rounded numbers
    rounded = counts.astype(float)
    rounded[:, 5] += 1e-9 * np.arange(40)
    adata = adata_of(counts, rounded=rounded, negative=counts - 0.5)
    figure = lc.pl.mean_variance(adata, layers=[None, "rounded", "negative"])
    assert [panel.get_title() for panel in figure.axes] == [
        "observed\n27 genes\nleft out: 2 with mean 0, 1 constant",
        "rounded\n27 genes\nleft out: 2 with mean 0, 1 constant",
        f"negative\n{len(dots(figure.axes[2]))} genes\nleft out: "
        f"{(counts.mean(axis=0) < 0.5).sum()} with a mean below 0",
    ]
    kept = np.setdiff1d(np.arange(30), [3, 4, 5])
    np.testing.assert_allclose(dots(figure.axes[0]), moments(counts[:, kept]), rtol=1e-10)
    linear = lc.pl.mean_variance(adata, layers=None, log=False)
    assert linear.get_title() == "observed\n30 genes"
    np.testing.assert_allclose(dots(linear), moments(counts), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_negative_values_have_no_negative_binomial_trend(counts, convert):
    shifted = counts.copy()
    shifted[0, 29] = -1
    figure = lc.pl.mean_variance(adata_of(counts, shifted=convert(shifted)), layers=[None, "shifted"])
    assert len(legend(figure.axes[0])) == 2
    assert legend(figure.axes[1]) == ["Poisson: variance = mean"]


def test_one_layer_gives_axes_and_given_axes_are_used(counts):
    adata = adata_of(counts, denoised=counts / 2)
    ax = lc.pl.mean_variance(adata, layers="denoised", titles="after")
    assert ax.get_title() == "after\n30 genes"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("mean", "variance")
    figure, (left, right) = plt.subplots(1, 2)
    n_figures = len(plt.get_fignums())
    assert lc.pl.mean_variance(adata, layers=[None], ax=right) is right
    assert len(plt.get_fignums()) == n_figures
    assert len(left.collections) == 0
    np.testing.assert_allclose(dots(right), moments(counts), rtol=1e-10)
    assert right.figure is figure


def test_sparse_data_are_never_made_dense():
    n_cells, n_genes = 20_000, 20_000
    rng = np.random.default_rng(0)
    X = sparse.random(n_cells, n_genes, density=1e-4, format="csr", dtype=np.float32, rng=rng)
    adata = adata_of(X)
    tracemalloc.start()
    ax = lc.pl.mean_variance(adata, layers=None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6  # dense: 1.6e9 bytes
    assert len(dots(ax)) == (X.getnnz(axis=0) > 0).sum()


@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("figsize", [(3.0, 3.0), (6.4, 4.8)])
def test_texts_do_not_overlap_and_are_not_cut(counts, overlaps, n_layers, figsize):
    counts[:, [3, 4]] = 0
    counts[:, 5] = 1
    wide = sparse.hstack([sparse.csr_matrix(counts), sparse.csr_matrix((40, 16_000))]).tocsr()
    names = [f"layer{i}" for i in range(n_layers)]
    adata = adata_of(wide, **dict.fromkeys(names, wide))
    with mpl.rc_context({"figure.figsize": figsize}):
        lc.pl.mean_variance(adata, layers=names)
        figure = plt.gcf()
        texts = [text for ax in figure.axes for text in [ax.title, *ax.get_legend().get_texts()]]
        assert overlaps(figure, texts) == ([], [])
        for ax in figure.axes:
            assert ax.get_legend().get_window_extent().x1 <= ax.get_window_extent().x1


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused_with_their_gene(counts, convert, value):
    counts[[3, 0], [7, 11]] = value
    with pytest.raises(DataError, match="layers: bad is NaN or infinite, first in gene 'gene7'"):
        lc.pl.mean_variance(adata_of(np.zeros_like(counts), bad=convert(counts)), layers="bad")
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "layers='denoised' is not in adata.layers, which has: 'smooth', 'zero'"),
        ({"layers": []}, "layers: name at least one"),
        ({"layers": [None, "smooth"], "titles": ["one"]}, "titles: 1 titles were given for 2 layers"),
        ({"layers": "zero"}, "layers: no gene has a mean and a variance above 0.*log=False"),
    ],
)
def test_what_is_wrong_is_named_and_leaves_no_figure(counts, arguments, message):
    adata = adata_of(counts, smooth=counts, zero=np.zeros_like(counts))
    with pytest.raises(DataError, match=message):
        lc.pl.mean_variance(adata, **arguments)
    assert plt.get_fignums() == []


def test_axes_hold_one_layer_and_nothing_cannot_be_drawn(counts):
    _, ax = plt.subplots()
    with pytest.raises(DataError, match=r"ax: it holds one panel, and this call draws 2\. Leave ax out"):
        lc.pl.mean_variance(adata_of(counts, denoised=counts), ax=ax)
    with pytest.raises(DataError, match="0 cells x 30 genes"):
        lc.pl.mean_variance(adata_of(counts)[:0], layers=None)
    with pytest.raises(DataError, match=r"layers: adata\.X is empty"):
        lc.pl.mean_variance(AnnData(layers={"a": counts}), layers=None)


@pytest.mark.parametrize("form", ["dense", "csr", "csc", "unsummed", "view"])
def test_the_data_are_not_changed(counts, form, tmp_path):
    adata = stored(counts, form, tmp_path)
    before = adata.copy()
    lc.pl.mean_variance(adata)
    assert adata.is_view == (form == "view")
    assert set(adata.layers) - {None} == {"denoised"}
    assert (adata.uns, len(adata.obsm), adata.obs.shape[1], adata.var.shape[1]) == ({}, 0, 0, 0)
    if form == "dense":
        np.testing.assert_array_equal(adata.X, before.X)
    elif form != "view":
        assert adata.X.nnz == before.X.nnz  # also what is stored twice
        np.testing.assert_array_equal(adata.X.data, before.X.data)
    np.testing.assert_array_equal(adata.layers["denoised"], before.layers["denoised"])
