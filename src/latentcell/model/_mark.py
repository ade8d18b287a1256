"""Whether a matrix is still the one that a model was built with."""

from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from latentcell._disk import OnDisk, opened

N_ROWS = 64
"""Cells whose values are looked at: what changes a matrix in place changes nearly all."""


class Mark(NamedTuple):
    """Shape of a matrix, and a digest of values of some of its cells."""

    shape: tuple[int, ...]
    digest: bytes


def mark_of(matrix: Any) -> Mark | None:
    """The mark of a matrix in memory; None of one elsewhere, which nothing changes in place.

    It is that of the non-zero values of each cell, whatever their order and type: a matrix that was made
    dense, sorted or of another precision has the same.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> counts = np.array([[0, 3, 1], [2, 0, 0]])
    >>> mark_of(counts) == mark_of(sparse.csc_matrix(counts.astype(float)))
    True
    >>> mark_of(counts) == mark_of(np.log1p(counts))
    False
    """
    matrix = opened(matrix)
    if isinstance(matrix, OnDisk) or not (isinstance(matrix, np.ndarray) or sparse.issparse(matrix)):
        return None
    rows = np.unique(np.linspace(0, max(matrix.shape[0] - 1, 0), N_ROWS, dtype=int))[: matrix.shape[0]]
    some = matrix[rows]
    with np.errstate(over="ignore"):
        some = sparse.csr_matrix(some if sparse.issparse(some) else some.astype(np.float32))
        data = some.data.astype(np.float32)
    digest = blake2b(digest_size=16)
    for start, stop in zip(some.indptr[:-1], some.indptr[1:], strict=True):
        values = data[start:stop]
        values = values[values != 0]
        digest.update(len(values).to_bytes(8, "little") + np.sort(values).tobytes())
    return Mark(tuple(matrix.shape), digest.digest())
