"""Checks that the metrics share: values are finite and two-dimensional, labels complete and as many."""

from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from latentcell._checks import usable
from latentcell._errors import DataError, nearest


def check_codes(z: Any, *, name: str = "z", any_scale: bool = False) -> np.ndarray:
    """Give codes as a dense float array, cells x dimensions; refuse anything not finite.

    Numbers beyond single precision, whose squares overflow, are refused as well unless a metric takes
    `any_scale`.
    """
    codes = np.asarray(z)
    if codes.dtype.kind not in "biuf":
        raise DataError(
            f"{name} must be a dense array of numbers, cells x dimensions; it is {type(z).__name__}."
        )
    if codes.ndim != 2 or codes.shape[1] == 0:
        raise DataError(
            f"{name} must be cells x dimensions; its shape is {codes.shape}. "
            f"Use {name}.reshape(-1, 1) for one."
        )
    finite = (np.isfinite(codes) if any_scale else usable(codes)).all(axis=1)
    if not finite.all():
        first = ", ".join(map(str, np.flatnonzero(~finite)[:3]))
        raise DataError(
            f"{name} holds NaN or infinite values in {np.sum(~finite)} cells, first in rows {first}."
        )
    return codes.astype(np.float64, copy=False)


def check_sets(least: int = 2, **sets: Any) -> list[np.ndarray]:
    """Give sets of cells as dense float arrays; refuse unlike columns and sets of fewer than `least` cells.

    Sparse matrices are made dense. The keywords are the names that error messages use.
    """
    dense = {
        name: check_codes(X.toarray() if sparse.issparse(X) else X, name=name) for name, X in sets.items()
    }
    widths = {name: X.shape[1] for name, X in dense.items()}
    if len(set(widths.values())) > 1:
        told = ", ".join(f"{name} has {width}" for name, width in widths.items())
        raise DataError(f"The sets must have the same columns: {told}.")
    for name, X in dense.items():
        if len(X) < least:
            raise DataError(f"{name} has {len(X)} cells; at least {least} are needed.")
    return list(dense.values())


def check_labels(
    labels: Any, n_cells: int | None = None, *, name: str = "labels"
) -> tuple[np.ndarray, pd.Index]:
    """Give labels as integers and the distinct labels, sorted; refuse missing ones and another length."""
    codes, groups = pd.factorize(np.asarray(labels, dtype=object), sort=True)
    if n_cells is not None and len(codes) != n_cells:
        raise DataError(f"{name} has {len(codes)} entries for {n_cells} cells.")
    if len(codes) == 0:
        raise DataError(f"{name} is empty.")
    if (codes < 0).any():
        first = ", ".join(map(str, np.flatnonzero(codes < 0)[:3]))
        raise DataError(
            f"{name} is missing for {np.sum(codes < 0)} cells, first in rows {first}. "
            "Leave these cells out: keep = labels.notna(); z[keep], labels[keep]."
        )
    return codes, pd.Index(groups)


def check_group(codes: np.ndarray, groups: pd.Index, group: Any) -> np.ndarray:
    """Mark the cells of one group; refuse a group that is absent, is alone, or has one cell only."""
    if group not in groups:
        raise DataError(
            f"group={group!r} is not among the labels: {', '.join(map(repr, groups))}."
            f"{nearest(group, groups)}"
        )
    member = codes == groups.get_loc(group)
    if member.all():
        raise DataError(f"All cells have the label {group!r}; there is no other group to compare with.")
    if member.sum() < 2:
        raise DataError(f"group={group!r} has one cell; neighbours within the group need at least two.")
    return member
