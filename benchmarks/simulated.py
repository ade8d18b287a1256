"""Simulated cells of any number, written to disk piece by piece: types, batches, depths as in real data."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import zarr
from anndata import AnnData
from anndata.io import write_elem

PIECE = 10_000
N_TYPES, N_BATCHES = 12, 4
DEPTH = 300.0  # counts of a cell over 2,000 variable genes: 6 to 7 % of entries are not 0


def pieces(n_cells: int, n_genes: int, seed: int = 0) -> Any:
    """Types, batches and counts (as parts of a csr matrix) of at most 10,000 cells at a time."""
    rng = np.random.default_rng(seed)
    shares = rng.gamma(0.12, size=(N_TYPES, n_genes)) + 0.3 * rng.gamma(0.12, size=n_genes)
    by_batch = np.exp(0.3 * rng.normal(size=(N_BATCHES, n_genes)))
    rates = shares[:, None] * by_batch[None]  # types x batches x genes
    rates /= rates.sum(-1, keepdims=True)
    for start in range(0, n_cells, PIECE):
        n = min(PIECE, n_cells - start)
        types, batches = rng.integers(N_TYPES, size=n), rng.integers(N_BATCHES, size=n)
        totals = rng.poisson(DEPTH * rng.lognormal(-0.08, 0.4, size=n)) + 1
        genes = np.empty(totals.sum(), dtype=np.int64)
        cells = np.repeat(np.arange(n), totals)
        kind = (types * N_BATCHES + batches)[cells]
        cumulative = rates.reshape(-1, n_genes).cumsum(-1)
        for k in range(N_TYPES * N_BATCHES):
            own = np.flatnonzero(kind == k)
            genes[own] = np.searchsorted(cumulative[k], rng.random(len(own)) * cumulative[k, -1])
        entries, counts = np.unique(cells * n_genes + genes, return_counts=True)
        indptr = np.searchsorted(entries, np.arange(n + 1) * n_genes)
        yield types, batches, counts.astype(np.float32), (entries % n_genes).astype(np.int32), indptr


def write(path: Path, n_cells: int, n_genes: int = 2000, *, seed: int = 0, **arrays: Any) -> None:
    """Write an AnnData (.h5ad as anndata does, uncompressed; .zarr format 3, in shards) in bounded memory.

    Parameters
    ----------
    path
        To write to.
    n_cells, n_genes, seed
        Of the simulation.
    **arrays
        Of zarr's ``create_array``, e.g. ``chunks=(32768,)``.
    """
    is_h5 = path.suffix == ".h5ad"
    root: Any = h5py.File(path, "w") if is_h5 else zarr.open_group(str(path), mode="w", zarr_format=3)
    types, batches, indptr, n_stored = [], [], [np.zeros(1, dtype=np.int64)], 0
    var = pd.DataFrame(index=[f"g{i}" for i in range(n_genes)])
    x = root.create_group("X")
    x.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
    x.attrs["shape"] = np.array([n_cells, n_genes]) if is_h5 else [n_cells, n_genes]
    for name, dtype in (("data", "f4"), ("indices", "i4")):
        if is_h5:
            x.create_dataset(name, shape=(0,), maxshape=(None,), dtype=dtype, chunks=(29_299,))
        else:
            x.create_array(name, shape=(0,), dtype=dtype, **arrays)
    for of_types, of_batches, data, indices, pointers in pieces(n_cells, n_genes, seed):
        for name, values in (("data", data), ("indices", indices)):
            x[name].resize((n_stored + len(values),))
            x[name][n_stored:] = values
        indptr.append(pointers[1:] + n_stored)
        n_stored += len(data)
        types.append(of_types)
        batches.append(of_batches)
    if is_h5:
        x.create_dataset("indptr", data=np.concatenate(indptr))
    else:
        x.create_array("indptr", data=np.concatenate(indptr))
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical.from_codes(np.concatenate(types), [f"t{i}" for i in range(N_TYPES)]),
            "batch": pd.Categorical.from_codes(np.concatenate(batches), [f"b{i}" for i in range(N_BATCHES)]),
        },
        index=np.arange(n_cells).astype(str),
    )
    root.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    frame = AnnData(obs=obs, var=var)
    write_elem(root, "obs", frame.obs)
    write_elem(root, "var", frame.var)
    for name in ("layers", "obsm", "varm", "obsp", "varp", "uns"):
        write_elem(root, name, {})
    if is_h5:
        root.close()
