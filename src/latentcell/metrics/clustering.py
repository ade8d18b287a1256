"""How well clusters agree with labels, and two protocols that find the clusters in a code."""

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from sklearn import metrics
from sklearn.cluster import KMeans
from sklearn.manifold import TSNE

from latentcell._errors import DataError
from latentcell.metrics._inputs import check_codes, check_labels

Average = Literal["geometric", "arithmetic"]

RESOLUTIONS = tuple(np.round(np.arange(0.1, 2.01, 0.1), 1).tolist())
"""Resolutions of the Leiden algorithm that are tried unless told otherwise: 0.1, 0.2, ..., 2.0."""


def clustering(labels: Any, clusters: Any, *, average_method: Average = "geometric") -> dict[str, float]:
    r"""Score the agreement of clusters with labels: NMI, ARI, homogeneity and completeness.

    With the mutual information I and the entropies H of labels L and clusters C:

    * ``nmi``: I(L, C) / mean(H(L), H(C)), with the mean that `average_method` names; 0 to 1, higher is
      better.
    * ``ari``: adjusted Rand index, (pairs agreeing - expected) / (maximum - expected); -0.5 to 1, about 0 for
      random clusters, higher is better. The only one of the four that is corrected for chance.
    * ``homogeneity``: 1 - H(L | C) / H(L), 1 if each cluster has one label; 0 to 1, higher is better.
    * ``completeness``: 1 - H(C | L) / H(C), 1 if each label has one cluster; 0 to 1, higher is better.

    The arithmetic NMI is the V-measure, the harmonic mean of homogeneity and completeness. All are symmetric
    in the two arguments, except that homogeneity and completeness change places.

    Parameters
    ----------
    labels
        One label for each cell.
    clusters
        One cluster for each cell.
    average_method
        Mean in the denominator of NMI.

    Returns
    -------
    Dict with the keys ``"nmi"``, ``"ari"``, ``"homogeneity"``, ``"completeness"``, in this order.

    Raises
    ------
    DataError
        If a label or cluster is missing, or if the lengths differ.

    References
    ----------
    Hubert and Arabie (1985), Comparing partitions, J Classif 2, https://doi.org/10.1007/BF01908075;
    Rosenberg and Hirschberg (2007), V-measure, https://aclanthology.org/D07-1043;
    Vinh et al. (2010), J Mach Learn Res 11, https://jmlr.org/papers/v11/vinh10a.html

    Examples
    --------
    >>> import latentcell as lc
    >>> lc.metrics.clustering(["T", "T", "B", "B"], [0, 0, 1, 2])
    {'nmi': 0.816, 'ari': 0.571, 'homogeneity': 1.0, 'completeness': 0.667}
    """
    if average_method not in ("geometric", "arithmetic"):
        raise DataError(f"average_method={average_method!r} must be 'geometric' or 'arithmetic'.")
    true, _ = check_labels(labels)
    found, _ = check_labels(clusters, len(true), name="clusters")
    return {
        "nmi": float(metrics.normalized_mutual_info_score(true, found, average_method=average_method)),
        "ari": float(metrics.adjusted_rand_score(true, found)),
        "homogeneity": float(metrics.homogeneity_score(true, found)),
        "completeness": float(metrics.completeness_score(true, found)),
    }


def kmeans_tsne(
    z: Any,
    labels: Any,
    *,
    n_clusters: int | None = None,
    perplexity: float = 40.0,
    seed: int = 0,
    average_method: Average = "geometric",
) -> pd.DataFrame:
    """Score the clusters that k-means finds on the two-dimensional t-SNE of a code.

    This is the protocol by which the autoencoders of the PBMC3k comparison (AE, beta-VAE, beta-VSC) were
    judged. It judges the t-SNE along with the code, and is told the number of clusters; :func:`leiden` works
    on the code itself. The t-SNE starts from the first two principal components of the code (at random for a
    code of one dimension).

    Parameters
    ----------
    z
        Codes, cells x dimensions.
    labels
        One label for each cell.
    n_clusters
        Number of clusters; ``None``: the number of distinct labels.
    perplexity
        Of the t-SNE; must be below the number of cells.
    seed
        Seed of t-SNE and k-means; no global state is used or changed.
    average_method
        Mean in the denominator of NMI.

    Returns
    -------
    DataFrame of one row with the columns ``n_clusters``, ``nmi``, ``ari``, ``homogeneity``, ``completeness``,
    see :func:`clustering`. Higher is better.

    Raises
    ------
    DataError
        If codes or labels do not fit each other, if a code is not finite, if all codes are the same, or if a
        parameter does not fit the number of cells.

    References
    ----------
    van der Maaten and Hinton (2008), Visualizing data using t-SNE, J Mach Learn Res 9,
    https://jmlr.org/papers/v9/vandermaaten08a.html; protocol:
    https://github.com/okunator/Variational-Autoencoders

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_groups(n_rare=0)
    >>> scores = lc.metrics.kmeans_tsne(adata.X[:, :300], adata.obs["group"], perplexity=10)
    >>> float(scores["ari"].iloc[0])
    1.0
    """
    codes = check_codes(z)
    true, groups = check_labels(labels, len(codes))
    n_clusters = len(groups) if n_clusters is None else n_clusters
    if not 1 <= n_clusters <= len(codes):
        raise DataError(f"n_clusters={n_clusters} must be at least 1 and at most the {len(codes)} cells.")
    if not 0 < perplexity < len(codes):
        raise DataError(
            f"perplexity={perplexity} must be above 0 and below the {len(codes)} cells. Lower it."
        )
    _refuse_constant(codes)
    init = "pca" if codes.shape[1] > 1 else "random"
    tsne = TSNE(perplexity=perplexity, init=init, learning_rate="auto", random_state=seed)
    points = tsne.fit_transform(codes.astype(np.float32))
    found = KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(points)
    return pd.DataFrame(
        [{"n_clusters": n_clusters, **clustering(true, found, average_method=average_method)}]
    )


def leiden(
    z: Any,
    labels: Any,
    *,
    resolutions: Iterable[float] = RESOLUTIONS,
    n_neighbors: int = 15,
    seed: int = 0,
    average_method: Average = "geometric",
) -> pd.DataFrame:
    """Score the clusters that Leiden finds on the neighbour graph of a code, at every resolution.

    The graph and the clusters are scanpy's (Euclidean distance, igraph's implementation, two iterations). The
    row marked best has the highest NMI, the first of several. Labels are used to choose it, so it says how
    good the clusters of this code can be, not how good they will be on data without labels.

    Parameters
    ----------
    z
        Codes, cells x dimensions.
    labels
        One label for each cell.
    resolutions
        Resolutions to try; higher ones give more clusters.
    n_neighbors
        Neighbours of each cell in the graph, the cell itself included (as scanpy counts); below the number of
        cells.
    seed
        Seed of graph and clusters; no global state is changed.
    average_method
        Mean in the denominator of NMI.

    Returns
    -------
    DataFrame with one row for each resolution and the columns ``resolution``, ``n_clusters``, ``nmi``,
    ``ari``, ``homogeneity``, ``completeness``, see :func:`clustering`, and ``best`` (true in one row). Higher
    is better.

    Raises
    ------
    DataError
        If codes or labels do not fit each other, if a code is not finite, if all codes are the same, or if a
        parameter makes no sense.

    References
    ----------
    Traag et al. (2019), From Louvain to Leiden: guaranteeing well-connected communities, Sci Rep 9,
    https://doi.org/10.1038/s41598-019-41695-z

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_groups(n_rare=0)
    >>> scores = lc.metrics.leiden(adata.X[:, :300], adata.obs["group"], resolutions=[0.1, 0.5])
    >>> scores.loc[scores["best"], ["n_clusters", "ari"]].to_dict("list")
    {'n_clusters': [3], 'ari': [1.0]}
    """
    codes = check_codes(z)
    true, _ = check_labels(labels, len(codes))
    resolutions = [float(resolution) for resolution in resolutions]
    if not resolutions or min(resolutions) <= 0:
        raise DataError(f"resolutions={resolutions} must be numbers above 0, at least one.")
    if not 2 <= n_neighbors < len(codes):
        raise DataError(f"n_neighbors={n_neighbors} must be at least 2 and below the {len(codes)} cells.")
    _refuse_constant(codes)
    adata = AnnData(obs=pd.DataFrame(index=[str(i) for i in range(len(codes))]), obsm={"z": codes})
    sc.pp.neighbors(adata, n_neighbors=n_neighbors, use_rep="z", random_state=seed)
    rows = []
    for resolution in resolutions:
        sc.tl.leiden(
            adata, resolution=resolution, random_state=seed, flavor="igraph", n_iterations=2, directed=False
        )
        found = adata.obs["leiden"]
        scores = clustering(true, found, average_method=average_method)
        rows.append({"resolution": resolution, "n_clusters": found.nunique(), **scores})
    table = pd.DataFrame(rows)
    table["best"] = np.arange(len(table)) == table["nmi"].argmax()
    return table


def _refuse_constant(codes: np.ndarray) -> None:
    if not np.ptp(codes, axis=0).any():
        raise DataError("All cells have the same code: there is nothing to cluster. Has the model collapsed?")
