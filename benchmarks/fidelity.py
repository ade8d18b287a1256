"""Generated beside real cells: every generator, on PBMC3k and Kang's cells, by lc.metrics.fidelity.

    python benchmarks/fidelity.py table pbmc3k|kang [--seeds 0 1 2] [--methods CVAE ...] [--csv table.csv]
    python benchmarks/fidelity.py labels pbmc3k|kang [--seeds 0 1 2]       are they of that type?
    python benchmarks/fidelity.py rare [--seeds 0 1 2 3 4] [--methods CVAE ...]       a rare type topped up
    python benchmarks/fidelity.py memory [--cells 1000000]     cells streamed to disk

Needs LATENTCELL_DATA. Protocol: 60 % of each type train, 20 % choose variable genes and are the basis of the
scores, 20 % are judged; as many cells of each type are generated as are judged. `real`: training cells.
"""

import argparse
import os
import resource
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from scipy import sparse, stats

import latentcell as lc

N_GENES = 1000
HEADLINES = [
    "classifier_auc_genes_300_trees",
    "classifier_auc_genes",
    "classifier_auc_pcs",
    "mmd2",
    "wasserstein2",
    "neighbor_mixing",
    "coverage",
    "ks_genes",
    "ks_library_size",
    "ks_detected_genes",
    "marker_lfc_slope",
    "gene_correlation",
    "label_f1",
    "train_on_generated_f1",
    "nearer_to_training",
]


def data_folder() -> Path:
    return Path(os.environ["LATENTCELL_DATA"])


def pbmc3k() -> tuple[ad.AnnData, str, str | None]:
    adata = sc.read_h5ad(data_folder() / "pbmc3k_raw.h5ad")
    adata.var_names_make_unique()
    labels = pd.read_csv(data_folder() / "pbmc3k_seurat9.csv", index_col=0).iloc[:, 0]
    adata = adata[labels.index].copy()
    adata.obs["cell_type"] = pd.Categorical(labels.to_numpy().astype(str))
    sc.pp.filter_genes(adata, min_cells=3)
    return adata, "cell_type", None


def kang() -> tuple[ad.AnnData, str, str | None]:
    adata = sc.read_h5ad(data_folder() / "kang_ifnb.h5ad")
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(str).astype("category")
    sc.pp.filter_genes(adata, min_cells=3)
    return adata, "cell_type", "condition"


DATA = {"pbmc3k": pbmc3k, "kang": kang}


def split(adata: ad.AnnData, key: str, seed: int) -> tuple[ad.AnnData, ad.AnnData, ad.AnnData]:
    """Training, basis and judged cells: 60, 20, 20 % of each type; the genes most variable in the second."""
    rng = np.random.default_rng(seed)
    part = np.zeros(adata.n_obs, dtype=int)
    for name in adata.obs[key].unique():
        rows = rng.permutation(np.flatnonzero(adata.obs[key] == name))
        fifth = round(len(rows) * 0.2)
        part[rows[:fifth]], part[rows[fifth : 2 * fifth]] = 1, 2
    basis = adata[part == 1].copy()
    sc.pp.highly_variable_genes(basis, n_top_genes=N_GENES, flavor="seurat_v3")
    genes = basis.var_names[basis.var["highly_variable"]]
    train, basis, judged = (adata[part == i, genes].copy() for i in range(3))
    for cells in (train, basis, judged):
        cells.uns.clear()
    filled = np.asarray(train.X.sum(1)).ravel() > 0
    return train[filled].copy(), basis, judged


def deep(name: str, source: str | None = "posterior", *, by_label: bool = True, **arguments) -> Callable:
    def generate(train: ad.AnnData, key: str, batch: str | None, want: list, seed: int) -> ad.AnnData:
        model = trained(train, name, tuple(arguments.items()), key, batch, seed)
        if not by_label:
            return model.generate(len(want), source=source, seed=seed)
        return model.generate(labels=want, source=source, seed=seed)

    return generate


_TRAINED: dict[tuple, object] = {}


def trained(train: ad.AnnData, name: str, arguments: tuple, key: str, batch: str | None, seed: int):
    """The model trained on these cells; the last one is kept, for its other sources."""
    what = (id(train), name, arguments, seed)
    if what not in _TRAINED:
        _TRAINED.clear()
        Model = getattr(lc.model, name)
        Model.setup_anndata(train, labels_key=key, batch_key=batch)
        model = Model(train, seed=seed, **dict(arguments))
        model.train(enable_progress_bar=False, accelerator="cpu")
        _TRAINED[what] = model
    return _TRAINED[what]


def baseline(name: str, *, by_batch: bool = True, **arguments) -> Callable:
    def generate(train: ad.AnnData, key: str, batch: str | None, want: list, seed: int) -> ad.AnnData:
        Model = getattr(lc.model, name)
        Model.setup_anndata(train, labels_key=key, batch_key=batch if by_batch else None)
        model = Model(train, **arguments)
        model.train()
        return model.generate(labels=want, seed=seed)

    return generate


def scvi(train: ad.AnnData, key: str, batch: str | None, want: list, seed: int) -> ad.AnnData:
    """Posterior predictive draws of SCVI for training cells of the labels asked for: it has no generate."""
    import scvi as scvi_tools

    scvi_tools.settings.seed = seed
    scvi_tools.settings.verbosity = 40
    scvi_tools.model.SCVI.setup_anndata(train, batch_key=batch)
    model = scvi_tools.model.SCVI(train, gene_likelihood="nb")
    model.train(enable_progress_bar=False, accelerator="cpu")
    rng = np.random.default_rng(seed)
    labels = train.obs[key].astype(str).to_numpy()
    rows = np.array([rng.choice(np.flatnonzero(labels == name)) for name in want])
    distinct, back = np.unique(rows, return_inverse=True)
    most = np.bincount(back).max()
    draws = model.posterior_predictive_sample(indices=distinct, n_samples=int(most) + 1).todense()
    turn = pd.Series(back).groupby(back).cumcount().to_numpy()
    x = sparse.csr_matrix(draws[back, :, turn].astype("f4"))
    obs = pd.DataFrame({key: pd.Categorical(want)}, index=[f"scvi{i}" for i in range(len(want))])
    return ad.AnnData(x, obs=obs, var=train.var[[]])


GENERATORS: dict[str, Callable] = {
    "CVAE": deep("CVAE"),
    "CVAE, prior": deep("CVAE", "prior"),
    "CVAE, mixture": deep("CVAE", "mixture"),
    "CVAE, gene-cell": deep("CVAE", dispersion="gene-cell"),
    "CVAE, gene-cell, prior": deep("CVAE", "prior", dispersion="gene-cell"),
    "CVAE, gene-cell, mixture": deep("CVAE", "mixture", dispersion="gene-cell"),
    "VAE": deep("VAE"),
    "VAE, mixture": deep("VAE", "mixture"),
    "VAE, gene-cell": deep("VAE", dispersion="gene-cell"),
    "VSC": deep("VSC"),
    "AE": deep("AE", "mixture"),
    "DCA": deep("DCA", "mixture"),
    "GAN": deep("GAN", None, by_label=False),
    "ConditionalGAN": deep("ConditionalGAN", None),
    "GeneShuffle": baseline("GeneShuffle"),
    "GaussianCopula": baseline("GaussianCopula"),
    "GaussianCopula, empirical": baseline("GaussianCopula", margins="empirical"),
    "PCAGaussian": baseline("PCAGaussian"),
    "SCVI": scvi,
}


STRICT = {"group": "all", "metric": "classifier_auc_genes_300_trees"}


def strict_auc(judged: ad.AnnData, cells: ad.AnnData) -> float:
    """The classifier on genes with 300 trees, which sees more than one with 100."""
    is_logged = cells.uns.get("latentcell", {}).get("scale") == "log1p"
    values = np.asarray(cells.X) if is_logged else log_counts(cells.X.toarray())
    return lc.metrics.classifier_auc(log_counts(judged.X.toarray()), values, n_trees=300)


def logged(cells: ad.AnnData) -> ad.AnnData:
    return ad.AnnData(log_counts(cells.X.toarray()), obs=cells.obs, var=cells.var)


def log_counts(counts: np.ndarray) -> np.ndarray:
    return np.log1p(counts / np.maximum(counts.sum(1, keepdims=True), 1) * 1e4)


def table(args: argparse.Namespace) -> None:
    adata, key, batch = DATA[args.data]()
    found = []
    for seed in args.seeds:
        train, basis, judged = split(adata, key, seed)
        want, first = judged.obs[key].astype(str).tolist(), True
        for name in args.methods or GENERATORS:
            start = time.time()
            new = GENERATORS[name](train, key, batch, want, seed)
            seconds = time.time() - start
            real = (judged, train, basis)
            if new.uns.get("latentcell", {}).get("scale") == "log1p":  # compared on that scale, not as counts
                real = tuple(logged(cells) for cells in real)
            scores = lc.metrics.fidelity(
                real[0],
                new,
                key if key in new.obs else None,
                real[1],
                basis=real[2],
                controls=first,
                min_cells=6,
                n_trees=args.trees,
                seed=seed,
            )
            if first:
                rows = np.random.default_rng(seed).choice(train.n_obs, judged.n_obs, replace=False)
                strict = strict_auc(judged, train[rows])
                scores = pd.concat([scores, pd.DataFrame([{**STRICT, "real": strict}])])
            first = False
            is_strict = scores["metric"] == STRICT["metric"]
            if not is_strict.any():
                scores = pd.concat([scores, pd.DataFrame([STRICT])])
                is_strict = scores["metric"] == STRICT["metric"]
            scores.loc[is_strict, "value"] = strict_auc(judged, new)
            found.append(scores.assign(method=name, seed=seed, seconds=seconds))
            if args.csv:
                pd.concat(found).to_csv(args.csv, index=False)
            overall = scores[scores["group"] == "all"].set_index("metric")
            shown = "  ".join(f"{m} {overall['value'].get(m, np.nan):.3f}" for m in HEADLINES)
            print(f"{args.data} seed {seed} {name:26s} {seconds:5.0f} s  {shown}", flush=True)
    result = pd.concat(found)
    overall = result[result["group"] == "all"]
    wide = overall.pivot_table(index="method", columns="metric", values="value", sort=False)
    for control in ("real", "chance"):  # they are those of the first method of each seed
        wide.loc[control] = overall.groupby("metric")[control].mean()
    with pd.option_context("display.width", 250, "display.max_columns", None):
        print(wide[[m for m in HEADLINES if m in wide]].round(3))


def labels(args: argparse.Namespace) -> None:
    """F1 of each type in generated cells, by a classifier trained on real cells that no model has seen."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score

    adata, key, batch = DATA[args.data]()
    rows = []
    for seed in args.seeds:
        train, basis, judged = split(adata, key, seed)
        unseen = ad.concat([basis, judged])
        classifier = LogisticRegression(C=0.01, max_iter=1000, class_weight="balanced")
        classifier.fit(log_counts(unseen.X.toarray()), unseen.obs[key].astype(str))
        want = train.obs[key].astype(str).tolist()  # the same composition as the real cells it is asked about
        drawn = {"real": train}
        for name in args.methods or ("CVAE", "CVAE, prior", "CVAE, gene-cell"):
            drawn[name] = GENERATORS[name](train, key, batch, want, seed)
        for name, cells in drawn.items():
            guess = classifier.predict(log_counts(cells.X.toarray()))
            names = sorted(set(want))
            f1 = f1_score(cells.obs[key].astype(str), guess, average=None, labels=names)
            rows += [(seed, name, label, value) for label, value in zip(names, f1, strict=True)]
            rows.append((seed, name, "macro", f1.mean()))
            print(args.data, seed, name, "macro F1", f1.mean().round(3), flush=True)
    result = pd.DataFrame(rows, columns=["seed", "cells", "type", "f1"])
    numbers = train.obs[key].value_counts().rename("training cells (last seed)")
    wide = result.pivot_table(index="type", columns="cells", values="f1", sort=False).round(3)
    print(wide.join(numbers).to_string())


RARE, TOP_UP, FEW = "CD8 T", 400, (5, 10, 20, 40)


def smote(x: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Chawla et al. 2002: points between a cell and one of its five nearest in the class (log values)."""
    distance = ((x[:, None] - x[None]) ** 2).sum(-1)
    near = np.argsort(distance, axis=1)[:, 1:6]
    start = rng.integers(len(x), size=n)
    end = near[start, rng.integers(near.shape[1], size=n)]
    return x[start] + rng.random((n, 1)) * (x[end] - x[start])


def rare(args: argparse.Namespace) -> None:
    """F1 of a rare type in unseen real cells, after its training cells were topped up by each method."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score

    adata, key, _ = pbmc3k()
    rows, columns = [], ["repeat", "cells", "method", "classifier", "f1", "f1 of other types"]
    for repeat in args.seeds:
        train, basis, judged = split(adata, key, repeat)
        train = ad.concat([train, basis])  # nothing is chosen here that needs cells of its own
        x_test, y_test = log_counts(judged.X.toarray()), judged.obs[key].astype(str).to_numpy()
        labels = train.obs[key].astype(str).to_numpy()
        rng = np.random.default_rng(repeat)
        of_rare = rng.permutation(np.flatnonzero(labels == RARE))
        for n in (*FEW, len(of_rare)):
            kept = np.sort(np.concatenate([np.flatnonzero(labels != RARE), of_rare[:n]]))
            few = train[kept].copy()
            few.obs[key] = few.obs[key].astype(str).astype("category")
            x, y = log_counts(few.X.toarray()), few.obs[key].astype(str).to_numpy()
            mine, new = x[y == RARE], max(TOP_UP - n, 0)
            more: dict[str, np.ndarray | None] = {"none": None, "class weights": None}
            if n in FEW:
                more["duplicates"] = mine[rng.integers(n, size=new)]
                more["SMOTE"] = smote(mine, new, rng)
                for name in args.methods:
                    drawn = GENERATORS[name](few.copy(), key, None, [RARE] * new, repeat)
                    more[name] = log_counts(drawn.X.toarray())
            for name, added in more.items():
                weights = "balanced" if name == "class weights" else None
                xs = x if added is None else np.concatenate([x, added])
                ys = y if added is None else np.concatenate([y, np.full(new, RARE)])
                for kind, classifier in {
                    "RF": RandomForestClassifier(200, class_weight=weights, random_state=repeat),
                    "LR": LogisticRegression(C=0.01, max_iter=500, class_weight=weights),
                }.items():
                    guess = classifier.fit(xs, ys).predict(x_test)
                    f1 = f1_score(y_test == RARE, guess == RARE)
                    others = f1_score(y_test, guess, average="macro", labels=sorted(set(y_test) - {RARE}))
                    rows.append((repeat, n if n in FEW else "all", name, kind, f1, others))
            result = pd.DataFrame(rows, columns=columns)
            if args.csv:
                result.to_csv(args.csv, index=False)
            print(repeat, n, {r[2] + " " + r[3]: round(r[4], 2) for r in rows[-2 * len(more) :]}, flush=True)
    for value in ("f1", "f1 of other types"):
        spread = result.pivot_table(
            index="method", columns=["cells", "classifier"], values=value, aggfunc=["mean", "std"], sort=False
        )
        print(f"{value}: mean, then standard deviation over {len(args.seeds)} repeats")
        print(spread.round(2).to_string())


def memory(args: argparse.Namespace) -> None:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(2000, 0.2), size=3)
    kind = np.arange(3000) % 3
    x = rng.poisson(shares[kind] * rng.lognormal(7.5, 0.4, (3000, 1))).astype("f4")
    adata = ad.AnnData(sparse.csr_matrix(x))
    adata.obs["kind"] = pd.Categorical(np.array(["a", "b", "c"])[kind])
    lc.model.CVAE.setup_anndata(adata, labels_key="kind")
    model = lc.model.CVAE(adata)
    model.train(40, enable_progress_bar=False)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    with tempfile.TemporaryDirectory() as folder:
        start = time.time()
        path = model.generate(args.cells, out=Path(folder) / "new.h5ad")
        seconds = time.time() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        size = path.stat().st_size / 2**30
        new = sc.read_h5ad(path, backed="r")
        total, square, done = np.zeros(2000), np.zeros(2000), 0
        for start_row in range(0, new.n_obs, 20_000):
            part = new.X[start_row : start_row + 20_000]
            total += np.asarray(part.sum(0)).ravel()
            square += np.asarray(part.power(2).sum(0)).ravel()
            done += part.shape[0]
        depth_ks = stats.ks_2samp(new.obs["library_size"], x.sum(1)).statistic
        shares_of = new.obs["kind"].value_counts(normalize=True).round(3).to_dict()
    mean = total / done
    real_sd, sd = x.std(0), np.sqrt(square / done - mean**2)
    print(f"{args.cells} cells x 2000 genes in {seconds:.0f} s, {size:.2f} GiB on disk")
    print(f"peak memory {peak:.2f} GiB, of which {before:.2f} before it starts")
    print(
        f"r of gene means {np.corrcoef(mean, x.mean(0))[0, 1]:.4f}, "
        f"of deviations {np.corrcoef(sd, real_sd)[0, 1]:.4f}"
    )
    print(
        f"sum of means {mean.sum():.1f}, real {x.mean(0).sum():.1f}; "
        f"KS of depth {depth_ks:.4f}; kinds {shares_of}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("table")
    one.add_argument("data", choices=DATA)
    one.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    one.add_argument("--methods", nargs="+", choices=GENERATORS)
    one.add_argument("--trees", type=int, default=100, help="of the forests, as in lc.metrics.fidelity")
    one.add_argument("--csv")
    one.set_defaults(run=table)
    one = commands.add_parser("labels")
    one.add_argument("data", choices=DATA)
    one.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    one.add_argument("--methods", nargs="+", choices=GENERATORS)
    one.set_defaults(run=labels)
    one = commands.add_parser("rare")
    one.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    default = ["GeneShuffle", "GaussianCopula", "CVAE", "CVAE, mixture", "VAE"]
    one.add_argument("--methods", nargs="*", choices=GENERATORS, default=default)
    one.add_argument("--csv")
    one.set_defaults(run=rare)
    one = commands.add_parser("memory")
    one.add_argument("--cells", type=int, default=1_000_000)
    one.set_defaults(run=memory)
    args = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        args.run(args)


if __name__ == "__main__":
    main()
