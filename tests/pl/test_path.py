"""The figures of paths: what stands where, and what is refused."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import latentcell as lc
from latentcell._errors import DataError
from latentcell.tl import rank_switches

STEP = np.linspace(0, 1, 5)


@pytest.fixture
def way(cells):
    """A path over the first cells, of four genes: early, late and falling ones, and one that is constant."""
    values = np.stack(
        [np.clip(4 * STEP, 0, 1), np.clip(4 * STEP - 3, 0, 1), 2 - 2 * STEP, np.ones(5)], axis=1
    )
    path = AnnData(
        values.astype(np.float32),
        obs=pd.DataFrame(
            {"step": STEP, "distance": [0.1, 0.1, 3.0, 0.1, 0.1]}, index=[f"p{i}" for i in range(5)]
        ),
        var=pd.DataFrame({"rank": [2, 3, 1, 4]}, index=["early", "late", "falls", "flat"]),
        layers={"lower": 0.75 * values, "upper": values + 0.5},
        obsm={"X_vsc": np.stack([STEP, 1 - STEP, STEP], axis=1)},
        uns={"latentcell": {"start": "B", "end": "T", "along": "graph", "cell_distance": 1.0}},
    )
    names = cells.obs_names.to_numpy(dtype=str)
    path.uns["latentcell"]["local_cells"] = np.stack([names[i : i + 3] for i in range(0, 10, 2)])
    return path


def test_curves_and_their_bands(way):
    ax = lc.pl.path(way, ["late", "falls"])
    for line, column in zip(ax.lines, (1, 2), strict=True):
        np.testing.assert_allclose(line.get_ydata(), way.X[:, column])
        np.testing.assert_allclose(line.get_xdata(), STEP)
    for band, column in zip(ax.collections, (1, 2), strict=True):
        heights = band.get_paths()[0].vertices
        for at, step in enumerate(STEP):
            here = heights[np.isclose(heights[:, 0], step), 1]
            assert here.min() == pytest.approx(0.75 * way.X[at, column])
            assert here.max() == pytest.approx(way.X[at, column] + 0.5)
    assert ax.get_xlabel() == "B to T"
    assert ax.get_ylabel() == "expression"
    colors = [line.get_color() for line in ax.lines]
    assert colors[0] != colors[1]
    assert {text.get_text(): text.get_color() for text in ax.texts} == dict(
        zip(["late", "falls"], colors, strict=True)
    )
    del way.layers["lower"], way.layers["upper"]
    assert not lc.pl.path(way, ["late"]).collections


def test_counts_are_drawn_at_one_depth(way):
    way.obs["library_size"] = [10.0, 20.0, 10.0, 20.0, 10.0]
    ax = lc.pl.path(way, "falls")
    np.testing.assert_allclose(
        ax.lines[0].get_ydata(), np.log1p(1e4 * way.X[:, 2] / way.obs["library_size"]), rtol=1e-6
    )
    heights = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert heights.max() == pytest.approx(np.log1p(1e4 * 2.5 / 10))
    assert ax.get_ylabel() == "log1p CP10k"
    assert lc.pl.path(way, "falls", unit="mine").get_ylabel() == "mine"


def test_by_default_the_genes_that_change_most_are_drawn(way):
    assert {text.get_text() for text in lc.pl.path(way, n_genes=2).texts} == {"falls", "early"}
    rank_switches(way)
    way.var.loc["flat", "rank"] = 0  # of genes that switch only, once this is known
    assert {text.get_text() for text in lc.pl.path(way).texts} == {"falls", "early", "late"}


def test_rows_are_in_the_order_of_switches(way):
    rank_switches(way)
    ax = lc.pl.path(way, kind="heatmap")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["early", "falls", "late"]
    assert ax.get_ylim() == (2.5, -0.5)
    image = np.asarray(ax.images[0].get_array())
    expected = [np.clip(4 * STEP, 0, 1), 1 - STEP, np.clip(4 * STEP - 3, 0, 1)]
    np.testing.assert_allclose(image, expected, atol=1e-6)
    np.testing.assert_allclose(ax.collections[0].get_offsets(), [[0.125, 0], [0.5, 1], [0.875, 2]], atol=1e-6)
    left, right = ax.images[0].get_extent()[:2]
    assert (left, right) == (-0.125, 1.125)  # each column is centred on its step
    ax = lc.pl.path(way, ["late", "early"], kind="heatmap")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["early", "late"]


def test_names_of_genes_are_legible(way, overlaps):
    wide = AnnData(
        np.clip(np.linspace(-2, 0, 40) + 3 * STEP[:, None], 0, 1).astype(np.float32),
        obs=way.obs,
        var=pd.DataFrame({"rank": range(40)}, index=[f"GENE-NAME-{i}" for i in range(40)]),
        uns=way.uns,
    )
    rank_switches(wide)
    ax = lc.pl.path(wide, kind="heatmap")
    assert len(ax.get_yticklabels()) == 40
    assert overlaps(ax.figure, ax.get_yticklabels()) == ([], [])
    figure, panels = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")  # less room
    ax = lc.pl.path(wide, kind="heatmap", ax=panels[0])
    assert overlaps(figure, ax.get_yticklabels()) == ([], [])


def test_the_path_lies_where_its_nearest_cells_are(way, cells):
    ax = lc.pl.path(way, kind="cells", adata=cells, color="cell_type")
    expected = [np.median(cells.obsm["X_umap"][i : i + 3], axis=0) for i in range(0, 10, 2)]
    np.testing.assert_allclose(ax.lines[-1].get_xydata(), expected)
    places = ax.collections[-1]
    np.testing.assert_allclose(places.get_offsets(), expected)
    white = (places.get_facecolors()[:, :3] == 1).all(axis=1)
    assert white.tolist() == [False, False, True, False, False]
    assert [text.get_text() for text in ax.texts[-2:]] == ["B", "T"]
    # among the codes, at its own place
    ax = lc.pl.path(way, kind="cells", adata=cells, basis="vsc")
    np.testing.assert_allclose(ax.lines[-1].get_xydata(), way.obsm["X_vsc"][:, :2])
    _, panel = plt.subplots()
    assert lc.pl.path(way, kind="cells", adata=cells, ax=panel) is panel


def test_what_cannot_be_drawn_is_refused(way, cells):
    with pytest.raises(DataError, match="draw what lc.tl.interpolate returned"):
        lc.pl.path(cells)
    with pytest.raises(DataError, match="kind='line'"):
        lc.pl.path(way, kind="line")
    with pytest.raises(DataError, match="first call lc.tl.rank_switches"):
        lc.pl.path(way, kind="heatmap")
    with pytest.raises(DataError, match="n_genes must be at least 1"):
        lc.pl.path(way, n_genes=0)
    with pytest.raises(DataError, match="'none'"):
        lc.pl.path(way, ["none"])
    with pytest.raises(DataError, match="adata is needed"):
        lc.pl.path(way, kind="cells")
    with pytest.raises(DataError, match="basis='none' is not in adata.obsm"):
        lc.pl.path(way, kind="cells", adata=cells, basis="none")
    with pytest.raises(DataError, match="adata has no cell 'cell0'"):
        lc.pl.path(way, kind="cells", adata=cells[5:].copy())
    rank_switches(way)
    with pytest.raises(DataError, match="'flat' do not switch"):
        lc.pl.path(way, ["flat", "early"], kind="heatmap")
    way.var["switch"] = np.nan
    with pytest.raises(DataError, match="no gene switches"):
        lc.pl.path(way)
    del way.uns["latentcell"]["local_cells"]
    with pytest.raises(DataError, match="n_local above 0"):
        lc.pl.path(way, kind="cells", adata=cells)
