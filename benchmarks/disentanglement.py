"""Readable dimensions: who finds known factors, the price, and which genes and cells a dimension is about.

    python benchmarks/disentanglement.py factors [--seeds 0 1 2 3 4] [--methods VSC ...] [--csv table.csv]
    python benchmarks/disentanglement.py sweep factors|kang [--seeds ...] [--csv t.csv] [--figure t.png]
    python benchmarks/disentanglement.py pbmc3k [--seeds ...]       a dimension per cell type, and its genes

`factors`: simulated counts with known programmes (lc.datasets.simulate_factors, its defaults); nothing but
the counts is shown to a method. `sweep`: the two studies of Kimmel 2020, doi:10.1101/2020.03.04.972166.
`kang` and `pbmc3k` need LATENTCELL_DATA.
"""

import argparse
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scanpy as sc
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import NMF, PCA, FastICA
from sklearn.metrics import roc_auc_score

import latentcell as lc

SHOWN = [
    "best_correlation",
    "matched_correlation",
    "mig",
    "sap",
    "modularity",
    "dci_disentanglement",
    "dci_completeness",
    "dci_informativeness",
    "total_correlation",
]
MARKERS = {
    "B": ("MS4A1", "CD79A"),
    "NK": ("NKG7", "GNLY"),
    "CD14+ Mono": ("LYZ", "S100A8"),
    "Megakaryocytes": ("PPBP", "PF4"),
    "Dendritic": ("FCER1A",),
}


def log_normalized(adata: ad.AnnData) -> np.ndarray:
    counts = adata.X.toarray()
    return np.log1p(counts / np.maximum(counts.sum(1, keepdims=True), 1) * 1e4)


def classic(make: Callable) -> Callable:
    """Codes, and genes x dimensions, of a scikit-learn decomposition of log-normalised values."""

    def embed(adata: ad.AnnData, seed: int) -> tuple[np.ndarray, np.ndarray]:
        model = make(seed)
        codes = model.fit_transform(log_normalized(adata))
        return codes, (model.mixing_ if hasattr(model, "mixing_") else model.components_.T)

    return embed


def ranking(adata: ad.AnnData, model) -> np.ndarray:
    """Scores of lc.tl.rank_latent_genes, genes x dimensions, high where a gene rises with the dimension."""
    lc.tl.rank_latent_genes(adata, model, direction="up", use_rep="X_codes")
    columns = []
    for dim in range(model.params["n_latent"]):
        table = sc.get.rank_genes_groups_df(adata, f"dim_{dim}", key="rank_latent_genes")
        columns.append(table.set_index("names")["scores"].loc[adata.var_names])
    return np.column_stack(columns)


def ours(name: str, **arguments) -> Callable:
    def embed(adata: ad.AnnData, seed: int) -> tuple[np.ndarray, np.ndarray]:
        Model = getattr(lc.model, name)
        Model.setup_anndata(adata)
        model = Model(adata, seed=seed, **arguments)
        model.train(seed=seed, enable_progress_bar=False, accelerator="cpu")
        return model.get_latent_representation(), ranking(adata, model)

    return embed


def scvi(beta: float = 1.0) -> Callable:
    """SCVI of scvi-tools: its own defaults, and the final weight of its KL."""

    def embed(adata: ad.AnnData, seed: int) -> tuple[np.ndarray, None]:
        import scvi as scvi_tools

        scvi_tools.settings.seed, scvi_tools.settings.verbosity = seed, 40
        scvi_tools.model.SCVI.setup_anndata(adata)
        model = scvi_tools.model.SCVI(adata, gene_likelihood="nb")
        model.train(
            plan_kwargs={"max_kl_weight": beta}, enable_progress_bar=False, accelerator="cpu", logger=False
        )
        return model.get_latent_representation(), None

    return embed


def drvi(adata: ad.AnnData, seed: int) -> tuple[np.ndarray, None]:
    """DRVI, its own defaults (Moinfar and Theis 2024, doi:10.1101/2024.11.06.622266); needs drvi-py."""
    import scvi as scvi_tools
    from drvi.model import DRVI

    scvi_tools.settings.seed, scvi_tools.settings.verbosity = seed, 40
    DRVI.setup_anndata(adata, is_count_data=True)
    model = DRVI(adata, n_latent=16)
    model.train(enable_progress_bar=False, accelerator="cpu", logger=False)
    return model.get_latent_representation(), None


METHODS: dict[str, Callable] = {
    "PCA 10": classic(lambda seed: PCA(10, random_state=seed)),
    "ICA 10": classic(lambda seed: FastICA(10, random_state=seed, max_iter=1000)),
    "NMF 10": classic(lambda seed: NMF(10, init="nndsvda", max_iter=1000, random_state=seed)),
    "SCVI 10": scvi(),
    "SCVI 10, beta 10": scvi(10.0),
    "VAE 10": ours("VAE"),
    "DisentangledVAE 10, beta 4": ours("DisentangledVAE", beta=4.0),
    "DisentangledVAE 10, beta 10": ours("DisentangledVAE", beta=10.0),
    "DisentangledVAE 10, capacity 10": ours("DisentangledVAE", beta=30.0, capacity=10.0),
    "DisentangledVAE 10, TC 5": ours("DisentangledVAE", beta=1.0, total_correlation=5.0),
    "VSC 10": ours("VSC", n_latent=10),
    "VSC 20": ours("VSC"),
}
OTHERS = {"DRVI 16": drvi}  # need what the extras do not install


def gene_auroc(codes: np.ndarray, effects: np.ndarray | None, adata: ad.AnnData) -> float:
    """Mean AUROC with which the effects of each factor's matched dimension find the genes it acts on."""
    if effects is None:
        return np.nan
    usage, truth = adata.obsm["factors"].to_numpy(), adata.varm["factor_genes"].to_numpy()
    n = codes.shape[1]
    r = np.nan_to_num(np.corrcoef(codes.T, usage.T)[:n, n:])
    dims, factors = linear_sum_assignment(-np.abs(r))
    found = []
    for dim, factor in zip(dims, factors, strict=True):
        signed = effects[:, dim] * np.sign(r[dim, factor])
        raised = truth[:, factor] > 0
        unaffected = truth[:, factor] == 0
        keep = raised | unaffected
        found.append(roc_auc_score(raised[keep], signed[keep]))
    return float(np.mean(found))


def factors(args: argparse.Namespace) -> None:
    rows = []
    for seed in args.seeds:
        adata = lc.datasets.simulate_factors(seed=seed)
        for name in args.methods or METHODS:
            start = time.time()
            codes, effects = (METHODS | OTHERS)[name](adata.copy(), seed)
            seconds = time.time() - start
            scores = lc.metrics.disentanglement(codes, adata.obsm["factors"], seed=0)
            every = scores[scores["factor"] == "all"].set_index("metric")["value"]
            one = scores[(scores["metric"] == "best_correlation") & (scores["factor"] == "activity")]
            row = {"method": name, "seed": seed, "activity": one["value"].item(), **every[SHOWN]}
            row |= {"gene AUROC": gene_auroc(codes, effects, adata), "seconds": seconds}
            rows.append(row)
            print(seed, name, {k: round(v, 3) for k, v in row.items() if isinstance(v, float)}, flush=True)
            if args.csv:
                pd.DataFrame(rows).to_csv(args.csv, index=False)
    groups = pd.DataFrame(rows).drop(columns="seed").groupby("method", sort=False)
    print(groups.mean().round(3).to_string())
    print("standard deviation over seeds")
    print(groups.std().round(3).to_string())


def kang() -> ad.AnnData:
    """2,000 variable genes; condition and type as factors, types with at least 20 cells."""
    adata = sc.read_h5ad(Path(os.environ["LATENTCELL_DATA"]) / "kang_ifnb.h5ad")
    sc.pp.filter_genes(adata, min_cells=3)
    numbers = adata.obs["cell_type"].value_counts()
    adata = adata[adata.obs["cell_type"].isin(numbers.index[numbers >= 20])].copy()
    sc.pp.highly_variable_genes(adata, n_top_genes=2000, flavor="seurat_v3")
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(str).astype("category")
    adata.obs["condition"] = adata.obs["condition"].astype(str).astype("category")
    return adata


def sweep(args: argparse.Namespace) -> None:
    if args.data == "factors":
        grid = {"beta": [1.0, 2.0, 4.0, 10.0], "capacity": [0.0, 10.0]}
        tables = []
        for seed in args.seeds:  # new cells with every seed, as in the study
            adata = lc.datasets.simulate_factors(seed=seed)
            path = None if args.csv is None else Path(args.csv).with_suffix(f".{seed}.csv")
            tables.append(
                lc.tl.sweep(
                    adata,
                    lc.model.DisentangledVAE,
                    grid,
                    [seed],
                    factors="factors",
                    groupby="identity",
                    path=path,
                )
            )
        table = pd.concat(tables)
    else:
        grid = {"beta": [1.0, 2.0, 3.0, 5.0, 10.0]}
        table = lc.tl.sweep(
            kang(),
            lc.model.DisentangledVAE,
            grid,
            args.seeds,
            factors=["condition", "cell_type"],
            groupby="cell_type",
            path=args.csv,
        )
    shown = table[table["factor"] == "all"]
    index = [name for name in ("beta", "capacity") if name in shown]
    print(shown.pivot_table(index=index, columns="metric", values="value").round(3).to_string())
    for metric in ("best_correlation", "single_latent_accuracy"):
        part = table[(table["metric"] == metric) & (table["factor"] != "all")]
        if len(part):
            print(metric)
            print(part.pivot_table(index=index, columns="factor", values="value").round(3).to_string())
    if args.figure:
        hue = "capacity" if "capacity" in index else None
        lc.pl.disentanglement(table, hue=hue)
        plt.savefig(args.figure, dpi=110)
        lc.pl.rate_distortion(table, hue=hue)
        plt.savefig(Path(args.figure).with_suffix(".rate.png"), dpi=110)


def pbmc3k(args: argparse.Namespace) -> None:
    adata = lc.datasets.pbmc3k()
    lc.pp.seurat(adata)
    adata = adata[adata.obs["cell_type"].notna(), adata.var["highly_variable"]].copy()
    x = np.asarray(adata.X.todense()) if not isinstance(adata.X, np.ndarray) else adata.X
    n, found = 20, []
    for seed in args.seeds:
        for name in ("PCA", "NMF", "VAE", "VSC"):
            if name == "PCA":
                codes = PCA(n, random_state=seed).fit_transform(x)
            elif name == "NMF":
                codes = NMF(n, init="nndsvda", max_iter=1000, random_state=seed).fit_transform(x)
            else:
                verb = getattr(lc.tl, name.lower())
                model = verb(adata, n_latent=n, seed=seed, progress=False)
                codes = adata.obsm[f"X_{name.lower()}"]
            scores = lc.metrics.dimension_scores(codes, adata.obs["cell_type"])
            found.append(scores.assign(method=name, seed=seed))
            print(seed, name, scores["auroc"].round(3).to_dict(), flush=True)
            if name == "VSC":
                scored = ranking(adata, model)
                # by average precision: the AUROC of 37 cells hardly says how many others come with them
                for cell_type, genes in MARKERS.items():
                    label = next(label for label in scores.index if str(label).startswith(cell_type))
                    dim = int(scores.loc[label, "average_precision_dim"])
                    effects = scored[:, dim] * scores.loc[label, "average_precision_sign"]
                    top = list(adata.var_names[np.argsort(-effects)[:10]])
                    print("  ", cell_type, "dim", dim, top, [gene in top for gene in genes], flush=True)
    table = pd.concat(found).reset_index()
    wide = table.pivot_table(index="group", columns="method", values="auroc", sort=False)
    print(wide.round(3).to_string())
    print("mean", wide.mean().round(3).to_dict())
    lowest = table.groupby(["method", "seed"])["auroc"].min().unstack()
    print("lowest type by seed\n", lowest.round(3).to_string())
    precision = table.pivot_table(index="group", columns="method", values="average_precision", sort=False)
    print("average precision\n", precision.round(3).to_string())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("factors")
    one.add_argument("--methods", nargs="+", choices=METHODS | OTHERS)
    one.add_argument("--csv")
    one.set_defaults(run=factors)
    two = commands.add_parser("sweep")
    two.add_argument("data", choices=("factors", "kang"))
    two.add_argument("--csv")
    two.add_argument("--figure")
    two.set_defaults(run=sweep)
    three = commands.add_parser("pbmc3k")
    three.set_defaults(run=pbmc3k)
    for command in (one, two, three):
        command.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    args = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        args.run(args)


if __name__ == "__main__":
    main()
