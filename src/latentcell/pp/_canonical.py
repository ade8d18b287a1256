"""Sparse matrices in the one form in which stored values can be counted."""

from typing import Any

from scipy import sparse

from latentcell._checks import as_csr


def canonical_csr(matrix: Any) -> Any:
    """Give csr without stored zeros and duplicates; the input itself if it is that already, never changed."""
    csr = matrix.tocsr() if sparse.issparse(matrix) else as_csr(matrix)
    if not csr.has_canonical_format or not csr.data.all():
        csr = csr.copy()
        csr.sum_duplicates()
        csr.eliminate_zeros()
    return csr
