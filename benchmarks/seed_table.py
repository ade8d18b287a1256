"""Clusters against labels, model by model, mean and spread over seeds.

    python benchmarks/seed_table.py [--data pbmc3k cellmix splatter] [--seeds 3] [--methods ...] [--out DIR]

On PBMC3k by the protocol of okunator's 2020 study (k-means with 9 clusters on a 2-D t-SNE, perplexity 40, of
the code; NMI with geometric mean), beside the study's own figures, and by Leiden (best of a grid of
resolutions by NMI). PBMC3k's reference labels were themselves made by PCA and graph clustering, so they
favour PCA; therefore the same table on labels that no clustering made: the genotype of the cells in a mixture
of cell lines, and the groups of a Splatter simulation.

Reads the data sets from the folder that LATENTCELL_DATA names.
"""

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from sklearn.decomposition import NMF, PCA

import latentcell as lc

DOCUMENT = {  # NMI, ARI, homogeneity, completeness
    "the study: AE": (0.721, 0.580, 0.770, 0.675),
    "the study: beta-VAE": (0.609, 0.440, 0.654, 0.567),
    "the study: beta-VSC": (0.646, 0.465, 0.692, 0.602),
}


def data_folder() -> Path:
    """Folder of the data sets."""
    if "LATENTCELL_DATA" not in os.environ:
        sys.exit("seed_table.py: set LATENTCELL_DATA to the folder with the data sets (see docs/metrics)")
    return Path(os.environ["LATENTCELL_DATA"])


def prepare(name: str) -> tuple[ad.AnnData, str]:
    """Cells with layers["counts"], log-normalised X and marked highly variable genes; and the label key."""
    if name == "pbmc3k":
        adata = lc.datasets.pbmc3k()
        lc.pp.seurat(adata)
        return adata, "seurat_cluster"
    files = {"cellmix": "cellmix_batches", "splatter": "splatter_6group", "kang": "kang_ifnb"}
    adata = sc.read_h5ad(data_folder() / f"{files[name]}.h5ad")
    sc.pp.filter_genes(adata, min_cells=3)
    adata.layers["counts"] = adata.X.copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    if adata.n_vars > 2000:
        sc.pp.highly_variable_genes(adata, n_top_genes=2000, flavor="seurat_v3", layer="counts")
    else:
        adata.var["highly_variable"] = True
    return adata, "cell_type"


def variable(adata: ad.AnnData) -> ad.AnnData:
    """The variable genes alone."""
    return adata[:, adata.var["highly_variable"].to_numpy()].copy()


def scaled(adata: ad.AnnData) -> np.ndarray:
    """Standardised expression (cells x genes), clipped at 10."""
    x = adata.X.toarray()
    spread = x.std(axis=0)
    spread[spread == 0] = 1.0
    return np.clip((x - x.mean(axis=0)) / spread, -10, 10).astype(np.float32)


def pca(n: int) -> Callable[[ad.AnnData, int], np.ndarray]:
    """PCA of scaled variable genes."""
    return lambda adata, seed: PCA(n, random_state=seed).fit_transform(scaled(variable(adata)))


def nmf(n: int) -> Callable[[ad.AnnData, int], np.ndarray]:
    """NMF of log-normalised variable genes."""
    return lambda adata, seed: NMF(n, init="nndsvda", random_state=seed, max_iter=300).fit_transform(
        variable(adata).X.astype(np.float64)
    )


def embed(verb: str, **options) -> Callable[[ad.AnnData, int], np.ndarray]:
    """One of the one-line calls, on a copy of the cells."""

    def run(adata: ad.AnnData, seed: int) -> np.ndarray:
        cells = adata.copy()
        getattr(lc.tl, verb)(cells, key_added="X_code", seed=seed, progress=False, **options)
        adata.uns["hard"] = cells.obsm.get("code_hard")
        return cells.obsm["X_code"]

    return run


def document(model: str) -> Callable[[ad.AnnData, int], np.ndarray]:
    """The study's exact setting: all genes, scaled; its architecture, loss, beta and optimiser."""

    def run(adata: ad.AnnData, seed: int) -> np.ndarray:
        everything = ad.AnnData(scaled(adata), var=adata.var[[]].copy())
        model_class = getattr(lc.model, model)
        model_class.setup_anndata(everything)
        trained = model_class.from_preset("pbmc3k-2020", everything, seed=seed)
        trained.train(enable_progress_bar=False)
        return trained.get_latent_representation()

    return run


def scvi_defaults(adata: ad.AnnData, seed: int) -> np.ndarray:
    """scvi-tools' SCVI as its defaults stand, on counts of the variable genes."""
    import scvi
    import torch

    cells = variable(adata)
    random_state = torch.get_rng_state()
    scvi.settings.seed = seed
    scvi.model.SCVI.setup_anndata(cells, layer="counts")
    model = scvi.model.SCVI(cells)
    model.train(enable_progress_bar=False, logger=False)
    torch.set_rng_state(random_state)
    return model.get_latent_representation()


METHODS: dict[str, Callable[[ad.AnnData, int], np.ndarray]] = {
    "PCA-6": pca(6),
    "PCA-10": pca(10),
    "NMF-10": nmf(10),
    "AE, 6 dims": embed("ae", n_latent=6),
    "beta-VAE, 6 dims": embed("vae", n_latent=6),
    "beta-VAE, 6 dims, beta 2": embed("vae", n_latent=6, beta=2.0),
    "beta-VSC, 6 dims": embed("vsc", n_latent=6),
    "beta-VSC, 20 dims": embed("vsc", n_latent=20),
    "beta-VSC, 20 dims, counts": embed("vsc", layer="counts", n_latent=20),
    "beta-VAE, 10 dims, counts": embed("vae", layer="counts", n_latent=10),
    "SCVI": scvi_defaults,
    "exact setting: AE": document("AE"),
    "exact setting: beta-VAE": document("VAE"),
    "exact setting: beta-VSC": document("VSC"),
}
DETERMINISTIC = ("PCA", "NMF")


def main() -> None:
    """Print and write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=["pbmc3k", "cellmix", "splatter"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--clusters", type=int, help="of k-means; default: as many as there are labels")
    parser.add_argument(
        "--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="METHOD"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.data:
        adata, groupby = prepare(name)
        adata = adata[~adata.obs[groupby].isna()].copy()
        rows = []
        for method in args.methods:
            if name != "pbmc3k" and method.startswith("exact"):
                continue
            seeds = [0] if method.startswith(DETERMINISTIC) else range(args.seeds)
            start = time.perf_counter()
            for seed in seeds:
                adata.uns["hard"] = None
                codes = {method: METHODS[method](adata, seed), f"{method}, hard": adata.uns["hard"]}
                for label, code in codes.items():
                    if code is not None:
                        own = range(args.seeds) if method.startswith(DETERMINISTIC) else [seed]
                        table = lc.tl.compare(
                            adata, {label: code}, groupby, seeds=own, n_clusters=args.clusters
                        )
                        rows += [table, readability(label, code, adata.obs[groupby], seed)]
            seconds = (time.perf_counter() - start) / len(seeds)
            print(f"{name}: {method}: {seconds:.0f} s a run and its scores", file=sys.stderr, flush=True)
            pd.concat(rows).to_csv(args.out / f"{name}.csv", index=False)
        report(name, pd.concat(rows))


def readability(method: str, code: np.ndarray, labels: pd.Series, seed: int) -> pd.DataFrame:
    """What the best single dimension finds, mean over groups; and how sparse the code is."""
    found = lc.metrics.dimension_scores(code, labels)
    on = (code != 0).mean(axis=0)
    values = {
        "auroc": found["auroc"].mean(),
        "average_precision": found["average_precision"].mean(),
        "zeros": (code == 0).mean(),
        "dead": (on < 0.01).sum(),
        "always_on": (on > 0.99).sum(),
    }
    shared = {"embedding": method, "run": 0, "n_dims": code.shape[1], "protocol": "dimensions", "seed": seed}
    return pd.DataFrame([{**shared, "metric": metric, "value": float(v)} for metric, v in values.items()])


def report(name: str, table: pd.DataFrame) -> None:
    """Print mean +- sd over seeds, and the study's own figures."""
    scores = table[~table["metric"].isin(["n_clusters", "resolution"])]
    wide = scores.pivot_table(
        index="embedding", columns=["protocol", "metric"], values="value", aggfunc=["mean", "std"], sort=False
    )
    text = wide["mean"].round(3).astype(str) + " ± " + wide["std"].round(3).astype(str)
    print(f"\n{name}")
    print(text.to_string())
    if name == "pbmc3k":
        print("\nthe study's own figures (k-means on t-SNE): NMI, ARI, homogeneity, completeness")
        for row, values in DOCUMENT.items():
            print(f"{row:24s}", *values)
        print("Reference labels: Seurat's 9 clusters, made by PCA and graph clustering; they favour PCA.")


if __name__ == "__main__":
    main()
