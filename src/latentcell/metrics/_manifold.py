"""Where generated cells lie among the real ones: neighbours mixed, manifold covered."""

from typing import Any

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from latentcell._errors import DataError
from latentcell.metrics._inputs import check_sets

_N_BISECTIONS = 64
"""Steps in the search for the width of each cell's kernel; the factor is then known to 1e-10."""


def neighbor_mixing(real: Any, generated: Any, *, n_neighbors: int = 90) -> float:
    r"""Score how well real and generated cells mix among the nearest neighbours (LISI, scaled to 0-1).

    Around every cell of both sets, its `n_neighbors` nearest other cells get weights that fall exponentially
    with the distance, with a perplexity of a third of `n_neighbors`. With p the weighted share of real cells,
    the local inverse Simpson index is :math:`1 / (p^2 + (1 - p)^2)`, between 1 (one set only) and 2 (half and
    half); the score is its median over all cells, less 1.

    0 to 1, **higher is better**; 0 where the sets lie apart. Symmetric. Two samples of the same cells stay
    below 1, as shares vary by chance: compare with a second real sample of the same size. The definition is
    that of scib-metrics' iLISI, of which the cell itself is never a neighbour here.

    Parameters
    ----------
    real, generated
        Cells x features, the same features in both; equally many cells, or 1 is out of reach.
    n_neighbors
        Neighbours of each cell, itself not counted; with fewer other cells, all of them.

    Returns
    -------
    Median index, less 1.

    Raises
    ------
    DataError
        If a value is not finite, if the features differ, or if `n_neighbors` is below 3.

    References
    ----------
    Korsunsky et al. (2019), Fast, sensitive and accurate integration of single-cell data with Harmony, Nat
    Methods 16, https://doi.org/10.1038/s41592-019-0619-0; scaled as in Luecken et al. (2022), Nat Methods 19,
    https://doi.org/10.1038/s41592-021-01336-8

    Examples
    --------
    >>> import numpy as np
    >>> import latentcell as lc
    >>> rng = np.random.default_rng(0)
    >>> real, generated = rng.normal(size=(2, 300, 3))
    >>> round(lc.metrics.neighbor_mixing(real, generated), 1)
    0.9
    >>> lc.metrics.neighbor_mixing(real, generated + 100)
    0.0
    """
    if n_neighbors < 3:
        raise DataError(f"n_neighbors={n_neighbors} must be at least 3: the perplexity is a third of it.")
    real, generated = check_sets(real=real, generated=generated)
    X = np.vstack([real, generated])
    is_real = np.arange(len(X)) < len(real)
    n_neighbors = min(n_neighbors, len(X) - 1)
    distance, at = NearestNeighbors(n_neighbors=n_neighbors).fit(X).kneighbors()
    share = (_weights(distance, n_neighbors / 3) * is_real[at]).sum(axis=1)
    return float(np.median(1 / (share**2 + (1 - share) ** 2))) - 1.0


def manifold_overlap(real: Any, generated: Any, *, n_neighbors: int = 5) -> dict[str, float]:
    """Score how far generated cells lie where real cells are, and how much of the real cells they cover.

    Around every cell there is a ball that reaches to its `n_neighbors`-th nearest other cell of the same set.

    * ``precision``: share of generated cells within a ball of any real cell. 0 to 1, **higher is better**;
      falls with cells that are like none. One real outlier with a wide ball can raise it.
    * ``recall``: share of real cells within a ball of any generated cell. 0 to 1, **higher is better**; falls
      with real cells that are never generated. Cells strewn widely raise it.
    * ``density``: number of real balls that hold a generated cell, mean over generated cells, divided by
      `n_neighbors`. **The best value is 1**; above it, generated cells crowd where real cells are dense.
    * ``coverage``: share of real balls that hold any generated cell. 0 to 1, **higher is better**; the
      strictest of the four on missing variety.

    Precision and recall change places with the two sets. The same set twice scores 1 in all four. A second
    real sample does not reach 1 and is the ceiling to compare with; all depend on the number of cells.

    Parameters
    ----------
    real, generated
        Cells x features, the same features in both; as many cells, for values to compare.
    n_neighbors
        Neighbours that a ball reaches to; 5 as in the papers.

    Returns
    -------
    Dict with the keys ``"precision"``, ``"recall"``, ``"density"``, ``"coverage"``, in this order.

    Raises
    ------
    DataError
        If a value is not finite, if the features differ, or if a set has too few cells for `n_neighbors`.

    References
    ----------
    Kynkäänniemi et al. (2019), Improved precision and recall metric for assessing generative models,
    https://arxiv.org/abs/1904.06991; Naeem et al. (2020), Reliable fidelity and diversity metrics for
    generative models, https://arxiv.org/abs/2002.09797

    Examples
    --------
    >>> import numpy as np
    >>> import latentcell as lc
    >>> real = np.random.default_rng(0).normal(size=(100, 3))
    >>> lc.metrics.manifold_overlap(real, real)
    {'precision': 1.0, 'recall': 1.0, 'density': 1.0, 'coverage': 1.0}
    >>> lc.metrics.manifold_overlap(real, 0.3 * real)
    {'precision': 1.0, 'recall': 0.18, 'density': 0.94, 'coverage': 0.44}
    """
    if n_neighbors < 1:
        raise DataError(f"n_neighbors={n_neighbors} must be at least 1.")
    real, generated = check_sets(n_neighbors + 1, real=real, generated=generated)
    between = cdist(real, generated)
    in_real_ball = between < _radius(real, n_neighbors)[:, None]
    in_generated_ball = between < _radius(generated, n_neighbors)[None, :]
    return {
        "precision": float(in_real_ball.any(axis=0).mean()),
        "recall": float(in_generated_ball.any(axis=1).mean()),
        "density": float(in_real_ball.sum(axis=0).mean() / n_neighbors),
        "coverage": float(in_real_ball.any(axis=1).mean()),
    }


def _radius(X: np.ndarray, n_neighbors: int) -> np.ndarray:
    """Distance of every cell to its n-th nearest other cell (cells)."""
    distance = cdist(X, X)
    np.fill_diagonal(distance, np.inf)
    return np.partition(distance, n_neighbors - 1, axis=1)[:, n_neighbors - 1]


def _weights(distance: np.ndarray, perplexity: float) -> np.ndarray:
    """Weights of neighbours, exp(-beta distance), with beta of each cell such that their perplexity is given.

    The entropy falls with beta: bisection on its logarithm, around the inverse of the mean distance.
    """
    distance = distance - distance.min(axis=1, keepdims=True)
    mean = distance.mean(axis=1, keepdims=True)
    scaled = distance / np.where(mean > 0, mean, 1.0)
    low, high = np.full(mean.shape, -10.0), np.full(mean.shape, 20.0)
    for _ in range(_N_BISECTIONS):
        middle = (low + high) / 2
        weights = np.exp(-np.exp(middle) * scaled)
        total = weights.sum(axis=1, keepdims=True)
        entropy = np.log(total) + np.exp(middle) * (weights * scaled).sum(axis=1, keepdims=True) / total
        too_wide = entropy > np.log(perplexity)
        low, high = np.where(too_wide, middle, low), np.where(too_wide, high, middle)
    return weights / total
