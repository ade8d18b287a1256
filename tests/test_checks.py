import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from latentcell import _checks
from latentcell._checks import check_compressed, check_matrix, matrix_kind
from latentcell._errors import DataError

FORMATS = {
    "dense": np.asarray,
    "fortran": np.asfortranarray,
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "coo": sparse.coo_matrix,
    "csr_array": sparse.csr_array,
    "csc_array": sparse.csc_array,
}


@pytest.fixture(params=FORMATS)
def to_format(request):
    return FORMATS[request.param]


@pytest.fixture(params=[2**20, 7], ids=["one chunk", "many chunks"])
def _chunks(request, monkeypatch):
    monkeypatch.setattr(_checks, "_CHUNK", request.param)


def names(X):
    return [f"c{i}" for i in range(X.shape[0])], [f"g{j}" for j in range(X.shape[1])]


@pytest.fixture
def counts(rng):
    return rng.poisson(1.5, size=(9, 6)).astype(np.float32) + np.eye(9, 6, dtype=np.float32)


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda X: X, "counts"),
        (lambda X: X.astype(np.int64), "counts"),
        (lambda X: (X > 0).astype(np.uint8), "counts"),
        (lambda X: X * 0, "counts"),
        (lambda X: X / X.max(), "unit"),
        (np.log1p, "non-negative"),
        (lambda X: X - 1, "real"),
        (lambda X: X / X.max() - 0.5, "real"),
    ],
)
def test_kind(counts, to_format, change, kind):
    assert matrix_kind(to_format(change(counts))) == kind


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (np.nan, "finite", "X holds NaN or inf: cell 'c7', gene 'g4': nan"),
        (np.inf, "counts", "X holds NaN or inf: cell 'c7', gene 'g4': inf"),
        (-2, "non-negative", "negative values where none may be: cell 'c7', gene 'g4': -2"),
        (-2, "counts", "negative values where counts are needed: cell 'c7', gene 'g4': -2"),
        (0.5, "counts", "fractional values where counts are needed: cell 'c7', gene 'g4': 0.5"),
    ],
)
def test_one_bad_value_is_found_and_named(counts, to_format, value, kind, message):
    check_matrix(to_format(counts), *names(counts), kind=kind)
    counts[7, 4] = value
    with pytest.raises(DataError, match=message):
        check_matrix(to_format(counts), *names(counts), kind=kind)


@pytest.mark.usefixtures("_chunks")
def test_unit_names_values_above_one(counts, to_format):
    unit = counts / counts.max()
    check_matrix(to_format(unit), *names(unit), kind="unit")
    unit[2, 3] = 1.25
    with pytest.raises(DataError, match="values above 1 .*cell 'c2', gene 'g3': 1.25"):
        check_matrix(to_format(unit), *names(unit), kind="unit")


@pytest.mark.usefixtures("_chunks")
def test_cells_without_counts_are_named(counts, to_format):
    counts[[0, 3, 5, 8]] = 0
    with pytest.raises(DataError, match="X has 4 cells without any counts: 'c0', 'c3', 'c5', .*filter_cells"):
        check_matrix(to_format(counts), *names(counts), kind="counts")
    check_matrix(to_format(counts), *names(counts), kind="counts", allow_empty=True)
    check_matrix(to_format(counts), *names(counts), kind="non-negative")


def test_stored_zeros_are_not_counts():
    X = sparse.csr_matrix((np.array([0.0, 2.0]), np.array([0, 1]), np.array([0, 1, 2])), shape=(2, 2))
    with pytest.raises(DataError, match="1 cells without any counts: 'c0'"):
        check_matrix(X, *names(X), kind="counts")


def test_empty_rows_do_not_shift_the_named_cell():
    X = sparse.csr_matrix(([0.5], ([4], [2])), shape=(6, 3))
    with pytest.raises(DataError, match="cell 'c4', gene 'g2'"):
        check_matrix(X, *names(X), kind="counts")


def test_at_most_three_are_named():
    X = np.full((10, 2), -1.0)
    with pytest.raises(DataError) as error:
        check_matrix(X, *names(X), kind="counts")
    assert str(error.value).count("cell '") == 3


def test_kind_names_cells_or_positions():
    X = np.array([[1.0, np.nan]])
    with pytest.raises(DataError, match="cell number 0, gene number 1: nan"):
        matrix_kind(X)
    with pytest.raises(DataError, match="cell 'a', gene 'c': nan"):
        matrix_kind(X, ["a"], ["b", "c"])


def test_wrong_kind_or_shape_is_refused():
    with pytest.raises(DataError, match="kind='integers' is not one of 'counts'"):
        check_matrix(np.ones((1, 1)), ["c"], ["g"], kind="integers")
    with pytest.raises(DataError, match=r"shape \(1, 1\), but there are 1 cells and 2 genes"):
        check_matrix(np.ones((1, 1)), ["c"], ["g", "h"], kind="counts")


def test_nothing_is_changed(counts):
    X = sparse.csr_matrix(counts)
    before = X.copy()
    check_matrix(X, *names(X), kind="counts")
    assert matrix_kind(X) == "counts"
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(X, part), getattr(before, part))


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize("fmt", ["dense", "csr", "csc"])
def test_backed(counts, fmt, tmp_path):
    obs, var = (pd.DataFrame(index=index) for index in names(counts))
    for value, kind in ((None, "counts"), (0.5, "non-negative"), (-1, "real")):
        if value is not None:
            counts[8, 5] = value
        path = tmp_path / f"{kind}.h5ad"
        ad.AnnData(FORMATS[fmt](counts), obs=obs, var=var).write_h5ad(path)
        backed = ad.read_h5ad(path, backed="r")
        assert matrix_kind(backed.X) == kind
        if kind == "counts":
            check_matrix(backed.X, backed.obs_names, backed.var_names, kind="counts")
        else:
            with pytest.raises(DataError, match="cell 'c8', gene 'g5'"):
                check_matrix(backed.X, backed.obs_names, backed.var_names, kind="counts")
        backed.file.close()


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_array])
def test_parts_of_sparse_matrices_fit_each_other(counts, kind):
    check_compressed(kind(counts))
    check_compressed(kind((0, 3)))


@pytest.mark.parametrize(
    ("part", "place", "value", "message"),
    [
        ("indptr", 0, 1, "start at 0"),
        ("indptr", -1, 0, "pointers"),  # scipy then takes the matrix for one without entries
        ("indptr", -1, 10**6, "pointers"),
        ("indptr", 3, 2**31 - 1, "pointers"),
        ("indices", 2, 6, "positions"),
        ("indices", 2, -1, "positions"),
    ],
)
def test_parts_of_sparse_matrices_that_do_not_fit_are_refused(counts, part, place, value, message):
    broken = sparse.csr_matrix(counts)
    getattr(broken, part)[place] = value
    with pytest.raises(ValueError, match=message):
        check_compressed(broken)
