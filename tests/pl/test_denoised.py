import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from matplotlib.colors import to_hex
from scipy import sparse, stats

import latentcell as lc
from latentcell._errors import DataError
from latentcell.pl import _layers


def places(ax):
    """Cells x 2, in the order in which they are drawn."""
    return np.concatenate([np.asarray(collection.get_offsets()) for collection in ax.collections])


def title_of(name, x, y):
    pearson, spearman = stats.pearsonr(x, y).statistic, stats.spearmanr(x, y).statistic
    return f"{name}\nPearson {pearson:.2f}, Spearman {spearman:.2f}"


def pair(matrix, adata, *genes):
    return np.asarray(matrix, dtype=float)[:, [adata.var_names.get_loc(gene) for gene in genes]].T


@pytest.fixture
def adata(cells):
    """The cells of conftest.py with a layer that is smooth."""
    cells.layers["denoised"] = cells.X * np.float32(0.7) + np.arange(1, 61, dtype=np.float32)[:, None] / 20
    return cells


@pytest.mark.parametrize("block", [16, 2**22])
@pytest.mark.parametrize(
    "form",
    ["dense", "integer", "csr", "csc", "view", "backed dense", "backed csr", "backed csc", "backed view"],
)
def test_cells_and_correlations_are_those_of_the_values(adata, form, block, tmp_path, monkeypatch):
    monkeypatch.setattr(_layers, "_BLOCK", block)
    expected = [
        pair(matrix, adata, "gene6", "gene1") for matrix in (adata.X.copy(), adata.layers["denoised"])
    ]
    if form == "integer":
        adata.X = adata.X.astype(np.int64)
    if "cs" in form:
        adata.X = (sparse.csc_matrix if "csc" in form else sparse.csr_matrix)(adata.X)
        adata.layers["denoised"] = sparse.csr_matrix(adata.layers["denoised"])
    if form.startswith("backed"):
        adata.write_h5ad(tmp_path / "cells.h5ad")
        adata = sc.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    if form.endswith("view"):
        adata = adata[20:50, 1:7]
        expected = [values[:, 20:50] for values in expected]
    figure = lc.pl.denoised(adata, "gene6", "gene1", jitter=False)
    assert adata.is_view == form.endswith("view")
    assert len(figure.axes) == 2
    for panel, name, values in zip(figure.axes, ["observed", "denoised"], expected, strict=True):
        drawn = np.log1p(values)
        np.testing.assert_allclose(places(panel), drawn.T, rtol=1e-7)
        assert panel.get_title() == title_of(name, *drawn)
        assert (panel.get_xlabel(), panel.get_ylabel()) == ("gene6 (log1p)", "gene1 (log1p)")
    if form.startswith("backed"):
        adata.file.close()


def test_without_log1p_values_are_drawn_as_they_are(adata):
    adata.layers["denoised"] -= 3  # negative values are no trouble then
    figure = lc.pl.denoised(adata, "gene0", "gene3", log1p=False, jitter=False, titles=["before", "after"])
    for panel, name, matrix in zip(
        figure.axes, ["before", "after"], [adata.X, adata.layers["denoised"]], strict=True
    ):
        values = pair(matrix, adata, "gene0", "gene3")
        np.testing.assert_allclose(places(panel), values.T, rtol=1e-6)
        assert panel.get_title() == title_of(name, *values)
        assert panel.get_xlabel() == "gene0"


def test_counts_are_moved_by_less_than_half_a_count_and_nothing_else_is(adata):
    figure = lc.pl.denoised(adata, "gene0", "gene3")
    observed, denoised = figure.axes
    counts = pair(adata.X, adata, "gene0", "gene3")
    moved = np.expm1(places(observed)) - counts.T
    assert 0.25 < np.abs(moved).max() <= 0.3 + 1e-9
    assert len(np.unique(places(observed), axis=0)) == adata.n_obs
    assert observed.get_xlabel() == "gene0 (log1p, jittered)"
    assert observed.get_title() == title_of("observed", *np.log1p(counts))
    smooth = pair(adata.layers["denoised"], adata, "gene0", "gene3")
    np.testing.assert_allclose(places(denoised), np.log1p(smooth).T, rtol=1e-6)
    assert denoised.get_xlabel() == "gene0 (log1p)"
    again = lc.pl.denoised(adata, "gene0", "gene3").axes[0]
    np.testing.assert_array_equal(places(again), places(observed))
    plain = lc.pl.denoised(adata, "gene0", "gene3", layers=None, log1p=False)
    assert plain.get_xlabel() == "gene0 (jittered)"
    np.testing.assert_allclose(places(plain) - counts.T, moved, atol=1e-6)


def test_a_data_frame_in_obsm_stands_for_a_layer(adata):
    frame = pd.DataFrame(adata.layers.pop("denoised")[:, [3, 0]], adata.obs_names, ["gene3", "gene0"])
    adata.obsm["denoised"] = frame
    figure = lc.pl.denoised(adata, "gene0", "gene3", jitter=False)
    np.testing.assert_allclose(places(figure.axes[1]), np.log1p(frame[["gene0", "gene3"]]), rtol=1e-6)
    with pytest.raises(DataError, match=r"y='gene5': not among the columns of adata.obsm\['denoised'\]"):
        lc.pl.denoised(adata, "gene0", "gene5")
    adata.layers["denoised"] = np.zeros(adata.shape)  # a layer comes first
    adata.layers["denoised"][:, 0] = np.arange(60)
    panel = lc.pl.denoised(adata, "gene0", "gene3", layers="denoised", log1p=False, jitter=False)
    np.testing.assert_array_equal(places(panel), np.stack([np.arange(60), np.zeros(60)], axis=1))
    assert panel.get_title() == "denoised\nPearson –, Spearman –"  # gene3 is constant


def test_labels_have_their_colours_and_one_legend_outside(adata, overlaps):
    adata.uns["cell_type_colors"] = ["#ff0000", "#00ff00", "#0000ff"]
    figure = lc.pl.denoised(adata, "gene0", "gene1", color="cell_type")
    (legend,) = figure.legends
    assert legend.get_title().get_text() == "cell_type"
    assert [text.get_text() for text in legend.get_texts()] == ["T cell", "B cell", "NK"]
    expected = dict(zip(["T cell", "B cell", "NK"], adata.uns["cell_type_colors"], strict=True))
    for panel in figure.axes:
        (points,) = panel.collections
        colors = [to_hex(color) for color in points.get_facecolors()]
        assert colors == [expected[label] for label in adata.obs["cell_type"]]
    texts = [*legend.get_texts(), legend.get_title(), *(panel.title for panel in figure.axes)]
    assert overlaps(figure, texts) == ([], [])
    assert legend.get_window_extent().x0 >= figure.axes[1].get_window_extent().x1 - 1


def test_numbers_have_one_colour_bar(adata):
    figure = lc.pl.denoised(adata, "gene0", "gene1", color="depth", cmap="magma", jitter=False)
    left, right, bar = figure.axes
    assert bar.get_ylabel() == "depth"
    for panel in (left, right):
        (points,) = panel.collections
        np.testing.assert_array_equal(points.get_array(), np.arange(60))
        assert points.get_clim() == (0, 59)
        assert points.get_cmap().name == "magma"
    assert figure.legends == []


def test_without_colour_all_cells_are_alike_and_no_legend_is_drawn(adata):
    figure = lc.pl.denoised(adata, "gene0", "gene1", size=7)
    assert figure.legends == []
    assert len(figure.axes) == 2
    for panel in figure.axes:
        (points,) = panel.collections
        assert {to_hex(color) for color in points.get_facecolors()} == {to_hex("0.35")}
        assert points.get_sizes().tolist() == [7]


def test_one_layer_gives_axes_and_given_axes_are_used(adata):
    _, (left, right) = plt.subplots(1, 2)
    n_figures = len(plt.get_fignums())
    ax = lc.pl.denoised(adata, "gene0", "gene0", layers=["denoised"], color="cell_type", ax=right)
    assert ax is right
    assert len(plt.get_fignums()) == n_figures
    assert len(left.collections) == 0
    assert right.get_title() == "denoised\nPearson 1.00, Spearman 1.00"
    assert len(right.get_legend().get_texts()) == 3
    alone = lc.pl.denoised(adata[:1], "gene0", "gene1", layers=None)
    assert alone.get_title() == "observed\nPearson –, Spearman –"


@pytest.mark.parametrize("figsize", [(3.0, 3.0), (6.4, 4.8)])
@pytest.mark.parametrize("color", [None, "cell_type", "depth"])
def test_texts_do_not_overlap_and_are_not_cut(adata, overlaps, figsize, color):
    adata.var_names = ["HLA-DRB1", "HLA-DPA1", *adata.var_names[2:]]
    layers = [None, "denoised", "denoised"]
    with mpl.rc_context({"figure.figsize": figsize}):
        figure = lc.pl.denoised(adata, "HLA-DRB1", "HLA-DPA1", layers=layers, color=color)
        texts = [text for ax in figure.axes[:3] for text in (ax.title, ax.xaxis.label, ax.yaxis.label)]
        assert overlaps(figure, texts) == ([], [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": "CD3"}, "^x='CD3': not among adata.var_names, such as 'gene0', 'gene1', 'gene2'"),
        ({"x": "CD3", "y": "CD4"}, "^x='CD3' and y='CD4': not among"),
        ({"layers": [None, "smooth"]}, "layers: 'smooth' is neither.*has: 'denoised';.*has: 'frame'"),
        ({"layers": "X_umap"}, "layers: 'X_umap' is neither.*nor a data frame"),
        ({"layers": ()}, "layers: name at least one"),
        ({"titles": ["a", "b", "c"]}, "titles: 3 titles were given for 2 layers"),
        ({"color": "type"}, "color='type' is neither a column of adata.obs"),
        ({"layers": "negative"}, "log1p=True: negative is negative in gene 'gene1'.*log1p=False"),
        ({"layers": "nan"}, "layers: nan is NaN or infinite in gene 'gene1'"),
    ],
)
def test_what_is_wrong_is_named_and_leaves_no_figure(adata, arguments, message):
    adata.obsm["frame"] = pd.DataFrame({"gene0": np.ones(60)}, adata.obs_names)
    for name, value in {"negative": -0.5, "nan": np.nan}.items():
        if name in str(arguments.get("layers")):
            adata.layers[name] = adata.X.copy()
            adata.layers[name][5, 1] = value
    with pytest.raises(DataError, match=message):
        lc.pl.denoised(adata, **({"x": "gene0", "y": "gene1"} | arguments))
    assert plt.get_fignums() == []


def test_what_cannot_be_drawn(adata):
    _, ax = plt.subplots()
    with pytest.raises(DataError, match=r"ax: it holds one panel, and this call draws 2"):
        lc.pl.denoised(adata, "gene0", "gene1", ax=ax)
    with pytest.raises(DataError, match="adata: there are no cells"):
        lc.pl.denoised(adata[:0], "gene0", "gene1")
    with pytest.raises(DataError, match=r"layers: adata\.X is empty"):
        lc.pl.denoised(AnnData(layers={"a": adata.X}, var=adata.var), "gene0", "gene1", layers=None)
    with pytest.warns(UserWarning, match="not unique"):
        double = AnnData(adata.X, var=pd.DataFrame(index=["gene0", "gene0", *adata.var_names[2:]]))
    with pytest.raises(DataError, match=r"x='gene0' stands 2 times among adata\.var_names"):
        lc.pl.denoised(double, "gene0", "gene3", layers=None)


@pytest.mark.parametrize("form", [np.array, sparse.csr_matrix, sparse.csc_matrix])
def test_the_data_are_not_changed(adata, form):
    adata.X = form(adata.X)
    adata.obsm["few"] = pd.DataFrame({"gene0": np.ones(60), "gene1": np.arange(60)}, adata.obs_names)
    before = adata.copy()
    lc.pl.denoised(adata, "gene0", "gene1", layers=[None, "denoised", "few"], color="cell_type")
    for old, new in [(before.X, adata.X), (before.layers["denoised"], adata.layers["denoised"])]:
        assert type(old) is type(new)
        np.testing.assert_array_equal(*(m.toarray() if sparse.issparse(m) else m for m in (old, new)))
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    pd.testing.assert_frame_equal(adata.var, before.var)
    pd.testing.assert_frame_equal(adata.obsm["few"], before.obsm["few"])
    assert set(adata.uns) == {"cell_type_colors"}  # as of every plot of scanpy's
    assert set(adata.layers) - {None} == {"denoised"}
