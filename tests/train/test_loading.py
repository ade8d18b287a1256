"""Cells to batches: every cell once, in the order asked for, from any kind of matrix, which stays as is."""

import anndata as ad
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from latentcell._sparse import SparseCells
from latentcell.train.loading import CellLoader, Cells, by_rows

quick = settings(max_examples=100, deadline=None, derandomize=True)
N_CELLS, N_GENES = 23, 7
ROWS = np.array([20, 3, 3, 0, 22, 7, 20])  # out of order, repeated, first and last


@pytest.fixture
def X(rng):
    return rng.poisson(0.8, size=(N_CELLS, N_GENES)).astype(np.float32)


def wide_pointers(X):
    """As scanpy's files often come: indptr wider than indices."""
    matrix = sparse.csr_matrix(X)
    matrix.indptr = matrix.indptr.astype(np.int64)
    return matrix


IN_MEMORY = {
    "dense": np.asarray,
    "fortran": np.asfortranarray,
    "float64": lambda X: X.astype(np.float64),
    "int64": lambda X: X.astype(np.int64),
    "uint8": lambda X: X.astype(np.uint8),
    "csr": sparse.csr_matrix,
    "csr_array": sparse.csr_array,
    "csr float64": lambda X: sparse.csr_matrix(X.astype(np.float64)),
    "csr int32": lambda X: sparse.csr_matrix(X.astype(np.int32)),
    "csr, wide pointers": wide_pointers,
    "csc": sparse.csc_matrix,
    "csc_array": sparse.csc_array,
    "coo": sparse.coo_matrix,
}
BACKED = {"backed dense": np.asarray, "backed csr": sparse.csr_matrix, "backed csc": sparse.csc_matrix}


@pytest.fixture(params=[*IN_MEMORY, *BACKED])
def matrix(request, X, tmp_path):
    if request.param in IN_MEMORY:
        yield IN_MEMORY[request.param](X)
        return
    ad.AnnData(BACKED[request.param](X)).write_h5ad(tmp_path / "cells.h5ad")
    adata = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    yield adata.X
    adata.file.close()


def dense(rows):
    return np.asarray(rows.toarray() if sparse.issparse(rows) else rows)


def parts(matrix):
    """Copies of the arrays that a matrix in memory is made of."""
    if isinstance(matrix, np.ndarray):
        return {"data": matrix.copy()}
    names = ("row", "col", "data") if matrix.format == "coo" else ("data", "indices", "indptr")
    return {name: getattr(matrix, name).copy() for name in names}


def test_rows_come_in_the_order_asked_for(matrix, X):
    np.testing.assert_array_equal(dense(by_rows(matrix)[ROWS]), X[ROWS])


@pytest.mark.parametrize("genes", [None, [5, 0, 6], [2]])
def test_batches_are_float32_rows_with_their_arrays(matrix, X, genes):
    arrays = {
        "batch": np.arange(N_CELLS)[:, None],
        "depth": np.linspace(0, 1, N_CELLS, dtype=np.float32)[:, None],
    }
    cells = Cells(matrix, genes=None if genes is None else np.array(genes), arrays=arrays)
    assert cells.n_obs == N_CELLS
    batch = cells.batch(ROWS)
    assert set(batch) == {"X", "batch", "depth"}
    assert batch["X"].dtype == torch.float32
    np.testing.assert_array_equal(batch["X"].numpy(), X[ROWS][:, genes or slice(None)])
    np.testing.assert_array_equal(batch["batch"].numpy(), ROWS[:, None])
    np.testing.assert_array_equal(batch["depth"].numpy(), arrays["depth"][ROWS])


@pytest.mark.parametrize("kind", IN_MEMORY)
def test_the_matrix_is_never_changed(kind, X):
    matrix = IN_MEMORY[kind](X)
    before = parts(matrix)
    cells = Cells(matrix)
    for batch in CellLoader(cells, np.arange(N_CELLS), 4, shuffle=True):
        batch["X"] += 1  # a batch belongs to whoever asked for it
    after = parts(matrix)
    for name, values in before.items():
        assert after[name].dtype == values.dtype
        np.testing.assert_array_equal(after[name], values)


@pytest.mark.parametrize("kind", ["dense", "csr", "csr_array", "csr, wide pointers"])
def test_rows_share_the_memory_of_the_matrix(kind, X):
    matrix = IN_MEMORY[kind](X)
    rows = by_rows(matrix)
    values = (lambda m: m) if kind == "dense" else (lambda m: m.data)
    assert np.shares_memory(values(rows), values(matrix))


@quick
@given(st.integers(1, 60), st.integers(1, 20), st.booleans(), st.integers(0, 3))
def test_every_cell_once_in_full_batches(n, batch_size, shuffle, epoch):
    indices = np.arange(n) * 2 + 1
    loader = CellLoader(Cells(np.zeros((2 * n + 1, 1))), indices, batch_size, shuffle=shuffle, seed=4)
    loader.set_epoch(epoch)
    batches = loader.batches()
    assert len(loader) == len(batches)
    assert sorted(np.concatenate(batches)) == indices.tolist()
    sizes = [len(batch) for batch in batches]
    assert all(size == batch_size for size in sizes[:-1])
    if batch_size > 1:
        assert sizes[-1] <= batch_size + 1
        assert n == 1 or sizes[-1] > 1  # batch normalisation cannot use a batch of one cell
    if not shuffle:
        np.testing.assert_array_equal(np.concatenate(batches), indices)


def test_no_cells_are_no_batches():
    loader = CellLoader(Cells(np.zeros((3, 1))), np.array([], dtype=int), 2)
    assert len(loader) == 0
    assert list(loader) == []


def test_iteration_gives_the_batches_listed(X):
    loader = CellLoader(Cells(X), np.arange(N_CELLS), 6, shuffle=True, seed=1)
    for batch, indices in zip(loader, loader.batches(), strict=True):
        np.testing.assert_array_equal(batch["X"].numpy(), X[indices])


def test_order_is_a_function_of_seed_and_epoch_alone(X):
    def order(seed, epoch, others=()):
        loader = CellLoader(Cells(X), np.arange(N_CELLS), 5, shuffle=True, seed=seed)
        for other in others:
            loader.set_epoch(other)
            list(loader)
        loader.set_epoch(epoch)
        np.random.default_rng(0).random()  # other draws have no say
        return np.concatenate(loader.batches()).tolist()

    assert order(3, 2) == order(3, 2, others=[0, 1]) == order(3, 2, others=[7])
    orders = {tuple(order(seed, epoch)) for seed in range(3) for epoch in range(4)}
    assert len(orders) == 12


@pytest.mark.parametrize("genes", [None, np.array([2, 0])])
def test_sparse_cells_add_up_entries_given_twice(genes):
    twice = sparse.csr_matrix(
        (np.array([1.0, 2.0, 5.0]), np.array([2, 2, 0]), np.array([0, 2, 3, 3])), shape=(3, 20)
    )
    batch = Cells(twice, genes=genes).batch(np.array([1, 0, 2]), sparse_cells=True)["X"]
    expected = twice.toarray()[[1, 0, 2]]
    expected = expected if genes is None else expected[:, genes]
    dense = batch.dense if isinstance(batch, SparseCells) else batch
    np.testing.assert_array_equal(dense.numpy(), expected)
    if genes is None:
        assert isinstance(batch, SparseCells)
        assert sorted(batch.data.tolist()) == [3.0, 5.0]
    assert twice.nnz == 3


def test_sparse_cells_are_for_matrices_that_are_mostly_zeros():
    mostly, hardly = np.eye(8, dtype=np.float32), np.ones((8, 8), dtype=np.float32)
    rows = np.arange(8)
    assert isinstance(Cells(sparse.csr_matrix(mostly)).batch(rows, sparse_cells=True)["X"], SparseCells)
    assert isinstance(Cells(sparse.csr_matrix(mostly)).batch(rows)["X"], torch.Tensor)
    assert isinstance(Cells(sparse.csr_matrix(hardly)).batch(rows, sparse_cells=True)["X"], torch.Tensor)
    assert isinstance(Cells(mostly).batch(rows, sparse_cells=True)["X"], torch.Tensor)
    for matrix in (hardly, sparse.csr_matrix(hardly)):
        found = Cells(matrix).batch(rows, sparse_cells=True, any_density=True)["X"]
        assert isinstance(found, SparseCells)
        np.testing.assert_array_equal(found.dense, hardly[rows])
    loader = CellLoader(Cells(sparse.csr_matrix(mostly)), rows, 4, sparse_cells=True)
    np.testing.assert_array_equal(np.concatenate([b["X"].dense for b in loader]), mostly)
