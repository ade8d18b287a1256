"""An atlas on disk: one epoch of training and the embedding, beside the same cells in memory.

    python benchmarks/atlas.py [--cells 10000 100000 1000000] [--files .h5ad .zarr] [--repeats 1] [--out FILE]

Simulated cells x 2,000 genes (6-7 % of entries not 0), written in bounded memory, deleted afterwards. A VAE
with a negative binomial likelihood (n_latent=10, hidden=(128,), batch_key) is built, trained for one epoch
in batches of 128 and asked for the latent representation of all cells: from the file, streamed even where
it is small enough to be held, and from memory. Every row is a process of its own; its peak memory is its
resident set's, as the kernel counts it, from which that before any cells were opened is told apart.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import anndata as ad
import pandas as pd
from simulated import write

import latentcell as lc


def measured(path: Path, in_memory: bool, n_genes: int) -> dict[str, Any]:
    """Seconds and MiB of each step."""
    import latentcell.model  # noqa: F401 - what it loads is no part of the first step

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    found: dict[str, Any] = {"before, MiB": peak()}
    clock = {"wall": time.perf_counter, "cpu": time.process_time}
    last = {name: read() for name, read in clock.items()}

    def note(step: str) -> None:
        for name, read in clock.items():
            found[f"{step}, {name} s"] = read() - last[name]
            last[name] = read()
        found[f"{step}, MiB"] = peak()

    if in_memory:
        adata = ad.read_h5ad(path) if path.suffix == ".h5ad" else ad.read_zarr(path)
    else:
        adata = lc.pp.open_cells(path)
    note("open")
    with patch("latentcell.train.loading.HELD", 0):
        lc.model.VAE.setup_anndata(adata, batch_key="batch")
        model = lc.model.VAE(adata, gene_likelihood="nb", n_latent=10, hidden=(128,))
        note("build")
        model.train(1, accelerator="cpu", batch_size=128, enable_progress_bar=False)
        note("epoch")
        assert model.get_latent_representation().shape == (adata.n_obs, 10)
        note("embed")
    assert adata.shape[1] == n_genes
    return found | {"loss": float(model.history["train_loss"].iloc[-1, 0])}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", nargs="+", type=int, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--files", nargs="+", default=[".h5ad", ".zarr"])
    parser.add_argument("--genes", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--dir", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        print(json.dumps(measured(Path(args.one[0]), args.one[1] == "memory", args.genes)))
        return
    rows = []
    for n_cells in args.cells:
        folder = Path(tempfile.mkdtemp(dir=args.dir))
        try:
            for suffix in args.files:
                arrays = {} if suffix == ".h5ad" else {"chunks": (32_768,), "shards": (64 * 32_768,)}
                write(folder / f"cells{suffix}", n_cells, args.genes, **arrays)
            cases = [*args.files, "memory"]
            for repeat in range(args.repeats):
                for case in cases:
                    path = folder / f"cells{args.files[0] if case == 'memory' else case}"
                    command = [sys.executable, __file__, "--genes", str(args.genes), "--one", str(path), case]
                    run = subprocess.run(command, capture_output=True, text=True, check=True)
                    found = json.loads(run.stdout.splitlines()[-1])
                    for step in ("epoch", "embed"):
                        for name in ("wall", "cpu"):
                            found[f"{step}, cells/s {name}"] = n_cells / found[f"{step}, {name} s"]
                    rows.append({"cells": n_cells, "from": case, "repeat": repeat} | found)
                    print(rows[-1], flush=True)
        finally:
            shutil.rmtree(folder)
    table = pd.DataFrame(rows)
    columns = [name for name in table.columns if "cells/s" in name or "MiB" in name]
    found = table.groupby(["cells", "from"], sort=False)[columns].median()
    print(found.map("{:,.0f}".format).T.to_string())
    if args.out is not None:
        table.to_csv(args.out, index=False)


if __name__ == "__main__":
    main()
