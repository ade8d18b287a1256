import numpy as np
from scipy import sparse

from latentcell.pp._canonical import canonical_csr


def test_stored_zeros_and_duplicates_go_and_the_input_stays():
    data, indices, indptr = np.array([1.0, 2.0, 0.0, 4.0]), np.array([1, 1, 0, 2]), np.array([0, 3, 4])
    X = sparse.csr_matrix((data, indices, indptr), shape=(2, 3))
    canonical = canonical_csr(X)
    assert canonical.nnz == 2
    np.testing.assert_array_equal(canonical.toarray(), [[0, 3, 0], [0, 0, 4]])
    assert X.nnz == 4


def test_a_canonical_matrix_is_not_copied():
    X = sparse.random_array((5, 4), density=0.5, format="csr", rng=0)
    assert np.shares_memory(canonical_csr(X).data, X.data)


def test_dense_and_csc():
    X = np.array([[0, 2], [1, 0]])
    for matrix in (X, sparse.csc_matrix(X), sparse.csc_array(X)):
        canonical = canonical_csr(matrix)
        assert canonical.format == "csr"
        np.testing.assert_array_equal(canonical.toarray(), X)
