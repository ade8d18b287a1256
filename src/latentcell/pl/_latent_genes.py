"""The genes that latent dimensions move most, one panel per dimension."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from latentcell import _keys
from latentcell._codes import checked_dims, dimension_names, down
from latentcell._colors import listed
from latentcell._errors import DataError, nearest

from ._layers import check_room

_UP, _DOWN = "#b2182b", "#2166ac"


def latent_genes(
    adata: AnnData,
    dims: int | Sequence[int] | None = None,
    *,
    key: str = _keys.RANK_LATENT_GENES,
    n_genes: int = 8,
    ncols: int = 4,
    sharex: bool = True,
    ax: Axes | None = None,
) -> Figure | Axes:
    """Draw the genes that each latent dimension moves most, as lollipops with the strongest at the top.

    Genes that rise with the dimension have red lollipops to the right; those that fall, if the table has
    them, blue ones to the left, below the others and the strongest at the very bottom. The length is the
    score of :func:`latentcell.tl.rank_latent_genes`. Genes that are not moved in a direction at all are left
    out.

    Parameters
    ----------
    adata
        With the table of :func:`latentcell.tl.rank_latent_genes`. Nothing is written into it.
    dims
        Dimensions to draw, from 0: one, several in this order, or a mask; by default all in the table.
    key
        ``uns`` key of the table.
    n_genes
        Largest number of genes in each direction.
    ncols
        Panels in a row.
    sharex
        Draw all panels to the same scale, so that dimensions can be compared.
    ax
        Draw the only dimension here.

    Returns
    -------
    The Figure if it has several panels, the Axes if there is one panel or `ax` was given.

    Raises
    ------
    DataError
        If there is no such table or dimension, or `ax` is to hold several.

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.pbmc68k()
    >>> model = lc.tl.vae(adata, max_epochs=2, n_latent=3, progress=False)
    >>> lc.tl.rank_latent_genes(adata, model)
    >>> figure = lc.pl.latent_genes(adata, dims=[2, 0])
    >>> [panel.get_title() for panel in figure.axes]
    ['dim_2', 'dim_0']
    """
    if key not in adata.uns:
        raise DataError(
            f"key: uns has no {key!r}; first call lc.tl.rank_latent_genes(adata, model)."
            f"{nearest(key, adata.uns)}"
        )
    if n_genes < 1 or ncols < 1:
        raise DataError(f"n_genes and ncols must be at least 1, got {n_genes} and {ncols}")
    names = _dimensions(adata.uns[key], dims)
    check_room(ax, len(names))
    tables = [_moved(adata.uns[key], name, n_genes) for name in names]
    axes = [ax] if ax is not None else _panels(tables, ncols)
    for panel, name, (genes, scores) in zip(axes, names, tables, strict=True):
        places = np.arange(len(genes))
        colors = [_UP if score > 0 else _DOWN for score in scores]
        panel.hlines(places, 0, scores, colors=colors, linewidth=1.4)
        panel.scatter(scores, places, c=colors, s=22, zorder=3)
        panel.axvline(0, color="0.6", linewidth=0.8)
        panel.set_yticks(places, genes, fontsize=0.9 * plt.rcParams["font.size"])
        panel.set_ylim(max(len(genes), 1) - 0.4, -0.6)
        panel.set_title(name, fontsize="medium")
        panel.grid(False)
        panel.tick_params(axis="y", length=0)
        panel.spines[["top", "right", "left"]].set_visible(False)
    if sharex:
        ends = np.concatenate([[0.0], *(scores for _, scores in tables)])
        margin = 0.06 * (ends.max() - ends.min() or 1.0)
        for panel in axes:
            panel.set_xlim(ends.min() - (margin if ends.min() < 0 else 0.0), ends.max() + margin)
    for panel in axes[-min(ncols, len(axes)) :]:
        panel.set_xlabel("score")
    return axes[0] if len(axes) == 1 else axes[0].figure  # type: ignore[return-value]


def _dimensions(stored: dict[str, Any], dims: int | Sequence[int] | None) -> list[str]:
    """Names of the dimensions to draw; each is in the table in one direction at least."""
    there = stored["names"].dtype.names
    known = list(dict.fromkeys(name.removesuffix(down("")) for name in there))
    if dims is None:
        return known
    every = dimension_names(1 + max(int(name.removeprefix("dim_")) for name in known))
    names = [every[dim] for dim in checked_dims(dims, len(every))]
    if not set(names) <= set(known):
        raise DataError(f"dims={dims!r}: the table has {listed(known)}.")
    return names


def _moved(stored: dict[str, Any], name: str, n_genes: int) -> tuple[list[str], np.ndarray]:
    """Genes and signed scores, from the one that rises most to the one that falls most."""
    genes: list[str] = []
    scores: list[float] = []
    for group, sign in ((name, 1.0), (down(name), -1.0)):
        if group in stored["names"].dtype.names:
            strength = np.asarray(stored["scores"][group][:n_genes], dtype=float)
            kept = np.flatnonzero(strength > 0)[:: int(sign)]
            genes += [str(stored["names"][group][at]) for at in kept]
            scores += [sign * strength[at] for at in kept]
    return genes, np.array(scores)


def _panels(tables: list[tuple[list[str], np.ndarray]], ncols: int) -> list[Axes]:
    """Panels on a new figure, high enough for the names of genes."""
    size = plt.rcParams["font.size"] / 72
    ncols = min(ncols, len(tables))
    nrows = -(-len(tables) // ncols)
    most = max(1, *(len(genes) for genes, _ in tables))
    longest = max((len(gene) for genes, _ in tables for gene in genes), default=5)
    width = size * (0.6 * longest + 14)
    figure = plt.figure(figsize=(ncols * width, nrows * size * (1.35 * most + 4.5)), layout="constrained")
    return [figure.add_subplot(nrows, ncols, i + 1) for i in range(len(tables))]
