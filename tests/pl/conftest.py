import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData


@pytest.fixture(autouse=True)
def no_stray_state(monkeypatch):
    """Every test also checks that drawing shows nothing, changes no setting and adds at most one figure."""

    def show(*args, **kwargs):
        raise AssertionError("a plotting function called plt.show")

    monkeypatch.setattr(plt, "show", show)
    plt.close("all")
    settings = dict(mpl.rcParams)
    scanpy_settings = dict(vars(sc.settings))
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    yield
    plt.close("all")
    assert dict(mpl.rcParams) == settings
    assert dict(vars(sc.settings)) == scanpy_settings
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


@pytest.fixture
def cells() -> AnnData:
    """60 cells in three well separated groups of 30, 20, 10, with 2-D, 3-D and 6-D coordinates; 8 genes."""
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1, 2], [30, 20, 10])
    rng.shuffle(group)
    centers = np.array([[0, 0, 0], [10, 0, 5], [0, 10, -5]])
    xyz = centers[group] + rng.normal(size=(60, 3))
    adata = AnnData(
        rng.poisson(1.0 + 4 * (np.arange(8) % 3 == group[:, None])).astype(np.float32),
        obs=pd.DataFrame(
            {
                "cell_type": pd.Categorical(
                    np.array(["T cell", "B cell", "NK"])[group], ["T cell", "B cell", "NK"]
                ),
                "depth": np.arange(60.0),
            },
            index=[f"cell{i}" for i in range(60)],
        ),
        var=pd.DataFrame(index=[f"gene{i}" for i in range(8)]),
        obsm={"X_umap": xyz[:, :2], "vsc_tsne": xyz, "X_vsc": rng.normal(size=(60, 6))},
    )
    return adata


@pytest.fixture
def many_groups():
    """Makes four cells of each of so many groups, half of them called generated, some without a group."""

    def make(n: int) -> AnnData:
        names = [f"cell type {i}" for i in range(n)]
        kind = np.append(np.tile(np.arange(n), 4), [-1, -1])
        return AnnData(
            np.zeros((len(kind), 1), dtype=np.float32),
            obs=pd.DataFrame(
                {
                    "kind": pd.Categorical.from_codes(kind, names),
                    "is_generated": np.arange(len(kind)) % 2 == 0,
                },
                index=[f"cell{i}" for i in range(len(kind))],
            ),
            obsm={name: np.random.default_rng(0).normal(size=(len(kind), 2)) for name in ("X_umap", "X_pca")},
        )

    return make


@pytest.fixture(scope="session")
def pbmc_source() -> AnnData:
    return sc.datasets.pbmc68k_reduced()


@pytest.fixture
def pbmc(pbmc_source) -> AnnData:
    return pbmc_source.copy()


@pytest.fixture
def overlaps():
    """Pairs of texts that cover each other in the drawn figure, and texts that leave the figure."""

    def find(figure, texts):
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in texts]
        pairs = [
            (texts[i].get_text(), texts[j].get_text())
            for i in range(len(boxes))
            for j in range(i)
            if boxes[i].overlaps(boxes[j]) and texts[i].get_text() and texts[j].get_text()
        ]
        frame = figure.bbox
        outside = [
            text.get_text()
            for text, box in zip(texts, boxes, strict=True)
            if box.x0 < frame.x0 - 1
            or box.y0 < frame.y0 - 1
            or box.x1 > frame.x1 + 1
            or box.y1 > frame.y1 + 1
        ]
        return pairs, outside

    return find
