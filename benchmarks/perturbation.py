"""Cells predicted in a condition that their type was never seen in, beside baselines, over types and seeds.

    python benchmarks/perturbation.py kang      Kang's blood cells, IFN-beta: each type held out in turn
    python benchmarks/perturbation.py lineages  simulated: types of a lineage respond alike, or not
    python benchmarks/perturbation.py platforms five cell lines, from 10x to CEL-seq2

Options: --methods NAME ... (all), --seeds 0 1 2, --types NAME ... (all), --epochs N (each model's default),
--out FILE.csv. Finished rows are kept in the file, so that a run that was broken goes on where it was; the
table is printed from the file. Kang and the cell lines are read from the folder that LATENTCELL_DATA names.
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc

import latentcell as lc

COLUMNS = [
    "r2", "r2_top100", "delta_correlation", "delta_correlation_top100", "r2_score", "r2_score_top100",
    "r2_variance", "direction_top100", "overlap_top100", "energy_distance", "mmd",
]  # fmt: skip
PUBLISHED = {"r2": 0.949, "r2_top100": 0.936}
"""Mean of 7 types on all 16,893 cells, from the notebooks of scGen's authors: other cells and genes."""


def log_normalised(adata: ad.AnnData) -> ad.AnnData:
    """Counts kept as a layer, X as log(1 + counts per 10,000)."""
    adata.layers["counts"] = adata.X.copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    return adata


def kang() -> tuple[ad.AnnData, str, str]:
    """All genes of the 2,800 cells."""
    adata = ad.read_h5ad(Path(os.environ["LATENTCELL_DATA"]) / "kang_ifnb.h5ad")
    return log_normalised(adata), "ctrl", "stim"


def platforms() -> tuple[ad.AnnData, str, str]:
    """Five cell lines measured by 10x (the control) and by CEL-seq2: what a platform does to a line."""
    adata = ad.read_h5ad(Path(os.environ["LATENTCELL_DATA"]) / "cellmix_batches.h5ad")
    batch = adata.obs["batch"].astype(str)
    adata = adata[batch.str.startswith(("10x", "celseq2_5cl"))].copy()
    adata.obs["condition"] = np.where(adata.obs["batch"].astype(str) == "10x_5cl", "ctrl", "stim")
    return log_normalised(adata), "ctrl", "stim"


def lineages(seed: int = 0, *, alike: bool = True, n_genes: int = 1000) -> tuple[ad.AnnData, str, str]:
    """Ten types in three lineages: a response of all, one of the lineage (or of one drawn), one's own."""
    rng = np.random.default_rng(seed)
    lineage = np.repeat([0, 1, 2], [4, 3, 3])
    sizes = rng.integers(30, 250, size=(10, 2))
    base = rng.gamma(0.6, 1 / 0.3, size=n_genes) + 1e-3

    def effect(share: float, sd: float) -> np.ndarray:
        return rng.normal(0, sd, size=n_genes) * (rng.random(n_genes) < share)

    of_lineage, of_type = (
        [effect(*how) for _ in range(n)] for n, how in ((3, (0.1, 1.0)), (10, (0.05, 0.8)))
    )
    response = effect(0.06, 1.2)
    by_lineage, by_type = (
        [effect(*how) for _ in range(n)] for n, how in ((3, (0.05, 1.0)), (10, (0.02, 0.7)))
    )
    counts, obs = [], []
    for kind in range(10):
        for condition in (0, 1):
            other = lineage[kind] if alike else rng.integers(3)
            logs = np.log(base) + of_lineage[lineage[kind]] + of_type[kind]
            logs = logs + condition * (response + by_lineage[other] + by_type[kind])
            n = sizes[kind, condition]
            mean = np.exp(logs) / np.exp(logs).sum() * rng.lognormal(np.log(2000), 0.3, size=n)[:, None]
            counts.append(rng.poisson(rng.gamma(25.0, mean / 25.0)))
            obs += [(f"t{kind}", ("ctrl", "stim")[condition])] * n
    adata = ad.AnnData(np.concatenate(counts).astype(np.float32))
    adata.obs = pd.DataFrame(obs, columns=["cell_type", "condition"], index=adata.obs_names)
    return log_normalised(adata), "ctrl", "stim"


def trainer(Model: Any, epochs: int | None, setup: dict | None = None, **arguments: Any) -> Callable:
    """What trains a model on cells with a seed."""

    def train(cells: ad.AnnData, seed: int) -> Any:
        Model.setup_anndata(cells, **(setup or {}))
        preset = arguments.get("preset")
        rest = {name: value for name, value in arguments.items() if name != "preset"}
        model = Model.from_preset(preset, cells, seed=seed) if preset else Model(cells, seed=seed, **rest)
        model.train(epochs, accelerator="cpu", enable_progress_bar=False)
        return model

    return train


def methods(epochs: int | None) -> dict[str, Callable]:
    """Models by name; "baselines" is not among them."""
    counts = {"layer": "counts"}
    return {
        "ScGen": trainer(lc.model.ScGen, epochs),
        "ScGen(decoder='linear')": trainer(lc.model.ScGen, epochs, decoder="linear"),
        "ScGen, counts": trainer(lc.model.ScGen, epochs, counts),
        "VAE": trainer(lc.model.VAE, epochs),
        "VSC": trainer(lc.model.VSC, epochs),
        "CVAE told the condition": trainer(lc.model.CVAE, epochs, {"labels_key": "condition"}),
        "ConditionalGAN told the condition": trainer(
            lc.model.ConditionalGAN, epochs, {"labels_key": "condition"}
        ),
        "ScGen, published settings": trainer(lc.model.ScGen, epochs, preset="scgen-2019"),
    }


def run(args: argparse.Namespace) -> pd.DataFrame:
    """Do what is not in the file yet, and give the file."""
    adata, control, stimulated = {"kang": kang, "platforms": platforms, "lineages": lineages}[args.data]()
    sizes = adata.obs.groupby(["cell_type", "condition"], observed=True).size().unstack(fill_value=0)
    types = args.types or sizes.index[(sizes >= 30).all(axis=1)].astype(str).tolist()
    known = methods(args.epochs)
    wanted = args.methods or ["baselines", *known]
    done = pd.read_csv(args.out, keep_default_na=False) if args.out.exists() else pd.DataFrame()
    parts = set(zip(done["part"], done["cell_type"], done["seed"], strict=True)) if len(done) else set()
    for seed in args.seeds:
        for name in wanted:
            for kind in types:
                if (name, kind, seed) in parts:
                    continue
                table = lc.tl.compare_perturbation(
                    adata,
                    None if name == "baselines" else {name: known[name]},
                    "condition",
                    "cell_type",
                    stimulated=stimulated,
                    control=control,
                    cell_types=[kind],
                    seeds=[seed],
                    baselines=name == "baselines",
                )
                table.insert(0, "part", name)
                table.to_csv(args.out, mode="a", header=not args.out.exists(), index=False)
                print(name, kind, seed, flush=True)
    return pd.read_csv(args.out)


def shown(table: pd.DataFrame) -> str:
    """Means over types, of means over seeds; and how many seeds there were."""
    keys = ["method", "weighting"]
    table = table.fillna({"weighting": ""})
    per_type = table.groupby([*keys, "cell_type"])[COLUMNS].mean(numeric_only=True)
    found = per_type.groupby(keys).mean()
    found["types"] = per_type.groupby(keys).size()
    found["seeds"] = table.groupby(keys)["seed"].nunique()
    return found.round(3).to_string()


def main() -> None:
    """Read the arguments, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", choices=("kang", "lineages", "platforms"))
    parser.add_argument("--methods", nargs="+", help="of these, and baselines: " + ", ".join(methods(None)))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--types", nargs="+")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--out", type=Path, default=Path("perturbation.csv"))
    args = parser.parse_args()
    table = run(args)
    print(shown(table))
    print("\nr2 is the squared Pearson correlation of means, r2_score the coefficient of determination.")
    if args.data == "kang":
        print(f"scGen as published, all cells, squared Pearson, mean of 7 types: {PUBLISHED}")


if __name__ == "__main__":
    main()
