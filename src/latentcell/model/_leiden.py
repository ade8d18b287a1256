"""Clusters of codes by the Leiden algorithm, with no global state: for models that start from clusters."""

import igraph
import leidenalg
import numpy as np
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

AT_MOST = 50_000
"""Cells that clusters are looked for among: time and memory of the graph grow with them."""


def some_of(rows: np.ndarray, seed: int) -> np.ndarray:
    """Rows of cells, a random `AT_MOST` of them in their order where there are more."""
    if len(rows) <= AT_MOST:
        return rows
    return rows[np.sort(np.random.default_rng(seed).choice(len(rows), AT_MOST, replace=False))]


def leiden(z: np.ndarray, *, n_neighbors: int, resolution: float, seed: int) -> np.ndarray:
    """Cluster codes on their graph of shared neighbours.

    Two cells of which one is among the `n_neighbors` nearest of the other are joined with the weight of the
    Jaccard index of their neighbourhoods; modularity is maximised until nothing changes.

    Parameters
    ----------
    z
        Codes (cells x dimensions).
    n_neighbors
        Nearest neighbours, the cell itself not counted; fewer where there are not as many cells.
    resolution
        Higher ones give more clusters.
    seed
        Of the order in which cells are looked at.

    Returns
    -------
    Cluster of each cell (integers from 0), the largest first.

    References
    ----------
    Traag et al., Scientific Reports 2019, `doi:10.1038/s41598-019-41695-z
    <https://doi.org/10.1038/s41598-019-41695-z>`__. Levine et al., PhenoGraph, Cell 2015,
    `doi:10.1016/j.cell.2015.05.047 <https://doi.org/10.1016/j.cell.2015.05.047>`__ (the graph).
    """
    n = len(z)
    k = min(n_neighbors, n - 1)
    near = NearestNeighbors(n_neighbors=k).fit(z).kneighbors(return_distance=False)
    rows = np.repeat(np.arange(n), k)
    ones = np.ones(n * k, dtype=np.float64)
    graph = sparse.csr_matrix((ones, (rows, near.ravel())), shape=(n, n))
    around = graph + sparse.identity(n, format="csr")
    joined = sparse.triu(graph.maximum(graph.T), k=1, format="csr")
    shared = (around @ around.T).multiply(joined).tocoo()
    weight = shared.data / (2 * (k + 1) - shared.data)
    edges = np.column_stack([shared.row, shared.col]).tolist()
    found = leidenalg.find_partition(
        igraph.Graph(n=n, edges=edges),
        leidenalg.RBConfigurationVertexPartition,
        weights=weight.tolist(),
        resolution_parameter=resolution,
        n_iterations=-1,
        seed=seed,
    )
    return np.asarray(found.membership, dtype=np.int64)
