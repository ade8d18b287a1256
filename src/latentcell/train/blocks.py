"""Cells on disk in random order: blocks of rows in random order, shuffled in a window of memory."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from latentcell._disk import OnDisk


def block_order(
    indices: np.ndarray,
    sizes: Sequence[int],
    rng: np.random.Generator,
    *,
    block: int,
    window: int,
    n_ranks: int = 1,
) -> np.ndarray:
    """Every cell once, in an order that is nearly random and that a disk can follow.

    The rows, as they lie in the file, are cut into blocks at a random place, the blocks come in random order,
    and as many as fit a window of memory are shuffled together. With several processes each batch has the
    share of every process one behind the other, and a process meets blocks that no other reads.

    Parameters
    ----------
    indices
        The cells.
    sizes
        Of the batches, in order; their sum is the number of cells.
    rng
        Of all draws.
    block
        Consecutive cells that are drawn together.
    window
        Cells of one process that are shuffled together; a whole number of batches is.
    n_ranks
        Processes.

    Returns
    -------
    The cells, batch by batch.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> order = block_order(np.arange(12), [4, 4, 4], rng, block=2, window=4)
    >>> sorted(order.tolist()) == list(range(12))
    True
    """
    rows = np.sort(indices)
    cuts = np.arange(int(rng.integers(1, block + 1)), len(rows), block)
    blocks = np.split(rows, cuts)
    mixed = np.concatenate([blocks[i] for i in rng.permutation(len(blocks))])
    limits = np.array([[share(size, rank, n_ranks) for rank in range(n_ranks)] for size in sizes])
    lengths = limits[:, :, 1] - limits[:, :, 0]  # batches x processes
    order = np.empty_like(mixed)
    starts = np.cumsum([0, *sizes])
    taken = 0
    for rank in range(n_ranks):
        own = mixed[taken : taken + int(lengths[:, rank].sum())]
        taken += len(own)
        for first, last in windows(lengths[:, rank], window):
            n = int(lengths[first:last, rank].sum())
            shuffled, own = rng.permutation(own[:n]), own[n:]
            for number in range(first, last):
                begin, end = starts[number] + limits[number, rank]
                order[begin:end], shuffled = shuffled[: end - begin], shuffled[end - begin :]
    return order


def share(size: int, rank: int, n_ranks: int) -> tuple[int, int]:
    """First and last (not included) of the cells of a batch that a process works on.

    Examples
    --------
    >>> [share(7, rank, 2) for rank in range(2)]
    [(0, 3), (3, 7)]
    """
    return size * rank // n_ranks, size * (rank + 1) // n_ranks


def windows(sizes: Sequence[int] | np.ndarray, window: int) -> list[tuple[int, int]]:
    """First and last (not included) batch of each run of whole batches that a window holds; one at least.

    Examples
    --------
    >>> windows([4, 4, 4, 5], 9)
    [(0, 2), (2, 4)]
    """
    found, first, total = [], 0, 0
    for number, size in enumerate(sizes):
        if number > first and total + size > window:
            found.append((first, number))
            first, total = number, 0
        total += size
    return [*found, (first, len(sizes))] if len(sizes) else []


def by_windows(
    matrix: OnDisk, batches: Sequence[np.ndarray]
) -> Iterator[tuple[np.ndarray, Any, list[np.ndarray]]]:
    """Rows of as many batches as a window holds: which, they themselves, and each batch's among them.

    They are read sorted and once, so that what lies together in the file is read together.

    Parameters
    ----------
    matrix
        Cells x genes.
    batches
        Cells of each batch, in any order.
    """
    for first, last in windows([len(batch) for batch in batches], matrix.window):
        wanted, places = np.unique(np.concatenate(batches[first:last]), return_inverse=True)
        edges = np.cumsum([len(batch) for batch in batches[first:last]])[:-1]
        yield wanted, matrix.read(wanted), np.split(places, edges)
