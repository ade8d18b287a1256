"""Several embeddings, several seeds, one table."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from latentcell import metrics
from latentcell._errors import DataError, nearest
from latentcell.metrics.clustering import RESOLUTIONS, Average

Protocol = Literal["kmeans_tsne", "leiden"]

_COLUMNS = ["embedding", "run", "n_dims", "protocol", "seed", "metric", "value"]


def compare(
    adata: AnnData,
    keys: Sequence[str] | Mapping[str, str | Sequence[str] | np.ndarray],
    groupby: str,
    *,
    protocol: Protocol | Sequence[Protocol] = ("kmeans_tsne", "leiden"),
    seeds: Iterable[int] = (0, 1, 2),
    n_clusters: int | None = None,
    perplexity: float = 40.0,
    resolutions: Iterable[float] = RESOLUTIONS,
    n_neighbors: int = 15,
    average_method: Average = "geometric",
) -> pd.DataFrame:
    """Compare embeddings by how well clusters found in them agree with known groups.

    Every embedding goes through every protocol with every seed: :func:`latentcell.metrics.kmeans_tsne` and
    :func:`latentcell.metrics.leiden` (of which the resolution with the highest NMI is reported). Put a PCA
    among the embeddings: it is hard to beat, and groups that were themselves found by clustering principal
    components favour it. The spread over `seeds` is that of clustering alone; for that of training, train a
    model several times and name the results together: ``{"VSC": ["X_vsc_0", "X_vsc_1"]}``.

    **Cells without a label are left out**, and their number is in ``.attrs``.

    Parameters
    ----------
    adata
        Annotated cells; not changed.
    keys
        Embeddings: keys of ``adata.obsm``; or a dict from the name of an embedding to its key, to several
        keys (runs of the same method), or to an array, cells x dimensions.
    groupby
        Column of ``adata.obs`` with the known groups.
    protocol
        One or more of ``"kmeans_tsne"`` and ``"leiden"``.
    seeds
        Seeds of the protocols.
    n_clusters, perplexity
        Of ``"kmeans_tsne"``; `n_clusters` ``None`` is the number of groups.
    resolutions, n_neighbors
        Of ``"leiden"``.
    average_method
        Mean in the denominator of NMI.

    Returns
    -------
    DataFrame in long form, one row for each number, with the columns ``embedding``, ``run`` (0, 1, ... over
    several keys of an embedding), ``n_dims``, ``protocol``, ``seed``, ``metric``, ``value``. Metrics are
    ``nmi``, ``ari``, ``homogeneity``, ``completeness`` (higher is better, see
    :func:`latentcell.metrics.clustering`), ``n_clusters``, and for ``"leiden"`` the ``resolution``.
    ``.attrs`` has ``groupby``, ``n_cells`` (used) and ``n_unlabelled`` (left out).

    Raises
    ------
    DataError
        If a key, column or protocol does not exist, if a code is not finite, or if there are fewer than two
        groups.

    References
    ----------
    Luecken et al. (2022), Benchmarking atlas-level data integration in single-cell genomics, Nat Methods 19,
    https://doi.org/10.1038/s41592-021-01336-8 (clusters optimised over resolutions)

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_groups(n_rare=0)
    >>> keys = {"markers": adata.X[:, :300], "other genes": adata.X[:, 300:]}
    >>> table = lc.tl.compare(adata, keys, "group", protocol="leiden", seeds=[0], resolutions=[0.5, 1.0])
    >>> ari = table[table["metric"] == "ari"].set_index("embedding")["value"]
    >>> float(ari["markers"]), bool(ari["other genes"] < 0.2)
    (1.0, True)
    """
    protocols = [protocol] if isinstance(protocol, str) else list(protocol)
    for name in protocols:
        if name not in ("kmeans_tsne", "leiden"):
            raise DataError(f"protocol={name!r} must be 'kmeans_tsne' or 'leiden'.")
    if isinstance(seeds, Integral):
        raise DataError(f"seeds must be several whole numbers, got {seeds}; pass seeds=[{seeds}].")
    seeds, resolutions = list(seeds), list(resolutions)
    if not all(isinstance(seed, Integral) and 0 <= seed < 2**32 for seed in seeds):
        raise DataError(f"seeds must be whole numbers from 0 to 2**32 - 1, got {seeds}.")
    if not protocols or not seeds:
        raise DataError("protocol and seeds must not be empty.")
    if groupby not in adata.obs:
        raise DataError(
            f"groupby={groupby!r} is not a column of adata.obs (there: {', '.join(adata.obs)})."
            f"{nearest(groupby, adata.obs)}"
        )
    labelled = adata.obs[groupby].notna().to_numpy()
    labels = adata.obs[groupby].to_numpy()[labelled]
    if len(set(labels)) < 2:
        raise DataError(f"adata.obs[{groupby!r}] has fewer than two groups; there is nothing to agree with.")

    run_protocol: dict[str, Callable[[np.ndarray, int], pd.Series]] = {
        "kmeans_tsne": lambda z, seed: metrics.kmeans_tsne(
            z, labels, n_clusters=n_clusters, perplexity=perplexity, seed=seed, average_method=average_method
        ).iloc[0],
        "leiden": lambda z, seed: (
            metrics.leiden(
                z,
                labels,
                resolutions=resolutions,
                n_neighbors=n_neighbors,
                seed=seed,
                average_method=average_method,
            )
            .query("best")
            .drop(columns="best")
            .iloc[0]
        ),
    }
    rows = [
        (embedding, run, z.shape[1], name, seed, metric, float(value))
        for embedding, runs in _embeddings(adata, keys).items()
        for run, z in enumerate(runs)
        for name in protocols
        for seed in seeds
        for metric, value in run_protocol[name](z[labelled], seed).items()
    ]
    table = pd.DataFrame(rows, columns=_COLUMNS)
    table.attrs = {
        "groupby": groupby,
        "n_cells": int(labelled.sum()),
        "n_unlabelled": int((~labelled).sum()),
    }
    return table


def _embeddings(adata: AnnData, keys: Any) -> dict[str, list[np.ndarray]]:
    """Look up the runs of every embedding, before anything is computed."""
    if isinstance(keys, str):
        keys = [keys]
    named = keys if isinstance(keys, Mapping) else {key: key for key in keys}
    if not named:
        raise DataError("keys is empty; name at least one embedding.")
    found = {}
    for name, given in named.items():
        one = isinstance(given, str | np.ndarray | pd.DataFrame) or sparse.issparse(given)
        runs = [given] if one else list(given)
        found[name] = [_array(adata, name, run) for run in runs]
        if not runs:
            raise DataError(f"The embedding {name!r} has no keys.")
    return found


def _array(adata: AnnData, name: str, run: Any) -> np.ndarray:
    if isinstance(run, str):
        if run not in adata.obsm:
            raise DataError(
                f"{run!r} is not in adata.obsm (there: {', '.join(adata.obsm) or 'nothing'})."
                f"{nearest(run, adata.obsm)}"
            )
        run = adata.obsm[run]
    z = np.asarray(run.toarray() if sparse.issparse(run) else run)
    if z.ndim != 2 or len(z) != adata.n_obs:
        raise DataError(
            f"The embedding {name!r} has the shape {z.shape}; it must be {adata.n_obs} x dimensions."
        )
    if z.dtype.kind not in "biuf":
        raise DataError(f"The embedding {name!r} holds {z.dtype}; it must hold numbers.")
    broken = ~np.isfinite(z).all(axis=1)
    if broken.any():
        raise DataError(
            f"The embedding {name!r} has values that are not finite, in {broken.sum()} cells "
            f"(first: {adata.obs_names[broken.argmax()]!r}); leave the cells out or compute it anew."
        )
    return z
