import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from matplotlib.colors import to_hex
from scipy import sparse

import latentcell as lc
from latentcell._errors import DataError


@pytest.fixture
def both(cells):
    """The 60 cells of `cells`, the last 20 of them called generated; X holds counts."""
    cells.obs["is_generated"] = np.arange(60) >= 40
    return cells


def points(panel):
    """Coordinates and colours of a panel: of the other kind in grey, and of its own."""
    behind, shown = panel.collections
    return (
        np.asarray(behind.get_offsets()),
        np.asarray(shown.get_offsets()),
        [to_hex(color) for color in shown.get_facecolors()],
    )


def by_place(xy):
    return sorted(map(tuple, np.round(xy, 6)))


def panels(figure):
    return [ax for ax in figure.axes if ax.get_title()]


def log_pcs(adata, genes=slice(None)):
    """The first two principal components of log-normalised counts, by the formula."""
    counts = np.asarray(adata.X, dtype=float)
    logs = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)[:, genes]
    u, s, _ = np.linalg.svd(logs - logs.mean(axis=0), full_matrices=False)
    return u[:, :2] * s[:2]


def test_each_panel_has_its_cells_in_colour_above_the_others_in_grey(both):
    both.uns["cell_type_colors"] = ["#ff0000", "#00ff00", "#0000ff"]
    figure = lc.pl.augmentation(both, "umap", "cell_type")
    left, right = panels(figure)
    xy, codes = both.obsm["X_umap"], both.obs["cell_type"].cat.codes.to_numpy()
    for panel, own in ((left, slice(0, 40)), (right, slice(40, 60))):
        behind, shown, colors = points(panel)
        other = slice(40, 60) if own.start == 0 else slice(0, 40)
        np.testing.assert_allclose(by_place(behind), by_place(xy[other]))
        expected = {
            tuple(np.round(place, 6)): both.uns["cell_type_colors"][code]
            for place, code in zip(xy[own], codes[own], strict=True)
        }
        found = {tuple(np.round(place, 6)): color for place, color in zip(shown, colors, strict=True)}
        assert found == expected
        assert {to_hex(color) for color in panel.collections[0].get_facecolors()} == {"#e0e0e0"}
    assert [panel.get_title() for panel in (left, right)] == [
        "UMAP: 40 real cells",
        "UMAP: 20 generated cells",
    ]
    assert left.get_xlim() == right.get_xlim()
    assert left.get_ylim() == right.get_ylim()
    (low, high), (first, last) = left.get_xlim(), (xy[:, 0].min(), xy[:, 0].max())
    assert low < first < last < high


def test_no_group_covers_another_as_a_whole(both):
    """Cells are drawn in an order that is drawn at random: augmented data are sorted by group."""
    both.obs["cell_type"] = pd.Categorical(np.repeat(["T cell", "B cell", "NK"], 20))
    both.obs["is_generated"] = np.arange(60) % 2 == 1
    first, again = (points(panels(lc.pl.augmentation(both, "umap", "cell_type"))[0])[1] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    in_data = both.obsm["X_umap"][::2]
    assert not np.allclose(first, in_data)
    np.testing.assert_allclose(by_place(first), by_place(in_data))


def test_components_of_counts_are_those_of_both_kinds_log_normalised(both):
    figure = lc.pl.augmentation(both, "pca", "cell_type")
    expected = log_pcs(both)
    for panel, own in zip(panels(figure), (slice(0, 40), slice(40, 60)), strict=True):
        behind, shown, _ = points(panel)
        for axis in (0, 1):  # components have no sign
            found = np.concatenate([behind, shown])[:, axis]
            np.testing.assert_allclose(np.sort(abs(found)), np.sort(abs(expected[:, axis])), atol=1e-3)
            own_found, own_expected = shown[:, axis], expected[own, axis]
            np.testing.assert_allclose(np.sort(abs(own_found)), np.sort(abs(own_expected)), atol=1e-3)
    assert panels(figure)[0].get_xlabel() == "PC1"


def test_values_that_are_no_counts_are_taken_as_they_are(both):
    logs = both.copy()
    sc.pp.normalize_total(logs, target_sum=1e4)
    sc.pp.log1p(logs)
    both.layers["log"] = logs.X
    both.layers["counts"], both.X = both.X.copy(), None
    drawn = [
        points(panels(lc.pl.augmentation(both, "pca", layer=layer))[0])[1] for layer in ("log", "counts")
    ]
    np.testing.assert_allclose(*drawn, atol=1e-4)


def test_components_are_those_of_variable_genes(both):
    both.var["highly_variable"] = np.arange(8) < 5
    _, shown, _ = points(panels(lc.pl.augmentation(both, "pca", "cell_type"))[0])
    expected = log_pcs(both, slice(0, 5))[:40]
    np.testing.assert_allclose(np.sort(abs(shown[:, 0])), np.sort(abs(expected[:, 0])), atol=1e-3)


def test_umap_and_tsne_are_computed_where_they_are_missing(both):
    """Neighbours in the map are of the same group, and the maps are those of the seed."""
    del both.obsm
    group = both.obs["cell_type"].cat.codes.to_numpy()
    both.X = (both.X + 40 * (np.arange(8) % 3 == group[:, None])) / 2  # far apart, and no counts
    figure = lc.pl.augmentation(both, ["umap", "tsne"], "cell_type")
    again = lc.pl.augmentation(both, ["umap", "tsne"], "cell_type")
    titles = [panel.get_title().split(":")[0] for panel in panels(figure)]
    assert titles == ["UMAP", "UMAP", "tSNE", "tSNE"]
    for panel, same in zip(panels(figure), panels(again), strict=True):
        _, shown, colors = points(panel)
        np.testing.assert_array_equal(shown, points(same)[1])
        distance = np.linalg.norm(shown[:, None] - shown[None], axis=-1)
        np.fill_diagonal(distance, np.inf)
        nearest = np.array(colors)[distance.argmin(axis=1)]
        assert (nearest == np.array(colors)).mean() > 0.9
    plt.close(figure)


def test_groups_are_those_that_were_filled_else_the_two_kinds(both):
    def legend(figure):
        return [text.get_text() for text in figure.legends[0].get_texts()]

    two = lc.pl.augmentation(both, "umap")
    assert legend(two) == ["real", "generated", "in the other panel"]
    kinds = [set(points(panel)[2]) for panel in panels(two)]
    assert [len(colors) for colors in kinds] == [1, 1]
    assert kinds[0] != kinds[1]
    both.uns["latentcell"] = {"groupby": "cell_type"}
    plt.close(two)
    grouped = lc.pl.augmentation(both, "umap")
    assert legend(grouped) == ["T cell", "B cell", "NK", "in the other panel"]
    assert grouped.legends[0].get_title().get_text() == "cell_type"


def test_numbers_and_genes_have_a_colour_bar(both):
    figure = lc.pl.augmentation(both, "umap", "gene3")
    (bar,) = [ax for ax in figure.axes if not ax.get_title()]
    assert bar.get_ylabel() == "gene3"
    left, right = panels(figure)
    assert left.collections[1].get_clim() == right.collections[1].get_clim() == (0, both.X[:, 3].max())
    np.testing.assert_array_equal(
        np.sort(np.asarray(right.collections[1].get_array())), np.sort(both.X[40:, 3])
    )


def test_a_cell_without_counts_does_no_harm(both):
    both.X[50] = 0
    both.X = sparse.csr_matrix(both.X)
    behind, shown, _ = points(panels(lc.pl.augmentation(both, "pca"))[1])
    assert np.isfinite(shown).all()
    assert len(behind) + len(shown) == 60


def test_names_do_not_overlap_and_are_not_cut(both, overlaps):
    both.obs["cell_type"] = both.obs["cell_type"].cat.rename_categories(
        {"T cell": "CD4+ naive alpha-beta T cells of the cord blood"}
    )
    figure = lc.pl.augmentation(both, ["umap", "X_vsc"], "cell_type")
    texts = [text for panel in panels(figure) for text in (panel.title, panel.xaxis.label, panel.yaxis.label)]
    assert overlaps(figure, [*texts, *figure.legends[0].get_texts()]) == ([], [])
    legend = figure.legends[0].get_window_extent()
    assert not any(panel.get_window_extent().overlaps(legend) for panel in panels(figure))


def test_nothing_is_written(both):
    before = both.copy()
    lc.pl.augmentation(both, "pca")
    assert set(both.obsm) == set(before.obsm)
    assert dict(both.uns) == {}
    assert dict(both.obsp) == {}
    assert "PCs" not in both.varm
    np.testing.assert_array_equal(both.X, before.X)
    pd.testing.assert_frame_equal(both.obs, before.obs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"basis": "phate"}, "basis='phate' is neither.*'X_umap'.*pca, umap, tsne"),
        ({"basis": []}, "at least one"),
        ({"color": "celltype"}, "color='celltype'"),
        ({"layer": "counts"}, "layer='counts'"),
    ],
)
def test_what_is_wrong_is_named_and_leaves_no_figure(both, arguments, message):
    with pytest.raises(DataError, match=message):
        lc.pl.augmentation(both, **({"basis": "umap"} | arguments))
    assert plt.get_fignums() == []


def test_data_that_cannot_be_drawn(cells):
    with pytest.raises(DataError, match=r"no column 'is_generated'.*'cell_type', 'depth'.*tl.augment"):
        lc.pl.augmentation(cells)
    cells.obs["is_generated"] = "yes"
    with pytest.raises(DataError, match="True and False"):
        lc.pl.augmentation(cells)
    for kind, name in ((True, "generated"), (False, "real")):
        cells.obs["is_generated"] = kind
        with pytest.raises(DataError, match=f"all cells are {name}"):
            lc.pl.augmentation(cells)
    cells.obs["is_generated"] = np.arange(60) > 3
    with pytest.raises(DataError, match="adata.X is empty"):
        lc.pl.augmentation(AnnData(obs=cells.obs, var=cells.var))
    with pytest.raises(DataError, match="60 cells and 2 genes are too few"):
        lc.pl.augmentation(cells[:, :2].copy())
    cells.X[3, 4] = np.nan
    with pytest.raises(DataError, match="NaN.*'cell3'.*'gene4'"):
        lc.pl.augmentation(cells, "pca")
    assert plt.get_fignums() == []


@pytest.mark.parametrize("n", [18, 20, 37, 70])
def test_legends_of_many_groups_are_not_cut_off(many_groups, overlaps, n):
    figure = lc.pl.augmentation(many_groups(n), "umap", "kind")
    figure.canvas.draw()
    (legend,) = figure.legends
    texts = legend.get_texts()
    names = [*(f"cell type {i}" for i in range(n)), "NA", "in the other panel"]
    assert [text.get_text() for text in texts] == names
    box, frame = legend.get_window_extent(), figure.bbox
    assert frame.y0 <= box.y0 < box.y1 <= frame.y1
    assert max(panel.get_window_extent().x1 for panel in panels(figure)) <= box.x0 < box.x1 <= frame.x1
    assert overlaps(figure, [*texts, legend.get_title()]) == ([], [])
