"""Real and new cells joined by name: columns of ``obs``, and matrices that follow from one another."""

import warnings
from collections.abc import Callable
from itertools import count, islice, product
from typing import Any, cast

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from latentcell import _keys
from latentcell._checks import as_csr, layer_names
from latentcell.model._cells import place_of

_RTOL = 1e-4
"""How near values must come to count as computed from others: single precision and its sums."""

Rule = Callable[[Any], Any]


def joined_obs(real: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Columns of both, rows of `real` first; new cells have names of their own."""
    real = real[
        [key for key in real if not str(key).startswith("_scvi_")]
    ].copy()  # codes of a model's set-up
    if _keys.IS_GENERATED not in real:
        real[_keys.IS_GENERATED] = False
    free = (name for name in map("generated_{}".format, count()) if name not in real.index)
    new = new.set_axis(pd.Index(list(islice(free, len(new))), dtype=object))
    index = real.index.append(new.index)
    columns = dict.fromkeys([*real.columns, *new.columns])
    return pd.DataFrame(
        {key: _joined_column(real.get(key), new.get(key), index) for key in columns}, index=index
    )


def _joined_column(real: pd.Series | None, new: pd.Series | None, index: pd.Index) -> pd.Series:
    """Values of both; missing where there are none."""
    if real is None or new is None:
        there = cast("pd.Series", new if real is None else real)
        is_bool = pd.api.types.is_bool_dtype(there) and len(there) < len(index)
        return (there.astype("boolean") if is_bool else there).reindex(index)
    if isinstance(real.dtype, pd.CategoricalDtype):
        names = new.astype(object)
        unseen = [name for name in names.unique() if name not in real.cat.categories]
        real = real.cat.add_categories(unseen)
        return pd.concat([real, names.astype(real.dtype)])
    return pd.concat([real, new.astype(object) if real.dtype == object else new])


def joined_matrices(real: AnnData, drawn: Any, layer: str | None) -> tuple[dict[str | None, Any], bool]:
    """All matrices of the result by layer (None is ``X``), and whether ``X`` holds what it held before."""
    there: dict[str | None, Any] = {None: real.X} | {
        key: real.layers[key] for key in layer_names(real.layers)
    }
    given = there.pop(layer)
    joined = {layer: stack(given, drawn)}
    for key, matrix in there.items():
        rule = None if matrix is None else rule_between(given, matrix)
        if rule is not None:
            joined[key] = stack(matrix, rule(drawn))
    if None in joined:
        return joined, True
    if there[None] is None:
        return joined | {None: None}, False
    place = place_of(layer)
    warnings.warn(
        f"X of the result holds {place}: new cells have no X like that of adata, which is neither {place}, "
        f"nor normalised to one total over these {real.n_vars} genes, nor log(1 + x) of that. For "
        "log-normalised values: sc.pp.normalize_total(result, target_sum=1e4); sc.pp.log1p(result)",
        UserWarning,
        stacklevel=3,
    )
    return joined | {None: joined[layer].copy()}, False


def rule_between(matrix: Any, other: Any) -> Rule | None:
    """How `other` was computed from `matrix`, cell by cell; None if in none of the ways that are known.

    The known ways: the same values, values scaled to one total per cell (``sc.pp.normalize_total``), and the
    logarithm log(1 + x) of either (``sc.pp.log1p``). Every value is compared.

    Parameters
    ----------
    matrix, other
        Cells x genes, dense or sparse, of the same shape.

    Returns
    -------
    A function from a matrix of new cells to theirs of the kind of `other`, or None.
    """
    if not all(_is_usable(values) for values in (matrix, other)):
        return None
    for log, scaled in product((False, True), repeat=2):
        total = None
        if scaled:
            total = _common_total(other, log)
            if total is None:
                continue

        def rule(values: Any, total: float | None = total, log: bool = log) -> Any:
            return _transformed(values, total, log)

        if _are_close(rule(matrix), other):
            return rule
    return None


def stack(above: Any, below: Any) -> Any:
    """Rows of `below` under those of `above`, stored as `above` is, and of its dtype if that holds them."""
    if not sparse.issparse(above):
        below = below.toarray() if sparse.issparse(below) else np.asarray(below)
        return np.concatenate([np.asarray(above), _fitted(below, above.dtype)])
    return sparse.vstack([above, _fitted(as_csr(below), above.dtype)], format="csr")


def _fitted(values: Any, dtype: np.dtype) -> Any:
    if values.dtype == dtype or np.issubdtype(dtype, np.floating):
        return values.astype(dtype, copy=False)
    stored = values.data if sparse.issparse(values) else values
    with np.errstate(invalid="ignore"):
        is_exact = bool((stored.astype(dtype) == stored).all())
    return values.astype(dtype) if is_exact else values


def _is_usable(matrix: Any) -> bool:
    """Whether the matrix is of non-negative numbers, as all known ways need."""
    if matrix is None or not np.issubdtype(matrix.dtype, np.number):
        return False
    values = matrix.data if sparse.issparse(matrix) else np.asarray(matrix)
    return bool((values >= 0).all())


def _totals(matrix: Any) -> np.ndarray:
    return np.asarray(matrix.sum(axis=1, dtype=np.float64)).ravel()


def _common_total(matrix: Any, log: bool) -> float | None:
    """The total that every cell with counts has; None if they differ."""
    with np.errstate(over="ignore"):  # what is no logarithm may be too large to undo one
        totals = _totals(np.expm1(matrix.astype(np.float64)) if log else matrix)
    totals = totals[totals > 0]
    if not len(totals) or not np.isfinite(totals).all():
        return None
    total = float(f"{np.median(totals):.5g}")
    return total if np.allclose(totals, total, rtol=10 * _RTOL) else None


def _transformed(matrix: Any, total: float | None, log: bool) -> Any:
    values = matrix.astype(np.float64)
    if total is not None:
        sums = _totals(values)
        factor = np.divide(total, sums, out=np.zeros_like(sums), where=sums > 0)
        values = sparse.diags(factor) @ values if sparse.issparse(values) else values * factor[:, None]
    return np.log1p(values) if log else values


def _are_close(values: Any, other: Any) -> bool:
    if not (sparse.issparse(values) or sparse.issparse(other)):
        return bool(np.allclose(values, other, rtol=_RTOL, atol=1e-6))
    difference = as_csr(values) - as_csr(other)
    allowed = as_csr(values) * _RTOL
    return bool((abs(difference) - allowed).max() <= 1e-6)
