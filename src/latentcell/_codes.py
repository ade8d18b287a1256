"""Codes of cells as a table of dimensions: looked up, checked, and in which cells each dimension is on."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from latentcell import _keys
from latentcell._errors import DataError, nearest

_DOWN = "_down"
_SPARSE = 0.01
"""Codes with at least this share of exact zeros are sparse."""

_ACTIVE = 0.01
"""Variance of codes, in units of their prior's, above which a dimension is active (Burda et al. 2016)."""


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
        raise DataError(f"key={key!r} is not in adata.obsm (there: {there}).{nearest(key, adata.obsm)}")
    codes = np.asarray(adata.obsm[key])
    if codes.ndim != 2 or not codes.shape[1] or codes.dtype.kind not in "biuf":
        raise DataError(f"adata.obsm[{key!r}] must be numbers, cells x dimensions; it is {codes.shape}.")
    if not np.isfinite(codes).all():
        row = int(np.flatnonzero(~np.isfinite(codes).all(axis=1))[0])
        raise DataError(f"adata.obsm[{key!r}] holds NaN or infinite values, first in row {row}.")
    return codes.astype(np.float64)


def checked_dims(dims: int | Sequence[int] | None, n_dims: int) -> list[int]:
    """Dimensions by position from 0, each once: one, several, or a mask of all of them; None is all.

    Raises
    ------
    DataError
        If there are none, or they are unknown, repeated or no whole numbers.

    Examples
    --------
    >>> from latentcell._codes import checked_dims
    >>> checked_dims([2, 0], 3), checked_dims(1, 3), checked_dims([False, True, True], 3)
    ([2, 0], [1], [1, 2])
    """
    if dims is None:
        return list(range(n_dims))
    given = np.atleast_1d(np.asarray(dims, dtype=object)).tolist()
    if given and all(isinstance(dim, bool | np.bool_) for dim in given):
        if len(given) != n_dims:
            raise DataError(f"dims: the mask has {len(given)} values, there are {n_dims} dimensions")
        given = np.flatnonzero(given).tolist()
    elif not all(isinstance(dim, int | np.integer) and not isinstance(dim, bool) for dim in given):
        raise DataError(f"dims={dims!r}: name dimensions by whole numbers, 0 to {n_dims - 1}")
    if not given or min(given) < 0 or max(given) >= n_dims:
        raise DataError(f"dims={dims!r}: the dimensions are 0 to {n_dims - 1}")
    if len(set(given)) < len(given):
        raise DataError(f"dims={dims!r}: name each dimension once")
    return [int(dim) for dim in given]


def active_dims(adata: Any, key: str, codes: np.ndarray) -> np.ndarray:
    """Which dimensions say anything about these cells (dimensions, booleans).

    A VAE leaves dimensions that it does not need at their prior; what remains of them still follows the cells
    a little, and looks like any other dimension once it is scaled. Under the prior N(0, 1) a dimension is
    active if the variance of its posterior means is above 0.01 (Burda et al. 2016); the same is asked of
    codes that are kept in units of their standard deviation (VSC). ``uns["<model>"]["unit_prior"]`` says
    whether codes are of this kind. Of others (PCA, AE, codes without a record), whose scale is their own,
    0.01 of the largest dimension's variance is enough where this is less. A dimension whose hard codes
    ``obsm["<model>_hard"]`` are all 0 is not active either.

    References
    ----------
    Burda, Grosse and Salakhutdinov, Importance weighted autoencoders, ICLR 2016,
    `arXiv:1509.00519 <https://arxiv.org/abs/1509.00519>`__ (section 5.2, active units).

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> from latentcell._codes import active_dims
    >>> codes = np.array([[-1.0, 0.05], [1.0, -0.05]])
    >>> active_dims(AnnData(np.zeros((2, 1))), "X_mine", codes)
    array([ True, False])
    """
    record = adata.uns.get(_keys.params(key))
    active = varying_dims(codes, isinstance(record, Mapping) and bool(record.get(_keys.UNIT_PRIOR, False)))
    hard = _hard_codes(adata, key, codes)
    return active if hard is None else active & (hard != 0).any(axis=0)


def varying_dims(codes: np.ndarray, unit_prior: bool) -> np.ndarray:
    """Which dimensions vary enough to be active, see :func:`active_dims` (dimensions, booleans).

    Examples
    --------
    >>> import numpy as np
    >>> from latentcell._codes import varying_dims
    >>> codes = np.array([[-0.09, 0.05], [0.09, -0.05]])
    >>> varying_dims(codes, unit_prior=True), varying_dims(codes, unit_prior=False)
    (array([False, False]), array([ True,  True]))
    """
    variance = codes.var(axis=0)
    limit = _ACTIVE if unit_prior else _ACTIVE * min(1.0, float(variance.max()))
    return (variance > limit) & (np.ptp(codes, axis=0) > 0)


def where_on(adata: Any, key: str, codes: np.ndarray, threshold: float = 1.0) -> np.ndarray:
    """In which cells each dimension is on (cells x dimensions, booleans); inactive ones are in none.

    Of sparse codes: where the code is not 0, in the hard codes ``obsm["<model>_hard"]`` where they are
    stored, else in `codes` if at least 1 % of those of active dimensions (:func:`active_dims`) are exact
    zeros. Of dense codes, which are nowhere off: where they are more than `threshold` standard deviations
    from the dimension's median, to either side.

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
    active = active_dims(adata, key, codes)
    hard = _hard_codes(adata, key, codes)
    if hard is not None:
        return (hard != 0) & active
    if active.any() and np.mean(codes[:, active] == 0) >= _SPARSE:
        return (codes != 0) & active
    if not threshold > 0:
        raise DataError(f"threshold must be positive, got {threshold}")
    return (np.abs(codes - np.median(codes, axis=0)) > threshold * codes.std(axis=0)) & active


def _hard_codes(adata: Any, key: str, codes: np.ndarray) -> np.ndarray | None:
    """The hard codes that belong to `codes`, if they are stored."""
    hard = _keys.hard(key)
    if hard in adata.obsm and np.shape(adata.obsm[hard]) == codes.shape:
        return np.asarray(adata.obsm[hard])
    return None
