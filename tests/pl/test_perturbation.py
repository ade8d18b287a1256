import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import sparse, stats

import latentcell as lc
from latentcell._errors import DataError


@pytest.fixture
def pair(rng):
    """Predicted and real cells of 30 genes, the predicted ones in another order of genes."""
    mean = rng.gamma(2.0, 1.0, size=30)
    real = ad.AnnData(mean + rng.normal(0, 0.1, size=(20, 30)))
    predicted = ad.AnnData((mean + rng.normal(0, 0.3, size=30) + np.zeros((5, 1)))[:, ::-1].copy())
    real.var_names = [f"g{i}" for i in range(30)]
    predicted.var_names = real.var_names[::-1]
    return predicted, real


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def test_points_are_the_means_of_the_genes_by_name(pair):
    predicted, real = pair
    top = ["g3", "g7", "g11", "g2"]
    ax = lc.pl.perturbation(predicted, real, top=top, labels=2)
    x, y = real.X.mean(0), predicted[:, real.var_names].X.mean(0)
    np.testing.assert_allclose(ax.collections[0].get_offsets(), np.column_stack([x, y]))
    at = real.var_names.get_indexer(top)
    np.testing.assert_allclose(ax.collections[1].get_offsets(), np.column_stack([x, y])[at])
    assert [text.get_text().strip() for text in ax.texts] == ["g3", "g7"]
    all_genes, of_top = (stats.pearsonr(x[i], y[i]).statistic ** 2 for i in (slice(None), at))
    assert ax.get_title() == f"R² {all_genes:.2f} (all), {of_top:.2f} (top 4)"


def test_layers_sparse_cells_and_named_genes(pair):
    predicted, real = pair
    real.layers["log"] = sparse.csr_matrix(real.X * 2)
    figure, axes = plt.subplots()
    ax = lc.pl.perturbation(predicted, real, layer="log", labels=["g5"], ax=axes)
    assert ax is axes
    np.testing.assert_allclose(ax.collections[0].get_offsets()[:, 0], 2 * real.X.mean(0))
    assert [text.get_text().strip() for text in ax.texts] == ["g5"]
    assert "top" not in ax.get_title()


def test_what_cannot_be_drawn_is_refused(pair):
    predicted, real = pair
    spoilt = real.copy()
    spoilt.X[0, 4] = np.nan
    for call, message in (
        (lambda: lc.pl.perturbation(predicted[:, :9].copy(), real), "differ in 21 genes"),
        (lambda: lc.pl.perturbation(predicted, real, top=["x"]), "top: not among the genes"),
        (lambda: lc.pl.perturbation(predicted, real, labels="g1"), "must be a list of genes"),
        (lambda: lc.pl.perturbation(predicted, real, layer="log"), "is not in real.layers"),
        (lambda: lc.pl.perturbation(predicted, spoilt), "real is NaN or infinite in gene 'g4'"),
        (lambda: lc.pl.perturbation(predicted[:0], real), "no cells to draw"),
    ):
        with pytest.raises(DataError, match=message):
            call()
