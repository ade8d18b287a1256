"""Sparse cells as a model reads them: what the loader hands to the network."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentcell._compiled import compiled, log1p32

Entries = tuple[np.ndarray, np.ndarray, np.ndarray]


class SparseCells:
    """Cells x genes, kept by their entries, plus an offset that every cell shares.

    The value of gene g is ``offset[g]`` where the cell has no entry and ``offset[g] + data`` where it has. So
    standardised expression stays sparse: its zeros are not 0 but one number per gene.

    Parameters
    ----------
    indptr, indices, data
        As in :class:`scipy.sparse.csr_matrix`: where each cell starts (int64), genes (int32) and values
        (float32) of its entries; none is repeated.
    n_genes
        Columns.
    offset
        One value per gene (genes, float32); None is 0.
    """

    dtype = torch.float32
    device = torch.device("cpu")

    def __init__(
        self,
        indptr: np.ndarray,
        indices: np.ndarray,
        data: np.ndarray,
        n_genes: int,
        offset: Tensor | None = None,
    ) -> None:
        self.indptr, self.indices, self.data = indptr, indices, data
        self.n_genes = n_genes
        self.offset = offset
        self._order = _Order(indptr, indices, n_genes)

    @classmethod
    def from_rows(cls, rows: Any) -> SparseCells:
        """From a scipy CSR matrix or array (cells x genes) without repeated entries."""
        return cls.gather(rows, np.arange(rows.shape[0]))

    @classmethod
    def gather(cls, matrix: Any, cells: np.ndarray) -> SparseCells:
        """Rows `cells` of a scipy CSR matrix or array without repeated entries, in that order."""
        if len(cells) and np.array_equal(cells, np.arange(cells[0], cells[0] + len(cells))):
            # neighbours in the matrix: its own arrays, not copied where they are of the right type
            indptr = matrix.indptr[cells[0] : cells[-1] + 2].astype(np.int64)
            own = slice(indptr[0], indptr[-1])
            indices = matrix.indices[own].astype(np.int32, copy=False)
            data = matrix.data[own].astype(np.float32, copy=False)
            return cls(indptr - indptr[0], indices, data, matrix.shape[1])
        lengths = np.asarray(matrix.indptr[cells + 1] - matrix.indptr[cells], dtype=np.int64)
        indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        indices, data = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.float32)
        _gather(matrix.indptr, matrix.indices, matrix.data, cells, indptr, indices, data)
        return cls(indptr, indices, data, matrix.shape[1])

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""
        return len(self), self.n_genes

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def to(self, device: torch.device | str, **kwargs: Any) -> SparseCells | Tensor:
        """These cells on the CPU; dense on any other device, where these products do not run.

        Only the entries travel; they are made dense there. `kwargs` are those of :meth:`torch.Tensor.to`.
        """
        device = torch.device(device)
        if device.type == "cpu":
            return self
        # torch wants arrays that can be written to; those of a file that is mapped cannot
        own = (np.require(part, requirements=["C", "W"]) for part in (self.indices, self.data))
        parts = [torch.from_numpy(part) for part in (np.diff(self.indptr), *own)]
        if device.type == "cuda":
            parts, kwargs = [part.pin_memory() for part in parts], kwargs | {"non_blocking": True}
        lengths, genes, values = (part.to(device, **kwargs) for part in parts)
        there = densified(lengths, genes, values, self.n_genes)
        return there if self.offset is None else there + self.offset.to(device, **kwargs)

    @cached_property
    def dense(self) -> Tensor:
        """Cells x genes as a dense tensor."""
        out = torch.zeros(self.shape) if self.offset is None else self.offset.repeat(len(self), 1)
        _scatter(self.indptr, self.indices, self.data, out.numpy())
        return out

    @cached_property
    def by_gene(self) -> Entries:
        """The entries gene by gene: where each gene starts, and the cells and values of its entries.

        The weights of a layer on many genes, or their gradients, are then visited once per batch instead of
        once per cell.
        """
        starts, cells, order = self._order.genes
        return starts, cells, self.data[order]

    def totals(self) -> Tensor:
        """Sum of each cell's entries (cells x 1); the offset is not counted."""
        sums = np.empty((len(self), 1), np.float32)
        _totals(self.indptr, self.data, sums)
        return torch.from_numpy(sums)

    def with_data(self, data: np.ndarray, offset: Tensor | None = None) -> SparseCells:
        """The same entries with other values."""
        other = SparseCells(self.indptr, self.indices, data, self.n_genes, offset)
        other._order = self._order
        return other

    def log1p(self, factor: Tensor) -> np.ndarray:
        """log(1 + value x factor) of every entry, with one factor per cell (cells x 1); for values >= 0."""
        out = np.empty_like(self.data)
        _log1p(self.indptr, self.data, factor.reshape(-1).numpy(), out)
        return out


def densified(lengths: Tensor, genes: Tensor, values: Tensor, n_genes: int) -> Tensor:
    """Entries on any device as cells x genes (float32), without asking the device for a size.

    Parameters
    ----------
    lengths
        Entries of each cell (cells, int64).
    genes, values
        Of the entries, cell by cell; none is repeated.
    n_genes
        Columns.

    Examples
    --------
    >>> densified(torch.tensor([1, 2]), torch.tensor([1, 0, 1]), torch.tensor([5.0, 6.0, 7.0]), 2).tolist()
    [[0.0, 5.0], [6.0, 7.0]]
    """
    starts = torch.arange(len(lengths), device=lengths.device) * n_genes
    place = torch.repeat_interleave(starts, lengths, output_size=len(genes)) + genes
    return values.new_zeros(len(lengths) * n_genes).scatter_(0, place, values).view(-1, n_genes)


class _Order:
    """Where entries kept cell by cell are when they are gone through gene by gene; found when first asked."""

    def __init__(self, indptr: np.ndarray, indices: np.ndarray, n_genes: int) -> None:
        self._entries = indptr, indices, n_genes

    @cached_property
    def genes(self) -> Entries:
        """Where each gene starts, and the cell and the place of each of its entries."""
        indptr, indices, n_genes = self._entries
        starts = np.zeros(n_genes + 1, np.int64)
        cells, order = np.empty(len(indices), np.int32), np.empty(len(indices), np.int64)
        _by_gene(indptr, indices, starts, cells, order)
        return starts, cells, order


@compiled
def _gather(indptr, indices, data, cells, new_indptr, new_indices, new_data):  # pragma: no cover - compiled
    for i in range(len(cells)):
        to = new_indptr[i]
        for entry in range(indptr[cells[i]], indptr[cells[i] + 1]):
            new_indices[to] = indices[entry]
            new_data[to] = data[entry]
            to += 1


@compiled
def _by_gene(indptr, genes, starts, cells, order):  # pragma: no cover - compiled
    for entry in range(len(genes)):
        starts[genes[entry] + 1] += 1
    for gene in range(len(starts) - 1):
        starts[gene + 1] += starts[gene]
    free = starts[:-1].copy()
    for cell in range(len(indptr) - 1):
        for entry in range(indptr[cell], indptr[cell + 1]):
            place = free[genes[entry]]
            free[genes[entry]] = place + 1
            cells[place] = cell
            order[place] = entry


@compiled
def _scatter(indptr, indices, data, out):  # pragma: no cover - compiled
    for cell in range(len(indptr) - 1):
        for entry in range(indptr[cell], indptr[cell + 1]):
            out[cell, indices[entry]] += data[entry]


@compiled
def _totals(indptr, data, out):  # pragma: no cover - compiled
    for cell in range(len(indptr) - 1):
        total = 0.0
        for entry in range(indptr[cell], indptr[cell + 1]):
            total += data[entry]
        out[cell, 0] = total


@compiled
def _log1p(indptr, data, factor, out):  # pragma: no cover - compiled
    for cell in range(len(indptr) - 1):
        times = factor[cell]
        for entry in range(indptr[cell], indptr[cell + 1]):
            out[entry] = log1p32(data[entry] * times)
