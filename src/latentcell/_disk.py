"""Matrices on disk, read by rows: csr and dense, in .h5ad and zarr, behind dask, and over several files."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import h5py
import numpy as np
import zarr
from anndata.abc import CSCDataset, CSRDataset
from scipy import sparse

from latentcell._errors import DataError

HELD = 2**28
"""Bytes up to which a matrix on disk is read into memory once for training: what a reader's buffer takes."""
WINDOW = 2**27
"""Bytes of cells that are in memory at a time while a larger matrix is streamed."""
SHORTEST, LONGEST = 128, 1024
"""Rows that are read together at least, because a disk is slow otherwise, and at most."""
BLOCKS = 64
"""Blocks that a window holds at least: with so many, cells of a sorted file are mixed well enough."""
_GAP = 2**16
"""Bytes that are read and thrown away rather than begun anew behind them."""
_MOST = 2**20
"""Entries that are read at once."""


class OnDisk(ABC):
    """Rows of a matrix (cells x genes) that are read when they are asked for.

    Attributes
    ----------
    shape, dtype
        Of the matrix.
    format
        What rows come as: ``"csr"`` or ``"dense"``.
    row_bytes
        Memory that a row takes, on average.
    run
        Consecutive rows that are worth reading together.
    """

    ndim = 2
    format: Any = "csr"
    shape: tuple[int, int]
    dtype: np.dtype
    row_bytes: float
    run: int

    @abstractmethod
    def read(self, rows: np.ndarray) -> Any:
        """Rows that rise and are there: an array, or a csr matrix with int32 indices."""

    def __getitem__(self, key: Any) -> Any:
        """Rows (a slice, or positions in any order, also repeated) and, as a second index, columns."""
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        if isinstance(rows, slice):
            rows = np.arange(self.shape[0])[rows]
        asked = np.asarray(rows).ravel()
        if asked.dtype == bool:
            asked = np.flatnonzero(asked)
        rising, places = np.unique(asked, return_inverse=True)
        found = self.read(rising)
        if len(rising) != len(asked) or (len(places) and (np.diff(places) < 0).any()):
            found = found[places]
        if isinstance(columns, slice) and columns == slice(None):
            return found
        return found[:, columns if isinstance(columns, slice) else np.asarray(columns).ravel()]

    @property
    def nbytes(self) -> int:
        """Memory that the whole matrix would take."""
        return int(self.row_bytes * self.shape[0])

    @property
    def window(self) -> int:
        """Rows that are in memory at a time."""
        return max(1, min(self.shape[0], int(WINDOW / max(self.row_bytes, 1.0))))

    @property
    def block(self) -> int:
        """Consecutive rows that come into a window together in training."""
        return max(1, min(self.run, self.window // BLOCKS))

    @property
    def rows_at_once(self) -> int:
        """Rows to look at in one step of a pass over all of them."""
        return max(1, self.window // 16)


class _Node:
    """An array or group of an open file, opened anew in another process, which must not share the handle."""

    def __init__(self, node: Any) -> None:
        self._node, self._pid = node, os.getpid()
        is_h5 = isinstance(node, h5py.Group | h5py.Dataset)
        self._place = (node.file.filename, node.name) if is_h5 else None

    @property
    def node(self) -> Any:
        if self._place is not None and (self._node is None or self._pid != os.getpid()):
            self._node, self._pid = h5py.File(self._place[0], "r")[self._place[1]], os.getpid()
        return self._node

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | ({} if self._place is None else {"_node": None})


class CsrOnDisk(OnDisk):
    """A csr matrix in a group with ``data``, ``indices`` and ``indptr``; only the last is in memory."""

    def __init__(self, group: Any, shape: tuple[int, int]) -> None:
        self._group, self.shape = _Node(group), shape
        self.indptr = np.asarray(group["indptr"][:], dtype=np.int64)
        data = group["data"]
        self.dtype = data.dtype
        n_stored = int(self.indptr[-1]) if len(self.indptr) else 0
        rising = (
            len(self.indptr) == shape[0] + 1 and self.indptr[0] == 0 and (np.diff(self.indptr) >= 0).all()
        )
        if not rising or n_stored > min(data.shape[0], group["indices"].shape[0]):
            raise DataError(
                f"the csr matrix in {_where(group)} is damaged: its pointers do not fit its entries"
            )
        item = self.dtype.itemsize + 4
        self.row_bytes = n_stored * item / max(shape[0], 1) + 4
        per_row = max(n_stored / max(shape[0], 1), 1.0)
        # of a compressed chunk a part costs as much as the whole, and two blocks that share one pay twice
        chunk = data.chunks[0] if _is_compressed(data) else 0
        self.run = int(np.clip(4 * chunk / per_row, SHORTEST, LONGEST))
        self._gap = max(_GAP // item, chunk)
        self._most = max(chunk, 1) * max(1, _MOST // max(chunk, 1))

    def read(self, rows: np.ndarray) -> sparse.csr_matrix:
        """See :meth:`OnDisk.read`."""
        group, starts, stops = self._group.node, self.indptr[rows], self.indptr[rows + 1]
        of_data, of_indices = group["data"], group["indices"]
        pointers = np.r_[0, np.cumsum(stops - starts)]
        data = np.empty(pointers[-1], dtype=self.dtype)
        indices = np.empty(pointers[-1], dtype=np.int32)
        begun_anew = starts[1:] - stops[:-1] > self._gap
        cuts = np.flatnonzero(begun_anew | (starts[1:] // self._most != starts[:-1] // self._most)) + 1
        for first, last in pairwise([0, *cuts.tolist(), len(rows)] if len(rows) else []):
            there = slice(pointers[first], pointers[last])
            entries = slice(starts[first], stops[last - 1])
            kept = self._among(rows[first:last], entries.stop - entries.start - (there.stop - there.start))
            data[there] = of_data[entries][kept]
            indices[there] = of_indices[entries][kept]
        if len(indices) and (indices.min() < 0 or indices.max() >= self.shape[1]):
            raise DataError(f"the csr matrix in {_where(group)} is damaged: it has entries beyond its genes")
        return _csr(data, indices, pointers, self.shape[1])

    def _among(self, rows: np.ndarray, n_others: int) -> Any:
        """Entries of `rows` among those from the first to the last of them."""
        if not n_others:
            return slice(None)
        wanted = np.zeros(rows[-1] - rows[0] + 1, dtype=bool)
        wanted[rows - rows[0]] = True
        return np.repeat(wanted, np.diff(self.indptr[rows[0] : rows[-1] + 2]))


class DenseOnDisk(OnDisk):
    """A dense matrix: an h5py dataset or a zarr array."""

    def __init__(self, array: Any) -> None:
        self._array, self.format = _Node(array), "dense"
        self.shape, self.dtype = tuple(array.shape), array.dtype
        self.row_bytes = self.shape[1] * self.dtype.itemsize
        chunk = array.chunks[0] if _is_compressed(array) else 0
        self.run = int(np.clip(4 * chunk, SHORTEST, LONGEST))
        self._gap = max(int(_GAP / max(self.row_bytes, 1)), chunk)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """See :meth:`OnDisk.read`."""
        array, out = self._array.node, np.empty((len(rows), self.shape[1]), dtype=self.dtype)
        new = np.flatnonzero(np.diff(rows) > self._gap + 1) + 1
        for part, first in zip(np.split(rows, new), np.r_[0, new], strict=True):
            if len(part):
                out[first : first + len(part)] = array[part[0] : part[-1] + 1][part - part[0]]
        return out


class DaskOnDisk(OnDisk):
    """A dask array whose chunks are arrays or csr matrices, computed chunk of rows by chunk of rows."""

    def __init__(self, array: Any) -> None:
        if any(np.isnan(size) for sizes in array.chunks for size in sizes):
            raise DataError("a dask array with chunks of unknown size cannot be read by rows: persist it, or "
                            "call its compute_chunk_sizes()")  # fmt: skip
        self._array = array
        self.shape, self.dtype = tuple(array.shape), array.dtype
        self._edges = np.r_[0, np.cumsum(array.chunks[0])].astype(np.int64)
        self.is_sparse = sparse.issparse(array._meta)
        self.format = "csr" if self.is_sparse else "dense"
        # how many entries there are is not known before they are computed
        per_gene = (self.dtype.itemsize + 4) / 4 if self.is_sparse else self.dtype.itemsize
        self.row_bytes = self.shape[1] * per_gene
        self.run = int(max(SHORTEST, max(array.chunks[0], default=1)))

    def read(self, rows: np.ndarray) -> Any:
        """See :meth:`OnDisk.read`."""
        parts = []
        chunk_of = np.searchsorted(self._edges, rows, side="right") - 1
        for chunk in np.unique(chunk_of):
            start, stop = self._edges[chunk : chunk + 2]
            block = self._array[start:stop].compute()
            taken = block[rows[chunk_of == chunk] - start]
            parts.append(sparse.csr_matrix(taken) if self.is_sparse else np.asarray(taken))
        if self.is_sparse:
            empty = sparse.csr_matrix((0, self.shape[1]), dtype=self.dtype)
            found = sparse.vstack([empty, *parts], format="csr", dtype=self.dtype)
            return _csr(found.data, found.indices, found.indptr, self.shape[1])
        return np.concatenate([np.empty((0, self.shape[1]), dtype=self.dtype), *parts])


class InMemory(OnDisk):
    """A matrix in memory, as a part of a collection."""

    def __init__(self, matrix: Any) -> None:
        self._matrix = matrix.tocsr() if sparse.issparse(matrix) else matrix
        self.shape, self.dtype, self.run = matrix.shape, matrix.dtype, SHORTEST
        parts = (self._matrix.data, self._matrix.indices) if sparse.issparse(matrix) else (matrix,)
        self.row_bytes = sum(part.nbytes for part in parts) / max(self.shape[0], 1)

    def read(self, rows: np.ndarray) -> Any:
        """See :meth:`OnDisk.read`."""
        return self._matrix[rows]


class Stacked(OnDisk, CSRDataset):
    """Rows of several matrices one after another, with genes in one order; to AnnData a csr matrix on disk.

    Parameters
    ----------
    parts
        The matrices: of any kind but csc on disk.
    genes
        For each of them, positions of the genes to take, or None for all as they are.
    """

    backend = "hdf5"

    def __init__(self, parts: Sequence[Any], genes: Sequence[np.ndarray | None]) -> None:
        found = [opened(part) for part in parts]
        self.parts = [part if isinstance(part, OnDisk) else InMemory(part) for part in found]
        self.genes = list(genes)
        sizes = [part.shape[0] for part in self.parts]
        n_genes = self.parts[0].shape[1] if self.genes[0] is None else len(self.genes[0])
        self._edges = np.r_[0, np.cumsum(sizes)].astype(np.int64)
        self.shape = (int(self._edges[-1]), n_genes)
        self.dtype = np.result_type(*[part.dtype for part in self.parts])
        self.row_bytes = float(np.average([part.row_bytes for part in self.parts], weights=sizes))
        self.run = max(part.run for part in self.parts)

    def read(self, rows: np.ndarray) -> sparse.csr_matrix:
        """See :meth:`OnDisk.read`."""
        found = [sparse.csr_matrix((0, self.shape[1]), dtype=self.dtype)]
        for number, (part, genes) in enumerate(zip(self.parts, self.genes, strict=True)):
            start, stop = np.searchsorted(rows, self._edges[number : number + 2])
            if start < stop:
                block = sparse.csr_matrix(part.read(rows[start:stop] - self._edges[number]))
                found.append(block if genes is None else block[:, genes])
        whole = sparse.vstack(found, format="csr", dtype=self.dtype)
        return _csr(whole.data, whole.indices, whole.indptr, self.shape[1])

    def to_memory(self) -> sparse.csr_matrix:
        """All rows."""
        return self[:]

    def copy(self) -> Stacked:
        """The same rows; nothing can be written to them."""
        return self


def opened(matrix: Any) -> Any:
    """A matrix on disk as :class:`OnDisk`; any other as it is (also csc on disk, which has no rows to read).

    Parameters
    ----------
    matrix
        Any matrix that an AnnData may hold.
    """
    if isinstance(matrix, OnDisk):
        return matrix
    if isinstance(matrix, CSRDataset):
        group: Any = matrix.group  # type: ignore[attr-defined]
        return CsrOnDisk(group, matrix.shape)
    if isinstance(matrix, h5py.Dataset | zarr.Array):
        return DenseOnDisk(matrix)
    if type(matrix).__module__.startswith("dask."):
        return DaskOnDisk(matrix)
    return matrix


def columns(matrix: Any, genes: np.ndarray) -> Any:
    """Columns of a matrix that an AnnData may hold; of one on disk they stay there (as csr)."""
    found = opened(matrix)
    return Stacked([found], [genes]) if isinstance(found, OnDisk) else matrix[:, genes]


def rows_in_memory(matrix: CSCDataset) -> sparse.csr_matrix:
    """A csc matrix on disk as a csr matrix in memory, if it is small.

    Raises
    ------
    DataError
        If it is not: its rows lie all over the file.
    """
    group: Any = matrix.group  # type: ignore[attr-defined]
    size = group["data"].shape[0] * (matrix.dtype.itemsize + 4)
    if size > HELD:
        raise DataError(
            f"the matrix in {_where(group)} is csc, by genes: single cells cannot be read from it, and its "
            f"{size / 2**20:,.0f} MiB are too many to be held. Write it by cells once: "
            "adata = adata.to_memory(); adata.X = adata.X.tocsr(); adata.write_h5ad(...)"
        )
    return sparse.csr_matrix(matrix.to_memory())


def _is_compressed(array: Any) -> bool:
    return isinstance(array, zarr.Array) or array.compression is not None


def _where(group: Any) -> str:
    file = group.file.filename if isinstance(group, h5py.Group) else str(group.store_path)
    return f"{file!r} ({group.name})"


def _csr(data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, n_columns: int) -> sparse.csr_matrix:
    """A csr matrix whose pointers and indices are of one type, which scipy would convert at every read."""
    wide = np.int32 if len(data) < np.iinfo(np.int32).max else np.int64
    parts = (data, indices.astype(wide, copy=False), indptr.astype(wide, copy=False))
    return sparse.csr_matrix(parts, shape=(len(indptr) - 1, n_columns), copy=False)
