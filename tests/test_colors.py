import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from cycler import cycler
from matplotlib.colors import to_hex, to_rgb

from latentcell._colors import default_colors, label_colors, obs_labels, other_colors


@pytest.mark.filterwarnings("ignore:The set_bad")  # scanpy 1.11 under Matplotlib 3.11
@pytest.mark.parametrize("n", [1, 10, 11, 20, 21, 28, 29, 102])
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
    ],
)
def test_stored_colours_are_used_if_they_are_colours_and_enough(stored, expected):
    adata = AnnData(np.zeros((2, 1)), obs={"g": ["a", "b"]}, uns={"g_colors": stored})
    colors = label_colors(adata, "g", obs_labels(adata, "g", "groupby"))
    assert list(colors) == ["a", "b"]
    assert list(colors.values()) == (expected or default_colors(2))
