"""Codes of cells as a table of dimensions: looked up, checked, and in which cells each dimension is on."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from latentcell import _keys
from latentcell._errors import DataError

_DOWN = "_down"
_SPARSE = 0.01
"""Codes with at least this share of exact zeros are sparse."""


def dimension_names(n_dims: int) -> list[str]:
    """Names of dimensions in tables and figures, from 0: ``["dim_0", "dim_1", ...]``."""
    return [f"dim_{dim}" for dim in range(n_dims)]


def down(name: str) -> str:
    """Name of a dimension's group of genes that fall as it rises: ``"dim_0" -> "dim_0_down"``."""
    return name + _DOWN


def is_down(group: str) -> bool:
    """Whether a group of genes is of those that fall (see :func:`down`)."""
    return group.endswith(_DOWN)


def stored_codes(adata: Any, key: str) -> np.ndarray:
    """Codes ``adata.obsm[key]`` (cells x dimensions, float64).

    Raises
    ------
    DataError
        If they are missing, are not cells x dimensions, or hold a value that is not finite.
    """
    if key not in adata.obsm:
        there = ", ".join(adata.obsm) or "nothing"
        raise DataError(f"key={key!r} is not in adata.obsm (there: {there}).")
    codes = np.asarray(adata.obsm[key])
    if codes.ndim != 2 or not codes.shape[1] or codes.dtype.kind not in "biuf":
        raise DataError(f"adata.obsm[{key!r}] must be numbers, cells x dimensions; it is {codes.shape}.")
    if not np.isfinite(codes).all():
        row = int(np.flatnonzero(~np.isfinite(codes).all(axis=1))[0])
        raise DataError(f"adata.obsm[{key!r}] holds NaN or infinite values, first in row {row}.")
    return codes.astype(np.float64)


def checked_dims(dims: Sequence[int] | None, n_dims: int) -> list[int]:
    """Dimensions by position from 0; None is all. Unknown ones, or none at all, are a DataError."""
    chosen = list(range(n_dims)) if dims is None else [int(dim) for dim in dims]
    if not chosen or min(chosen) < 0 or max(chosen) >= n_dims:
        raise DataError(f"dims={dims!r}: the dimensions are 0 to {n_dims - 1}")
    return chosen


def where_on(adata: Any, key: str, codes: np.ndarray, threshold: float = 1.0) -> np.ndarray:
    """In which cells each dimension is on (cells x dimensions, booleans).

    Of sparse codes: where the code is not 0, in the hard codes ``obsm["<model>_hard"]`` where they are
    stored, else in `codes` if at least 1 % of them are exact zeros. Of dense codes, which are nowhere off:
    where they are more than `threshold` standard deviations from the dimension's median, to either side.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> from latentcell._codes import where_on
    >>> adata = AnnData(np.zeros((4, 1)))
    >>> where_on(adata, "X_mine", np.array([[0.0], [0.0], [0.3], [2.0]])).ravel()
    array([False, False,  True,  True])
    >>> where_on(adata, "X_mine", np.array([[0.1], [0.2], [0.3], [2.0]])).ravel()
    array([False, False, False,  True])
    """
    hard = _keys.hard(key)
    if hard in adata.obsm and np.shape(adata.obsm[hard]) == codes.shape:
        return np.asarray(adata.obsm[hard]) != 0
    if np.mean(codes == 0) >= _SPARSE:
        return codes != 0
    if not threshold > 0:
        raise DataError(f"threshold must be positive, got {threshold}")
    return np.abs(codes - np.median(codes, axis=0)) > threshold * codes.std(axis=0)
