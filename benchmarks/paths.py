"""Paths between groups of real cells, and genes held at zero: what they show, over seeds.

    python benchmarks/paths.py interferon [--seeds 0 1 2] [--csv table.csv] [--figure path.png]
    python benchmarks/paths.py closeness  [--seeds 0 1 2] [--csv table.csv]
    python benchmarks/paths.py knock_down [--seeds 0 1 2] [--csv table.csv]

`interferon`: CD14+ monocytes, control to stimulated (Kang et al. 2018): share of 19 steps on which each gene
rises, and where it switches. `closeness`: how far the places of a path from B to CD4 T cells are from the
nearest cell, beside how far cells are from each other. `knock_down`: markers of PBMC3k against genes of the
same level. All need LATENTCELL_DATA.
"""

import argparse
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scanpy as sc
from sklearn.neighbors import NearestNeighbors

import latentcell as lc

STEPS = 20
EPOCHS = 100
INTERFERON = (
    "ISG15 IFI6 IFIT1 IFIT2 IFIT3 ISG20 IFITM3 MX1 OAS1 OASL IFI44L LY6E RSAD2 CXCL10 IRF7 TNFSF10"
).split()
MARKERS = {
    "B cells": ["MS4A1", "CD79A", "CD79B"],
    "CD14+ Monocytes": ["S100A8", "S100A9", "LYZ"],
    "NK cells": ["GNLY", "NKG7", "GZMB"],
    "CD4 T cells": ["IL32", "CD3D", "LTB"],
}


def variable(adata: ad.AnnData, min_cells: int = 3) -> ad.AnnData:
    """2,000 variable genes of those in at least `min_cells` cells."""
    sc.pp.filter_genes(adata, min_cells=min_cells)
    sc.pp.highly_variable_genes(adata, n_top_genes=2000, flavor="seurat_v3")
    return adata[:, adata.var["highly_variable"]].copy()


def kang() -> ad.AnnData:
    adata = variable(sc.read_h5ad(Path(os.environ["LATENTCELL_DATA"]) / "kang_ifnb.h5ad"))
    adata.obs["state"] = (
        adata.obs["cell_type"].astype(str) + " " + adata.obs["condition"].astype(str)
    ).astype("category")
    return adata


def pbmc3k(min_cells: int = 3) -> ad.AnnData:
    folder = Path(os.environ["LATENTCELL_DATA"])
    known = sc.read_h5ad(folder / "pbmc3k_processed.h5ad")
    adata = sc.read_h5ad(folder / "pbmc3k_raw.h5ad")
    adata.var_names_make_unique()
    adata = adata[known.obs_names].copy()
    adata.obs["state"] = known.obs["louvain"].astype(str).astype("category")
    return variable(adata, min_cells)


def trained(model_class: type, adata: ad.AnnData, seed: int):
    model_class.setup_anndata(adata)
    model = model_class(adata, n_latent=10, gene_likelihood="nb", seed=seed)
    model.train(EPOCHS, accelerator="cpu", enable_progress_bar=False)
    adata.obsm["X_own"] = model.get_latent_representation()
    return model


def interferon(args: argparse.Namespace) -> Iterator[dict]:
    """Share of steps on which interferon genes rise."""
    adata = kang()
    genes = [gene for gene in INTERFERON if gene in adata.var_names]
    for seed in args.seeds:
        model = trained(lc.model.VAE, adata, seed)
        for along in ("line", "graph"):
            path = lc.tl.interpolate(
                adata,
                model,
                "CD14 Mono ctrl",
                "CD14 Mono stim",
                STEPS,
                groupby="state",
                along=along,
                use_rep="X_own",
            )
            table = lc.tl.rank_switches(path)
            log = np.log1p(1e4 * path.X / path.obs["library_size"].to_numpy()[:, None])
            rises = pd.Series((np.diff(log, axis=0) > 0).mean(axis=0), index=path.var_names)
            on_way = (
                adata[path.uns["latentcell"]["route"]].obs["state"].value_counts()
                if along == "graph"
                else None
            )
            print(
                seed,
                along,
                len(table),
                "genes switch",
                "" if on_way is None else on_way[on_way > 0].to_dict(),
            )
            for gene in genes:
                yield {
                    "seed": seed,
                    "along": along,
                    "gene": gene,
                    "rises": rises[gene],
                    "monotony": path.var["monotony"][gene],
                    "change": path.var["change"][gene],
                    "observed_change": path.var["observed_change"][gene],
                    "switch": path.var["switch"][gene],
                }
            if args.figure and seed == args.seeds[0] and along == "graph":
                draw(path, adata, genes[:8], Path(args.figure))


def draw(path: ad.AnnData, adata: ad.AnnData, genes: list[str], out: Path) -> None:
    sc.pp.neighbors(adata, use_rep="X_own")
    sc.tl.umap(adata)
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
    lc.pl.path(path, genes, ax=axes[0])
    lc.pl.path(path, kind="heatmap", n_genes=40, ax=axes[1])
    lc.pl.path(path, kind="cells", adata=adata, basis="X_umap", color="condition", ax=axes[2])
    figure.savefig(out, dpi=110)


def closeness(args: argparse.Namespace) -> Iterator[dict]:
    """Distance of places to the nearest cell, beside that between cells."""
    for name, adata, ends in (
        ("kang", kang(), ("B ctrl", "CD4 Naive T ctrl")),
        ("pbmc3k", pbmc3k(), ("B cells", "CD4 T cells")),
    ):
        for seed in args.seeds:
            for model_class in (lc.model.VAE, lc.model.DCA):
                model = trained(model_class, adata, seed)
                own = NearestNeighbors(n_neighbors=1).fit(adata.obsm["X_own"]).kneighbors()[0][:, 0]
                for along in ("line", "graph"):
                    path = lc.tl.interpolate(
                        adata, model, *ends, STEPS, groupby="state", along=along, use_rep="X_own"
                    )
                    far, usual = path.obs["distance"], path.uns["latentcell"]["cell_distance"]
                    yield {
                        "data": name,
                        "model": model_class.__name__,
                        "seed": seed,
                        "along": along,
                        "furthest": far.max() / usual,
                        "beyond": (far > usual).mean(),
                        "mean": far.mean() / usual,
                        "cells": np.median(own) / usual,
                        "rank": (own < far.max()).mean(),
                        "route": len(path.uns["latentcell"].get("route", [])),
                    }


def knock_down(args: argparse.Namespace) -> Iterator[dict]:
    """Markers of the cells' own group, beside genes of the same level."""
    adata = pbmc3k(min_cells=10)
    named = {group: [gene for gene in genes if gene in adata.var_names] for group, genes in MARKERS.items()}
    adata.obs["own"] = adata.obs["state"].where(adata.obs["state"].isin(named))
    for seed in args.seeds:
        model = trained(lc.model.VAE, adata, seed)
        genes = [gene for some in named.values() for gene in some]
        sets = {gene: [gene] for gene in genes} | {f"{group}: all": some for group, some in named.items()}
        table = lc.tl.knock_down(adata, model, sets, groupby="own", max_cells=150)
        for group, some in named.items():
            own = table[(table["group"] == group) & table["gene"].isin([*some, f"{group}: all"])]
            yield from (own.drop(columns=["group"]).assign(seed=seed, group=group)).to_dict("records")


TASKS = {"interferon": interferon, "closeness": closeness, "knock_down": knock_down}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--csv")
    parser.add_argument("--figure")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    table = pd.DataFrame(TASKS[args.task](args))
    if args.csv:
        table.to_csv(args.csv, index=False)
    keys = [key for key in ("data", "model", "along", "group", "gene") if key in table]
    numbers = table.select_dtypes("number").columns.drop("seed")
    print(table.to_string())
    print(table.groupby(keys, sort=False)[list(numbers)].agg(["mean", "min", "max"]).round(3).to_string())


if __name__ == "__main__":
    main()
