"""Every model on every data set: clusters against labels, batches mixed, time and memory, over seeds.

    python benchmarks/zoo.py [--models AE VAE ...] [--data pbmc3k ...] [--seeds 0 1 2] [--results FOLDER]
    python benchmarks/zoo.py --table [--results FOLDER]

One file per run is written to the folder, and a run whose file is there is not done again: the command can be
stopped and started at will, and models that are added later join the others. `--table` prints what is there.

Models are named by class of ``lc.model`` and trained at their defaults (but for what zoo_rows.py sets) on
counts of at most 2,000 variable genes (on log2 values of Yan, which are no counts), told the batch where
there is one. Codes are judged by ``lc.tl.compare``: k-means with the true number of clusters on t-SNE, and
Leiden at the resolution with the best NMI; clusters that a model finds by itself (SAUCIE, DESC) as they
are; and k-means with the true number of clusters on the codes themselves. Purity is the share of a cell's
30 nearest neighbours that are of its own batch; its chance value is the share of the batch in its label, so
that lower, down to chance, is better mixed. Each run is a process of its own, whose peak of memory and
seconds of processor time for training and embedding (without loading libraries and data) are measured.

Reads the data sets from the folder that LATENTCELL_DATA names.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from scipy import sparse
from seed_table import data_folder, prepare, scaled, variable
from sklearn.cluster import KMeans
from sklearn.decomposition import NMF, PCA
from sklearn.neighbors import NearestNeighbors
from zoo_rows import BASELINES, COUNTS_ONLY, DATA, MODELS, VARIANTS

import latentcell as lc

N_NEIGHBORS = 30


def cells_of(name: str) -> tuple[ad.AnnData, str]:
    """Cells with what models read in X, log-normalised values in layers["log"]; the key of their labels."""
    if name == "yan":
        adata = sc.read_h5ad(data_folder() / "yan.h5ad")
        sc.pp.filter_genes(adata, min_cells=3)
        adata.X = np.log2(1 + (adata.X.toarray() if sparse.issparse(adata.X) else adata.X)).astype(np.float32)
        most = np.argsort(adata.X.var(axis=0))[::-1][:2000]
        adata = adata[:, np.sort(most)].copy()
        adata.layers["log"] = adata.X.copy()
        return adata, "cell_type"
    prepared, groupby = prepare(name)
    prepared = variable(prepared[~prepared.obs[groupby].isna()].copy())
    adata = ad.AnnData(sparse.csr_matrix(prepared.layers["counts"]), obs=prepared.obs, var=prepared.var[[]])
    adata.layers["log"] = prepared.X.copy()
    return adata, groupby


def baseline(method: str, adata: ad.AnnData, batch_key: str | None, seed: int) -> np.ndarray:
    """Codes by a method that is not of the package."""
    log = adata.layers["log"]
    log = log.toarray() if sparse.issparse(log) else np.asarray(log)
    n = min(10, adata.n_obs - 1)
    if method == "PCA":
        return PCA(n, random_state=seed).fit_transform(scaled(ad.AnnData(sparse.csr_matrix(log))))
    if method == "NMF":
        return NMF(n, init="nndsvda", random_state=seed, max_iter=300).fit_transform(log.astype(np.float64))
    import scvi

    scvi.settings.seed = seed
    scvi.model.SCVI.setup_anndata(adata, batch_key=batch_key)
    model = scvi.model.SCVI(adata)
    model.train(enable_progress_bar=False, logger=False, accelerator="cpu")
    return model.get_latent_representation()


def embed(method: str, adata: ad.AnnData, groupby: str, batch_key: str | None, seed: int) -> tuple:
    """Codes, and clusters of the model's own or None."""
    if method in BASELINES:
        return baseline(method, adata, batch_key, seed), None
    name, preset, own = VARIANTS.get(method, (method, None, {}))
    Model = getattr(lc.model, name)
    keys = {"batch_key": batch_key} | ({"labels_key": groupby} if method == "CVAE" else {})
    Model.setup_anndata(adata, **keys)
    arguments = {"seed": seed} | own
    model = Model(adata, **arguments) if preset is None else Model.from_preset(preset, adata, **arguments)
    model.train(accelerator="cpu", enable_progress_bar=False)
    codes = model.project() if hasattr(model, "project") else model.get_latent_representation()
    return codes, model.get_clusters() if hasattr(model, "get_clusters") else None


def purity(codes: np.ndarray, batches: np.ndarray) -> float:
    """Share of nearest neighbours that are of the cell's own batch."""
    near = NearestNeighbors(n_neighbors=N_NEIGHBORS).fit(codes).kneighbors(return_distance=False)
    return float((batches[near] == batches[:, None]).mean())


def chance(labels: np.ndarray, batches: np.ndarray) -> float:
    """Purity if batches were mixed at random within each label."""
    shares = pd.crosstab(labels, batches, normalize="index")
    return float(np.mean([shares.loc[label, batch] for label, batch in zip(labels, batches, strict=True)]))


def one_run(method: str, name: str, seed: int) -> dict:
    """Train, and judge the codes."""
    warnings.simplefilter("ignore")
    lc.model.VAE  # noqa: B018  # libraries are loaded here, not where processor time is taken
    if method == "SCVI":
        import scvi  # noqa: F401
    adata, groupby = cells_of(name)
    batch_key = DATA[name]
    labels = adata.obs[groupby].astype(str).to_numpy()
    start = time.process_time()
    codes, clusters = embed(method, adata, groupby, batch_key, seed)
    seconds = time.process_time() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    about = {"CPU seconds": seconds, "memory, GiB": memory, "dimensions": codes.shape[1]}
    if np.ptp(codes, axis=0).max() < 1e-4:  # all cells in one place agree with nothing
        protocols = ("kmeans_tsne", "leiden", "kmeans")
        return {f"{what} {metric}": 0.0 for what in protocols for metric in ("nmi", "ari")} | about
    perplexity = min(40.0, (adata.n_obs - 1) / 3)
    table = lc.tl.compare(adata, {method: codes}, groupby, seeds=[seed], perplexity=perplexity)
    wanted = table[table["metric"].isin(["nmi", "ari"])]
    found = {f"{row.protocol} {row.metric}": row.value for row in wanted.itertuples()}
    by_means = KMeans(len(set(labels)), n_init=10, random_state=seed).fit_predict(codes)
    judged = {"kmeans": by_means} | ({} if clusters is None else {"own": clusters})
    for what, one in judged.items():
        scores = lc.metrics.clustering(labels, one)
        found |= {f"{what} {metric}": scores[metric] for metric in ("nmi", "ari")}
    if clusters is not None:
        found |= {"own clusters": len(set(clusters) - {-1}), "own unassigned": float((clusters < 0).mean())}
    if batch_key is not None:
        batches = adata.obs[batch_key].astype(str).to_numpy()
        found |= {"purity": purity(codes, batches), "purity by chance": chance(labels, batches)}
    return found | about


def is_possible(method: str, name: str) -> bool:
    """Whether the model is there (another version may have it) and takes the data."""
    there = method in (*BASELINES, *VARIANTS) or hasattr(lc.model, method)
    return there and not (name == "yan" and method in COUNTS_ONLY)


def load(folder: Path) -> pd.DataFrame:
    """All results of a folder: one row for each number."""
    rows = []
    for path in sorted(folder.glob("*.json")):
        run = json.loads(path.read_text())
        who = {key: run.pop(key) for key in ("model", "data", "seed")}
        rows += [{**who, "measure": name, "value": value} for name, value in run.items()]
    return pd.DataFrame(rows)


def report(folder: Path) -> None:
    """Print mean and spread over seeds, a table for each data set."""
    table = load(folder)
    if table.empty:
        sys.exit(f"zoo.py: no results in {folder}")
    for name in DATA:
        own = table[table["data"] == name]
        if own.empty:
            continue
        cells = own.groupby(["model", "measure"])["value"].agg(["mean", "std"])
        text = cells["mean"].map("{:.3f}".format) + cells["std"].map(" ± {:.3f}".format).where(
            cells["std"].notna(), ""
        )
        wide = text.unstack("measure").reindex([model for model in MODELS if model in set(own["model"])])
        wide.insert(0, "seeds", own.groupby("model")["seed"].nunique())
        print(f"\n{name}\n{wide.fillna('-').to_string()}")


def main() -> None:
    """Do the runs that are missing, or print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS, metavar="MODEL")
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=list(DATA))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/zoo"))
    parser.add_argument("--table", action="store_true", help="print what is there; do no run")
    parser.add_argument("--one", nargs=3, metavar=("MODEL", "DATA", "SEED"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one_run(args.one[0], args.one[1], int(args.one[2]))))
        return
    args.results.mkdir(parents=True, exist_ok=True)
    if args.table:
        report(args.results)
        return
    for seed in args.seeds:
        for name in args.data:
            for method in args.models:
                path = args.results / f"{method}-{name}-{seed}.json"
                if is_possible(method, name) and not path.exists():
                    do(method, name, seed, path)


def do(method: str, name: str, seed: int, path: Path) -> None:
    """One run in a process of its own; its result appears whole, and a failure is told and left out."""
    command = [sys.executable, __file__, "--one", method, name, str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        print(f"{method} {name} {seed} failed: {last}", file=sys.stderr, flush=True)
        return
    found = {"model": method, "data": name, "seed": seed, **json.loads(done.stdout.splitlines()[-1])}
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(found))
    draft.rename(path)
    print(f"{method} {name} {seed}: {found['CPU seconds']:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
