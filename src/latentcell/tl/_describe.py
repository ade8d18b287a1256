"""The table a biologist reads first: what each dimension of a code is about."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from latentcell import _keys
from latentcell._checks import check_numbers, layer_names, usable
from latentcell._codes import active_dims, dimension_names, down, stored_codes, where_on
from latentcell._errors import DataError, nearest
from latentcell.metrics.dimensions import dimension_aurocs

from ._fit import made_by

_BLOCK = 2**22
"""Values of the matrix looked at in one step."""


def describe_latent(
    adata: AnnData,
    key: str,
    groupby: str | None = None,
    *,
    genes_key: str | None = None,
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
        ``obs`` column of groups. Cells without a label count for everything but the groups. None leaves out
        the columns of groups.
    genes_key
        ``uns`` key of what :func:`latentcell.tl.rank_latent_genes` wrote of these codes. None takes
        ``"rank_latent_genes"`` if it is of these codes and of the model that made them, and else leaves the
        columns of genes out.
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

    ``std``
        Standard deviation of the code over cells.
    ``active``
        Whether the dimension says anything about these cells. A VAE leaves dimensions that it does not need
        at their prior, with a remainder that follows the cells a little and that the decoder ignores:
        active are those whose posterior means have a variance above 0.01 (Burda et al. 2016), under the
        prior N(0, 1) that ``uns["<model>"]["unit_prior"]`` records. Of other codes, whose scale is their
        own, 0.01 of the largest dimension's variance suffices where that is less. A dimension whose stored
        hard codes are all 0 is not active. One that is not is on in no cell, has no groups, genes or
        partners (``""``), and NaN for numbers.
    ``on_fraction``
        Share of cells in which the dimension is on.
    ``best_group``, ``auroc``, ``direction``
        Group that it tells best from the rest, by AUROC (0.5 is chance, 1 is best), and whether ``"high"``
        or ``"low"`` values mark the group; of codes without negative values only high ones are looked at.
        ``""`` if it tells none.
    ``on_group``
        Group with the largest share of cells in which it is on; ``""`` if it is on in none.
    ``genes_up``, ``genes_down``
        Genes that rise and that fall with it, strongest first (the second only if there is such a table).
    ``variance_explained``
        R\ :sup:`2` of expression on this dimension alone: share of the variance of all genes in `layer` that
        a straight line in it explains, 0 to 1. Dimensions overlap, so that the shares need not add up.
    ``redundancy``, ``redundant_with``
        Largest absolute correlation with another active dimension, and which; 0 and ``""`` if there is
        none.
    ``"on: <group>"``, ``"auroc: <group>"``
        For each group: share of its cells in which the dimension is on; probability that one of its cells
        has a higher value than one of the rest (below 0.5: low values mark the group).

    Raises
    ------
    DataError
        If a key, column or layer does not exist, values are not finite, there are fewer than two groups, or
        `genes_key` is of other codes.

    References
    ----------
    Burda, Grosse and Salakhutdinov, Importance weighted autoencoders, ICLR 2016,
    `arXiv:1509.00519 <https://arxiv.org/abs/1509.00519>`__ (active units);
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
    if groupby is not None and groupby not in adata.obs:
        raise DataError(
            f"groupby={groupby!r} is not a column of adata.obs (there: {', '.join(adata.obs)})."
            f"{nearest(groupby, adata.obs)}"
        )
    if n_genes < 1:
        raise DataError(f"n_genes must be at least 1, got {n_genes}")
    names = dimension_names(codes.shape[1])
    on = where_on(adata, key, codes, threshold)
    active = active_dims(adata, key, codes)
    about, by_group = {}, []
    if groupby is not None:
        shares, aurocs = _by_group(adata.obs[groupby], codes, on, names, groupby)
        aurocs.loc[~active] = np.nan
        about = _best_groups(shares, aurocs, positive=bool((codes[:, active] >= 0).all()))
        by_group = [shares.add_prefix("on: "), aurocs.add_prefix("auroc: ")]
    correlation = _other_correlations(codes, active)
    described = {
        "std": codes.std(axis=0),
        "active": active,
        "on_fraction": on.mean(axis=0),
        **about,
        **_genes(adata, key, genes_key, names, n_genes, active),
        "variance_explained": np.where(active, _variance_explained(adata, codes, layer), np.nan),
        "redundancy": np.where(active, correlation.max(axis=1), np.nan),
        "redundant_with": _largest(pd.DataFrame(correlation, names, names), 0.0),
    }
    table = pd.DataFrame(described, index=pd.Index(names, name="dimension"))
    return pd.concat([table, *by_group], axis=1)


def _best_groups(shares: pd.DataFrame, aurocs: pd.DataFrame, *, positive: bool) -> dict[str, np.ndarray]:
    """Group that each dimension tells best, how well, by which values, and where it is on most."""
    merit = aurocs if positive else aurocs.where(aurocs >= 0.5, 1 - aurocs)
    best = _largest(merit, 0.5)
    return {
        "best_group": best,
        "auroc": merit.max(axis=1).to_numpy(),
        "direction": np.where(best == "", "", np.where(best == _largest(aurocs, 0.5), "high", "low")),
        "on_group": _largest(shares, 0.0),
    }


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


def _largest(table: pd.DataFrame, above: float) -> np.ndarray:
    """Name of the column with the largest value of each row; ``""`` where none is above `above`."""
    values = table.to_numpy()
    at = values.argmax(axis=1)
    found = values[np.arange(len(values)), at] > above
    return np.where(found, table.columns.to_numpy(dtype=object)[at], "")


def _other_correlations(codes: np.ndarray, active: np.ndarray) -> np.ndarray:
    """Absolute correlation of dimensions with each other; 0 with itself and where one is not active."""
    centered = (codes - codes.mean(axis=0)) * active
    norm = np.sqrt(np.square(centered).sum(axis=0))
    centered /= np.where(norm > 0, norm, 1.0)
    correlation = np.abs(centered.T @ centered)
    np.fill_diagonal(correlation, 0.0)
    return np.minimum(correlation, 1.0)


def _genes(
    adata: AnnData, key: str, genes_key: str | None, names: list[str], n_genes: int, active: np.ndarray
) -> dict[str, list[str]]:
    """Genes of each active dimension, in each direction that is in the table."""
    stored = adata.uns.get(genes_key or _keys.RANK_LATENT_GENES)
    of = None if stored is None else stored["params"]["groupby"]
    if genes_key is not None and of != key:
        what = "is not in adata.uns" if of is None else f"is of {of!r}, not of {key!r}"
        raise DataError(
            f"genes_key={genes_key!r} {what}; first call lc.tl.rank_latent_genes(adata, model, "
            f"use_rep={key!r}, key_added={genes_key!r})."
        )
    weights = None if stored is None else stored["params"].get(_keys.WEIGHTS)
    other = of == key and made_by(adata, key, weights) is False
    if genes_key is not None and other:
        raise DataError(
            f"genes_key={genes_key!r} is of an earlier model than the codes in adata.obsm[{key!r}]; call "
            "lc.tl.rank_latent_genes(adata, model) again."
        )
    if stored is None or of != key or other:
        return {}
    there = stored["names"].dtype.names
    found = {}
    for column, groups in {"genes_up": names, "genes_down": [down(name) for name in names]}.items():
        if any(group in there for group in groups):
            found[column] = [
                ", ".join(_moved(stored, group, n_genes)) if group in there and lives else ""
                for group, lives in zip(groups, active, strict=True)
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
    for rows, block in row_blocks(adata, layer):
        stored = block.data if sparse.issparse(block) else block
        if not usable(stored).all():
            bad = ~usable(block.toarray() if sparse.issparse(block) else block).all(axis=0)
            gene = adata.var_names[int(np.flatnonzero(bad)[0])]
            raise DataError(f"{layer or 'X'} is NaN or infinite, first in gene {gene!r}.")
        cross += np.asarray(block.T @ centered[rows])
        total += np.asarray(block.sum(axis=0)).ravel()
        squared = block.multiply(block) if sparse.issparse(block) else np.square(block)
        square += np.asarray(squared.sum(axis=0)).ravel()
    variance = float((square - np.square(total) / adata.n_obs).sum())
    own = np.square(centered).sum(axis=0)
    explained = np.square(cross).sum(axis=0) / np.where(own > 0, own, 1.0)
    return explained / variance if variance > 0 else np.zeros(len(own))


def row_blocks(adata: AnnData, layer: str | None) -> Iterator[tuple[slice, Any]]:
    """The matrix by rows, in double precision; no file is read and no sparse matrix made dense as a whole."""
    if layer is not None and layer not in adata.layers:
        raise DataError(
            f"layers has no {layer!r} (layer); there are {layer_names(adata.layers)}."
            f"{nearest(layer, adata.layers)}"
        )
    matrix = adata.X if layer is None else adata.layers[layer]
    if matrix is None:
        raise DataError("adata.X is empty; name the matrix whose variance is explained with layer=")
    check_numbers(matrix, layer or "X")
    step = max(1, _BLOCK // max(1, adata.n_vars))
    for start in range(0, adata.n_obs, step):
        rows = slice(start, min(start + step, adata.n_obs))
        block = matrix[rows]
        yield rows, (block if sparse.issparse(block) else np.asarray(block)).astype(np.float64)
