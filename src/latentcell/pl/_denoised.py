"""Two genes against each other, before and after denoising."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from scipy import stats

from latentcell._checks import layer_names
from latentcell._colors import listed
from latentcell._errors import DataError, nearest

from ._layers import check_room, gene_values, layer_keys, layer_titles
from ._points import (
    Coloring,
    coloring_of,
    draw_color_bar,
    draw_legend,
    draw_points,
    legend_entries,
    number_range,
    panel_grid,
    point_size,
)

_JITTER = 0.3
"""Cells are moved by up to so many counts: less than half the way to the next count."""


def denoised(
    adata: AnnData,
    x: str,
    y: str,
    *,
    layers: str | Sequence[str | None] | None = (None, "denoised"),
    color: str | None = None,
    titles: str | Sequence[str] | None = None,
    log1p: bool = True,
    jitter: bool = True,
    size: float | None = None,
    cmap: str | Colormap | None = None,
    ax: Axes | None = None,
) -> Figure | Axes:
    r"""Draw one gene against another over cells, one panel per layer: observed beside denoised.

    Genes that a cell expresses together are often counted apart, because most of their molecules are missed:
    in the observed counts two markers of the same cell type look unrelated, which a good denoiser mends, and
    markers of different types should remain apart. The title of each panel has Pearson's correlation of what
    is drawn and Spearman's, over all cells; a dash where a gene is constant. Denoising pulls cells towards
    each other, so a high correlation alone is no evidence: draw a pair that should be unrelated, too. Each
    panel has limits of its own, as layers may differ in unit and range.

    Parameters
    ----------
    adata
        Cells x genes; may be dense, sparse or backed. Nothing is written into it but the colours of a column
        `color` of categories or booleans, if it has none: ``uns[f"{color}_colors"]``, as scanpy does.
    x, y
        Genes on the horizontal and vertical axes.
    layers
        Layers to draw, from left to right; None is ``X``. What is no layer may be a data frame of that name
        in ``obsm`` (cells x genes, with their names as columns), as denoising of a few genes writes it.
    color
        Column of ``obs``, or a gene by its values in ``X``; None draws all cells dark grey.
    titles
        One title per layer; by default ``"observed"`` for ``X`` and the names of the others.
    log1p
        Draw log(1 + value), as counts need; use False for values that are on a log scale already.
    jitter
        Draw whole numbers as small clouds: each cell is moved by up to 0.3 counts (always in the same way),
        as otherwise all cells with the same two counts would be one point. The axis labels then say
        "jittered"; correlations are of the values as they are.
    size
        Area of a point in square points; by default smaller the more cells there are.
    cmap
        Colour map of numbers; by default that of the user's settings (``rcParams["image.cmap"]``).
    ax
        Draw the only layer here.

    Returns
    -------
    The Figure if it has several panels, the Axes if there is one panel or `ax` was given. The unit is that of
    the layer, after log1p where it was asked for.

    Raises
    ------
    DataError
        If a gene, layer or column does not exist, values are NaN or infinite (or negative, with `log1p`), or
        `titles` or `ax` do not fit the number of layers.

    References
    ----------
    Eraslan et al. (2019), Single-cell RNA-seq denoising using a deep count autoencoder, Nat Commun 10:390,
    https://doi.org/10.1038/s41467-018-07931-2

    Examples
    --------
    >>> import anndata as ad, numpy as np, pandas as pd
    >>> import latentcell as lc
    >>> rng = np.random.default_rng(0)
    >>> rates = rng.gamma(2.0, 0.5, size=(200, 1)) * np.array([1.0, 2.0])
    >>> genes = pd.DataFrame(index=["CD3D", "CD3E"])
    >>> adata = ad.AnnData(rng.poisson(rates).astype(float), var=genes, layers={"denoised": rates})
    >>> figure = lc.pl.denoised(adata, "CD3D", "CD3E")
    >>> [panel.get_title() for panel in figure.axes]
    ['observed\nPearson 0.35, Spearman 0.33', 'denoised\nPearson 1.00, Spearman 1.00']
    """
    keys = layer_keys(layers)
    names = layer_titles(titles, keys)
    check_room(ax, len(keys))
    if not adata.n_obs:
        raise DataError("adata: there are no cells to draw.")
    panels = [_values(adata, key, x, y, log1p) for key in keys]
    coloring = _all_alike(adata.n_obs) if color is None else coloring_of(adata, color, None)
    legends = legend_entries([coloring], on_data=False) if color is not None else []
    axes = [ax] if ax is not None else panel_grid(["2d"] * len(keys), 3, legends)

    size = point_size(adata.n_obs) if size is None else size
    norm, colormap = number_range(coloring), plt.get_cmap(cmap)
    for panel, name, values in zip(axes, names, panels, strict=True):
        moved = jitter and _are_whole(values)
        places = _apart(values) if moved else values
        draw_points(panel, np.log1p(places) if log1p else places, coloring, size, colormap, norm)
        correlations = _correlations(np.log1p(values) if log1p else values)
        panel.set_title(f"{name}\n{correlations}", fontsize="medium")
        notes = ", ".join(["log1p"] * log1p + ["jittered"] * moved)
        panel.set_xlabel(f"{x} ({notes})" if notes else x)
        panel.set_ylabel(f"{y} ({notes})" if notes else y)
    if norm is not None:
        draw_color_bar(axes, norm, colormap, coloring.title)
    if legends:
        draw_legend(axes[0].figure if ax is None else ax, legends)
    return axes[0] if len(axes) == 1 else axes[0].figure  # type: ignore[return-value]


def _values(adata: AnnData, key: str | None, x: str, y: str, log1p: bool) -> np.ndarray:
    """Values of the two genes in a layer or data frame, cells x 2."""
    frame = adata.obsm.get(key) if key is not None and key not in adata.layers else None
    if isinstance(frame, pd.DataFrame):
        positions = _positions(frame.columns, x, y, f"the columns of adata.obsm[{key!r}]")
        values = frame.iloc[:, positions].to_numpy(dtype=float)
    elif key is None or key in adata.layers:
        values = gene_values(adata, key, _positions(adata.var_names, x, y, "adata.var_names"))
    else:
        frames = [name for name, value in adata.obsm.items() if isinstance(value, pd.DataFrame)]
        raise DataError(
            f"layers: {key!r} is neither in adata.layers, which has: {listed(layer_names(adata.layers))}; "
            f"nor a data frame in adata.obsm, which has: {listed(frames)}."
            f"{nearest(key, [*layer_names(adata.layers), *frames])}"
        )
    where = key or "X"
    if not np.isfinite(values).all():
        gene = (x, y)[int(np.isfinite(values[:, 0]).all())]
        raise DataError(f"layers: {where} is NaN or infinite in gene {gene!r}.")
    if log1p and (values < 0).any():
        gene = (x, y)[int((values[:, 0] >= 0).all())]
        raise DataError(f"log1p=True: {where} is negative in gene {gene!r}. Draw it as it is: log1p=False.")
    return values


def _positions(names: pd.Index, x: str, y: str, where: str) -> list[int]:
    """Positions of the two genes among `names`."""
    genes = {"x": x, "y": y}
    missing = [f"{argument}={gene!r}" for argument, gene in genes.items() if gene not in names]
    if missing:
        raise DataError(
            f"{' and '.join(missing)}: not among {where}, such as {listed(names[:3])}."
            f"{nearest([gene for gene in genes.values() if gene not in names], names)}"
        )
    found = [np.flatnonzero(names == gene) for gene in genes.values()]
    for (argument, gene), at in zip(genes.items(), found, strict=True):
        if len(at) > 1:
            raise DataError(f"{argument}={gene!r} stands {len(at)} times among {where}: make names unique.")
    return [int(at[0]) for at in found]


def _all_alike(n_cells: int) -> Coloring:
    """One colour for all cells, darker than that of cells without a label."""
    labels: Any = pd.Categorical.from_codes(np.zeros(n_cells, dtype=int), categories=pd.Index(["cells"]))
    return Coloring("", labels, {"cells": "0.35"})


def _are_whole(values: np.ndarray) -> bool:
    return bool((values == np.round(values)).all())


def _apart(values: np.ndarray) -> np.ndarray:
    """Each value moved a little, the same values always in the same way."""
    return values + np.random.default_rng(0).uniform(-_JITTER, _JITTER, size=values.shape)


def _correlations(values: np.ndarray) -> str:
    """Both correlations of two columns, for the title; a dash where a column is constant."""
    if (values == values[0]).all(axis=0).any():
        return "Pearson –, Spearman –"
    pearson, spearman = stats.pearsonr(*values.T).statistic, stats.spearmanr(*values.T).statistic
    return f"Pearson {pearson:.2f}, Spearman {spearman:.2f}"
