"""Cells in the plane or in space, coloured by label or value, beside their clusters."""

from collections.abc import Sequence
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from sklearn.cluster import KMeans

from latentcell._colors import default_colors, kept_colors, obs_labels, other_colors
from latentcell._errors import DataError, nearest

from ._canvas import has_frame, part
from ._points import (
    Coloring,
    are_short,
    coloring_of,
    draw_color_bar,
    draw_legend,
    draw_points,
    legend_entries,
    number_range,
    panel_grid,
    point_size,
)

_BASIS_WORDS = {"tsne": "tSNE", "umap": "UMAP", "pca": "PCA"}
_AXIS_WORDS = {"PCA": "PC"}


def embedding(
    adata: AnnData,
    basis: str | Sequence[str],
    color: str | None = None,
    *,
    clusters: str | None = None,
    n_clusters: int | None = None,
    layer: str | None = None,
    dims: Literal["2d", "3d"] | Sequence[Literal["2d", "3d"]] = "2d",
    ncols: int | None = None,
    legend_loc: Literal["right margin", "on data", "none"] = "right margin",
    size: float | None = None,
    cmap: str | Colormap | None = None,
    seed: int = 0,
    ax: Axes | None = None,
) -> Figure | Axes:
    """Draw cells as points, one panel per embedding, optionally each beside its clusters.

    Points have the colour of their label (``adata.uns[f"{color}_colors"]``, else scanpy's default palette,
    which is then kept there, as scanpy does: see :doc:`/slots`) or of a number on a colour bar, high values
    on top. Cells without a label or number are light grey, below the others. With `clusters`, a second panel
    beside each shows the same coordinates coloured by cluster, with the centroid of every cluster as a marked
    disc. A k-means cluster has the colour of the label that most of its cells have (of several such clusters,
    the one that shares most with it), so that agreement is seen at a glance; the others have further colours.

    Parameters
    ----------
    adata
        Cells with coordinates in ``obsm``. Nothing but colours is written into it.
    basis
        Key of ``obsm`` (with or without its ``X_``), or several: a row of panels over them.
    color
        Column of ``obs``, or a gene; None draws all cells grey.
    clusters
        Column of ``obs`` with clusters, or ``"kmeans"`` for k-means of the coordinates that are shown (an aid
        to the eye, drawn and not kept), numbered from the largest.
    n_clusters
        Number of k-means clusters; by default the number of labels in `color`.
    layer
        Layer that holds the expression of a gene in `color`; by default ``X`` (never ``raw``).
    dims
        Draw the first two or the first three dimensions; or one choice for each basis.
    ncols
        Panels in a row; by default 2 with `clusters`, else up to 3.
    legend_loc
        Labels beside the panels, on the points at the median of each label, or not at all.
    size
        Area of a point in square points; by default smaller the more cells there are.
    cmap
        Colour map of numbers; by default that of the user's settings (``rcParams["image.cmap"]``).
    seed
        Seed of k-means.
    ax
        Draw the only panel here. For ``dims="3d"`` it must be a 3-D Axes.

    Returns
    -------
    The Figure if it has several panels, the Axes if there is one panel or `ax` was given.

    Raises
    ------
    DataError
        If a key does not exist, a basis has too few dimensions or holds NaN, `n_clusters` is missing or
        does not fit, or `ax` does not.

    Examples
    --------
    >>> import scanpy as sc
    >>> import latentcell as lc
    >>> adata = sc.datasets.pbmc68k_reduced()
    >>> figure = lc.pl.embedding(adata, "X_umap", "bulk_labels", clusters="kmeans")
    >>> [panel.get_title() for panel in figure.axes]
    ['UMAP: bulk_labels', 'UMAP: k-means, 10 clusters']
    >>> lc.pl.embedding(adata, "pca", "CD8A", dims="3d").name
    '3d'
    """
    bases = [basis] if isinstance(basis, str) else list(basis)
    if not bases:
        raise DataError("basis: name at least one key of adata.obsm.")
    dimensions = _dimensions(dims, len(bases))
    keys = [_obsm_key(adata, name) for name in bases]
    coordinates = [_coordinates(adata, key, n) for key, n in zip(keys, dimensions, strict=True)]
    if legend_loc not in ("right margin", "on data", "none"):
        raise DataError(f"legend_loc={legend_loc!r}: use 'right margin', 'on data' or 'none'.")

    left = coloring_of(adata, color, layer)
    panels: list[tuple[str, np.ndarray, Coloring]] = []
    for key, xyz in zip(keys, coordinates, strict=True):
        if clusters is None:
            panels.append((_basis_title(key), xyz, left))
            continue
        right = _clusters(adata, clusters, xyz, n_clusters, left, seed)
        panels.append((f"{_basis_title(key)}: {color}" if color else _basis_title(key), xyz, left))
        panels.append((f"{_basis_title(key)}: {right.title}", xyz, right))

    legends = (
        []
        if legend_loc == "none"
        else legend_entries([c for _, _, c in panels], on_data=legend_loc == "on data")
    )
    if ax is not None:
        if len(panels) > 1:
            raise DataError(f"ax: it holds one panel, and this call draws {len(panels)}. Leave ax out.")
        if (ax.name == "3d") != (dimensions[0] == 3):
            raise DataError(
                f'ax: dims={dims!r} needs Axes made with projection="3d" if and only if it is "3d".'
            )
        axes, figure = [ax], ax.figure
    else:
        projections = [f"{xyz.shape[1]}d" for _, xyz, _ in panels]
        axes = panel_grid(projections, ncols or (2 if clusters is not None else 3), legends)
        figure = axes[0].figure
    assert figure is not None

    size = point_size(adata.n_obs) if size is None else size
    norm = number_range(left)
    colormap = plt.get_cmap(cmap)
    for panel, (title, xyz, coloring) in zip(axes, panels, strict=True):
        draw_points(panel, xyz, coloring, size, colormap, norm)
        if coloring.centroids:
            _mark_centroids(panel, xyz, coloring)
        panel.set_title(title)
    for panel, key in zip(axes, np.repeat(keys, len(panels) // len(keys)), strict=True):
        _label_axes(panel, _basis_title(key))

    if norm is not None:
        draw_color_bar(axes, norm, colormap, left.title)
    if legends:
        draw_legend(figure if ax is None else ax, legends)
    if legend_loc == "on data":
        for panel, (_, xyz, coloring) in zip(axes, panels, strict=True):
            if not coloring.centroids:
                _name_on_data(panel, xyz, coloring)
    return axes[0] if len(axes) == 1 else figure  # type: ignore[return-value]


def _dimensions(dims: str | Sequence[str], n: int) -> list[int]:
    """Number of dimensions shown of each basis."""
    chosen = [dims] * n if isinstance(dims, str) else list(dims)
    if len(chosen) != n or any(choice not in ("2d", "3d") for choice in chosen):
        raise DataError(f"dims={dims!r}: use '2d' or '3d', or one of them for each of the {n} bases.")
    return [int(choice[0]) for choice in chosen]


def coordinates_of(adata: AnnData, basis: str, n: int) -> tuple[str, np.ndarray]:
    """The ``obsm`` key that `basis` names, and its first `n` dimensions (cells x `n`)."""
    key = _obsm_key(adata, basis)
    return key, _coordinates(adata, key, n)


def _obsm_key(adata: AnnData, basis: str) -> str:
    for key in (basis, f"X_{basis}"):
        if key in adata.obsm:
            return key
    keys = ", ".join(map(repr, adata.obsm)) or "none"
    raise DataError(f"basis={basis!r} is not in adata.obsm, which has: {keys}.{nearest(basis, adata.obsm)}")


def _coordinates(adata: AnnData, key: str, n: int) -> np.ndarray:
    """First `n` dimensions of an embedding, cells x `n`."""
    values = adata.obsm[key]
    values = values.toarray() if hasattr(values, "toarray") else np.asarray(values)
    if values.shape[1] < n:
        raise DataError(f'adata.obsm[{key!r}] has {values.shape[1]} dimensions; dims="{n}d" needs {n}.')
    values = values[:, :n].astype(float)
    if not np.isfinite(values).all():
        bad = adata.obs_names[~np.isfinite(values).all(axis=1)]
        raise DataError(
            f"adata.obsm[{key!r}] is NaN or infinite in {len(bad)} cells, the first is {bad[0]!r}."
        )
    return values


def _clusters(
    adata: AnnData, clusters: str, xyz: np.ndarray, n_clusters: int | None, beside: Coloring, seed: int
) -> Coloring:
    """Clusters of the cells: a column of ``obs``, or k-means of the coordinates."""
    if clusters != "kmeans":
        if n_clusters is not None:
            raise DataError(f'n_clusters is for clusters="kmeans"; clusters={clusters!r} is a column of obs.')
        labels = obs_labels(adata, clusters, "clusters")
        return Coloring(clusters, labels, kept_colors(adata, clusters, labels), centroids=True)
    if n_clusters is None:
        if beside.colors is None:
            raise DataError('clusters="kmeans": give n_clusters, because color is not a column of labels.')
        n_clusters = len(beside.colors)
    if not 1 <= n_clusters <= len(xyz):
        raise DataError(f"n_clusters={n_clusters}: it must be between 1 and the number of cells, {len(xyz)}.")
    found = KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(xyz)
    sizes = np.bincount(found, minlength=n_clusters)
    rank = np.empty(n_clusters, dtype=int)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(n_clusters)
    numbers = pd.Index([str(i) for i in range(n_clusters)])
    numbered: Any = pd.Categorical.from_codes(rank[found], categories=numbers)
    title = f"k-means, {n_clusters} clusters"
    return Coloring(title, numbered, _matched_colors(numbered, beside), centroids=True)


def _matched_colors(clusters: pd.Categorical, beside: Coloring) -> dict[str, str]:
    """The colour of a label for the cluster that it dominates, or for the largest share of several such."""
    names = list(clusters.categories)
    if beside.labels is None or beside.colors is None:
        return dict(zip(names, default_colors(len(names)), strict=True))
    shared = np.zeros((len(names), len(beside.labels.categories)), dtype=int)
    known = beside.labels.codes >= 0
    np.add.at(shared, (clusters.codes[known], beside.labels.codes[known]), 1)
    colors: dict[str, str] = {}
    for label, color in beside.colors.items():
        column = list(beside.labels.categories).index(label)
        won = np.where((shared.argmax(axis=1) == column) & shared.any(axis=1), shared[:, column], 0)
        if won.any():
            colors[names[won.argmax()]] = color
    others = iter(other_colors(beside.colors.values(), len(names)))
    return {name: colors.get(name) or next(others) for name in names}


def _mark_centroids(ax: Any, xyz: np.ndarray, coloring: Coloring) -> None:
    """A disc at the mean of the coordinates of each cluster: white with a short name, else in its colour."""
    if coloring.labels is None or coloring.colors is None:
        return
    short = are_short(list(coloring.colors))
    for name in coloring.colors:
        center = xyz[np.asarray(coloring.labels == name)].mean(axis=0)
        disc = {"boxstyle": "circle,pad=0.2", "facecolor": "white", "edgecolor": "black"}
        text, size = name, "x-small"
        if not short:
            disc["facecolor"] = coloring.colors[name]
            text, size = " ", "xx-small"
        ax.text(*center, text, ha="center", va="center", fontsize=size, bbox=disc, zorder=10)


def _name_on_data(ax: Any, xyz: np.ndarray, coloring: Coloring) -> None:
    """Names of labels at the medians of their cells, moved up or down where they would overlap (in 2-D)."""
    if coloring.labels is None or coloring.colors is None:
        return
    texts = []
    for name in coloring.colors:
        middle = np.median(xyz[np.asarray(coloring.labels == name)], axis=0)
        outline = [withStroke(linewidth=2.5, foreground="white")]
        style = {"fontsize": "small", "weight": "bold", "path_effects": outline, "zorder": 11}
        texts.append(ax.text(*middle, name, ha="center", va="center", **style))
    if ax.name != "3d":
        part(ax, texts)


def _basis_title(key: str) -> str:
    """``"X_umap" -> "UMAP"``, ``"vsc_tsne" -> "vsc tSNE"``."""
    return " ".join(_BASIS_WORDS.get(word, word) for word in key.removeprefix("X_").split("_"))


def _label_axes(ax: Any, title: str) -> None:
    if not has_frame():
        ax.set_axis_off()
    name = title.split(" ")[-1]
    name = _AXIS_WORDS.get(name, name)
    if name[-1:].isdigit():  # "PC2" and a number would read as another component
        name = "dimension "
    for i, axis in enumerate([ax.xaxis, ax.yaxis, *([ax.zaxis] if ax.name == "3d" else [])]):
        axis.set_ticks([])
        axis.set_label_text(f"{name}{i + 1}")
        if ax.name == "3d":
            axis.labelpad = -8
