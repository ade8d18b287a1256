"""What kind of numbers a matrix holds, found in bounded memory; errors name the first offending cells.

Works on dense arrays, scipy sparse matrices and anything sliced by rows (backed AnnData, h5py). Only numpy
and scipy are needed, so that every folder of the package may use it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np
from scipy import sparse

from latentcell._errors import DataError

Kind = Literal["counts", "unit", "non-negative", "real"]
Requirement = Literal["counts", "unit", "non-negative", "finite"]

_CHUNK = 2**20
"""Values looked at in one step."""

_LARGEST = float(np.finfo(np.float32).max)

_N_NAMED = 3
"""Offending cells that an error names."""

_NEEDED = {
    "finite": "",
    "non-negative": " where none may be",
    "unit": " where all must lie within 0 and 1",
    "counts": " where counts are needed",
}

_FIX = {
    "finite": "Remove or impute them before going on.",
    "non-negative": (
        "Are these scaled data? Use the unscaled values, e.g. a layer with counts or log1p values."
    ),
    "integer": (
        "Are these normalised or log-transformed data? Use the layer that holds the raw counts "
        "(`layer='counts'`), or a method for continuous values."
    ),
    "unit": "Rescale each gene to 0-1, e.g. with sklearn.preprocessing.MinMaxScaler.",
    "large": "Rescale them: nothing that is counted or measured in a cell is so large.",
    "empty": "Remove them first: `sc.pp.filter_cells(adata, min_counts=1)`.",
}


def layer_names(layers: Iterable[str | None]) -> list[str]:
    """Names of the layers of an AnnData, in order, without None, which is ``X`` from anndata 0.13 on.

    Examples
    --------
    >>> layer_names({None: "X", "spliced": "S", "counts": "C"})
    ['counts', 'spliced']
    """
    return sorted(str(name) for name in layers if name is not None)


def matrix_kind(
    X: Any,
    obs_names: Sequence[str] | None = None,
    var_names: Sequence[str] | None = None,
    *,
    where: str = "X",
) -> Kind:
    """Tell what kind of numbers a matrix holds.

    Parameters
    ----------
    X
        Matrix, cells x genes: array, scipy sparse matrix, or backed (sliced in chunks).
    obs_names, var_names
        Names of cells and genes, used in error messages; positions are named where they are missing.
    where
        How error messages call the matrix, e.g. ``"layers['counts']"``.

    Returns
    -------
    ``"counts"``: non-negative integers (so also a matrix of zeros and ones); else ``"unit"``: everything
    within 0 and 1; else ``"non-negative"``; else ``"real"``.

    Raises
    ------
    DataError
        If a value is NaN or infinite.

    Examples
    --------
    >>> import numpy as np
    >>> from latentcell._checks import matrix_kind
    >>> matrix_kind(np.array([[0, 3], [1, 0]])), matrix_kind(np.array([[0.0, 0.3]]))
    ('counts', 'unit')
    """
    check_numbers(X, where)
    integer = unit = non_negative = True
    for values, locate, _ in _chunks(X):
        _refuse(
            ~np.isfinite(values), values, locate, obs_names, var_names, f"{where} holds NaN or inf", "finite"
        )
        non_negative = non_negative and not (values < 0).any()
        unit = unit and non_negative and not (values > 1).any()
        integer = integer and non_negative and not _fractional(values).any()
    if integer:
        return "counts"
    if unit:
        return "unit"
    return "non-negative" if non_negative else "real"


def check_matrix(
    X: Any,
    obs_names: Sequence[str],
    var_names: Sequence[str],
    *,
    kind: Requirement,
    where: str = "X",
    allow_empty: bool = False,
) -> None:
    """Refuse a matrix that does not hold the required kind of numbers.

    Parameters
    ----------
    X
        Matrix, cells x genes: array, scipy sparse matrix, or backed (sliced in chunks).
    obs_names, var_names
        Names of cells and genes, used in error messages.
    kind
        ``"finite"``: no NaN or infinity. Each of the others asks for that and more: ``"non-negative"``;
        ``"unit"``: all values within 0 and 1; ``"counts"``: non-negative integers, and no cell without
        counts.
    where
        How error messages call the matrix, e.g. ``"layers['counts']"``.
    allow_empty
        Accept cells without any counts (`kind` ``"counts"`` only).

    Returns
    -------
    Nothing; the matrix is neither changed nor copied.

    Raises
    ------
    DataError
        Naming the first offending cells (and genes), and what to do.

    Examples
    --------
    >>> import numpy as np
    >>> from latentcell._checks import check_matrix
    >>> check_matrix(np.array([[0, 2.5]]), ["c1"], ["g1", "g2"], kind="counts")
    Traceback (most recent call last):
        ...
    latentcell._errors.DataError: X holds fractional values where counts are needed: cell 'c1', gene 'g2'...
    """
    if kind not in get_args(Requirement):
        raise DataError(f"kind={kind!r} is not one of {', '.join(map(repr, get_args(Requirement)))}.")
    check_numbers(X, where)
    if X.shape != (len(obs_names), len(var_names)):
        raise DataError(
            f"{where} has the shape {tuple(X.shape)}, but there are {len(obs_names)} cells "
            f"and {len(var_names)} genes."
        )
    needed = _NEEDED[kind]
    filled = np.zeros(X.shape[0], dtype=bool)
    for values, locate, mark_filled in _chunks(X):

        def refuse(bad: np.ndarray, what: str, fix: str, values=values, locate=locate) -> None:
            _refuse(bad, values, locate, obs_names, var_names, f"{where} holds {what}", fix)

        refuse(~np.isfinite(values), "NaN or inf", "finite")
        if values.dtype == np.float64:
            refuse(~usable(values), "values too large for single precision", "large")
        if kind == "finite":
            continue
        refuse(values < 0, f"negative values{needed}", "non-negative")
        if kind == "unit":
            refuse(values > 1, f"values above 1{needed}", "unit")
        if kind == "counts":
            refuse(_fractional(values), f"fractional values{needed}", "integer")
            mark_filled(filled)
    if kind == "counts" and not allow_empty and not filled.all():
        empty = np.flatnonzero(~filled)
        named = ", ".join(repr(str(obs_names[i])) for i in empty[:_N_NAMED])
        more = ", ..." if len(empty) > _N_NAMED else ""
        raise DataError(f"{where} has {len(empty)} cells without any counts: {named}{more}. {_FIX['empty']}")


def usable(values: np.ndarray) -> np.ndarray:
    """Where real numbers are finite and single precision can hold them; beyond it squares overflow.

    Examples
    --------
    >>> import numpy as np
    >>> usable(np.array([1.0, np.nan, np.inf, 1e200])).tolist()
    [True, False, False, False]
    """
    return np.abs(values) <= _LARGEST if values.dtype == np.float64 else np.isfinite(values)


def as_csr(X: Any) -> Any:
    """A csr matrix of an array or a sparse matrix.

    Half precision, which scipy's sparse matrices cannot hold, becomes single.

    Examples
    --------
    >>> import numpy as np
    >>> as_csr(np.eye(2, dtype="float16")).dtype
    dtype('float32')
    """
    return sparse.csr_matrix(X.astype(np.float32) if X.dtype == np.float16 else X)


def check_numbers(X: Any, where: str) -> None:
    """Refuse text, objects and complex numbers."""
    dtype = getattr(X, "dtype", None)
    if dtype is not None and dtype.kind not in "biuf":
        raise DataError(
            f"{where} holds values of type {dtype}, not numbers. Convert it: X.astype('float32')."
        )


def _fractional(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind in "biu":
        return np.zeros(values.shape, dtype=bool)
    return values != np.floor(values)


def _refuse(
    bad: np.ndarray,
    values: np.ndarray,
    locate: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    obs_names: Sequence[str] | None,
    var_names: Sequence[str] | None,
    what: str,
    fix: str,
) -> None:
    """Raise a DataError that names the first cells where `bad` is true, if there are any."""
    if not bad.any():
        return
    at = np.flatnonzero(bad)[:_N_NAMED]
    named = "; ".join(
        f"cell {_name(obs_names, i)}, gene {_name(var_names, j)}: {value:.6g}"
        for i, j, value in zip(*locate(at), values[at], strict=True)
    )
    raise DataError(f"{what}: {named}. {_FIX[fix]}")


def _name(names: Sequence[str] | None, position: int) -> str:
    return f"number {position}" if names is None else repr(str(names[position]))


_Chunk = tuple[
    np.ndarray,
    Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    Callable[[np.ndarray], None],
]


def _chunks(X: Any) -> Iterator[_Chunk]:
    """Yield stored values with two functions: positions -> (cells, genes), and mark cells with counts."""
    if sparse.issparse(X):
        yield from _sparse_chunks(X if X.format in ("csr", "csc") else X.tocsr())
        return
    n_obs, n_vars = X.shape
    by_column = getattr(X, "format", None) == "csc"
    n_major, n_minor = (n_vars, n_obs) if by_column else (n_obs, n_vars)
    step = getattr(X, "rows_at_once", max(1, _CHUNK // max(1, n_minor)))
    for start in range(0, n_major, step):
        block = X[:, start : start + step] if by_column else X[start : start + step]
        offset = (0, start) if by_column else (start, 0)
        if sparse.issparse(block):
            yield from _sparse_chunks(block, offset)
        else:
            yield _dense_chunk(np.asarray(block), offset)


def _dense_chunk(block: np.ndarray, offset: tuple[int, int]) -> _Chunk:
    def locate(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        i, j = np.unravel_index(at, block.shape)
        return i + offset[0], j + offset[1]

    def mark_filled(filled: np.ndarray) -> None:
        filled[offset[0] : offset[0] + block.shape[0]] |= block.any(axis=1)

    return block.ravel(), locate, mark_filled


def check_compressed(X: Any) -> None:
    """Refuse a csr or csc matrix whose parts do not fit each other, on which scipy's routines would crash.

    scipy's own ``check_format`` sees nothing wrong with pointers that go back at the last one.

    Raises
    ------
    ValueError
        Saying what does not fit.
    """
    pointers, positions = X.indptr, X.indices
    n_rows, n_columns = X.shape if X.format == "csr" else X.shape[::-1]
    if pointers.dtype.kind not in "iu" or positions.dtype.kind not in "iu":
        raise ValueError(f"pointers and positions are {pointers.dtype} and {positions.dtype}")
    if len(pointers) != n_rows + 1 or pointers[0] != 0:
        raise ValueError(f"pointers must start at 0 and be {n_rows + 1}, got {len(pointers)}")
    if (pointers[1:] < pointers[:-1]).any() or pointers[-1] > len(positions):
        raise ValueError("pointers go back, or beyond the entries")
    if len(positions) != len(X.data) or positions.min(initial=0) < 0 or (positions >= n_columns).any():
        raise ValueError(f"entries have positions beyond {n_columns}, or none")


def _sparse_chunks(X: Any, offset: tuple[int, int] = (0, 0)) -> Iterator[_Chunk]:
    n_stored = int(X.indptr[-1])
    for start in range(0, n_stored, _CHUNK):
        stored = slice(start, min(start + _CHUNK, n_stored))
        values, minor = X.data[stored], X.indices[stored]

        def locate(at: np.ndarray, start=start, minor=minor) -> tuple[np.ndarray, np.ndarray]:
            major = np.searchsorted(X.indptr, at + start, side="right") - 1
            i, j = (major, minor[at]) if X.format == "csr" else (minor[at], major)
            return i + offset[0], j + offset[1]

        def mark_filled(filled: np.ndarray, stored=stored, values=values, minor=minor) -> None:
            nonzero = values != 0
            if X.format == "csc":
                filled[minor[nonzero] + offset[0]] = True
                return
            first, last = (
                np.searchsorted(X.indptr, stored.start, "right") - 1,
                np.searchsorted(X.indptr, stored.stop),
            )
            edges = np.clip(X.indptr[first : last + 1] - stored.start, 0, len(values))
            n_before = np.concatenate([[0], np.cumsum(nonzero)])
            filled[offset[0] + first : offset[0] + last] |= np.diff(n_before[edges]) > 0

        yield values, locate, mark_filled
