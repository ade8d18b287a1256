"""What is drawn of latent dimensions: discs, lines, lollipops."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.colors import to_hex, to_rgb
from matplotlib.text import Text

import latentcell as lc
from latentcell._errors import DataError
from latentcell.pl._latent_heatmap import _LARGEST


def texts(labels):
    return [label.get_text() for label in labels]


# --- latent_heatmap ---


@pytest.fixture
def coded(cells):
    """Sparse codes: dimension 0 is on in NK cells, 1 in half of the T cells, 2 in all cells, 3 in none."""
    group = cells.obs["cell_type"].to_numpy()
    rng = np.random.default_rng(1)
    codes = np.zeros((60, 4))
    codes[group == "NK", 0] = 2 + rng.random(10)
    codes[np.flatnonzero(group == "T cell")[:15], 1] = 1 + rng.random(15)
    codes[:, 2] = 1 + rng.random(60)
    cells.obsm["X_vsc"] = codes
    return cells


def discs(ax):
    """Area and colour value of the discs by (group, dimension)."""
    drawn = ax.collections[0]
    rows, columns = texts(ax.get_yticklabels()), texts(ax.get_xticklabels())
    return {
        (rows[round(y)], int(columns[round(x)])): (size, value)
        for (x, y), size, value in zip(drawn.get_offsets(), drawn.get_sizes(), drawn.get_array(), strict=True)
    }


@pytest.mark.parametrize("sort", [True, False])
def test_area_is_the_share_and_colour_the_level_where_on(coded, sort):
    ax = lc.pl.latent_heatmap(coded, "X_vsc", "cell_type", sort=sort)
    found = discs(ax)
    codes = coded.obsm["X_vsc"] / np.where(coded.obsm["X_vsc"].std(0) > 0, coded.obsm["X_vsc"].std(0), 1)
    expected = {}
    for group in ("T cell", "B cell", "NK"):
        for dim in range(4):
            z = codes[(coded.obs["cell_type"] == group).to_numpy(), dim]
            if (z != 0).any():
                expected[group, dim] = (_LARGEST * (z != 0).mean(), z[z != 0].mean())
    assert set(found) == set(expected) == {
        ("NK", 0), ("T cell", 1), ("T cell", 2), ("B cell", 2), ("NK", 2)
    }  # fmt: skip
    for key, values in expected.items():
        np.testing.assert_allclose(found[key], values)
    assert found["T cell", 1][0] == _LARGEST / 2
    assert texts(ax.get_yticklabels()) == ["T cell", "B cell", "NK"]
    dims = texts(ax.get_xticklabels())
    assert sorted(dims) == ["0", "1", "2", "3"]
    assert (dims == ["0", "1", "2", "3"]) != sort
    if sort:
        assert dims.index("1") < dims.index("0")
    assert ax.get_xlabel() == "dimension of X_vsc"
    assert texts(ax.get_legend().get_texts()) == ["25 %", "50 %", "100 %"]


def test_signed_codes_are_coloured_about_zero(coded):
    coded.obsm["X_pca"] = np.random.default_rng(0).normal(size=(60, 3))
    ax = lc.pl.latent_heatmap(coded, "X_pca", "cell_type", dims=[2, 0], sort=False)
    drawn = ax.collections[0]
    assert texts(ax.get_xticklabels()) == ["2", "0"]
    assert drawn.norm.vmin == -drawn.norm.vmax < 0
    assert drawn.get_cmap().name == "RdBu_r"
    assert lc.pl.latent_heatmap(coded, "X_vsc", "cell_type").collections[0].norm.vmin == 0


def test_hard_codes_and_cells_without_label(coded):
    coded.obsm["vsc_hard"] = np.where(np.arange(60)[:, None] < 60, coded.obsm["X_vsc"], 0.0)
    coded.obsm["vsc_hard"][:, 2] = 0.0
    coded.obs["cell_type"] = coded.obs["cell_type"].where(coded.obs["cell_type"] != "B cell")
    ax = lc.pl.latent_heatmap(coded, "X_vsc", "cell_type")
    assert set(discs(ax)) == {("NK", 0), ("T cell", 1)}
    assert texts(ax.get_yticklabels()) == ["T cell", "NK"]


def test_dead_dimensions_have_no_discs(coded):
    faint = 0.03 * np.random.default_rng(3).normal(size=60)
    coded.obsm["X_pca"] = np.column_stack([np.random.default_rng(0).normal(size=(60, 2)), faint])
    ax = lc.pl.latent_heatmap(coded, "X_pca", "cell_type", sort=False)
    assert texts(ax.get_xticklabels()) == ["0", "1", "2"]
    assert {dim for _, dim in discs(ax)} == {0, 1}
    alone = coded.copy()
    alone.obsm["X_pca"] = coded.obsm["X_pca"][:, :2]
    expected = discs(lc.pl.latent_heatmap(alone, "X_pca", "cell_type", sort=False))
    assert discs(ax) == expected


@pytest.mark.parametrize(("dims", "drawn"), [(2, ["2"]), ([False, True, False, True], ["1", "3"])])
def test_a_number_or_a_mask_chooses_dimensions(coded, dims, drawn):
    ax = lc.pl.latent_heatmap(coded, "X_vsc", "cell_type", dims=dims, sort=False)
    assert texts(ax.get_xticklabels()) == drawn


def test_given_axes_are_used_and_names_do_not_overlap(coded, overlaps):
    figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    assert lc.pl.latent_heatmap(coded, "X_vsc", "cell_type", ax=ax) is ax
    own = lc.pl.latent_heatmap(coded, "X_vsc", "cell_type")
    pairs, outside = overlaps(own.figure, [*own.get_yticklabels(), *own.get_xticklabels()])
    assert (pairs, outside) == ([], [])


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        (("X_none", "cell_type"), {}, "'X_none' is not in adata.obsm"),
        (("X_vsc", "none"), {}, "groupby='none' is not a column"),
        (("X_vsc", "cell_type"), {"dims": [4]}, "dimensions are 0 to 3"),
        (("X_vsc", "empty"), {}, "no cell has a label"),
    ],
)
def test_heatmaps_that_cannot_be_drawn_are_refused(coded, args, kwargs, message):
    coded.obs["empty"] = pd.Categorical([None] * 60, ["a"])
    with pytest.raises(DataError, match=message):
        lc.pl.latent_heatmap(coded, *args, **kwargs)


# --- latent_traversal ---


@pytest.fixture
def path():
    """Five values in disorder, four genes: one rises, one falls, one is flat, one rises a little; counts."""
    value = np.array([0.0, 2.0, 1.0, 4.0, 3.0])
    x = np.stack([1 + value, 8 - value, np.full(5, 3.0), 1 + 0.1 * value], axis=1)
    return AnnData(
        x,
        obs=pd.DataFrame({"value": value}, index=[f"g{i}" for i in range(5)]),
        var=pd.DataFrame(index=["up", "down", "flat", "little"]),
        uns={"latentcell": {"dim": 6}},
    )


def test_lines_are_the_genes_that_change_most_in_the_order_of_values(path):
    ax = lc.pl.latent_traversal(path, n_genes=3)
    assert texts(ax.texts) == ["little", "down", "up"]
    up, down, little = ax.lines
    np.testing.assert_array_equal(up.get_xdata(), [0, 1, 2, 3, 4])
    np.testing.assert_allclose(up.get_ydata(), [1, 2, 3, 4, 5])
    np.testing.assert_allclose(down.get_ydata(), [8, 7, 6, 5, 4])
    np.testing.assert_allclose(little.get_ydata(), [1, 1.1, 1.2, 1.3, 1.4])
    red, blue, pale = (to_rgb(line.get_color()) for line in (up, down, little))
    assert red[0] > red[2]
    assert blue[2] > blue[0]
    assert sum(pale) > sum(red)
    assert {text.get_text(): to_hex(text.get_color()) for text in ax.texts} == {
        "up": to_hex(red), "down": to_hex(blue), "little": to_hex(pale)
    }  # fmt: skip
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("dim_6", "expression")


def test_counts_are_drawn_as_log1p_of_ten_thousand(path):
    path.obs["library_size"] = [10.0, 20.0, 10.0, 40.0, 10.0]
    del path.uns["latentcell"]
    ax = lc.pl.latent_traversal(path, ["flat", "up"])
    np.testing.assert_allclose(
        ax.lines[0].get_ydata(), np.log1p(3e4 / np.array([10.0, 10.0, 20.0, 10.0, 40.0]))
    )
    assert len(ax.lines) == 2
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("value of the dimension", "log1p CP10k")


def test_names_of_lines_that_end_together_are_apart(path):
    path.X[:] = path.X[:, :1] + 0.001 * np.arange(4)
    ax = lc.pl.latent_traversal(path)
    ax.figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in ax.texts]  # without the lines that lead to them
    assert all(below.y1 <= above.y0 for below, above in itertools.pairwise(boxes))
    assert all(ax.bbox.x1 < box.x0 and box.x1 < ax.figure.bbox.x1 for box in boxes)


def test_what_is_no_traversal_is_refused(path, cells):
    with pytest.raises(DataError, match="model.traverse"):
        lc.pl.latent_traversal(cells)
    with pytest.raises(DataError, match="one place only"):
        lc.pl.latent_traversal(path[[2, 2]])
    with pytest.raises(DataError, match="'none'"):
        lc.pl.latent_traversal(path, ["none"])
    with pytest.raises(DataError, match="n_genes must be at least 1"):
        lc.pl.latent_traversal(path, n_genes=0)


def test_moved_cells_are_drawn_as_their_mean(path):
    twice = AnnData(
        np.concatenate([path.X, 3 * path.X]),
        obs=pd.concat([path.obs, path.obs]).set_index(pd.Index([f"m{i}" for i in range(10)])),
        var=path.var,
        uns={"latentcell": {"direction": "type=B"}},
    )
    ax = lc.pl.latent_traversal(twice, ["up"])
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [2, 4, 6, 8, 10])
    assert ax.get_xlabel() == "type=B (steps)"
    twice.obs["library_size"] = np.repeat([10.0, 30.0], 5)
    ax = lc.pl.latent_traversal(twice, ["up"])
    np.testing.assert_allclose(ax.lines[0].get_ydata(), np.log1p(1e3 * np.arange(1, 6)))


def test_paths_are_drawn_from_start_to_end(path):
    path.obs = pd.DataFrame({"step": [0.0, 0.5, 0.25, 1.0, 0.75]}, index=path.obs_names)
    path.uns = {"latentcell": {"start": "B", "end": "T"}}
    ax = lc.pl.latent_traversal(path, ["up"])
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [1, 2, 3, 4, 5])
    assert ax.get_xlabel() == "B to T"
    del path.uns["latentcell"]
    assert lc.pl.latent_traversal(path, ["up"]).get_xlabel() == "path"


# --- latent_genes ---


def records(**groups):
    return pd.DataFrame(groups).to_records(index=False)


@pytest.fixture
def ranked(cells):
    genes = np.array(["a", "b", "c", "d"], dtype=object)
    cells.uns["rank_latent_genes"] = {
        "params": {"groupby": "X_vsc"},
        "names": records(dim_0=genes, dim_0_down=genes[::-1], dim_2=genes, dim_2_down=genes[::-1]),
        "scores": records(
            dim_0=[4.0, 3.0, 2.0, -1.0],
            dim_0_down=[1.0, -2.0, -3.0, -4.0],
            dim_2=[0.9, 0.5, -0.1, -0.2],
            dim_2_down=[0.2, 0.1, -0.5, -0.9],
        ),
    }
    return cells


def lollipops(ax):
    """Gene and score from top to bottom, as the heads stand and as the sticks end."""
    sticks, heads = ax.collections
    ends = [segment[1][0] for segment in sticks.get_segments()]
    scores = heads.get_offsets()[:, 0]
    np.testing.assert_allclose(ends, scores)
    np.testing.assert_array_equal(heads.get_offsets()[:, 1], ax.get_yticks())
    assert ax.yaxis_inverted()
    return list(zip(texts(ax.get_yticklabels()), scores, strict=True))


def test_lollipops_run_from_the_most_rising_to_the_most_falling_gene(ranked):
    figure = lc.pl.latent_genes(ranked)
    first, second = figure.axes
    assert (first.get_title(), second.get_title()) == ("dim_0", "dim_2")
    assert lollipops(first) == [("a", 4.0), ("b", 3.0), ("c", 2.0), ("d", -1.0)]
    assert lollipops(second) == [("a", 0.9), ("b", 0.5), ("c", -0.1), ("d", -0.2)]
    assert first.get_xlim() == second.get_xlim()
    red, blue = first.collections[1].get_facecolors()[[0, -1]]
    assert red[0] > red[2]
    assert blue[2] > blue[0]


def test_number_of_genes_and_one_panel(ranked):
    ax = lc.pl.latent_genes(ranked, 2, n_genes=1)
    assert ax.get_title() == "dim_2"
    assert lollipops(ax) == [("a", 0.9), ("d", -0.2)]
    figure = lc.pl.latent_genes(ranked, [2, 0], ncols=1, sharex=False)
    assert [panel.get_title() for panel in figure.axes] == ["dim_2", "dim_0"]
    assert figure.axes[0].get_xlim() != figure.axes[1].get_xlim()
    figure = lc.pl.latent_genes(ranked, np.array([True, False, True]))
    assert [panel.get_title() for panel in figure.axes] == ["dim_0", "dim_2"]


def test_names_of_genes_are_legible(ranked, overlaps):
    long = np.array([f"HLA-LONG-NAME-{i}" for i in range(8)], dtype=object)
    ranked.uns["long"] = {
        "params": {},
        "names": records(**{f"dim_{i}": long for i in range(5)}),
        "scores": records(**{f"dim_{i}": np.linspace(2, 1, 8) for i in range(5)}),
    }
    figure = lc.pl.latent_genes(ranked, key="long")
    labels = [label for panel in figure.axes for label in [*panel.get_yticklabels(), panel.title]]
    pairs, outside = overlaps(figure, labels)
    assert (pairs, outside) == ([], [])


def test_tables_that_cannot_be_drawn_are_refused(ranked):
    with pytest.raises(DataError, match="uns has no 'none'"):
        lc.pl.latent_genes(ranked, key="none")
    with pytest.raises(DataError, match="the table has 'dim_0', 'dim_2'"):
        lc.pl.latent_genes(ranked, dims=[1])
    with pytest.raises(DataError, match="dimensions are 0 to 2"):
        lc.pl.latent_genes(ranked, dims=[3])
    with pytest.raises(DataError, match="name each dimension once"):
        lc.pl.latent_genes(ranked, dims=[0, 0])
    with pytest.raises(DataError, match="whole numbers"):
        lc.pl.latent_genes(ranked, dims=[0.0])
    with pytest.raises(DataError, match="ax: it holds one panel"):
        lc.pl.latent_genes(ranked, ax=plt.subplots()[1])
    with pytest.raises(DataError, match="n_genes and ncols"):
        lc.pl.latent_genes(ranked, n_genes=0)
