"""Draw the picture of the README: what is learnt from 2,638 blood cells, and what is drawn anew.

python docs/figures/readme.py [FILE]      # docs/_static/readme.png unless told otherwise; 2 minutes on a core

The cells are PBMC3k (``lc.datasets.pbmc3k``: downloaded once by scanpy, or read from the folder that
``LATENTCELL_DATA`` names). Models have their defaults and seed 0.
"""

import sys
from pathlib import Path

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import scanpy as sc
from matplotlib.lines import Line2D

import latentcell as lc

COLORS = dict(
    zip(
        ["CD4 T cells", "CD8 T cells", "NK cells", "B cells", "CD14+ Monocytes", "FCGR3A+ Monocytes"]
        + ["Dendritic cells", "Megakaryocytes"],
        ["#4477AA", "#66CCEE", "#228833", "#CCBB44", "#EE6677", "#AA3377", "#EE8866", "#555555"],
        strict=True,
    )
)
SHORT = {
    "CD14+ Monocytes": "CD14+ mono.",
    "FCGR3A+ Monocytes": "FCGR3A+ mono.",
    "Dendritic cells": "Dendritic",
}
MARKERS = ["IL7R", "CD8A", "GNLY", "MS4A1", "LYZ", "FCGR3A", "FCER1A", "PPBP"]


def map_of(ax, adata, rows, title):
    xy = adata.obsm["X_umap"]
    ax.scatter(*xy.T, s=1.5, color="0.9", linewidths=0, rasterized=True)
    colors = adata.obs["cell_type"].astype(str).map(COLORS).to_numpy()
    ax.scatter(*xy[rows].T, s=5, color=colors[rows], linewidths=0, rasterized=True)
    ax.set_title(title, loc="left", fontsize=10)
    ax.set(xticks=[], yticks=[], xlabel="UMAP 1", ylabel="UMAP 2")


def means_of(adata, genes):
    logged = adata[:, genes].to_df()
    return logged.groupby(adata.obs["cell_type"].astype(str).to_numpy()).mean().loc[list(COLORS)].T


def dimensions(ax, adata):
    """Mean code of each type in the dimension that tells the type best, with the genes of the dimension."""
    scores = lc.metrics.dimension_scores(adata.obsm["X_vsc"], adata.obs["cell_type"])
    dims = scores.loc[list(COLORS), "average_precision_dim"].drop_duplicates().astype(int)
    code = adata.obsm["vsc_hard"][:, dims]
    types = adata.obs["cell_type"].astype(str).to_numpy()
    table = np.array([[code[types == name, k].mean() for k in range(len(dims))] for name in COLORS])
    image = ax.imshow(table / table.max(axis=0), cmap="Purples", aspect="auto", vmin=0, vmax=1)
    genes = {
        d: sc.get.rank_genes_groups_df(adata, f"dim_{d}", key="rank_latent_genes")["names"][:4] for d in dims
    }
    labels = ["\n".join([f"$\\bf{{dim\\ {d}}}$", *genes[d]]) for d in dims]
    ax.set_xticks(range(len(dims)), labels, fontsize=7.4, style="italic")
    ax.set_yticks(range(len(COLORS)), [SHORT.get(name, name) for name in COLORS], fontsize=8.5)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    zeros = (adata.obsm["vsc_hard"] == 0).mean()
    ax.set_title(f"What its dimensions mean: {zeros:.0%} of the code is exactly 0", loc="left", fontsize=10)
    return image


def main(path: Path) -> None:
    adata = lc.datasets.pbmc3k()
    lc.pp.seurat(adata)
    adata = adata[adata.obs["cell_type"].notna()].copy()
    vsc = lc.tl.vsc(adata, progress=False)
    lc.tl.rank_latent_genes(adata, vsc)
    sc.pp.neighbors(adata, use_rep="X_vsc", random_state=0)
    sc.tl.umap(adata, random_state=0)

    counts = adata[:, adata.var["highly_variable"] | adata.var_names.isin(MARKERS)].copy()
    counts.X = counts.layers["counts"].copy()
    cvae = lc.tl.cvae(counts, "cell_type", mask_var=None, progress=False)
    new = cvae.generate(labels=counts.obs["cell_type"].tolist(), seed=0)
    both = ad.concat({"real": counts, "generated": new}, label="kind", index_unique="-")
    sc.pp.normalize_total(both, target_sum=1e4)
    sc.pp.log1p(both)
    sc.pp.pca(both, n_comps=30, random_state=0)
    sc.pp.neighbors(both, random_state=0)
    sc.tl.umap(both, random_state=0)
    real = (both.obs["kind"] == "real").to_numpy()

    plt.rcParams.update({"font.size": 9, "axes.linewidth": 0.6})
    figure = plt.figure(figsize=(11, 7.6), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.12, 1])
    left, right = top.subplots(1, 2, width_ratios=[1, 1.85])
    map_of(left, adata, slice(None), f"The latent space of {adata.n_obs:,} blood cells")
    image = dimensions(right, adata)
    bar = figure.colorbar(image, ax=right, shrink=0.6, pad=0.02, ticks=[0, 1])
    bar.set_label("mean code (1: the highest type)", fontsize=8)
    bar.outline.set_visible(False)

    axes = bottom.subplots(1, 4, width_ratios=[1, 1, 0.85, 0.85])
    map_of(axes[0], both, real, "Real cells")
    map_of(axes[1], both, ~real, "Generated cells, on the same map")
    for ax, cells, kind in ((axes[2], both[real], "real"), (axes[3], both[~real], "generated")):
        table = means_of(cells, MARKERS)
        ax.imshow(table.div(means_of(both[real], MARKERS).max(axis=1), axis=0), cmap="Reds", vmin=0, vmax=1)
        ax.set_title(f"Marker genes, {kind}", loc="left", fontsize=10)
        ax.set_yticks(range(len(MARKERS)), MARKERS, fontsize=8, style="italic")
        ax.set_xticks([])
        for column, name in enumerate(COLORS):
            ax.plot(column, len(MARKERS) - 0.1, "o", color=COLORS[name], markersize=6, clip_on=False)
        ax.set_ylim(len(MARKERS) - 0.5, -0.5)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    axes[3].set_yticks([])
    handles = [Line2D([], [], marker="o", ls="", color=c, label=n, ms=6) for n, c in COLORS.items()]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=8,
        frameon=False,
        fontsize=8.5,
        columnspacing=1.0,
        handletextpad=0.1,
    )
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    static = Path(__file__).parents[1] / "_static"
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else static / "readme.png")
