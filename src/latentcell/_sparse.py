"""Sparse cells as a model reads them: what the loader hands to the network."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor


def compiled(function: Callable) -> Callable:
    """A loop over numpy arrays as machine code, compiled at its first call and kept on disk."""
    return numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})(function)


class SparseCells:
    """Cells x genes, kept gene by gene, plus an offset that every cell shares.

    The value of gene g is ``offset[g]`` where the cell has no entry and ``offset[g] + data`` where it has. So
    standardised expression stays sparse: its zeros are not 0 but one number per gene. Gene by gene, because
    the weights of a layer on many genes are then read once per batch instead of once per cell.

    Parameters
    ----------
    data, indices, indptr
        As in :class:`scipy.sparse.csc_matrix`: values (float32), their cells, and where each gene starts.
    n_cells
        Rows.
    offset
        One value per gene (genes, float32); None is 0.
    """

    dtype = torch.float32
    device = torch.device("cpu")

    def __init__(
        self,
        data: np.ndarray,
        indices: np.ndarray,
        indptr: np.ndarray,
        n_cells: int,
        offset: Tensor | None = None,
    ) -> None:
        self.data, self.indices, self.indptr = data, indices, indptr
        self.n_cells = n_cells
        self.offset = offset

    @classmethod
    def from_rows(cls, rows: Any) -> SparseCells:
        """From a scipy CSR matrix or array (cells x genes)."""
        n_cells, n_genes = rows.shape
        indptr = np.zeros(n_genes + 1, dtype=np.int64)
        data, indices = np.empty(rows.nnz, dtype=np.float32), np.empty(rows.nnz, dtype=np.int32)
        _by_gene(rows.indptr, rows.indices, rows.data, indptr, indices, data)
        return cls(data, indices, indptr, n_cells)

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""
        return self.n_cells, len(self.indptr) - 1

    def __len__(self) -> int:
        return self.n_cells

    def to(self, device: torch.device | str, **kwargs: Any) -> SparseCells | Tensor:
        """These cells on the CPU; dense on any other device, where these products do not run."""
        return self if torch.device(device).type == "cpu" else self.dense.to(device, **kwargs)

    @cached_property
    def dense(self) -> Tensor:
        """Cells x genes as a dense tensor."""
        out = torch.zeros(self.shape) if self.offset is None else self.offset.repeat(self.n_cells, 1)
        _scatter(self.indptr, self.indices, self.data, out.numpy())
        return out

    def totals(self) -> Tensor:
        """Sum of each cell's entries (cells x 1); the offset is not counted."""
        sums = np.bincount(self.indices, weights=self.data, minlength=self.n_cells)
        return torch.from_numpy(sums.astype(np.float32)[:, None])

    def gene_of(self) -> np.ndarray:
        """Gene of every entry."""
        return np.repeat(np.arange(self.shape[1]), np.diff(self.indptr))

    def with_data(self, data: np.ndarray, offset: Tensor | None = None) -> SparseCells:
        """The same entries with other values."""
        return SparseCells(data, self.indices, self.indptr, self.n_cells, offset)


@compiled
def _by_gene(row_ptr, genes, values, indptr, indices, data):  # pragma: no cover - compiled
    for entry in range(row_ptr[0], row_ptr[-1]):
        indptr[genes[entry] + 1] += 1
    for gene in range(len(indptr) - 1):
        indptr[gene + 1] += indptr[gene]
    free = indptr[:-1].copy()
    for cell in range(len(row_ptr) - 1):
        for entry in range(row_ptr[cell], row_ptr[cell + 1]):
            place = free[genes[entry]]
            free[genes[entry]] = place + 1
            indices[place] = cell
            data[place] = values[entry]


@compiled
def _scatter(indptr, indices, data, out):  # pragma: no cover - compiled
    for gene in range(out.shape[1]):
        for entry in range(indptr[gene], indptr[gene + 1]):
            out[indices[entry], gene] += data[entry]
