"""Rows of matrices on disk: any rows in any order, equal to those of the matrix in memory."""

import multiprocessing
import os

import anndata as ad
import h5py
import numpy as np
import pytest
import zarr
from anndata.io import sparse_dataset, write_elem
from scipy import sparse

from latentcell import _disk
from latentcell._disk import CsrOnDisk, DenseOnDisk, OnDisk, Stacked, opened, rows_in_memory
from latentcell._errors import DataError

N_CELLS, N_GENES = 500, 30
ASKED = {
    "any order": [400, 3, 499, 0, 77],
    "repeated": [5, 5, 2, 5, 499, 499],
    "one": [250],
    "none": [],
    "neighbours": list(range(100, 180)),
    "all but some": [i for i in range(N_CELLS) if i % 7],
    "all": list(range(N_CELLS)),
    "backwards": list(range(N_CELLS))[::-1],
}


@pytest.fixture
def X(rng):
    X = rng.poisson(0.3, size=(N_CELLS, N_GENES)).astype(np.float32)
    X[[0, 9, 10, 499]] = 0  # rows without entries, at the ends and together
    return X


def zarr_csr(X, folder, zarr_format=3, **kwargs):
    group = zarr.open_group(folder / "csr.zarr", mode="w", zarr_format=zarr_format)
    if zarr_format == 3:  # anndata warns that it will choose shards itself one day
        kwargs = {"shards": None, **kwargs}
    write_elem(group, "X", sparse.csr_matrix(X), dataset_kwargs=kwargs)
    return sparse_dataset(group["X"])


def h5_csr(X, folder, dtype="f4", index="i4", **kwargs):
    matrix = sparse.csr_matrix(X.astype(dtype))
    matrix.indptr = matrix.indptr.astype("i8")
    matrix.indices = matrix.indices.astype(index)
    file = h5py.File(folder / "csr.h5", "w")
    write_elem(file, "X", matrix, dataset_kwargs=kwargs)
    return sparse_dataset(file["X"])


def backed(X, folder):
    ad.AnnData(X).write_h5ad(folder / "cells.h5ad")
    return ad.read_h5ad(folder / "cells.h5ad", backed="r").X


def dask_array(X, make, **kwargs):
    da = pytest.importorskip("dask.array")
    return da.from_array(make(X), **kwargs)


KINDS = {
    "h5ad csr": lambda X, folder: backed(sparse.csr_matrix(X), folder),
    "h5ad dense": lambda X, folder: backed(X, folder),
    "h5 float64, wide indices": lambda X, folder: h5_csr(X, folder, "f8", "i8"),
    "h5 gzip": lambda X, folder: h5_csr(X, folder, compression="gzip", chunks=(64,)),
    "h5 integers": lambda X, folder: h5_csr(X, folder, "i4"),
    "zarr 3 csr": zarr_csr,
    "zarr 3 csr, sharded": lambda X, folder: zarr_csr(X, folder, chunks=(64,), shards=(512,)),
    "zarr 2 csr": lambda X, folder: zarr_csr(X, folder, zarr_format=2),
    "zarr dense": lambda X, folder: zarr.array(X, chunks=(64, 16), store=folder / "dense.zarr"),
    "dask dense": lambda X, folder: dask_array(X, np.asarray, chunks=(70, 20)),
    "dask csr": lambda X, folder: dask_array(X, sparse.csr_matrix, chunks=(70, -1), asarray=False),
}


@pytest.fixture(params=KINDS)
def matrix(request, X, tmp_path):
    return KINDS[request.param](X, tmp_path)


def dense(rows):
    return np.asarray(rows.toarray() if sparse.issparse(rows) else rows)


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("gap", [0, 2**16])
def test_rows_are_those_asked_for(matrix, X, asked, gap, monkeypatch):
    """Whether or not what lies between rows is read with them."""
    monkeypatch.setattr(_disk, "_GAP", gap)
    rows = np.array(ASKED[asked], dtype=int)
    found = opened(matrix)
    assert isinstance(found, OnDisk)
    assert found.shape == X.shape
    np.testing.assert_array_equal(dense(found[rows]), X[rows])


def test_rows_are_read_in_parts(X, tmp_path, monkeypatch):
    monkeypatch.setattr(_disk, "_MOST", 50)
    found = opened(h5_csr(X, tmp_path))
    for rows in ASKED.values():
        np.testing.assert_array_equal(dense(found[np.array(rows, dtype=int)]), X[rows])


def test_any_index(matrix, X):
    found = opened(matrix)
    np.testing.assert_array_equal(dense(found[20:40]), X[20:40])
    np.testing.assert_array_equal(dense(found[3:300:7]), X[3:300:7])
    mask = X[:, 0] > 0
    np.testing.assert_array_equal(dense(found[mask]), X[mask])
    np.testing.assert_array_equal(dense(found[[7, 2], [5, 1, 0]]), X[[7, 2]][:, [5, 1, 0]])
    np.testing.assert_array_equal(dense(found[np.ix_([7, 2], [5, 1])]), X[np.ix_([7, 2], [5, 1])])
    np.testing.assert_array_equal(dense(found[:, 4:9]), X[:, 4:9])


def test_csr_rows_have_one_type_of_index(matrix):
    rows = opened(matrix)[[3, 1]]
    if sparse.issparse(rows):
        assert rows.indices.dtype == rows.indptr.dtype == np.int32


def test_size_is_known(X, tmp_path):
    matrix = sparse.csr_matrix(X)
    found = opened(h5_csr(X, tmp_path))
    assert found.nbytes == pytest.approx(
        matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes, rel=0.01
    )
    assert opened(zarr.array(X)).nbytes == X.nbytes


def test_blocks_are_longer_where_chunks_are_compressed(rng, tmp_path):
    X = (rng.random((4000, 20)) < 0.5).astype("f4")  # 10 entries a row
    assert opened(h5_csr(X, tmp_path)).run == _disk.SHORTEST
    assert opened(zarr_csr(X, tmp_path, chunks=(1000,))).run == pytest.approx(400, rel=0.05)
    assert opened(zarr_csr(X, tmp_path, chunks=(100_000,))).run == _disk.LONGEST


@pytest.mark.parametrize("window", [2**27, 2**16, 2**12])
def test_a_window_holds_many_blocks_and_no_more_than_it_may(X, tmp_path, monkeypatch, window):
    monkeypatch.setattr(_disk, "WINDOW", window)
    found = opened(h5_csr(np.tile(X, (8, 1)), tmp_path))
    assert found.window == min(4000, int(window / found.row_bytes))
    assert 1 <= found.block <= _disk.SHORTEST
    assert found.block == 1 or found.window >= 64 * found.block
    rows = found.read(np.arange(found.window))
    taken = rows.data.nbytes + rows.indices.nbytes + rows.indptr.nbytes
    assert taken == pytest.approx(found.window * found.row_bytes, rel=0.2)


def test_matrices_in_memory_are_left_as_they_are(X):
    for matrix in (X, sparse.csr_matrix(X), sparse.csc_array(X)):
        assert opened(matrix) is matrix


def test_csc_on_disk_is_held_if_it_is_small(X, tmp_path, monkeypatch):
    found = backed(sparse.csc_matrix(X), tmp_path)
    rows = rows_in_memory(found)
    assert rows.format == "csr"
    np.testing.assert_array_equal(rows.toarray(), X)
    monkeypatch.setattr(_disk, "HELD", 100)
    with pytest.raises(DataError, match=r"is csc, by genes.*tocsr\(\)"):
        rows_in_memory(found)


@pytest.mark.parametrize(
    ("member", "values", "what"),
    [
        ("indptr", lambda v: v[::-1], "pointers do not fit"),
        ("indptr", lambda v: v + 1, "pointers do not fit"),
        ("indptr", lambda v: v * 2, "pointers do not fit"),
        ("indices", lambda v: v + N_GENES, "entries beyond its genes"),
        ("indices", lambda v: v - 1, "entries beyond its genes"),
    ],
)
def test_a_damaged_matrix_is_refused(X, tmp_path, member, values, what):
    group = h5_csr(X, tmp_path).group
    group[member][:] = values(group[member][:])
    with pytest.raises(DataError, match=what):
        opened(sparse_dataset(group))[:]


def test_dask_with_chunks_of_unknown_size_is_refused(X):
    da = pytest.importorskip("dask.array")
    array = da.from_array(X, chunks=(100, -1))
    with pytest.raises(DataError, match="unknown size"):
        opened(array[array[:, 0] > 0])


def test_dask_is_computed_chunk_by_chunk(X):
    da = pytest.importorskip("dask.array")
    seen = []

    def read(block, block_info=None):
        seen.append(block_info[0]["array-location"][0])
        return block

    array = da.from_array(X, chunks=(100, -1)).map_blocks(read, dtype=X.dtype, meta=np.empty((0, 0)))
    found = opened(array)
    np.testing.assert_array_equal(found[[250, 10, 260]], X[[250, 10, 260]])
    assert sorted(seen) == [(0, 100), (200, 300)]


@pytest.fixture
def stacked(X, tmp_path):
    """csr on disk, dense on disk with genes in another order, and rows in memory."""
    order = np.random.default_rng(1).permutation(N_GENES)
    (tmp_path / "b").mkdir()
    parts = [
        h5_csr(X[:200], tmp_path),
        zarr.array(X[200:210][:, np.argsort(order)], store=tmp_path / "b" / "dense.zarr"),
        sparse.csc_matrix(X[210:]),
    ]
    return Stacked(parts, [None, order, None])


@pytest.mark.parametrize("asked", ASKED)
def test_stacked_matrices_are_one(stacked, X, asked):
    rows = ASKED[asked]
    assert stacked.shape == X.shape
    np.testing.assert_array_equal(stacked[np.array(rows, dtype=int)].toarray(), X[rows])


def test_anndata_takes_stacked_matrices(stacked, X):
    adata = ad.AnnData(X=stacked, layers={"counts": stacked})
    assert adata.X is stacked
    np.testing.assert_array_equal(adata[[300, 4], [9, 2]].X.toarray(), X[[300, 4]][:, [9, 2]])
    np.testing.assert_array_equal(adata[150:230].layers["counts"].toarray(), X[150:230])
    np.testing.assert_array_equal(adata.X.to_memory().toarray(), X)
    assert adata.copy().X is stacked


def _sum_of(found, queue):
    queue.put(float(found[:100].sum()))


def test_another_process_opens_the_file_anew(X, tmp_path):
    ad.AnnData(sparse.csr_matrix(X)).write_h5ad(tmp_path / "cells.h5ad")
    found = opened(ad.read_h5ad(tmp_path / "cells.h5ad", backed="r").X)
    assert isinstance(found, CsrOnDisk)
    fork = multiprocessing.get_context("fork")
    queue = fork.SimpleQueue()
    process = fork.Process(target=_sum_of, args=(found, queue))
    process.start()
    assert queue.get() == X[:100].sum()
    process.join()
    assert process.exitcode == 0
    assert float(found[:100].sum()) == X[:100].sum()  # and the first one's handle is as it was


def test_what_is_sent_to_another_process_is_no_handle(X, tmp_path):
    file = h5py.File(tmp_path / "dense.h5", "w")
    file["X"] = X
    file.flush()
    found = opened(file["X"])
    assert isinstance(found, DenseOnDisk)
    state = found._array.__getstate__()
    assert state["_node"] is None
    assert state["_place"] == (os.fspath(tmp_path / "dense.h5"), "/X")
