"""Simulated cells of any number, drawn piece by piece: written to disk, or all of one depth in memory."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import zarr
from anndata import AnnData
from anndata.io import write_elem
from scipy import sparse


@dataclass(frozen=True)
class Population:
    """What simulated cells are drawn from.

    Attributes
    ----------
    rates
        From a generator and the number of genes: each gene's share (types x batches x genes).
    totals
        From a generator, the number of cells and of genes: each cell's counts.
    piece
        Cells at a time; another number gives other cells.
    """

    rates: Callable[[np.random.Generator, int], np.ndarray]
    totals: Callable[[np.random.Generator, int, int], np.ndarray]
    piece: int


N_TYPES, N_BATCHES = 12, 4
DEPTH = 300.0  # counts of a cell over 2,000 genes: 10 % of entries are not 0


def _atlas_rates(rng: np.random.Generator, n_genes: int) -> np.ndarray:
    shares = rng.gamma(0.12, size=(N_TYPES, n_genes)) + 0.3 * rng.gamma(0.12, size=n_genes)
    by_batch = np.exp(0.3 * rng.normal(size=(N_BATCHES, n_genes)))
    return shares[:, None] * by_batch[None]


def _atlas_totals(rng: np.random.Generator, n_cells: int, n_genes: int) -> np.ndarray:
    return rng.poisson(DEPTH * rng.lognormal(-0.08, 0.4, size=n_cells)) + 1


def _even_rates(rng: np.random.Generator, n_genes: int) -> np.ndarray:
    return rng.lognormal(0.0, 1.0, (8, 1, n_genes))


def _even_totals(rng: np.random.Generator, n_cells: int, n_genes: int) -> np.ndarray:
    return np.full(n_cells, int(0.065 * n_genes))  # some genes are drawn more than once


ATLAS = Population(_atlas_rates, _atlas_totals, 10_000)
"""Types and batches that few genes tell apart, depths as in real data."""
EVEN = Population(_even_rates, _even_totals, 20_000)
"""Eight types of one batch, all cells of one depth: 6 % of entries are not 0."""


def pieces(n_cells: int, n_genes: int, seed: int = 0, population: Population = ATLAS) -> Any:
    """Types, batches and counts (as parts of a csr matrix) of so many cells at a time as a piece has."""
    rng = np.random.default_rng(seed)
    rates = population.rates(rng, n_genes)
    n_types, n_batches, _ = rates.shape
    rates /= rates.sum(-1, keepdims=True)
    cumulative = rates.reshape(-1, n_genes).cumsum(-1)
    for start in range(0, n_cells, population.piece):
        n = min(population.piece, n_cells - start)
        types, batches = rng.integers(n_types, size=n), rng.integers(n_batches, size=n)
        totals = population.totals(rng, n, n_genes)
        genes = np.empty(totals.sum(), dtype=np.int64)
        cells = np.repeat(np.arange(n), totals)
        kind = (types * n_batches + batches)[cells]
        for k in range(n_types * n_batches):
            own = np.flatnonzero(kind == k)
            genes[own] = np.searchsorted(cumulative[k], rng.random(len(own)) * cumulative[k, -1])
        entries, counts = np.unique(cells * n_genes + genes, return_counts=True)
        indptr = np.searchsorted(entries, np.arange(n + 1) * n_genes)
        yield types, batches, counts.astype(np.float32), (entries % n_genes).astype(np.int32), indptr


def even_cells(n_cells: int, n_genes: int = 2000, *, mixed_types: bool = False, seed: int = 0) -> AnnData:
    """Cells of :data:`EVEN`; `mixed_types` has int64 indptr beside int32 indices, as large files have."""
    indptr, indices, data = [np.zeros(1, np.int64)], [], []
    for _, _, counts, genes, pointers in pieces(n_cells, n_genes, seed, EVEN):
        indptr.append(pointers[1:] + indptr[-1][-1])
        indices.append(genes)
        data.append(counts)
    x = sparse.csr_matrix((n_cells, n_genes), dtype=np.float32)
    x.data, x.indices, x.indptr = np.concatenate(data), np.concatenate(indices), np.concatenate(indptr)
    if not mixed_types:
        x.indptr = x.indptr.astype(np.int32)
    return AnnData(x)


def write(path: Path, n_cells: int, n_genes: int = 2000, *, seed: int = 0, **arrays: Any) -> None:
    """Write cells of :data:`ATLAS` (.h5ad as anndata does, uncompressed; .zarr format 3) in bounded memory.

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
