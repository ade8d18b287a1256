"""Shuffled blocks: every cell once, nearly at random, and never more in memory than a window."""

import h5py
import numpy as np
import pytest
from anndata.io import sparse_dataset, write_elem
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from latentcell._disk import OnDisk
from latentcell.train.blocks import block_order, by_windows, share, windows
from latentcell.train.loading import CellLoader, Cells

quick = settings(max_examples=100, deadline=None, derandomize=True)


class Counting(OnDisk):
    """Row i holds i; notes what is read."""

    dtype = np.dtype("f4")
    row_bytes = 4.0
    block = 1

    def __init__(self, n, block, window):
        self.shape, self.block, self.most, self.seen = (n, 1), block, window, []

    @property
    def window(self):
        return self.most

    def read(self, rows):
        assert (np.diff(rows) > 0).all()
        self.seen.append(rows)
        return rows[:, None].astype("f4")


def loaders(n, batch_size, n_ranks, seed=0, epoch=0, indices=None, block=8, window=40):
    """The loaders of all processes."""
    found = []
    for rank in range(n_ranks):
        cells = Cells(Counting(n, block, window), arrays={"number": np.arange(n)[:, None]})
        rows = np.arange(n) if indices is None else indices
        loader = CellLoader(cells, rows, batch_size, shuffle=True, seed=seed)
        loader.set_share(rank, n_ranks)
        loader.set_epoch(epoch)
        found.append(loader)
    return found


@quick
@given(st.integers(4, 300), st.integers(8, 30), st.integers(1, 3), st.integers(1, 40), st.integers(1, 90))
def test_every_cell_once_whatever_the_sizes(n, batch_size, n_ranks, block, window):
    every = loaders(n, batch_size, n_ranks, block=block, window=window)
    batches = [loader.batches() for loader in every]
    assert {len(own) for own in batches} == {len(every[0])}  # as many steps in every process
    assert sorted(np.concatenate([row for own in batches for row in own])) == list(range(n))
    for number, size in enumerate(every[0].sizes()):
        shares = [len(own[number]) for own in batches]
        assert sum(shares) == size
        assert max(shares) - min(shares) <= 1
        assert min(shares) >= 2 or n < 2 * n_ranks  # batch normalisation needs two
        weights = [loader.weight(number) for loader in every]
        assert np.dot(weights, shares) / n_ranks * size == pytest.approx(np.dot(shares, shares))


def test_weights_make_the_mean_over_processes_the_mean_over_cells(rng):
    values = rng.normal(size=103)
    every = loaders(103, 20, 3)
    for number, size in enumerate(every[0].sizes()):
        own = [loader.batches()[number] for loader in every]
        means = [values[rows].mean() * loader.weight(number) for rows, loader in zip(own, every, strict=True)]
        assert size in (20, 23)
        assert np.mean(means) == pytest.approx(values[np.concatenate(own)].mean())


def test_the_order_is_a_function_of_seed_and_epoch_alone():
    def order(seed, epoch):
        (loader,) = loaders(200, 16, 1, seed=seed, epoch=epoch)
        return tuple(np.concatenate(loader.batches()).tolist())

    assert order(1, 3) == order(1, 3)
    assert len({order(seed, epoch) for seed in range(3) for epoch in range(3)}) == 9


def test_cells_of_a_window_come_from_few_blocks_and_are_shuffled():
    """160 cells in blocks of 8, windows of 40: five or six blocks a window, and one that was cut in two."""
    (loader,) = loaders(160, 20, 1, seed=2)
    order = np.concatenate(loader.batches())
    for window in order.reshape(-1, 40):
        pieces = np.split(np.sort(window), np.flatnonzero(np.diff(np.sort(window)) > 1) + 1)
        assert len(pieces) <= 7
        assert (np.diff(window) != 1).mean() > 0.9  # neighbours of the file are not neighbours any more
    first = [np.concatenate(loaders(160, 20, 1, epoch=epoch)[0].batches())[0] for epoch in range(300)]
    assert len(set(first)) > 100  # any cell may be the first


def test_a_single_window_is_shuffled_like_cells_in_memory():
    """If all cells fit, each is as likely at any place."""
    places = np.array(
        [
            np.argsort(block_order(np.arange(6), [6], np.random.default_rng(i), block=2, window=6))
            for i in range(3000)
        ]
    )
    shares = np.array([(places == place).mean(axis=0) for place in range(6)])
    np.testing.assert_allclose(shares, 1 / 6, atol=0.03)  # 4 standard errors


def test_no_more_than_a_window_is_read_at_a_time_and_each_row_once():
    indices = np.sort(np.random.default_rng(0).permutation(500)[:441])
    for n_ranks in (1, 2):
        every = loaders(500, 16, n_ranks, indices=indices)
        read = []
        for loader in every:
            list(loader)
            assert max(len(rows) for rows in loader.cells.matrix.seen) <= 40 + 2 * n_ranks
            read += loader.cells.matrix.seen
        assert sorted(np.concatenate(read)) == indices.tolist()  # a process reads its own cells only


def test_processes_read_different_blocks():
    """All but the block at the border."""
    first, second = loaders(1024, 32, 2, block=64, window=512)
    blocks = [set((np.concatenate(loader.batches()) // 64).tolist()) for loader in (first, second)]
    assert len(blocks[0] & blocks[1]) <= 16 // 2  # a random offset cuts every block of 64 in two at most
    assert sum(map(len, blocks)) <= 16 + 18


def test_batches_hold_their_cells_and_arrays():
    (loader,) = loaders(100, 7, 1)
    for batch, rows in zip(loader, loader.batches(), strict=True):
        np.testing.assert_array_equal(batch["X"][:, 0], rows)
        np.testing.assert_array_equal(batch["number"][:, 0], rows)


def test_without_shuffling_rows_come_as_asked():
    rows = np.random.default_rng(3).permutation(90)[:55]
    matrix = Counting(90, 8, 20)
    found = [batch["X"][:, 0].numpy() for batch in CellLoader(Cells(matrix), rows, 6)]
    np.testing.assert_array_equal(np.concatenate(found), rows)
    assert max(map(len, matrix.seen)) <= 20
    twice = [batch["X"][:, 0].numpy() for batch in CellLoader(Cells(matrix), np.array([5, 5, 1]), 2)]
    np.testing.assert_array_equal(np.concatenate(twice), [5, 5, 1])


@quick
@given(st.lists(st.integers(1, 9), max_size=20), st.integers(1, 25))
def test_windows_are_as_long_as_they_can_be(sizes, window):
    found = windows(sizes, window)
    assert [n for first, last in found for n in range(first, last)] == list(range(len(sizes)))
    for first, last in found:
        assert last - first == 1 or sum(sizes[first:last]) <= window
        assert last == len(sizes) or sum(sizes[first : last + 1]) > window


@quick
@given(st.integers(0, 50), st.integers(1, 7))
def test_shares_follow_each_other(size, n_ranks):
    edges = [share(size, rank, n_ranks) for rank in range(n_ranks)]
    assert edges[0][0] == 0
    assert edges[-1][1] == size
    assert all(a[1] == b[0] for a, b in zip(edges, edges[1:], strict=False))


def test_windows_of_a_file_equal_the_matrix(rng, tmp_path):
    X = rng.poisson(0.2, size=(300, 40)).astype("f4")
    with h5py.File(tmp_path / "cells.h5", "w") as file:
        write_elem(file, "X", sparse.csr_matrix(X))
        cells = Cells(sparse_dataset(file["X"]), genes=np.array([7, 3, 0]))
        loader = CellLoader(cells, np.arange(0, 300, 2), 32, shuffle=True, sparse_cells=True)
        for batch, rows in zip(loader, loader.batches(), strict=True):
            x = batch["X"]
            dense = x.dense if hasattr(x, "dense") else x
            np.testing.assert_array_equal(dense.numpy(), X[rows][:, [7, 3, 0]])
        held = cells.held()
        assert sparse.issparse(held.matrix)
        np.testing.assert_array_equal(held.batch(np.arange(300))["X"].numpy(), X[:, [7, 3, 0]])


def test_large_matrices_are_not_held(monkeypatch):
    cells = Cells(Counting(100, 8, 20), cell_names=[f"c{i}" for i in range(100)])
    assert cells.held().matrix.shape == (100, 1)
    assert isinstance(cells.held().matrix, np.ndarray)
    assert cells.held().cell_names[3] == "c3"
    monkeypatch.setattr("latentcell.train.loading.HELD", 399)
    assert cells.held() is cells


def test_windows_read_each_row_once_for_all_batches():
    matrix = Counting(50, 8, 12)
    batches = [np.array([4, 9, 1]), np.array([9, 3]), np.array([40])]
    ((wanted, rows, places),) = by_windows(matrix, batches)
    assert wanted.tolist() == [1, 3, 4, 9, 40]
    assert [rows[at, 0].tolist() for at in places] == [b.tolist() for b in batches]
