"""Whether the cells of a small group lie next to each other in a code."""

from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score
from sklearn.neighbors import NearestNeighbors

from latentcell._errors import DataError
from latentcell.metrics._inputs import check_codes, check_group, check_labels


def neighbor_average_precision(z: Any, labels: Any, group: Any, *, n_neighbors: int | None = None) -> float:
    """Score how well a cell's neighbours tell whether it belongs to a (rare) group.

    Every cell, in the group or not, gets the share of the group among its `n_neighbors` nearest other cells
    (Euclidean distance); the score is the average precision of this share as a classifier of the group.
    Unlike :func:`neighbor_purity` it falls if cells of other groups lie among the rare ones. The cell's own
    label is not used for its share. Cells with the same code are equally near: their share is the expectation
    over random order, so that the order of the cells has no influence.

    Range 0 to 1, **higher is better**: 1 if every cell of the group has a larger share than every other cell.
    The chance level is about the share of the group among the cells.

    Parameters
    ----------
    z
        Codes, cells x dimensions.
    labels
        One label for each cell.
    group
        Label of the group.
    n_neighbors
        Neighbours of each cell, itself not counted; ``None``: the size of the group less one, the number at
        which the cells of a perfect group have neighbours of the group only.

    Returns
    -------
    The score.

    Raises
    ------
    DataError
        If codes or labels do not fit each other, if a code is not finite, if the group is absent or has one
        cell, or if there are too few cells for `n_neighbors`.

    References
    ----------
    Davis and Goadrich (2006), The relationship between precision-recall and ROC curves,
    https://doi.org/10.1145/1143844.1143874

    Examples
    --------
    >>> import numpy as np
    >>> import latentcell as lc
    >>> z = np.array([[0.0], [0.1], [5.0], [5.1], [5.3]])
    >>> lc.metrics.neighbor_average_precision(z, ["rare", "rare", "T", "T", "T"], "rare")
    1.0
    """
    codes = check_codes(z)
    member = check_group(*check_labels(labels, len(codes)), group)
    share = _neighbor_share(codes, member, int(member.sum()) - 1 if n_neighbors is None else n_neighbors)
    return float(average_precision_score(member, share))


def neighbor_purity(z: Any, labels: Any, group: Any, *, n_neighbors: int = 4) -> float:
    """Score how far the nearest neighbours of a group's cells belong to the group.

    Mean, over the cells of the group, of the share of the group among the `n_neighbors` nearest other cells
    (Euclidean distance). Cells with the same code are equally near: their share is the expectation over
    random order.

    Range 0 to 1, **higher is better**. The chance level is (cells of the group - 1) / (all cells - 1). The
    best value is 1 if `n_neighbors` is below the size of the group, else (size - 1) / `n_neighbors`.

    Parameters
    ----------
    z
        Codes, cells x dimensions.
    labels
        One label for each cell.
    group
        Label of the group.
    n_neighbors
        Neighbours of each cell, itself not counted.

    Returns
    -------
    The score.

    Raises
    ------
    DataError
        If codes or labels do not fit each other, if a code is not finite, if the group is absent or has one
        cell, or if there are too few cells for `n_neighbors`.

    References
    ----------
    The share of same-label neighbours, as in Büttner et al. (2019), A test metric for assessing single-cell
    RNA-seq batch correction, Nat Methods 16, https://doi.org/10.1038/s41592-018-0254-1 (there: of a batch).

    Examples
    --------
    >>> import numpy as np
    >>> import latentcell as lc
    >>> z = np.array([[0.0], [0.1], [5.0], [5.1], [5.3]])
    >>> lc.metrics.neighbor_purity(z, ["rare", "rare", "T", "T", "T"], "rare", n_neighbors=1)
    1.0
    """
    codes = check_codes(z)
    member = check_group(*check_labels(labels, len(codes)), group)
    return float(_neighbor_share(codes, member, n_neighbors)[member].mean())


def _neighbor_share(codes: np.ndarray, member: np.ndarray, n_neighbors: int) -> np.ndarray:
    """Share of members among the nearest other cells of each cell, in expectation where codes are the same.

    The search runs over distinct codes. Each holds a number of cells, which are taken whole as long as there
    is room among the `n_neighbors`, and in part at the end.
    """
    if not 1 <= n_neighbors < len(codes):
        raise DataError(f"n_neighbors={n_neighbors} must be at least 1 and below the {len(codes)} cells.")
    distinct, at, size = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    at = at.ravel()
    members = np.bincount(at, weights=member, minlength=len(distinct))
    own = np.arange(len(distinct))[:, None]
    if len(distinct) > 1:
        search = NearestNeighbors(n_neighbors=min(n_neighbors, len(distinct) - 1)).fit(distinct)
        order = np.hstack([own, search.kneighbors(return_distance=False)])
    else:
        order = own

    available, found = size[order[at]], members[order[at]]
    available[:, 0] -= 1
    found[:, 0] -= member
    before = np.cumsum(available, axis=1) - available
    taken = np.clip(n_neighbors - before, 0, available)
    per_cell = np.divide(found, available, out=np.zeros_like(found), where=available > 0)
    return (taken * per_cell).sum(axis=1) / n_neighbors
