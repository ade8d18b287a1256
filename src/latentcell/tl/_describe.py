"""The table a biologist reads first: what each dimension of a code is about."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from latentcell import _keys
from latentcell._codes import dimension_names, down, stored_codes, where_on
from latentcell._errors import DataError
from latentcell.metrics.dimensions import dimension_aurocs

_BLOCK = 2**22
"""Values of the matrix looked at in one step."""


def describe_latent(
    adata: AnnData,
    key: str,
    groupby: str,
    *,
    genes_key: str = _keys.RANK_LATENT_GENES,
    n_genes: int = 5,
    layer: str | None = None,
    threshold: float = 1.0,
) -> pd.DataFrame:
    r"""Describe each dimension of a code: cells, groups, genes, and what it shares with the others.

    Parameters
    ----------
    adata
        Cells with codes; not changed.
    key
        ``obsm`` key of the codes, e.g. ``"X_vsc"``.
    groupby
        ``obs`` column of groups. Cells without a label count for everything but the groups.
    genes_key
        ``uns`` key of what :func:`latentcell.tl.rank_latent_genes` wrote; without it, or where it is of
        other codes than `key`, the columns of genes are left out.
    n_genes
        Genes to name in each direction.
    layer
        Layer whose variance is explained, log-normalised expression as a rule; None is ``X``.
    threshold
        Of dense codes, which are nowhere 0: a dimension is on in a cell whose value is more than so many
        standard deviations from the dimension's median, to either side. Sparse codes are on where they are
        not 0: by the hard codes (``obsm["vsc_hard"]``) where they are stored, else by exact zeros in the
        code (at least 1 % of it).

    Returns
    -------
    DataFrame with one row per dimension (index ``"dimension"``: ``"dim_0"``, ...) and the columns

    ``on_fraction``
        Share of cells in which the dimension is on.
    ``best_group``, ``auroc``, ``direction``
        Group that it tells best from the rest, by AUROC (0.5 is chance, 1 is best), and whether ``"high"``
        or ``"low"`` values mark the group; of codes without negative values only high ones are looked at.
    ``on_group``
        Group with the largest share of cells in which it is on.
    ``genes_up``, ``genes_down``
        Genes that rise and that fall with it, strongest first (the second only if there is such a table).
    ``variance_explained``
        R\ :sup:`2` of expression on this dimension alone: share of the variance of all genes in `layer` that
        a straight line in it explains, 0 to 1. Dimensions overlap, so that the shares need not add up.
    ``redundancy``, ``redundant_with``
        Largest absolute correlation with another dimension, and which; 0 and ``""`` for one dimension.
    ``"on: <group>"``, ``"auroc: <group>"``
        For each group: share of its cells in which the dimension is on; probability that one of its cells
        has a higher value than one of the rest (below 0.5: low values mark the group).

    Raises
    ------
    DataError
        If a key, column or layer does not exist, values are not finite, or there are fewer than two groups.

    References
    ----------
    Fawcett (2006), An introduction to ROC analysis, Pattern Recognit Lett 27,
    https://doi.org/10.1016/j.patrec.2005.10.010

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_groups(n_rare=0)
    >>> markers = adata.X[:, :300]
    >>> adata.obsm["X_mine"] = markers.reshape(adata.n_obs, 3, 100).mean(axis=2)
    >>> table = lc.tl.describe_latent(adata, "X_mine", "group")
    >>> table["best_group"].tolist(), float(table["auroc"].min())
    (['group1', 'group2', 'group3'], 1.0)
    """
    codes = stored_codes(adata, key)
    if groupby not in adata.obs:
        raise DataError(f"groupby={groupby!r} is not a column of adata.obs (there: {', '.join(adata.obs)}).")
    if n_genes < 1:
        raise DataError(f"n_genes must be at least 1, got {n_genes}")
    names = dimension_names(codes.shape[1])
    on = where_on(adata, key, codes, threshold)
    shares, aurocs = _by_group(adata.obs[groupby], codes, on, names, groupby)
    positive = bool((codes >= 0).all())
    merit = aurocs if positive else aurocs.where(aurocs >= 0.5, 1 - aurocs)
    best = merit.idxmax(axis=1)
    own = np.array([aurocs.at[name, group] for name, group in best.items()])
    correlation = _other_correlations(codes)
    nearest = correlation.argmax(axis=1)
    described = {
        "on_fraction": on.mean(axis=0),
        "best_group": best.to_numpy(),
        "auroc": merit.max(axis=1).to_numpy(),
        "direction": np.where(positive | (own >= 0.5), "high", "low"),
        "on_group": shares.idxmax(axis=1).to_numpy(),
        **_genes(adata, key, genes_key, names, n_genes),
        "variance_explained": _variance_explained(adata, codes, layer),
        "redundancy": correlation.max(axis=1),
        "redundant_with": [names[other] if len(names) > 1 else "" for other in nearest],
    }
    table = pd.DataFrame(described, index=shares.index)
    return pd.concat([table, shares.add_prefix("on: "), aurocs.add_prefix("auroc: ")], axis=1)


def _by_group(
    labels: pd.Series, codes: np.ndarray, on: np.ndarray, names: list[str], groupby: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Share of on cells, and AUROC (each dimensions x groups)."""
    known = labels.notna().to_numpy()
    group_of, groups = pd.factorize(labels[known].astype(object), sort=True)
    if len(groups) < 2:
        raise DataError(f"adata.obs[{groupby!r}] has fewer than two groups; there is nothing to tell apart.")
    member = group_of[:, None] == np.arange(len(groups))
    shares = on[known].T.astype(float) @ member / member.sum(axis=0)
    index = pd.Index(names, name="dimension")
    columns = pd.Index([str(group) for group in groups])
    return (
        pd.DataFrame(shares, index, columns),
        pd.DataFrame(dimension_aurocs(codes[known], member), index, columns),
    )


def _other_correlations(codes: np.ndarray) -> np.ndarray:
    """Absolute correlation of dimensions with each other; 0 with itself and where one is constant."""
    centered = codes - codes.mean(axis=0)
    norm = np.sqrt(np.square(centered).sum(axis=0))
    centered /= np.where(norm > 0, norm, 1.0)
    correlation = np.abs(centered.T @ centered)
    np.fill_diagonal(correlation, 0.0)
    return np.minimum(correlation, 1.0)


def _genes(adata: AnnData, key: str, genes_key: str, names: list[str], n_genes: int) -> dict[str, list[str]]:
    """Genes of each dimension, in each direction that is in the table; none where it is of other codes."""
    stored = adata.uns.get(genes_key)
    if stored is None or stored["params"]["groupby"] != key:
        return {}
    there = stored["names"].dtype.names
    found = {}
    for column, groups in {"genes_up": names, "genes_down": [down(name) for name in names]}.items():
        if any(group in there for group in groups):
            found[column] = [
                ", ".join(_moved(stored, group, n_genes)) if group in there else "" for group in groups
            ]
    return found


def _moved(stored: dict[str, Any], group: str, n_genes: int) -> list[str]:
    """The first genes of a group that are moved in its direction at all."""
    scores, genes = stored["scores"][group], stored["names"][group]
    return [str(gene) for gene in genes[:n_genes][scores[:n_genes] > 0]]


def _variance_explained(adata: AnnData, codes: np.ndarray, layer: str | None) -> np.ndarray:
    """Share of the variance of all genes that each dimension alone explains, by least squares."""
    centered = codes - codes.mean(axis=0)
    cross = np.zeros((adata.n_vars, codes.shape[1]))
    total, square = np.zeros(adata.n_vars), np.zeros(adata.n_vars)
    for rows, block in _blocks(adata, layer):
        cross += np.asarray(block.T @ centered[rows])
        total += np.asarray(block.sum(axis=0)).ravel()
        squared = block.multiply(block) if sparse.issparse(block) else np.square(block)
        square += np.asarray(squared.sum(axis=0)).ravel()
    if not np.isfinite(square).all():
        gene = adata.var_names[int(np.flatnonzero(~np.isfinite(square))[0])]
        raise DataError(f"{layer or 'X'} is NaN or infinite, first in gene {gene!r}.")
    variance = float((square - np.square(total) / adata.n_obs).sum())
    own = np.square(centered).sum(axis=0)
    explained = np.square(cross).sum(axis=0) / np.where(own > 0, own, 1.0)
    return explained / variance if variance > 0 else np.zeros(len(own))


def _blocks(adata: AnnData, layer: str | None) -> Iterator[tuple[slice, Any]]:
    """The matrix by rows, in double precision; no file is read and no sparse matrix made dense as a whole."""
    if layer is not None and layer not in adata.layers:
        raise DataError(f"layers has no {layer!r} (layer); there are {list(adata.layers)}.")
    matrix = adata.X if layer is None else adata.layers[layer]
    if matrix is None:
        raise DataError("adata.X is empty; name the matrix whose variance is explained with layer=")
    step = max(1, _BLOCK // max(1, adata.n_vars))
    for start in range(0, adata.n_obs, step):
        rows = slice(start, min(start + step, adata.n_obs))
        block = matrix[rows]
        yield rows, (block if sparse.issparse(block) else np.asarray(block)).astype(np.float64)
