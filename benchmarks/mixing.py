"""Does training on shuffled blocks of a sorted file learn what training on shuffled cells learns?

    python benchmarks/mixing.py [--data pbmc3k cellmix] [--blocks 1 4 16 64] [--seeds 0 1 2] [--out FILE.csv]

Cells are written to an uncompressed .h5ad, sorted by batch and cell type, the worst case for reading in
blocks. A VAE (negative binomial, at most the 2,000 most variable genes) is trained on them at its defaults
for --epochs epochs, in full random order and in blocks of 16 cells of which as many as --blocks says are
shuffled together. Batches are of 16 cells, so that a window of 64 blocks gives 64 batches, as it does with
the blocks of 128 cells and the batches of 128 that large files are read in. Held-out cells are the same for
one seed.

Reads the data sets from the folder that LATENTCELL_DATA names.
"""

import argparse
import tempfile
from itertools import product
from pathlib import Path
from unittest.mock import patch

import anndata as ad
import numpy as np
import pandas as pd
from counts import counts_of

import latentcell as lc
from latentcell._disk import CsrOnDisk

BLOCK = BATCH = 16
KEYS = {"pbmc3k": ["cell_type"], "cellmix": ["batch", "cell_type"], "kang": ["condition", "cell_type"]}


def train(adata: ad.AnnData, blocks: int | None, epochs: int, seed: int) -> dict[str, float | list[float]]:
    """Held-out ELBO per epoch; `blocks` None is full shuffling."""
    held = 2**40 if blocks is None else 0
    with (
        patch("latentcell.train.loading.HELD", held),
        patch.object(CsrOnDisk, "window", (blocks or 1) * BLOCK),
        patch("latentcell._disk.BLOCKS", 1),
    ):
        lc.model.VAE.setup_anndata(adata)
        model = lc.model.VAE(adata, gene_likelihood="nb", seed=seed)
        model.train(
            epochs, accelerator="cpu", train_size=0.8, batch_size=BATCH, seed=seed, enable_progress_bar=False
        )
        curve = model.history["elbo_validation"]["elbo_validation"].to_numpy()
    return {"last": float(curve[-3:].mean()), "best": float(curve.min()), "curve": curve.tolist()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=["pbmc3k", "cellmix"])
    parser.add_argument("--blocks", nargs="+", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder, patch("latentcell._disk.SHORTEST", BLOCK):
        for name in args.data:
            cells = counts_of(name)
            order = cells.obs[KEYS[name]].astype(str).agg("|".join, axis=1).argsort(kind="stable").to_numpy()
            cells = cells[order].copy()
            cells.write_h5ad(Path(folder) / f"{name}.h5ad")
            for seed, blocks in product(args.seeds, [None, *args.blocks]):
                adata = ad.read_h5ad(Path(folder) / f"{name}.h5ad", backed="r")
                found = train(adata, blocks, args.epochs, seed)
                adata.file.close()
                rows.append({"data": name, "blocks": blocks or np.inf, "seed": seed, **found})
                print(rows[-1] | {"curve": np.round(found["curve"], 1).tolist()}, flush=True)
    table = pd.DataFrame(rows)
    full = table[np.isinf(table["blocks"])].set_index(["data", "seed"])[["last", "best"]]
    table = table.join(full, on=["data", "seed"], rsuffix="_full")
    for name in ("last", "best"):
        table[f"{name}, % above full"] = 100 * (table[name] / table[f"{name}_full"] - 1)
    columns = ["last, % above full", "best, % above full"]
    print(table.groupby(["data", "blocks"])[columns].agg(["mean", "min", "max"]).round(2).to_string())
    if args.out is not None:
        table.drop(columns="curve").to_csv(args.out, index=False)


if __name__ == "__main__":
    main()
