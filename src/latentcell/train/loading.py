"""Cells to batches: rows of a matrix, in the order asked for, as float32 tensors.

The matrix may be a numpy array, a scipy sparse matrix or array, or one on disk (see ``_disk.py``), which is
read a window at a time. It is never copied and never made dense as a whole; only a batch is. The one
exception is compressed-sparse-column input, whose rows cannot be read: it is converted to rows once.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from anndata.abc import CSCDataset
from scipy import sparse
from torch import Tensor

from latentcell._disk import HELD, OnDisk, opened, rows_in_memory
from latentcell._sparse import SparseCells

from .blocks import block_order, by_windows, share

_log = logging.getLogger(__name__)
X_KEY = "X"
MOSTLY_ZEROS = 0.25  # share of entries below which products with sparse cells are faster than dense ones


class Cells:
    """A matrix of cells x genes with arrays that belong to the cells.

    Parameters
    ----------
    matrix
        Cells x genes, of any kind named above.
    genes
        Columns to take, in this order; None takes all.
    arrays
        Per-cell arrays (cells x k) by name: codes of categories (integers) or covariates (floats).
    cell_names, gene_names
        Of the rows of `matrix` and of the genes taken, for messages; None: their numbers.
    """

    def __init__(
        self,
        matrix: Any,
        *,
        genes: np.ndarray | None = None,
        arrays: dict[str, np.ndarray] | None = None,
        cell_names: Sequence[str] | None = None,
        gene_names: Sequence[str] | None = None,
    ) -> None:
        self.matrix = by_rows(matrix)
        self.genes = genes
        self.arrays = arrays or {}
        self.cell_names: Sequence[Any] = range(matrix.shape[0]) if cell_names is None else cell_names
        n_genes = matrix.shape[1] if genes is None else len(genes)
        self.gene_names: Sequence[Any] = range(n_genes) if gene_names is None else gene_names
        self.n_obs = matrix.shape[0]

    def held(self) -> "Cells":
        """These cells in memory, if they are on disk and small; larger ones are read anew every epoch."""
        if not isinstance(self.matrix, OnDisk):
            return self
        size = f"cells on disk: {self.matrix.nbytes / 2**20:,.0f} MiB"
        if self.matrix.nbytes > HELD:
            window, block = self.matrix.window, self.matrix.block
            _log.info("%s, streamed in windows of %d cells, blocks of %d", size, window, block)
            return self
        _log.info("%s, held in memory", size)
        return self._part(self.matrix[:], self.arrays, self.cell_names)

    def by_batches(self, batches: Sequence[np.ndarray]) -> "Iterator[tuple[Cells, np.ndarray]]":
        """For each batch, cells that it is among and its rows there: of those on disk a window at a time."""
        if not isinstance(self.matrix, OnDisk):
            yield from ((self, indices) for indices in batches)
            return
        for wanted, rows, places in by_windows(self.matrix, batches):
            part = self._part(rows, {name: values[wanted] for name, values in self.arrays.items()})
            del rows
            yield from ((part, at) for at in places)
            del part  # before the next window is read

    def _part(
        self, rows: Any, arrays: dict[str, np.ndarray], cell_names: Sequence[str] | None = None
    ) -> "Cells":
        """Cells whose rows are in memory."""
        rows = rows if self.genes is None else rows[:, self.genes]
        return Cells(rows, arrays=arrays, cell_names=cell_names, gene_names=self.gene_names)

    def rows(self, indices: np.ndarray) -> Any:
        """Cells `indices`, in that order, as the matrix has them: an array or a sparse matrix."""
        rows = self.matrix[indices]
        return rows if self.genes is None else rows[:, self.genes]

    def batch(
        self, indices: np.ndarray, *, sparse_cells: bool = False, any_density: bool = False
    ) -> dict[str, Tensor]:
        """Cells `indices`, in that order, as tensors by name; ``"X"`` is cells x genes, float32.

        With `sparse_cells`, ``"X"`` of a sparse matrix that is mostly zeros is a :class:`SparseCells`; with
        `any_density`, that of any matrix is.
        """
        below = 0.0 if not sparse_cells else math.inf if any_density else MOSTLY_ZEROS
        tensors: dict[str, Any] = {X_KEY: self._expression(indices, below)}
        for name, values in self.arrays.items():
            tensors[name] = torch.from_numpy(np.ascontiguousarray(values[indices]))
        return tensors

    def _expression(self, indices: np.ndarray, sparse_below: float) -> Tensor | SparseCells:
        if self._density is not None and self._density < sparse_below:
            return SparseCells.gather(self.matrix, indices)
        rows = self.rows(indices)
        if sparse_below > 1.0 and not sparse.issparse(rows):
            rows = sparse.csr_matrix(rows)
        if sparse.issparse(rows) and rows.nnz < sparse_below * np.prod(rows.shape):
            rows.sum_duplicates()  # a copy of the matrix's rows; a gene given twice in a cell is one value
            return SparseCells.from_rows(rows)
        dense = rows.toarray() if sparse.issparse(rows) else rows
        return torch.from_numpy(np.ascontiguousarray(dense, dtype=np.float32))

    @cached_property
    def _density(self) -> float | None:
        """Share of entries of a matrix whose arrays batches can be gathered from as they are, else None."""
        matrix = self.matrix
        plain = self.genes is None and sparse.issparse(matrix) and matrix.format == "csr"
        if not (plain and matrix.has_canonical_format):
            return None
        return matrix.nnz / max(1.0, float(np.prod(matrix.shape, dtype=float)))


class CellLoader:
    """Batches of cells, shuffled anew each epoch if asked, the same for the same seed and epoch.

    The order of an epoch is a function of seed and epoch alone, so that a resumed run sees the same batches.
    A last batch of a single cell, which batch normalisation cannot use, joins the one before it. Cells on
    disk come in the order of :func:`latentcell.train.blocks.block_order`; of others any is as likely.

    Parameters
    ----------
    cells
        Where rows come from.
    indices
        The cells to iterate over.
    batch_size
        Cells per batch.
    shuffle
        Draw a new order every epoch (:meth:`set_epoch`).
    seed
        Of the order.
    sparse_cells, any_density
        See :meth:`Cells.batch`.

    Attributes
    ----------
    source
        Gives batches by their row numbers in place of `cells`; None: there is none.
    pinned
        Put batches where a GPU fetches them while the host goes on.

    Examples
    --------
    >>> cells = Cells(np.arange(10.0).reshape(5, 2))
    >>> [len(batch["X"]) for batch in CellLoader(cells, np.arange(5), 2)]
    [2, 3]
    """

    def __init__(
        self,
        cells: Cells,
        indices: np.ndarray,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        sparse_cells: bool = False,
        any_density: bool = False,
    ) -> None:
        self.cells = cells
        self.indices = np.asarray(indices)
        self.batch_size = int(batch_size)
        self.shuffle = shuffle
        self.seed = int(seed)
        self.sparse_cells, self.any_density = sparse_cells, any_density
        self.epoch = 0
        self.rank, self.n_ranks = 0, 1
        self.source: Callable[[list[np.ndarray]], Iterator[dict[str, Tensor]]] | None = None
        self.pinned = False

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which decides the order of the next pass."""
        self.epoch = epoch

    def set_share(self, rank: int, n_ranks: int) -> None:
        """Give each batch's share of a process among several, and only that."""
        self.rank, self.n_ranks = rank, n_ranks

    def sizes(self) -> list[int]:
        """Cells of each batch, of all processes together."""
        full, rest = divmod(len(self.indices), self.batch_size)
        sizes = [self.batch_size] * full
        # batch normalisation needs two cells in every process
        if full and 0 < rest < 2 * self.n_ranks:
            sizes[-1] += rest
        elif rest:
            sizes.append(rest)
        return sizes

    def batches(self) -> list[np.ndarray]:
        """Indices of the cells of each batch of the current epoch: of the share of this process."""
        order, sizes = self.indices, self.sizes()
        if self.shuffle:
            rng = np.random.default_rng([self.seed, self.epoch])
            order = self._shuffled(order, sizes, rng)
        edges = np.cumsum([0, *sizes])
        shares = [share(size, self.rank, self.n_ranks) for size in sizes]
        return [order[edge + a : edge + b] for edge, (a, b) in zip(edges[:-1], shares, strict=True)]

    def weight(self, number: int) -> float:
        """What the mean over this process's share of a batch counts for in the mean over processes."""
        if self.n_ranks == 1:
            return 1.0
        size = self.sizes()[number]
        begin, end = share(size, self.rank, self.n_ranks)
        return (end - begin) * self.n_ranks / size

    def names(self, number: int) -> tuple[list, Sequence]:
        """Names of the cells of a batch of the current epoch, and of the genes."""
        return [self.cells.cell_names[i] for i in self.batches()[number]], self.cells.gene_names

    def __len__(self) -> int:
        return len(self.sizes())

    def at(self, number: int) -> dict[str, Tensor]:
        """A batch of the current epoch anew, on the host."""
        ((cells, indices),) = self.cells.by_batches([self.batches()[number]])
        return cells.batch(indices)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        if self.source is not None:
            yield from self.source(self.batches())
            return
        for cells, indices in self.cells.by_batches(self.batches()):
            batch = cells.batch(indices, sparse_cells=self.sparse_cells, any_density=self.any_density)
            del cells  # before the next window is read
            if self.pinned:  # sparse cells see to it themselves
                batch = {k: v.pin_memory() if isinstance(v, Tensor) else v for k, v in batch.items()}
            yield batch

    def _shuffled(self, indices: np.ndarray, sizes: list[int], rng: np.random.Generator) -> np.ndarray:
        matrix = self.cells.matrix
        if not isinstance(matrix, OnDisk):
            return rng.permutation(indices)
        return block_order(
            indices, sizes, rng, block=matrix.block, window=matrix.window, n_ranks=self.n_ranks
        )


def by_rows(matrix: Any) -> Any:
    """The matrix in a form whose rows are cheap to read, sharing its memory where that is possible."""
    if sparse.issparse(matrix):
        if matrix.format != "csr":
            return matrix.tocsr()
        if matrix.indices.dtype != matrix.indptr.dtype:
            # scipy would copy all indices at every read if the two types differ
            narrow = matrix.indptr.astype(matrix.indices.dtype)
            fits = matrix.nnz <= np.iinfo(matrix.indices.dtype).max
            indptr, indices = (
                (narrow, matrix.indices) if fits else (matrix.indptr, matrix.indices.astype(np.int64))
            )
            rows = sparse.csr_matrix(matrix.shape, dtype=matrix.dtype)
            rows.data, rows.indices, rows.indptr = matrix.data, indices, indptr
            return rows
    if isinstance(matrix, CSCDataset):
        return rows_in_memory(matrix)
    return opened(matrix)
