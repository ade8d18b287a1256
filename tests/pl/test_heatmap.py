import tracemalloc

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from matplotlib.colors import to_hex
from scipy import sparse

import latentcell as lc
from latentcell._colors import default_colors
from latentcell._errors import DataError


def shown(ax):
    """The values of the heat map, cells x genes (the image repeats them)."""
    (image,) = ax.images
    left, right, bottom, top = image.get_extent()
    n_cells, n_genes = round(bottom - top), round(right - left)
    values = np.asarray(image.get_array())
    return values[:: len(values) // n_cells, :: values.shape[1] // n_genes]


def strip(ax):
    return next(child for child in ax.child_axes if child.get_label() == "groups")


def group_names(ax):
    return [text.get_text() for text in strip(ax).texts]


def bar(ax):
    return next(other for other in ax.figure.axes if other is not ax)


def test_cells_are_ordered_by_group_and_genes_as_given(cells):
    ax = lc.pl.heatmap(cells, "cell_type", genes=["gene5", "gene0"])
    order = np.argsort(cells.obs["cell_type"].cat.codes, kind="stable")
    np.testing.assert_array_equal(shown(ax), cells[order, ["gene5", "gene0"]].X)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["gene5", "gene0"]
    assert ax.get_title() == "60 cells, 2 genes"
    assert len(plt.get_fignums()) == 1


def test_group_bar_has_names_and_colours(cells):
    cells.uns["cell_type_colors"] = ["#ff0000", "#00ff00", "#0000ff"]
    cells.obs.loc[["cell0", "cell1"], "cell_type"] = np.nan
    ax = lc.pl.heatmap(cells, "cell_type")
    assert group_names(ax) == ["T cell", "B cell", "NK", "NA"]
    image = strip(ax).images[0]
    colors = [to_hex(color) for color in image.cmap(image.norm(image.get_array()[:, 0]))]
    counts = cells.obs["cell_type"].value_counts(sort=False)
    assert colors == (
        ["#ff0000"] * counts["T cell"] + ["#00ff00"] * counts["B cell"] + ["#0000ff"] * counts["NK"]
        + [to_hex("lightgray")] * 2
    )  # fmt: skip
    boundaries = [line.get_ydata()[0] for line in ax.lines]
    assert boundaries == (np.cumsum(counts.to_numpy()) - 0.5).tolist()


def test_default_genes_are_the_highly_variable_ordered_by_group(cells):
    cells.var["highly_variable"] = [True] * 6 + [False] * 2
    ax = lc.pl.heatmap(cells, "cell_type")
    names = [label.get_text() for label in ax.get_xticklabels()]
    assert sorted(names) == [f"gene{i}" for i in range(6)]
    # gene i belongs to group i % 3
    assert [int(name[-1]) % 3 for name in names] == [0, 0, 1, 1, 2, 2]
    order = np.argsort(cells.obs["cell_type"].cat.codes, kind="stable")
    np.testing.assert_array_equal(shown(ax), cells[order, names].X)


@pytest.mark.parametrize(
    ("column", "ranks"),
    [
        ("dispersions_norm", [1, 9, np.nan, 7, 0, 0, 0, 8]),
        ("highly_variable_rank", [9, 0, 8, 2, 7, 6, np.nan, 1]),
    ],
)
def test_at_most_max_genes_the_most_variable(cells, column, ranks):
    cells.var[column] = ranks
    ax = lc.pl.heatmap(cells, "cell_type", max_genes=3)
    assert sorted(label.get_text() for label in ax.get_xticklabels()) == ["gene1", "gene3", "gene7"]


def test_standardize_gives_z_scores_over_what_is_drawn(cells):
    cells.X[:, 3] = 2
    ax = lc.pl.heatmap(cells, "cell_type", standardize="gene", genes=list(cells.var_names), unit="counts")
    values = shown(ax)
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(values.std(axis=0), [1, 1, 1, 0, 1, 1, 1, 1])
    low, high = ax.images[0].get_clim()
    assert low == -high
    assert bar(ax).get_ylabel() == "z-score of counts"


def test_colours_and_unit(cells):
    cells.layers["scaled"] = cells.X - cells.X.mean(axis=0)
    ax = lc.pl.heatmap(cells, "cell_type")
    assert ax.images[0].get_clim() == (0, np.percentile(cells.X, 99))
    assert ax.images[0].get_cmap().name == plt.rcParams["image.cmap"]
    assert bar(ax).get_ylabel() == "X"
    ax = lc.pl.heatmap(cells, "cell_type", layer="scaled")
    low, high = ax.images[0].get_clim()
    assert low == -high
    assert ax.images[0].get_cmap().name == "RdBu_r"
    assert bar(ax).get_ylabel() == "scaled"
    nothing = lc.pl.heatmap(AnnData(np.zeros((3, 2)), obs={"g": ["a", "a", "b"]}), "g")
    assert nothing.images[0].get_clim() == (0, 1)


def test_thinning_keeps_small_groups_is_seeded_and_says_so():
    groups = np.repeat(["big", "middle", "small"], [9000, 900, 12])
    obs = pd.DataFrame({"g": pd.Categorical(groups)}, index=[f"cell{i}" for i in range(len(groups))])
    adata = AnnData(np.arange(len(groups), dtype=float)[:, None], obs=obs)
    ax = lc.pl.heatmap(adata, "g", max_cells=500)
    kept = shown(ax)[:, 0].astype(int)
    assert pd.Series(groups[kept]).value_counts().to_dict() == {"big": 454, "middle": 45, "small": 10}
    assert ax.get_title() == "509 of 9,912 cells"
    assert kept.tolist() == sorted(set(kept))
    again, other = (lc.pl.heatmap(adata, "g", max_cells=500, seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(shown(again), shown(ax))
    assert not np.array_equal(shown(other), shown(ax))


@pytest.mark.parametrize("form", ["csr", "csc", "backed dense", "backed csr", "view"])
def test_all_kinds_of_storage_draw_the_same(cells, form, tmp_path):
    expected = shown(lc.pl.heatmap(cells, "cell_type", max_cells=40, genes=["gene5", "gene0"]))
    if form in ("csr", "csc", "backed csr"):
        cells.X = (sparse.csc_matrix if form == "csc" else sparse.csr_matrix)(cells.X)
    if form.startswith("backed"):
        cells.write_h5ad(tmp_path / "cells.h5ad")
        cells = sc.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    if form == "view":
        cells = cells[:, 0:6]
    ax = lc.pl.heatmap(cells, "cell_type", max_cells=40, genes=["gene5", "gene0"])
    np.testing.assert_array_equal(shown(ax), expected)
    if form == "view":
        assert cells.is_view
    if form.startswith("backed"):
        cells.file.close()


def test_sparse_data_are_never_made_dense():
    n_cells, n_genes = 20_000, 20_000
    adata = AnnData(
        sparse.random(
            n_cells, n_genes, density=1e-5, format="csr", dtype=np.float32, rng=np.random.default_rng(0)
        ),
        obs=pd.DataFrame({"g": pd.Categorical(np.arange(n_cells) % 3)}, index=np.arange(n_cells).astype(str)),
    )
    tracemalloc.start()
    lc.pl.heatmap(adata, "g", genes=["3", "7"], max_cells=200)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6  # dense: 1.6e9 bytes


def test_given_axes(cells):
    figure, (left, right) = plt.subplots(1, 2)
    assert lc.pl.heatmap(cells, "cell_type", ax=right) is right
    assert plt.get_fignums() == [figure.number]
    assert len(right.images) == 1
    assert len(left.images) == 0


def test_many_genes_are_counted_instead_of_named(pbmc):
    ax = lc.pl.heatmap(pbmc, "bulk_labels")
    assert ax.get_xticks().tolist() == []
    assert ax.get_title() == "700 cells, 200 genes"


@pytest.mark.parametrize("n_genes", [5, 40, 60])
def test_names_do_not_overlap_and_are_not_cut(pbmc, overlaps, n_genes):
    ax = lc.pl.heatmap(pbmc, "bulk_labels", genes=list(pbmc.var_names[:n_genes]))
    pairs, outside = overlaps(ax.figure, [*strip(ax).texts])
    assert (pairs, outside) == ([], [])
    assert overlaps(ax.figure, [*ax.get_xticklabels(), ax.title]) == ([], [])


def test_nothing_but_the_colours_of_groups_is_written(cells):
    before = cells.copy()
    lc.pl.heatmap(cells, "cell_type", standardize="gene")
    assert dict(cells.uns) == {"cell_type_colors": default_colors(3)}
    np.testing.assert_array_equal(cells.X, before.X)
    pd.testing.assert_frame_equal(cells.obs, before.obs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groupby": "celltype"}, "groupby='celltype'.*'cell_type', 'depth'"),
        ({"groupby": "cell_type", "genes": ["gene1", "CD3D"]}, "1 of them.*'CD3D'.*'gene0'"),
        ({"groupby": "cell_type", "genes": []}, "at least one gene"),
        ({"groupby": "cell_type", "layer": "counts"}, "layer='counts'"),
        ({"groupby": "cell_type", "standardize": "cell"}, "standardize='cell'"),
    ],
)
def test_what_is_wrong_is_named_and_leaves_no_figure(cells, arguments, message):
    with pytest.raises(DataError, match=message):
        lc.pl.heatmap(cells, **arguments)
    assert plt.get_fignums() == []


def test_data_that_cannot_be_drawn(cells):
    with pytest.raises(DataError, match="no cells"):
        lc.pl.heatmap(cells[:0], "cell_type")
    with pytest.raises(DataError, match="highly_variable.*marks no gene"):
        lc.pl.heatmap(AnnData(cells.X, obs=cells.obs, var={"highly_variable": [False] * 8}), "cell_type")
    with pytest.raises(DataError, match="adata.X is empty"):
        lc.pl.heatmap(AnnData(obs=cells.obs, var=cells.var), "cell_type")
    cells.X[5, 2] = np.nan
    with pytest.raises(DataError, match="X is NaN or infinite, first in gene 'gene2'"):
        lc.pl.heatmap(cells, "cell_type", genes=["gene0", "gene2"])
    cells.var_names = ["gene0"] * 8
    with pytest.raises(DataError, match="var_names_make_unique"):
        lc.pl.heatmap(cells, "cell_type", genes=["gene0"])
    assert plt.get_fignums() == []


def test_one_group_keeps_the_order_of_genes(cells):
    cells.obs["all"] = "everything"
    ax = lc.pl.heatmap(cells, "all")
    assert [label.get_text() for label in ax.get_xticklabels()] == list(cells.var_names)
    assert group_names(ax) == ["everything"]
    assert list(ax.lines) == []


# --- side by side ---


@pytest.fixture
def both(cells):
    cells.obs["is_generated"] = np.arange(60) >= 40
    return cells


def halves(figure):
    return [ax for ax in figure.axes if ax.get_title()]


def test_split_shows_each_kind_with_the_same_genes_groups_and_colours(both):
    both.X[45, 2] = 50  # only generated cells have such a value
    both.uns["cell_type_colors"] = ["#ff0000", "#00ff00", "#0000ff"]
    figure = lc.pl.heatmap(both, "cell_type", split="is_generated", genes=["gene5", "gene2"])
    left, right = halves(figure)
    assert [ax.get_title() for ax in (left, right)] == [
        "real: 40 cells, 2 genes",
        "generated: 20 cells, 2 genes",
    ]
    codes = both.obs["cell_type"].cat.codes.to_numpy()
    for ax, own in ((left, np.arange(40)), (right, np.arange(40, 60))):
        order = own[np.argsort(codes[own], kind="stable")]
        np.testing.assert_array_equal(shown(ax), both[order, ["gene5", "gene2"]].X)
        assert group_names(ax) == ["T cell", "B cell", "NK"]
        assert [label.get_text() for label in ax.get_xticklabels()] == ["gene5", "gene2"]
        image = strip(ax).images[0]
        assert [to_hex(image.cmap(i)) for i in range(3)] == ["#ff0000", "#00ff00", "#0000ff"]
    drawn = both[:, ["gene5", "gene2"]].X
    assert left.images[0].get_clim() == right.images[0].get_clim() == (0, np.percentile(drawn, 99))
    assert [ax.get_ylabel() for ax in figure.axes if ax not in (left, right)] == ["X"]  # one colour bar


def test_split_standardises_and_orders_genes_over_all_that_is_drawn(both):
    both.X[40:] *= 3
    figure = lc.pl.heatmap(both, "cell_type", split="is_generated", standardize="gene")
    left, right = halves(figure)
    names = [[label.get_text() for label in ax.get_xticklabels()] for ax in (left, right)]
    assert names[0] == names[1]
    values = np.concatenate([shown(left), shown(right)])
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(values.std(axis=0), 1)
    assert shown(right).mean() > 0 > shown(left).mean()


def test_split_by_any_column_thins_each_part_and_leaves_out_the_rest(both):
    both.obs["donor"] = pd.Categorical(np.repeat(["x", "y", None], [45, 12, 3]), ["unused", "x", "y"])
    figure = lc.pl.heatmap(both, "cell_type", split="donor", max_cells=30)
    titles = [ax.get_title() for ax in halves(figure)]
    assert len(titles) == 2
    assert titles[0].startswith("x: ")
    assert " of 45 cells" in titles[0]
    assert titles[1] == "y: 12 cells, 8 genes"


def test_split_names_do_not_overlap_and_are_not_cut(pbmc, overlaps):
    pbmc.obs["is_generated"] = np.arange(pbmc.n_obs) % 4 == 0
    figure = lc.pl.heatmap(pbmc, "bulk_labels", split="is_generated", genes=list(pbmc.var_names[:20]))
    texts = [text for ax in halves(figure) for text in (*strip(ax).texts, ax.title, *ax.get_xticklabels())]
    assert overlaps(figure, texts) == ([], [])
    left, right = halves(figure)
    names = [text.get_window_extent() for text in strip(right).texts]
    assert not any(left.get_window_extent().overlaps(box) for box in names)


def test_split_that_cannot_be_drawn(both):
    with pytest.raises(DataError, match="split='kind'"):
        lc.pl.heatmap(both, "cell_type", split="kind")
    assert plt.get_fignums() == []
    _, ax = plt.subplots()
    with pytest.raises(DataError, match="ax: it holds one panel"):
        lc.pl.heatmap(both, "cell_type", split="is_generated", ax=ax)
