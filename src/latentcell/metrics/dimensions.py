"""Which single dimension of a code tells a group of cells from the rest, and how well."""

from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from latentcell._errors import DataError
from latentcell.metrics._inputs import check_codes, check_labels


def dimension_scores(z: Any, labels: Any, *, direction: Literal["both", "positive"] = "both") -> pd.DataFrame:
    """Score how readable a code is: for each group the dimension that best tells its cells from the others.

    For every group and dimension the cells are ranked by their value; two scores say how far the group's
    cells come first:

    * AUROC: probability that a cell of the group has a higher value than a cell of the rest (ties count
      half). Higher is better; 0.5 is chance, though the best of many dimensions lies above it by chance
      alone.
    * average precision: sum over thresholds of precision times the gain in recall. Higher is better; chance
      is the share of the group among the cells, which makes it the stricter score for rare groups.

    The best dimension is taken separately for each score. The sign of a dimension has no meaning in most
    codes: with `direction` ``"both"`` a dimension also counts if low values mark the group.

    Parameters
    ----------
    z
        Codes, cells x dimensions.
    labels
        One label for each cell, at least two groups.
    direction
        ``"both"``: high or low values may mark a group; ``"positive"``: only high ones, as is proper for
        non-negative codes that are read as programmes.

    Returns
    -------
    DataFrame with one row for each group (index ``"group"``, sorted) and the columns

    ``n_cells``, ``prevalence``
        Cells of the group, and their share of all.
    ``auroc``, ``auroc_dim``, ``auroc_sign``
        Best AUROC, the dimension (position from 0), and 1 if high, -1 if low values mark the group.
    ``average_precision``, ``average_precision_dim``, ``average_precision_sign``
        The same for the average precision.

    Raises
    ------
    DataError
        If codes or labels do not fit each other, if a code is not finite, or if there is one group only.

    References
    ----------
    Fawcett (2006), An introduction to ROC analysis, Pattern Recognit Lett 27,
    https://doi.org/10.1016/j.patrec.2005.10.010; Davis and Goadrich (2006), The relationship between
    precision-recall and ROC curves, https://doi.org/10.1145/1143844.1143874

    Examples
    --------
    >>> import numpy as np
    >>> import latentcell as lc
    >>> z = np.array([[0.0, 1.0], [0.0, 2.0], [3.0, 1.0], [4.0, 0.0]])
    >>> scores = lc.metrics.dimension_scores(z, ["B", "B", "T", "T"])
    >>> scores[["auroc", "auroc_dim", "auroc_sign"]].to_dict("index")
    {'B': {'auroc': 1.0, 'auroc_dim': 0, 'auroc_sign': -1},
     'T': {'auroc': 1.0, 'auroc_dim': 0, 'auroc_sign': 1}}
    """
    if direction not in ("both", "positive"):
        raise DataError(f"direction={direction!r} must be 'both' or 'positive'.")
    codes = check_codes(z)
    group_of, groups = check_labels(labels, len(codes))
    if len(groups) < 2:
        raise DataError(
            f"All cells have the label {groups[0]!r}; scores of one group against the rest need two."
        )
    member = group_of[:, None] == np.arange(len(groups))
    signs = np.array([1, -1] if direction == "both" else [1])

    auroc = dimension_aurocs(codes, member)
    n_dims = codes.shape[1]
    every_auroc = np.stack([auroc, 1 - auroc][: len(signs)])
    every_ap = np.empty((len(signs), n_dims, len(groups)))
    for s, sign in enumerate(signs):
        for dim in range(n_dims):
            every_ap[s, dim] = _average_precision(sign * codes[:, dim], member)

    n_cells = member.sum(axis=0)
    columns: dict[str, np.ndarray] = {"n_cells": n_cells, "prevalence": n_cells / len(codes)}
    for name, every in (("auroc", every_auroc), ("average_precision", every_ap)):
        flat = every.reshape(-1, len(groups))
        best = flat.argmax(axis=0)
        columns[name] = flat[best, np.arange(len(groups))]
        columns[f"{name}_dim"] = best % n_dims
        columns[f"{name}_sign"] = signs[best // n_dims]
    return pd.DataFrame(columns, index=groups.rename("group"))


def dimension_aurocs(codes: np.ndarray, member: np.ndarray) -> np.ndarray:
    """AUROC of every dimension (rows) for every group (columns), by the rank sum of Mann and Whitney."""
    n_in = member.sum(axis=0)
    rank_sum = rankdata(codes, axis=0).T @ member
    return (rank_sum - n_in * (n_in + 1) / 2) / (n_in * (len(codes) - n_in))


def _average_precision(values: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Average precision of one dimension for every group; cells of equal value pass a threshold together."""
    order = np.argsort(-values, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)
    hits = np.cumsum(member[order], axis=0)[last_of_tie]
    precision = hits / (last_of_tie + 1)[:, None]
    recall = hits / hits[-1]
    return (np.diff(recall, axis=0, prepend=0) * precision).sum(axis=0)
