"""Which clusters are one: those with no valley of density between them."""

from typing import Any

import numpy as np
from sklearn.neighbors import NearestNeighbors

from latentcell._errors import DataError

N_NEIGHBORS = 30
AT_MOST = 50_000  # cells that density is judged by
HIGH = 0.9  # quantile that stands for a highest density: the highest itself is mostly chance


def merges(z: np.ndarray, clusters: np.ndarray, min_cells: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Join clusters two by two, those with the least valley between them first.

    A cell's density is that of its neighbourhood in `z` (nearest neighbours over the volume they take; the
    median over the neighbourhood). The pass between two clusters is the density of the sparser end of the
    edges that lead from one to the other in the graph of nearest neighbours; two that fewer edges join than a
    cell has neighbours are apart. What remains is a tree whose branches are cut where the pass is low
    compared with the lower of both summits (ToMATo's prominence, as a ratio).

    Parameters
    ----------
    z
        Codes (cells x dimensions).
    clusters
        Cluster of each cell (cells, integers).
    min_cells
        Clusters of fewer cells are left out, with their cells.

    Returns
    -------
    pairs
        Clusters that are joined, in that order (merges x 2): the first becomes part of the second.
    heights
        Density of the pass over that of the lower summit (merges); about 1 where there is no valley. May
        grow from one merge to the next, as summits are joined.

    References
    ----------
    Chazal et al., Persistence-based clustering in Riemannian manifolds, Journal of the ACM 2013,
    `doi:10.1145/2535927 <https://doi.org/10.1145/2535927>`__.
    """
    names, at, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    z, at = z[sizes[at] >= min_cells], at[sizes[at] >= min_cells]
    n = len(at)
    if n > AT_MOST:
        some = np.random.default_rng(0).choice(n, AT_MOST, replace=False)
        z, at, n = z[some], at[some], AT_MOST
    pairs, heights = [], []
    if n > 1:
        k = min(N_NEIGHBORS, max(5, n // 20), n - 1)
        density, start, stop, passes = _graph(z, k)
    while len(np.unique(at)) > 1:
        summit = {a: np.quantile(density[at == a], HIGH) for a in np.unique(at)}
        crossing = at[start] != at[stop]
        ends = np.sort(np.column_stack([at[start], at[stop]])[crossing], axis=1)
        found = []
        for a, b in np.unique(ends, axis=0):
            between = passes[crossing][(ends == (a, b)).all(axis=1)]
            if len(between) >= k:
                found.append((np.quantile(between, HIGH) / min(summit[a], summit[b]), a, b))
        if not found:
            break
        height, a, b = max(found)
        small, large = (a, b) if np.sum(at == a) < np.sum(at == b) else (b, a)
        at[at == small] = large
        pairs.append((names[small], names[large]))
        heights.append(height)
    return np.array(pairs, dtype=np.int64).reshape(-1, 2), np.array(heights, dtype=np.float32)


def check_joining(min_cells: Any, valley: Any) -> None:
    """Refuse what says nothing about which clusters to join (`DataError`)."""
    if valley is not None and not (isinstance(valley, int | float | np.number) and 0 < valley <= 1):
        raise DataError(f"valley={valley!r} must be above 0 and at most 1, or None")
    if min_cells is not None and not (isinstance(min_cells, int | np.integer) and min_cells >= 0):
        raise DataError(f"min_cells={min_cells!r} must be a whole number, 0 or more, or None")


def _graph(z: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Density of each cell; edges to its nearest neighbours: from, to, density of the sparser end."""
    scale = z.std(axis=0)
    x = (z - z.mean(axis=0)) / np.where(scale > 0, scale, 1.0)
    distance, near = NearestNeighbors(n_neighbors=k).fit(x).kneighbors()
    raw = np.maximum(distance[:, -1], 1e-6).astype(np.float64) ** -z.shape[1]
    density = np.median(np.column_stack([raw, raw[near]]), axis=1)
    start, stop = np.repeat(np.arange(len(z)), k), near.ravel()
    return density, start, stop, np.minimum(density[start], density[stop])
