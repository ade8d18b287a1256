"""Cells per second that can be read from disk in shuffled order, without training.

    python benchmarks/reading.py [--cells 1000000] [--genes 2000] [--repeats 5] [--dir FOLDER] [--out FILE]

Simulated counts (csr, float32, 6-7 % of entries not 0) are written to an uncompressed .h5ad, as anndata
writes it, and to zarr 3 (zstd, chunks of 32,768 entries in shards of 64 chunks; and in chunks of 468,784,
which anndata chooses for a million cells). Read are the batches of 128 cells of an epoch, in csr, as
training reads them: of all cells, and of the 90 % that are not held out; then batches of 1,024 cells in
random order without blocks, as get_latent_representation(indices=...) reads them. Each repeat reads at most
500,000 cells, of another epoch. Files lie in the page cache of the system if they fit it; "cpu" is by
processor time of all threads.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from simulated import write

import latentcell as lc
from latentcell.train.loading import CellLoader, Cells

FILES = {
    ".h5ad": ("cells.h5ad", {}),
    "zarr, sharded": ("sharded.zarr", {"chunks": (32_768,), "shards": (64 * 32_768,)}),
    "zarr, large chunks": ("chunked.zarr", {"chunks": (468_784,)}),
}
MOST = 500_000


def rate(loader: CellLoader) -> dict[str, float]:
    """Cells per second of wall and of processor time."""
    wall, cpu, n = time.perf_counter(), time.process_time(), 0
    for cells, rows in loader.cells.by_batches(loader.batches()):
        n += cells.matrix[rows].shape[0]
        if n >= MOST:
            break
    return {"wall": n / (time.perf_counter() - wall), "cpu": n / (time.process_time() - cpu)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--genes", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dir", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=args.dir))
    rows = []
    try:
        for name, (file, arrays) in FILES.items():
            write(folder / file, args.cells, args.genes, **arrays)
            cells = Cells(lc.pp.open_cells(folder / file).X)
            matrix = cells.matrix
            share = np.sort(np.random.default_rng(0).permutation(args.cells)[: int(0.9 * args.cells)])
            loaders = {
                "all": CellLoader(cells, np.arange(args.cells), 128, shuffle=True),
                "90 %": CellLoader(cells, share, 128, shuffle=True),
                "no blocks": CellLoader(cells, np.random.default_rng(0).permutation(args.cells), 1024),
            }
            for repeat in range(args.repeats):
                for which, loader in loaders.items():
                    loader.set_epoch(repeat)
                    rows.append({"file": name, "cells": which, "block": matrix.block, **rate(loader)})
            print(f"{name}: blocks of {matrix.block} cells, windows of {matrix.window}", flush=True)
    finally:
        shutil.rmtree(folder)
    table = pd.DataFrame(rows)
    found = table.groupby(["file", "cells"], sort=False)[["wall", "cpu"]].agg(["median", "min", "max"])
    print(f"cells/s of {args.cells:,} x {args.genes:,}; median, least and most of {args.repeats} repeats")
    print(found.map("{:,.0f}".format).to_string())
    if args.out is not None:
        table.to_csv(args.out, index=False)


if __name__ == "__main__":
    main()
