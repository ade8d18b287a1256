import warnings

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData, read_h5ad
from cycler import cycler
from matplotlib.colors import to_hex, to_rgb

from latentcell._colors import default_colors, kept_colors, label_colors, obs_labels, other_colors


@pytest.mark.filterwarnings("ignore:The set_bad")  # scanpy 1.11 under Matplotlib 3.11
@pytest.mark.parametrize("n", [1, 10, 11, 20, 21, 28, 29, 102, 103])
def test_default_colours_are_those_that_scanpy_writes(n):
    adata = AnnData(
        np.zeros((n, 1)),
        obs={"g": pd.Categorical([f"{i:03}" for i in range(n)])},
        obsm={"X_umap": np.zeros((n, 2))},
    )
    sc.pl.embedding(adata, "umap", color="g", show=False, legend_loc=None)
    assert default_colors(n) == [to_hex(color) for color in adata.uns["g_colors"]]


def test_default_colours_follow_the_users_cycle_and_never_run_out():
    with mpl.rc_context({"axes.prop_cycle": cycler(color=["#010203", "#040506"])}):
        assert default_colors(2) == ["#010203", "#040506"]
        assert len(default_colors(3)) == 3
    assert len(default_colors(500)) == 500


def test_other_colours_do_not_look_like_those_taken():
    taken = default_colors(10)
    for color in other_colors(taken, 10):
        assert min(np.linalg.norm(np.subtract(to_rgb(color), to_rgb(other))) for other in taken) > 0.25


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (["red", "#0000ff"], ["#ff0000", "#0000ff"]),
        (["no colour", "blue"], None),
        (["red"], None),
        (["gold2", (0.0, 0.0, 1.0)], ["#eec900", "#0000ff"]),  # a name of R, which scanpy knows too
        ("rg", None),
        ({"a": "red", "b": "blue"}, None),
        (3, None),
    ],
)
def test_stored_colours_are_used_if_they_are_colours_and_enough(stored, expected):
    adata = AnnData(np.zeros((2, 1)), obs={"g": ["a", "b"]}, uns={"g_colors": stored})
    colors = label_colors(adata, "g", obs_labels(adata, "g", "groupby"))
    assert list(colors) == ["a", "b"]
    assert list(colors.values()) == (expected or default_colors(2))


def groups(n=3, n_cells=12, **uns):
    """Cells of `n` groups with coordinates."""
    return AnnData(
        np.zeros((n_cells, 1)),
        obs={
            "g": pd.Categorical.from_codes(np.arange(n_cells) % n, [f"{i:03}" for i in range(n)]),
            "flag": np.arange(n_cells) % 2 == 0,
            "text": np.array(["b", "a"] * (n_cells // 2), dtype=object),
            "number": np.arange(n_cells) % 2,
        },
        obsm={"X_umap": np.random.default_rng(0).normal(size=(n_cells, 2))},
        uns=uns,
    )


def draw(adata, key="g"):
    return kept_colors(adata, key, obs_labels(adata, key, "color"))


@pytest.mark.filterwarnings("ignore:The set_bad")  # scanpy 1.11 under Matplotlib 3.11
@pytest.mark.parametrize(("key", "n"), [("g", 1), ("g", 10), ("g", 25), ("g", 110), ("flag", 2)])
def test_what_is_kept_is_what_scanpy_keeps(key, n):
    ours, scanpys = groups(n, 220), groups(n, 220)
    colors = draw(ours, key)
    sc.pl.embedding(scanpys, "umap", color=key, show=False)
    assert ours.uns == scanpys.uns
    assert type(ours.uns[f"{key}_colors"]) is list
    assert colors == dict(zip(colors, ours.uns[f"{key}_colors"], strict=True))
    before = list(ours.uns[f"{key}_colors"])
    sc.pl.embedding(ours, "umap", color=key, show=False)
    assert ours.uns[f"{key}_colors"] == before
    assert draw(ours, key) == colors


@pytest.mark.parametrize(
    "stored",
    [["red", "#0000ff", "C2"], np.array(["red", "gold2", "0.5", "k"]), [(1, 0, 0), (0, 1, 0), (0, 0, 1)]],
)
def test_colours_that_can_be_used_are_never_changed(stored):
    adata = groups()
    adata.uns["g_colors"] = stored
    draw(adata)
    assert adata.uns["g_colors"] is stored


@pytest.mark.parametrize(
    ("stored", "warns"), [(["red"], False), ([], False), (["red", "blue", "so-so"], True)]
)
def test_colours_that_cannot_be_used_are_replaced_as_scanpy_replaces_them(stored, warns, monkeypatch):
    said = []
    monkeypatch.setattr(sc.logging, "warning", said.append)
    adata = groups(g_colors=stored)
    draw(adata)
    assert adata.uns["g_colors"] == default_colors(3)
    assert len(said) == warns
    assert all("g_colors" in text for text in said)


@pytest.mark.parametrize("stored", [None, 3, np.array("red"), np.float64(1)])
def test_what_is_no_list_of_colours_is_replaced(stored):
    adata = groups(g_colors=stored)
    assert list(draw(adata).values()) == default_colors(3)
    assert adata.uns["g_colors"] == default_colors(3)


@pytest.mark.parametrize("key", ["text", "number"])
def test_text_and_numbers_are_left_as_they_are(key):
    adata = groups()
    assert list(draw(adata, key).values()) == default_colors(2)
    assert dict(adata.uns) == {}
    assert adata.obs[key].dtype == groups().obs[key].dtype


@pytest.mark.parametrize("stored", [None, ["red", "green"]])
def test_views_stay_views(stored):
    adata = groups()
    if stored is not None:
        adata.uns["g_colors"] = stored
    view = adata[:6]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        colors = draw(view)
    assert view.is_view
    assert list(colors.values()) == default_colors(3)
    assert dict(adata.uns) == ({} if stored is None else {"g_colors": stored})


def test_cells_on_disk_keep_colours_in_memory_and_the_file_as_it_was(tmp_path):
    groups().write_h5ad(tmp_path / "cells.h5ad")
    before = (tmp_path / "cells.h5ad").read_bytes()
    backed = read_h5ad(tmp_path / "cells.h5ad", backed="r")
    draw(backed)
    assert backed.uns["g_colors"] == default_colors(3)
    backed.file.close()
    assert (tmp_path / "cells.h5ad").read_bytes() == before


def test_kept_colours_survive_a_file(tmp_path):
    adata = groups()
    colors = draw(adata)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    again = read_h5ad(tmp_path / "cells.h5ad")
    stored = again.uns["g_colors"]
    assert draw(again) == colors
    assert again.uns["g_colors"] is stored


def test_a_mapping_that_refuses_is_left_as_it_is():
    class Frozen(dict):
        def __setitem__(self, key, value):
            raise TypeError("read only")

    adata = groups()
    adata._uns = Frozen()
    assert list(draw(adata).values()) == default_colors(3)
    assert adata.uns == {}
