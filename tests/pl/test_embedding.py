import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import latentcell as lc
from latentcell._errors import DataError


def points(ax):
    """Coordinates and colours of all drawn points."""
    xy, colors = [], []
    for collection in ax.collections:
        collection.update_scalarmappable()
        places = collection._offsets3d if ax.name == "3d" else collection.get_offsets().T
        places = np.stack([np.asarray(place) for place in places], axis=1)
        face = np.broadcast_to(PathCollection.get_facecolor(collection), (len(places), 4))
        xy.append(places)
        colors += [to_hex(color) for color in face]
    return np.concatenate(xy), np.array(colors)


def color_of(ax, coordinates):
    """Colours of the cells, in the order of `coordinates`."""
    xy, colors = points(ax)
    nearest = np.abs(xy[None] - coordinates[:, None, : xy.shape[1]]).sum(axis=2)
    assert np.allclose(nearest.min(axis=1), 0)
    return colors[nearest.argmin(axis=1)]


def legend_texts(figure):
    (legend,) = figure.legends
    return legend.get_title().get_text(), [text.get_text() for text in legend.get_texts()]


def snapshot(adata):
    return (
        {k: str(v) for k, v in adata.uns.items()},
        adata.obs.copy(),
        {k: v.copy() for k, v in adata.obsm.items()},
    )


def test_points_and_colours_of_uns(cells):
    cells.uns["cell_type_colors"] = ["#ff0000", "green", "#0000ff"]
    ax = lc.pl.embedding(cells, "umap", "cell_type")
    assert isinstance(ax, Axes)
    assert len(points(ax)[0]) == 60
    expected = cells.obs["cell_type"].map({"T cell": "#ff0000", "B cell": to_hex("green"), "NK": "#0000ff"})
    assert color_of(ax, cells.obsm["X_umap"]).tolist() == expected.tolist()
    assert legend_texts(ax.figure) == ("cell_type", ["T cell", "B cell", "NK"])
    assert (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) == ("UMAP", "UMAP1", "UMAP2")


@pytest.mark.filterwarnings("ignore:The set_bad")  # scanpy 1.11 under Matplotlib 3.11
def test_default_colours_are_scanpys_and_nothing_else_is_written(cells):
    before, scanpys = snapshot(cells), cells.copy()
    ax = lc.pl.embedding(cells, "X_umap", "cell_type")
    after = snapshot(cells)
    assert before[0] == {}
    assert list(after[0]) == ["cell_type_colors"]
    pd.testing.assert_frame_equal(after[1], before[1])
    assert list(after[2]) == list(before[2])
    sc.pl.embedding(scanpys, "umap", color="cell_type", show=False)
    assert cells.uns["cell_type_colors"] == scanpys.uns["cell_type_colors"]
    known = dict(zip(cells.obs["cell_type"].cat.categories, cells.uns["cell_type_colors"], strict=True))
    colors = color_of(ax, cells.obsm["X_umap"])
    assert colors.tolist() == [to_hex(known[label]) for label in cells.obs["cell_type"]]


@pytest.mark.filterwarnings("ignore:The set_bad")  # scanpy 1.11 under Matplotlib 3.11
def test_a_palette_that_scanpy_was_given_is_everybodys(cells):
    sc.pl.embedding(cells, "umap", color="cell_type", palette="Set2", show=False)
    stored = list(cells.uns["cell_type_colors"])
    ax = lc.pl.embedding(cells, "umap", "cell_type")
    known = dict(zip(cells.obs["cell_type"].cat.categories, stored, strict=True))
    assert color_of(ax, cells.obsm["X_umap"]).tolist() == [known[label] for label in cells.obs["cell_type"]]
    assert cells.uns["cell_type_colors"] == stored


def test_clusters_of_obs_keep_their_colours_too(cells):
    cells.obs["leiden"] = pd.Categorical(cells.obs["cell_type"].cat.codes.astype(str))
    lc.pl.embedding(cells, "umap", "depth", clusters="leiden")
    assert list(cells.uns) == ["leiden_colors"]


def test_views_stay_views_and_unused_categories_keep_colours_apart(cells):
    cells.uns["cell_type_colors"] = ["#ff0000", "#00ff00", "#0000ff"]
    view = cells[cells.obs["cell_type"] != "T cell"]
    ax = lc.pl.embedding(view, "umap", "cell_type", clusters=None)
    assert view.is_view
    assert legend_texts(ax.figure)[1] == ["B cell", "NK"]
    assert set(points(ax)[1]) == {"#00ff00", "#0000ff"}


def test_missing_labels_are_light_grey_below_the_others(cells):
    cells.obs["part"] = cells.obs["cell_type"].where(cells.obs["cell_type"] != "NK")
    ax = lc.pl.embedding(cells, "umap", "part")
    missing = cells.obs["part"].isna().to_numpy()
    colors = color_of(ax, cells.obsm["X_umap"])
    assert set(colors[missing]) == {to_hex("lightgray")}
    assert to_hex("lightgray") not in colors[~missing]
    np.testing.assert_allclose(ax.collections[0].get_offsets(), cells.obsm["X_umap"][missing])
    assert legend_texts(ax.figure)[1] == ["T cell", "B cell", "NA"]


@pytest.mark.parametrize(
    "values", [np.arange(60) % 2 == 0, np.where(np.arange(60) % 2 == 0, "a", "b").astype(object)]
)
def test_booleans_and_text_are_labels(cells, values):
    cells.obs["flag"] = values
    ax = lc.pl.embedding(cells, "umap", "flag")
    assert legend_texts(ax.figure)[1] == sorted({str(value) for value in values})


def test_numbers_have_a_colour_bar_and_high_values_on_top(cells):
    cells.obs.loc["cell3", "depth"] = np.nan
    figure, ax = plt.subplots()
    assert lc.pl.embedding(cells, "umap", "depth", ax=ax, cmap="viridis") is ax
    grey, colored = ax.collections
    np.testing.assert_allclose(grey.get_offsets(), cells.obsm["X_umap"][[3]])
    values = colored.get_array()
    assert values.tolist() == sorted(values) == [i for i in range(60) if i != 3]
    assert colored.get_clim() == (0, 59)
    bar = next(other for other in figure.axes if other is not ax)
    assert bar.get_ylabel() == "depth"
    assert ax.get_legend() is None


def test_genes_come_from_x_or_a_layer_not_raw(cells):
    cells.raw = cells.copy()
    cells.layers["half"] = cells.X / 2
    ax = lc.pl.embedding(cells, "umap", "gene2")
    assert ax.collections[0].get_array().max() == cells[:, "gene2"].X.max()
    ax = lc.pl.embedding(cells, "umap", "gene2", layer="half")
    assert ax.collections[0].get_array().max() == cells[:, "gene2"].X.max() / 2
    assert ax.figure.axes[1].get_ylabel() == "gene2 (half)"


def test_axes_of_a_basis_that_ends_in_a_number_are_its_dimensions(cells):
    cells.obsm["PC2, PC3"] = cells.obsm["X_umap"]
    ax = lc.pl.embedding(cells, "PC2, PC3", "cell_type")
    assert (ax.get_title(), ax.get_ylabel()) == ("PC2, PC3", "dimension 2")


def test_several_bases_side_by_side_share_one_legend(cells):
    figure = lc.pl.embedding(cells, ["umap", "vsc_tsne", "X_vsc"], "cell_type", ncols=2)
    assert isinstance(figure, Figure)
    assert [ax.get_title() for ax in figure.axes] == ["UMAP", "vsc tSNE", "vsc"]
    assert [ax.get_xlabel() for ax in figure.axes] == ["UMAP1", "tSNE1", "vsc1"]
    assert legend_texts(figure)[1] == ["T cell", "B cell", "NK"]
    for ax, key in zip(figure.axes, ["X_umap", "vsc_tsne", "X_vsc"], strict=True):
        assert len(color_of(ax, cells.obsm[key][:, :2])) == 60
    columns = [ax.get_subplotspec().colspan.start for ax in figure.axes]
    assert columns == [0, 1, 0]


def test_kmeans_beside_labels_with_centroids_in_matching_colours(cells):
    figure = lc.pl.embedding(cells, ["umap", "vsc_tsne"], "cell_type", clusters="kmeans", dims=["2d", "3d"])
    left, right, left3, right3 = figure.axes
    assert [ax.name for ax in figure.axes] == ["rectilinear", "rectilinear", "3d", "3d"]
    assert right.get_title() == "UMAP: k-means, 3 clusters"
    for a, b, key in ((left, right, "X_umap"), (left3, right3, "vsc_tsne")):
        # the groups are well separated: k-means finds them, and takes their colours
        assert color_of(a, cells.obsm[key]).tolist() == color_of(b, cells.obsm[key]).tolist()
    # numbered from the largest cluster, each at the mean of its cells
    for number, label in enumerate(["T cell", "B cell", "NK"]):
        inside = (cells.obs["cell_type"] == label).to_numpy()
        assert right.texts[number].get_text() == str(number)
        np.testing.assert_allclose(
            right.texts[number].get_position(), cells.obsm["X_umap"][inside].mean(axis=0)
        )
        np.testing.assert_allclose(
            right3.texts[number].get_position_3d(), cells.obsm["vsc_tsne"][inside].mean(axis=0)
        )
    assert list(left.texts) == []
    assert legend_texts(figure) == ("cell_type", ["T cell", "B cell", "NK"])
    assert "kmeans" not in cells.obs


def test_clusters_that_dominate_no_label_have_other_colours(cells):
    figure = lc.pl.embedding(cells, "umap", "cell_type", clusters="kmeans", n_clusters=6)
    left, right = figure.axes
    of_labels, of_clusters = set(points(left)[1]), set(points(right)[1])
    assert len(of_clusters) == 6
    assert of_labels < of_clusters


def test_kmeans_is_seeded_and_works_without_labels(cells):
    def draw(seed):
        return points(lc.pl.embedding(cells, "vsc", clusters="kmeans", n_clusters=4, seed=seed).axes[1])[
            1
        ].tolist()

    assert draw(0) == draw(0)
    assert len(set(draw(0))) == 4


def test_clusters_of_obs(cells):
    cells.obs["leiden"] = pd.Categorical(np.arange(60) % 2)
    cells.uns["leiden_colors"] = ["#111111", "#eeeeee"]
    figure = lc.pl.embedding(cells, "umap", "depth", clusters="leiden")
    panel = figure.axes[1]
    assert color_of(panel, cells.obsm["X_umap"]).tolist() == ["#111111", "#eeeeee"] * 30
    assert [text.get_text() for text in panel.texts] == ["0", "1"]
    assert figure.legends == []
    # long names do not fit on centroids: they are in the legend, and the centroid has the colour
    figure = lc.pl.embedding(cells, "umap", "leiden", clusters="cell_type")
    assert legend_texts(figure) == ("", ["leiden", "0", "1", "cell_type", "T cell", "B cell", "NK"])
    discs = [to_hex(text.get_bbox_patch().get_facecolor()) for text in figure.axes[1].texts]
    assert discs == [
        color_of(figure.axes[1], cells.obsm["X_umap"])[np.argmax(cells.obs["cell_type"] == name)]
        for name in ["T cell", "B cell", "NK"]
    ]


def test_labels_on_data_do_not_overlap(pbmc, overlaps):
    ax = lc.pl.embedding(pbmc, "umap", "bulk_labels", legend_loc="on data")
    assert {text.get_text() for text in ax.texts} == set(pbmc.obs["bulk_labels"])
    assert overlaps(ax.figure, ax.texts)[0] == []
    assert ax.figure.legends == []
    lone = next(text for text in ax.texts if text.get_text() == "CD34+")
    middle = np.median(pbmc.obsm["X_umap"][(pbmc.obs["bulk_labels"] == "CD34+").to_numpy()], axis=0)
    np.testing.assert_allclose(lone.get_position(), middle, rtol=1e-6)


@pytest.mark.parametrize("dims", ["2d", "3d"])
def test_the_legend_is_inside_the_figure_and_beside_the_panels(pbmc, overlaps, dims):
    ax = lc.pl.embedding(pbmc, "pca", "bulk_labels", dims=dims)
    (legend,) = ax.figure.legends
    assert overlaps(ax.figure, [*legend.get_texts(), legend.get_title(), ax.title]) == ([], [])
    assert legend.get_window_extent().x0 >= ax.get_window_extent().x1 - 1


@pytest.mark.parametrize("n", [19, 20, 37, 70])
@pytest.mark.parametrize("bases", [["umap"], ["umap", "pca"]], ids=["one", "two"])
def test_legends_of_many_groups_are_not_cut_off(many_groups, overlaps, bases, n):
    figure = lc.pl.embedding(many_groups(n), bases, "kind")
    figure = figure.figure if isinstance(figure, Axes) else figure
    figure.canvas.draw()
    (legend,) = figure.legends
    texts = legend.get_texts()
    assert [text.get_text() for text in texts] == [*(f"cell type {i}" for i in range(n)), "NA"]
    box, frame = legend.get_window_extent(), figure.bbox
    assert frame.y0 <= box.y0 < box.y1 <= frame.y1
    assert max(ax.get_window_extent().x1 for ax in figure.axes) <= box.x0 < box.x1 <= frame.x1
    assert overlaps(figure, [*texts, legend.get_title()]) == ([], [])
    widths, heights = zip(*(ax.get_window_extent().size for ax in figure.axes), strict=True)
    assert 0.9 < min(widths) / max(heights)  # columns take no room from the panels
    assert max(widths) / min(heights) < 1.2


def test_a_legend_of_given_axes_is_not_cut_off_below_or_above(many_groups):
    figure, ax = plt.subplots(figsize=(8, 3))
    lc.pl.embedding(many_groups(20), "umap", "kind", ax=ax)
    figure.canvas.draw()
    box = ax.get_legend().get_window_extent()
    assert 0 <= box.y0 < box.y1 <= figure.bbox.y1


def test_given_axes(cells):
    figure, axes = plt.subplots(1, 2)
    assert lc.pl.embedding(cells, "umap", "cell_type", ax=axes[1]) is axes[1]
    assert [text.get_text() for text in axes[1].get_legend().get_texts()] == ["T cell", "B cell", "NK"]
    assert len(axes[0].collections) == 0
    assert plt.get_fignums() == [figure.number]
    space = figure.add_subplot(projection="3d")
    assert lc.pl.embedding(cells, "vsc_tsne", None, dims="3d", ax=space) is space
    assert set(points(space)[1]) == {to_hex("lightgray")}
    assert space.get_zlabel() == "tSNE3"


def test_size_and_scanpys_settings(cells, monkeypatch):
    assert lc.pl.embedding(cells, "umap", size=3).collections[0].get_sizes().tolist() == [3]
    assert not lc.pl.embedding(cells, "umap").collections[0].get_rasterized()
    monkeypatch.setattr(sc.settings, "_vector_friendly", True)
    monkeypatch.setattr(sc.settings, "_frameon", False)
    ax = lc.pl.embedding(cells, "umap")
    assert ax.collections[0].get_rasterized()
    assert not ax.axison
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"basis": "tsne"}, "basis='tsne' is not in adata.obsm, which has: 'X_umap', 'vsc_tsne', 'X_vsc'"),
        ({"basis": []}, "at least one key"),
        ({"basis": "umap", "color": "celltype"}, "color='celltype'.*'cell_type', 'depth'"),
        ({"basis": "umap", "color": "gene1", "layer": "counts"}, "layer='counts'.*none"),
        ({"basis": "umap", "dims": "3d"}, "X_umap.*2 dimensions"),
        ({"basis": "umap", "dims": "4d"}, "dims='4d'"),
        ({"basis": "umap", "dims": ["2d", "3d"]}, "each of the 1 bases"),
        ({"basis": "umap", "clusters": "leiden"}, "clusters='leiden'.*'cell_type'"),
        ({"basis": "umap", "color": "depth", "clusters": "kmeans"}, "give n_clusters"),
        ({"basis": "umap", "clusters": "kmeans", "n_clusters": 61}, "n_clusters=61.*60"),
        ({"basis": "umap", "clusters": "cell_type", "n_clusters": 3}, "n_clusters is for"),
        ({"basis": "umap", "legend_loc": "left"}, "legend_loc='left'"),
    ],
)
def test_what_is_wrong_is_named_and_leaves_no_figure(cells, arguments, message):
    with pytest.raises(DataError, match=message):
        lc.pl.embedding(cells, **arguments)
    assert plt.get_fignums() == []


def test_axes_that_do_not_fit(cells):
    _, ax = plt.subplots()
    with pytest.raises(DataError, match="one panel.*draws 2"):
        lc.pl.embedding(cells, ["umap", "vsc"], ax=ax)
    with pytest.raises(DataError, match='projection="3d"'):
        lc.pl.embedding(cells, "vsc", dims="3d", ax=ax)


def test_nan_coordinates_name_the_cell(cells):
    cells.obsm["X_umap"][7, 1] = np.nan
    with pytest.raises(DataError, match="X_umap.*1 cells, the first is 'cell7'"):
        lc.pl.embedding(cells, "umap")


def test_coordinates_as_data_frame(cells):
    frame = pd.DataFrame(cells.obsm["X_umap"], index=cells.obs_names, columns=["a", "b"])
    cells.obsm["frame"] = frame
    np.testing.assert_allclose(points(lc.pl.embedding(cells, "frame"))[0], frame)


def test_numbers_have_no_names_on_data(cells):
    ax = lc.pl.embedding(cells, "umap", "depth", legend_loc="on data")
    assert list(ax.texts) == []
    assert ax.figure.legends == []
    assert lc.pl.embedding(cells, "umap", "cell_type", legend_loc="none").figure.legends == []
