"""Cells held on the training device: what is gathered there is what the host would have gathered."""

import logging

import anndata as ad
import numpy as np
import pytest
import torch
from scipy import sparse

import latentcell as lc
from latentcell import _devices
from latentcell._disk import opened
from latentcell._sparse import SparseCells, densified
from latentcell.testing._cells import KEYS, make_cells
from latentcell.train import resident
from latentcell.train.loading import CellLoader, Cells
from latentcell.train.resident import OnDevice, ResidentCells, fitting

CPU = torch.device("cpu")
N_CELLS, N_GENES = 13, 7


class Trainer:
    """What :class:`OnDevice` looks at."""

    class strategy:
        root_device = CPU


@pytest.fixture
def roomy(monkeypatch):
    """The CPU counts as a device with room for cells."""
    monkeypatch.setattr(_devices, "free_memory", lambda device: 2**40)


@pytest.fixture
def counts(rng):
    rows = rng.poisson(0.5, size=(N_CELLS, N_GENES)).astype(np.float32)
    rows[3] = 0.0  # a cell without an entry
    return rows


def read_only(rows):
    matrix = sparse.csr_matrix(rows)
    for part in (matrix.data, matrix.indices, matrix.indptr):
        part.flags.writeable = False
    return matrix


def long_pointers(rows):
    matrix = sparse.csr_matrix(rows)
    matrix.indptr = matrix.indptr.astype(np.int64)
    return matrix


def unsorted(rows):
    matrix = sparse.csr_matrix(rows)[:, ::-1][:, ::-1]
    matrix.has_sorted_indices = False
    return matrix


def twice(rows):
    """Every entry in two parts."""
    matrix = sparse.csr_matrix(rows)
    parts = [np.repeat(matrix.data, 2) * np.tile([0.25, 0.75], matrix.nnz), np.repeat(matrix.indices, 2)]
    return sparse.csr_matrix((*parts, 2 * matrix.indptr), shape=matrix.shape)


KINDS = {
    "csr": sparse.csr_matrix,
    "csr array": sparse.csr_array,
    "csc": sparse.csc_matrix,
    "read only": read_only,
    "long pointers": long_pointers,
    "unsorted": unsorted,
    "twice": twice,
    "doubles": lambda rows: sparse.csr_matrix(rows, dtype=np.float64),
    "small integers": lambda rows: sparse.csr_matrix(rows.astype(np.uint16)),
    "dense": np.ascontiguousarray,
    "dense by columns": np.asfortranarray,
    "dense integers": lambda rows: rows.astype(np.int64),
    "nothing": lambda rows: sparse.csr_matrix(rows.shape),
}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        torch.testing.assert_close(found[name], values, rtol=0, atol=0)


@pytest.mark.parametrize("piece", [1, 5, 2**24])
@pytest.mark.parametrize("genes", [None, [6, 0, 3]])
@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_those_of_the_host(counts, kind, genes, piece, monkeypatch):
    monkeypatch.setattr(resident, "_PIECE", piece)
    matrix = KINDS[kind](counts)
    before = matrix.copy()
    arrays = {
        "batch": np.arange(N_CELLS)[:, None] % 2,
        "age": np.linspace(0, 1, N_CELLS, dtype=np.float32)[:, None],
    }
    cells = Cells(matrix, genes=None if genes is None else np.array(genes), arrays=arrays)
    wanted = [np.array([5, 3, 12, 0]), np.array([3]), np.array([1, 1, 4])]
    found = list(ResidentCells(cells, CPU).batches(wanted))
    assert len(found) == len(wanted)
    for rows, batch in zip(wanted, found, strict=True):
        assert_same(batch, cells.batch(rows))
    same = matrix != before
    assert not (same.nnz if sparse.issparse(same) else same.any())
    if sparse.issparse(matrix):
        assert matrix.nnz == before.nnz
    assert list(ResidentCells(cells, CPU).batches([])) == []


@pytest.mark.parametrize("n_ranks", [1, 3])
def test_the_order_of_every_epoch_is_the_loaders(counts, n_ranks, roomy):
    cells = Cells(sparse.csr_matrix(counts))
    for rank in range(n_ranks):
        host, held = (CellLoader(cells, np.arange(12), 6, shuffle=True, seed=5) for _ in range(2))
        OnDevice(held, None).setup(Trainer, None, "fit")
        orders = []
        for epoch in range(3):
            for loader in (host, held):
                loader.set_share(rank, n_ranks)
                loader.set_epoch(epoch)
            batches = list(held)
            for found, expected in zip(batches, host, strict=True):
                assert_same(found, expected)
            orders.append(torch.cat([batch["X"] for batch in batches]))
        assert not torch.equal(orders[0], orders[1])


def test_a_batch_of_the_epoch_is_read_anew(counts):
    loader = CellLoader(Cells(sparse.csr_matrix(counts)), np.arange(N_CELLS), 4, shuffle=True)
    loader.set_epoch(2)
    for number, batch in enumerate(loader):
        assert_same(loader.at(number), batch)


# --- the rule ---


def test_cells_are_held_where_they_take_half_of_the_free_memory_at_most(counts, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "latentcell")
    matrix = sparse.csr_matrix(counts)
    cells = Cells(matrix, arrays={"batch": np.zeros((N_CELLS, 1), np.int64)})
    held = ResidentCells(cells, CPU)
    parts = (held.values, held.genes, held.starts, held.lengths, held.arrays["batch"])
    size = sum(part.nbytes for part in parts)
    assert ResidentCells.size(cells) == size
    monkeypatch.setattr(_devices, "free_memory", lambda device: 2 * size)
    assert isinstance(fitting(cells, CPU), ResidentCells)
    assert "cells need 0 of 0 MiB that are free on cpu: they are held there" in caplog.text
    monkeypatch.setattr(_devices, "free_memory", lambda device: 2 * size - 1)
    assert fitting(cells, CPU) is None
    assert "they are gathered on the host" in caplog.text
    dense = Cells(counts, genes=np.array([2, 1]))
    assert ResidentCells.size(dense) == ResidentCells(dense, CPU).dense.nbytes == N_CELLS * 2 * 4


def test_cells_on_disk_are_gathered_on_the_host(counts, tmp_path, roomy, caplog):
    caplog.set_level(logging.INFO, "latentcell")
    ad.AnnData(sparse.csr_matrix(counts)).write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    assert fitting(Cells(opened(backed.X)), CPU) is None
    assert "cells on disk are gathered on the host" in caplog.text
    backed.file.close()


def test_on_a_cpu_nothing_is_held_and_nothing_said(counts, caplog):
    caplog.set_level(logging.INFO, "latentcell")
    loader = CellLoader(Cells(counts), np.arange(N_CELLS), 4)
    OnDevice(loader).setup(Trainer, None, "fit")
    assert loader.source is None
    assert not loader.pinned
    assert not caplog.records


def test_training_and_held_out_cells_are_held_once_and_let_go(counts, roomy, monkeypatch):
    made = []

    class Counted(ResidentCells):
        def __init__(self, *args):
            made.append(self)
            super().__init__(*args)

    monkeypatch.setattr(resident, "ResidentCells", Counted)
    cells = Cells(counts)
    train, held_out = CellLoader(cells, np.arange(9), 3), CellLoader(cells, np.arange(9, N_CELLS), 3)
    on_device = OnDevice(train, held_out)
    on_device.setup(Trainer, None, "fit")
    assert len(made) == 1
    assert train.source == held_out.source == made[0].batches
    torch.testing.assert_close(torch.cat([batch["X"] for batch in held_out]), torch.from_numpy(counts[9:]))
    on_device.release()
    assert train.source is held_out.source is None


# --- runs ---


def train(Model, setup, held, monkeypatch, early_stopping=False, **arguments):
    """A model trained on cells of the host, or on cells held, and how many batches were gathered there."""
    gathered = []
    batches = ResidentCells.batches
    with monkeypatch.context() as patch:
        if held:
            patch.setattr(_devices, "free_memory", lambda device: 2**40)
            patch.setattr(
                ResidentCells,
                "batches",
                lambda self, of: (gathered.append(b) or b for b in batches(self, of)),
            )
        adata = make_cells()
        Model.setup_anndata(adata, **setup)
        model = Model(adata, n_latent=3, hidden=(8,), **arguments)
        model.train(
            4,
            accelerator="cpu",
            precision="32-true",
            enable_progress_bar=False,
            **({"early_stopping": True} if early_stopping else {}),
        )
    return model, len(gathered)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("Model", [lc.model.AE, lc.model.VAE, lc.model.CVAE, lc.model.SAUCIE])
def test_the_same_bits_from_dense_cells(Model, early_stopping, monkeypatch):
    setup = KEYS | {"layer": "log"}
    host, nothing = train(Model, setup, False, monkeypatch, early_stopping, gene_likelihood="normal")
    held, gathered = train(Model, setup, True, monkeypatch, early_stopping, gene_likelihood="normal")
    assert nothing == 0
    assert gathered >= 4 * 7
    assert host.history.keys() == held.history.keys()
    for name, curve in host.history.items():
        np.testing.assert_array_equal(held.history[name], curve, err_msg=name)
    for name, values in host.module.state_dict().items():
        torch.testing.assert_close(held.module.state_dict()[name], values, rtol=0, atol=0)


@pytest.mark.parametrize("setup", [KEYS, KEYS | {"size_factor_key": "size"}])
@pytest.mark.parametrize("Model", [lc.model.VAE, lc.model.DCA, lc.model.GAN])
def test_the_same_curve_from_sparse_cells(Model, setup, monkeypatch):
    setup = {k: v for k, v in setup.items() if Model is not lc.model.GAN or k != "labels_key"}
    host, _ = train(Model, setup, False, monkeypatch)
    held, gathered = train(Model, setup, True, monkeypatch)
    assert gathered >= 4 * 7
    for name, curve in host.history.items():
        np.testing.assert_allclose(held.history[name], curve, rtol=1e-3, atol=1e-6, err_msg=name)


# --- making dense on a device ---


def test_made_dense_as_on_the_host(counts):
    cells = SparseCells.from_rows(sparse.csr_matrix(counts))
    parts = (torch.from_numpy(part) for part in (np.diff(cells.indptr), cells.indices, cells.data))
    torch.testing.assert_close(densified(*parts, N_GENES), cells.dense, rtol=0, atol=0)


def test_only_entries_travel(counts):
    rows = read_only(np.repeat(counts, 3, axis=0))
    cells = SparseCells.from_rows(rows)
    offset = torch.arange(float(N_GENES))
    for there in (cells.to("meta"), cells.with_data(cells.data, offset).to("meta")):
        assert there.shape == (3 * N_CELLS, N_GENES)
        assert there.device.type == "meta"
        assert there.dtype == torch.float32
    assert "dense" not in vars(cells)
