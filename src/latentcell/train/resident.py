"""Cells that stay on the device a model is trained on, and batches that are gathered there.

A small network on a GPU waits for its cells: gathered on the host and copied at every step. Cells that fit
are copied once instead. A batch is then made by the device from row numbers alone, and the host, which knows
how many entries every cell has, never asks the device for a size.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from scipy import sparse
from torch import Tensor

from latentcell import _devices
from latentcell._sparse import densified

from .loading import X_KEY, CellLoader, Cells

SHARE = 0.5
"""Share of a device's free memory that cells may take; weights, gradients and a step's arrays need room."""
_PIECE = 2**24
"""Values converted and copied at once, so that the host needs no second copy of the cells."""
_log = logging.getLogger(__name__)


class ResidentCells:
    """Cells on a device: entries of sparse ones (float32, int32), dense ones as they are (float32).

    Parameters
    ----------
    cells
        Cells in memory: csr or a numpy array.
    device
        Where to put them.

    Examples
    --------
    >>> cells = Cells(sparse.csr_matrix([[0.0, 1.0], [2.0, 0.0], [3.0, 4.0]]))
    >>> (batch,) = ResidentCells(cells, torch.device("cpu")).batches([np.array([2, 0])])
    >>> batch["X"].tolist()
    [[3.0, 4.0], [0.0, 1.0]]
    """

    def __init__(self, cells: Cells, device: torch.device) -> None:
        self.device = device
        matrix = cells.matrix if cells.genes is None else cells.matrix[:, cells.genes]
        self.n_genes = matrix.shape[1]
        self.arrays = {
            name: torch.from_numpy(np.array(values, order="C")).to(device)
            for name, values in cells.arrays.items()
        }
        self.dense: Tensor | None = None
        if not sparse.issparse(matrix):
            self.dense = _sent(matrix, np.float32, device)
            return
        if not matrix.has_canonical_format:
            matrix = matrix.copy()  # the user's own stays as it is
            matrix.sum_duplicates()
        self.n_entries = np.diff(matrix.indptr).astype(np.int64)
        self.starts = _sent(matrix.indptr[:-1], np.int64, device)
        self.lengths = _sent(self.n_entries, np.int64, device)
        self.genes = _sent(matrix.indices, np.int32, device)
        self.values = _sent(matrix.data, np.float32, device)

    @staticmethod
    def size(cells: Cells) -> int | None:
        """Bytes that these cells would take, at most; None of cells that cannot be held."""
        beside = sum(values.nbytes for values in cells.arrays.values())
        matrix = cells.matrix
        if sparse.issparse(matrix):
            return 8 * (matrix.nnz + 2 * matrix.shape[0]) + beside
        n_genes = matrix.shape[1] if cells.genes is None else len(cells.genes)
        return 4 * matrix.shape[0] * n_genes + beside if isinstance(matrix, np.ndarray) else None

    def batches(self, batches: Sequence[np.ndarray]) -> Iterator[dict[str, Tensor]]:
        """Batches of cells by their row numbers: what :meth:`Cells.batch` gives, dense and on the device.

        All row numbers are sent at once, before the first batch.
        """
        if not len(batches):
            return
        order = np.concatenate(batches).astype(np.int64)
        rows = on_its_way(order, self.device)
        edges = np.cumsum([0, *(len(batch) for batch in batches)])
        if self.dense is None:
            n_entries = np.diff(np.concatenate([[0], np.cumsum(self.n_entries[order])])[edges]).tolist()
        else:
            n_entries = [0] * len(batches)
        for begin, end, n in zip(edges[:-1].tolist(), edges[1:].tolist(), n_entries, strict=True):
            of_batch = rows[begin:end]
            yield {X_KEY: self._expression(of_batch, n)} | {
                name: values.index_select(0, of_batch) for name, values in self.arrays.items()
            }

    def _expression(self, rows: Tensor, n_entries: int) -> Tensor:
        """Expression of cells (cells x genes) that have `n_entries` entries together."""
        if self.dense is not None:
            return self.dense.index_select(0, rows)
        lengths = self.lengths[rows]
        # the entries of these cells, one after another: how far each lies from its number among them
        further = self.starts[rows] - (lengths.cumsum(0) - lengths)
        entries = torch.arange(n_entries, device=self.device)
        entries = entries + torch.repeat_interleave(further, lengths, output_size=n_entries)
        return densified(lengths, self.genes[entries], self.values[entries], self.n_genes)


class OnDevice(Callback):
    """Before a run, put its cells on its device if they fit; else have batches made ready to be sent.

    Every process of a run holds all cells on its own device: each epoch gives it others.

    Parameters
    ----------
    loaders
        What the run reads.
    """

    def __init__(self, *loaders: CellLoader | None) -> None:
        self.loaders = [loader for loader in loaders if loader is not None]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Look for room; called in every process, before the weights are on the device."""
        device = trainer.strategy.root_device
        held: dict[int, ResidentCells | None] = {}
        for loader in self.loaders:
            number = id(loader.cells)
            if number not in held:
                held[number] = fitting(loader.cells, device)
            resident = held[number]
            loader.source = None if resident is None else resident.batches
            loader.pinned = resident is None and device.type == "cuda"

    def release(self) -> None:
        """Let go of the device's memory."""
        for loader in self.loaders:
            loader.source, loader.pinned = None, False


def fitting(cells: Cells, device: torch.device) -> ResidentCells | None:
    """The cells on the device if they take at most half of its free memory; a line in the log says so."""
    free = _devices.free_memory(device)
    if free is None:
        return None
    size = ResidentCells.size(cells)
    if size is None:
        _log.info("cells on disk are gathered on the host, batch by batch, and sent to %s", device)
        return None
    needed = f"cells need {size / 2**20:,.0f} of {free / 2**20:,.0f} MiB that are free on {device}"
    if size > SHARE * free:
        _log.info("%s: they are gathered on the host, batch by batch, and sent there", needed)
        return None
    _log.info("%s: they are held there", needed)
    return ResidentCells(cells, device)


def on_its_way(values: np.ndarray, device: torch.device) -> Tensor:
    """Values on a device, without waiting until they are there."""
    found = torch.from_numpy(values)
    return found.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else found.to(device)


def _sent(values: Any, dtype: Any, device: torch.device) -> Tensor:
    """An array on a device as another type, copied piece by piece."""
    wanted = torch.from_numpy(np.empty(0, dtype)).dtype
    found = torch.empty(values.shape, dtype=wanted, device=device)
    step = max(1, _PIECE // max(1, int(np.prod(values.shape[1:]))))
    for begin in range(0, len(values), step):
        piece = np.array(values[begin : begin + step], dtype=dtype, order="C")
        found[begin : begin + step].copy_(torch.from_numpy(piece))
    return found
