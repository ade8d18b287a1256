"""A path through latent space: genes along it, the order in which they switch, and where it leads."""

from collections.abc import Sequence
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
from anndata import AnnData
from matplotlib.axes import Axes

from latentcell import _keys
from latentcell._colors import default_colors
from latentcell._errors import DataError

from ._canvas import name_lines
from ._embedding import coordinates_of, embedding
from ._matrix import chosen_genes, decoded_values

_N_GENES = {"genes": 8, "heatmap": 40}
_MOST_NAMES = 80


def path(
    path: AnnData,
    genes: Sequence[str] | None = None,
    *,
    kind: Literal["genes", "heatmap", "cells"] = "genes",
    n_genes: int | None = None,
    adata: AnnData | None = None,
    basis: str = "X_umap",
    color: str | None = None,
    unit: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a path through latent space: curves of genes, genes in the order of their switches, or its places.

    * ``kind="genes"``: a curve per gene, in log(1 + counts per 10,000) of counts, else as the data are.
      Bands, where the path has them, run from the 5th to the 95th percentile of what is decoded at the codes
      of the nearest cells; where they leave the curve, the path has left the cells.
    * ``kind="heatmap"``: genes in rows, the earliest switch on top, each scaled to its own range on the path;
      a point marks where it switches.
    * ``kind="cells"``: the path over an embedding of the cells. A place is drawn at the median of its nearest
      cells there, for an embedding such as a UMAP has no place for a code; among the codes themselves
      (``basis="X_vae"``) at its own first two dimensions. Places farther from all cells than 95 % of the
      cells are
      from each other are hollow.

    Parameters
    ----------
    path
        From :func:`latentcell.tl.interpolate`. Nothing is written into it.
    genes
        Genes to draw. By default those that change most: among genes that switch, where
        :func:`latentcell.tl.rank_switches` told, which ``kind="heatmap"`` needs.
    kind
        What is drawn.
    n_genes
        Number of genes when `genes` is not given; by default 8 curves, or 40 rows.
    adata
        The cells, for ``kind="cells"``.
    basis
        ``obsm`` key of the embedding of the cells.
    color
        Column of ``obs`` or gene by which the cells are coloured.
    unit
        What the values are, for the axis of the curves; by default ``"log1p CP10k"`` of counts, else
        ``"expression"``.
    ax
        Axes to draw on; by default a new figure.

    Returns
    -------
    The Axes.

    Raises
    ------
    DataError
        If this is no path, a gene, cell or key does not exist, or what `kind` needs is missing.

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_groups(n_rare=0, seed=0)
    >>> model = lc.tl.vae(adata, max_epochs=20, n_latent=4, progress=False)
    >>> path = lc.tl.interpolate(adata, model, "group1", "group2", 11, groupby="group")
    >>> ax = lc.pl.path(path, n_genes=4)
    >>> ax.get_xlabel(), len(ax.lines)
    ('group1 to group2', 4)
    >>> table = lc.tl.rank_switches(path, least_change=2)
    >>> ax = lc.pl.path(path, kind="heatmap", n_genes=3)
    >>> [label.get_text() for label in ax.get_yticklabels()] == [
    ...     g for g in table.index if g in path.var.nsmallest(3, "rank").index
    ... ]
    True
    """
    if kind not in ("genes", "heatmap", "cells"):
        raise DataError(f"kind={kind!r}: use 'genes', 'heatmap' or 'cells'.")
    said = path.uns.get(_keys.UNS, {})
    if "step" not in path.obs or "along" not in said:
        raise DataError("path: this is none; draw what lc.tl.interpolate returned.")
    if kind == "cells":
        return _over_cells(path, said, adata, basis, color, ax)
    positions = _genes_of(path, genes, kind, _N_GENES[kind] if n_genes is None else n_genes)
    if ax is None:
        height = max(plt.rcParams["figure.figsize"][1], 0.16 * len(positions) if kind == "heatmap" else 0)
        _, ax = plt.subplots(figsize=(plt.rcParams["figure.figsize"][0], height), layout="constrained")
    step, rows = path.obs["step"].to_numpy(dtype=float), np.arange(path.n_obs)
    values = decoded_values(path, rows, positions)
    ax.grid(False)
    ax.set_xlabel(f"{said['start']} to {said['end']}")
    if kind == "heatmap":
        _draw_rows(ax, path, positions, step, values)
        return ax
    bands = [
        decoded_values(path, rows, positions, layer) for layer in ("lower", "upper") if layer in path.layers
    ]
    for column, shade in enumerate(default_colors(len(positions))):
        ax.plot(step, values[:, column], color=shade, linewidth=1.6)
        if len(bands) == 2:
            ax.fill_between(
                step, bands[0][:, column], bands[1][:, column], color=shade, alpha=0.18, linewidth=0
            )
    ax.margins(x=0.02)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_ylabel(unit or ("log1p CP10k" if "library_size" in path.obs else "expression"))
    name_lines(ax, [str(name) for name in path.var_names[positions]], values[-1])
    return ax


def _genes_of(path: AnnData, genes: Sequence[str] | None, kind: str, n_genes: int) -> np.ndarray:
    """Positions of the genes to draw; of a heat map in the order of their switches."""
    if n_genes < 1:
        raise DataError(f"n_genes must be at least 1, got {n_genes}.")
    switch = path.var["switch"].to_numpy(dtype=float) if "switch" in path.var else None
    if kind == "heatmap" and switch is None:
        raise DataError("path: it is not known when genes switch; first call lc.tl.rank_switches(path).")
    if genes is not None:
        positions = chosen_genes(path, genes, n_genes)
    else:
        known = np.arange(path.n_vars) if switch is None else np.flatnonzero(~np.isnan(switch))
        if not len(known):
            raise DataError("path: no gene switches on it; name genes to draw with genes=.")
        rank = path.var["rank"].to_numpy()
        positions = known[np.argsort(rank[known], kind="stable")[:n_genes]]
    if kind == "heatmap" and switch is not None:
        never = positions[np.isnan(switch[positions])]
        if len(never):
            names = ", ".join(map(repr, path.var_names[never][:12]))
            raise DataError(f"genes: {names} do not switch on this path; draw them with kind='genes'.")
        positions = positions[np.argsort(switch[positions], kind="stable")]
    return positions


def _draw_rows(ax: Axes, path: AnnData, positions: np.ndarray, step: np.ndarray, values: np.ndarray) -> None:
    """Genes in rows, each over its own range, and a point where it switches."""
    low, high = values.min(axis=0), values.max(axis=0)
    share = (values - low) / np.where(high > low, high - low, 1.0)
    half = (step[1] - step[0]) / 2
    n = len(positions)
    image = ax.imshow(
        share.T,
        aspect="auto",
        interpolation="nearest",
        extent=(-half, 1 + half, n - 0.5, -0.5),
        vmin=0,
        vmax=1,
        cmap=plt.rcParams["image.cmap"],
    )
    switch = path.var["switch"].to_numpy(dtype=float)[positions]
    ax.scatter(switch, np.arange(n), s=9, color="white", edgecolor="black", linewidth=0.5, zorder=3)
    assert ax.figure is not None
    ax.figure.figure.draw_without_rendering()
    height = ax.get_window_extent().height / ax.figure.dpi * 72
    if n <= _MOST_NAMES:
        size = float(np.clip(height / (1.25 * n), 3.5, 0.9 * plt.rcParams["font.size"]))
        ax.set_yticks(range(n), [str(name) for name in path.var_names[positions]], fontsize=size)
    else:
        ax.set_yticks([])
        ax.set_ylabel(f"{n} genes, by their switch")
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.6, aspect=20)
    bar.set_label("share of the gene's range")
    bar.outline.set_visible(False)


def _over_cells(
    path: AnnData, said: Any, adata: AnnData | None, basis: str, color: str | None, ax: Axes | None
) -> Axes:
    """The places of a path over the cells, each where its nearest cells are."""
    if adata is None:
        raise DataError("adata is needed for kind='cells': the cells over which the path is drawn.")
    key, cells = coordinates_of(adata, basis, 2)
    if key in path.obsm:
        places = np.asarray(path.obsm[key], dtype=float)[:, :2]
    else:
        if "local_cells" not in said:
            raise DataError(
                "path: its nearest cells are not known; call lc.tl.interpolate with n_local above 0."
            )
        names = np.asarray(said["local_cells"])
        rows = adata.obs_names.get_indexer(names.ravel()).reshape(names.shape)
        if (rows < 0).any():
            raise DataError(
                f"adata has no cell {str(names[rows < 0][0])!r}, which the path passes; draw the cells that "
                "lc.tl.interpolate was given."
            )
        places = np.median(cells[rows], axis=1)
    drawn: Any = embedding(adata, key, color, ax=ax)
    lonely = np.zeros(len(places), dtype=bool)
    if "distance" in path.obs:
        lonely = path.obs["distance"].to_numpy(dtype=float) > said["cell_distance"]
    drawn.plot(*places.T, color="black", linewidth=1.4, zorder=5)
    fill = np.where(lonely, "white", "black")
    drawn.scatter(*places.T, s=16, c=fill, edgecolor="black", linewidth=0.9, zorder=6)
    for place, name in zip(places[[0, -1]], (said["start"], said["end"]), strict=True):
        drawn.annotate(
            str(name),
            place,
            xytext=(4, 4),
            textcoords="offset points",
            fontsize="small",
            zorder=7,
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.7},
        )
    return drawn
