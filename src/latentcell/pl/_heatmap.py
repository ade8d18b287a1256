"""Expression of cells by genes, cells ordered by group."""

from collections.abc import Sequence
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from latentcell import _keys
from latentcell._colors import MISSING, MISSING_COLOR, check_layer, kept_colors, obs_labels
from latentcell._errors import DataError

from ._canvas import spread
from ._matrix import chosen_genes, chosen_rows, dense_values, order_by_group

_MOST_GENE_NAMES = 60


def heatmap(
    adata: AnnData,
    groupby: str,
    *,
    genes: Sequence[str] | None = None,
    layer: str | None = None,
    max_cells: int = 1000,
    max_genes: int = 200,
    standardize: Literal["gene"] | None = None,
    unit: str | None = None,
    split: str | None = None,
    seed: int = 0,
    ax: Axes | None = None,
) -> Axes | Figure:
    """Draw expression as a heat map: cells in rows, ordered by group, and genes in columns.

    A bar at the left has the colours and names of the groups (in the order of their categories, cells
    without a group last and light grey). The colour bar at the right says what is shown. Non-negative values
    run from 0 to their 99th percentile on the user's colour map (``rcParams["image.cmap"]``), others
    symmetrically about 0 from blue to red; what lies beyond has the last colour.

    If there are more than `max_cells` cells, a random sample of them is drawn: all groups are thinned by the
    same factor, but none below 10 cells; the title then says so ("1,000 of 68,579 cells"). Only
    what is drawn is ever read into dense memory.

    Parameters
    ----------
    adata
        Cells by genes; may be sparse or backed. Nothing is written into it but the colours of `groupby`, if
        it has none: ``uns[f"{groupby}_colors"]``, as scanpy does.
    groupby
        Column of ``obs``.
    genes
        Genes to draw, in this order. By default those marked in ``var["highly_variable"]``, or all genes
        without that column; at most `max_genes` (the most variable, as ranked in ``var`` by scanpy, else
        the first), ordered by the group that expresses them most.
    layer
        Layer to draw; by default ``X``.
    max_cells
        Largest number of cells drawn, apart from what small groups add.
    max_genes
        Largest number of genes drawn when `genes` is not given.
    standardize
        ``"gene"`` draws z-scores: each gene minus its mean, divided by its standard deviation, over the
        cells that are drawn. A gene that is constant there is 0.
    unit
        What the values are, for the colour bar, e.g. ``"log1p CP10k"``; by default the name of the layer
        or ``"X"``.
    split
        Column of ``obs``, e.g. ``"is_generated"``: a heat map for each of its values, side by side, with the
        same genes, the same order of groups and the same colours. `max_cells` then holds for each of them,
        and z-scores and the order of genes come from all cells that are drawn. Cells without a value are
        left out.
    seed
        Seed of the sample.
    ax
        Axes to draw on; the bars are put beside it. By default a new figure.

    Returns
    -------
    The Axes of the heat map; with `split` the Figure.

    Raises
    ------
    DataError
        If a column, layer or gene does not exist, nothing is left to draw, or values are NaN.

    Examples
    --------
    >>> import scanpy as sc
    >>> import latentcell as lc
    >>> adata = sc.datasets.pbmc68k_reduced()
    >>> ax = lc.pl.heatmap(adata, "bulk_labels", genes=["CD3D", "CD79A", "LYZ"], unit="scaled log1p")
    >>> [label.get_text() for label in ax.get_xticklabels()]
    ['CD3D', 'CD79A', 'LYZ']
    >>> ax.get_title()
    '700 cells, 3 genes'
    """
    labels = obs_labels(adata, groupby, "groupby")
    check_layer(adata, layer)
    if standardize not in (None, "gene"):
        raise DataError(f"standardize={standardize!r}: use 'gene' or None.")
    parts = _parts(adata, split)
    if ax is not None and split is not None:
        raise DataError("ax: it holds one panel, and split= draws several. Leave ax out.")
    columns = chosen_genes(adata, genes, max_genes)
    rows = [cells[chosen_rows(labels.codes[cells], max_cells, seed)] for cells in parts.values()]
    if not any(map(len, rows)):
        raise DataError("adata: there are no cells to draw.")
    drawn = np.concatenate(rows)
    values = dense_values(adata, drawn, columns, layer)
    if standardize == "gene":
        deviation = values.std(axis=0)
        values = (values - values.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    if genes is None:
        order = order_by_group(values, labels.codes[drawn])
        values, columns = values[:, order], columns[order]

    axes = [ax] if ax is not None else _new_axes(len(parts), labels)
    low, high, cmap, extend = _range(values)
    ends = np.cumsum([len(some) for some in rows])[:-1]
    for panel, some, cells in zip(axes, np.split(values, ends), rows, strict=True):
        image = panel.imshow(
            _enlarged(some),
            aspect="auto",
            vmin=low,
            vmax=high,
            cmap=cmap,
            interpolation_stage="data",
            extent=(-0.5, some.shape[1] - 0.5, len(cells) - 0.5, -0.5),
        )
        panel.grid(False)
        panel.set_yticks([])
        _label_genes(panel, list(adata.var_names[columns]))
    figure = axes[0].figure
    assert figure is not None
    bar = figure.colorbar(
        image, ax=axes if split is not None else axes[0], shrink=0.6, aspect=20, extend=extend
    )
    name = unit or layer or "X"
    bar.set_label(f"z-score of {name}" if standardize == "gene" else name)
    bar.outline.set_visible(False)
    colors = kept_colors(adata, groupby, labels)
    for panel, (part, members), cells in zip(axes, parts.items(), rows, strict=True):
        shown = f"{len(cells):,} cells"
        if len(cells) < len(members):
            shown = f"{len(cells):,} of {len(members):,} cells"
        shown += f", {len(columns):,} genes" if len(columns) > 1 else ""
        panel.set_title(f"{part}: {shown}" if part else shown, fontsize="medium")
    for panel, cells in zip(axes, rows, strict=True):
        _group_bar(panel, labels.codes[cells], list(labels.categories), colors)
    return axes[0] if split is None else figure  # type: ignore[return-value]


def _parts(adata: AnnData, split: str | None) -> dict[str, np.ndarray]:
    """Cells of each heat map, by its title."""
    if split is None:
        return {"": np.arange(adata.n_obs)}
    labels = obs_labels(adata, split, "split")
    names = {"False": "real", "True": "generated"} if split == _keys.IS_GENERATED else {}
    parts = {names.get(name, name): np.flatnonzero(labels == name) for name in labels.categories}
    return {name: cells for name, cells in parts.items() if len(cells)} or {"": np.arange(0)}


def _new_axes(n: int, labels: pd.Categorical) -> list[Axes]:
    """Axes of a new figure side by side, with room for the names of groups left of each."""
    width, height = plt.rcParams["figure.figsize"]
    names = 0.5 * max(map(len, labels.categories), default=0) * plt.rcParams["font.size"] / 72
    panel = width if n == 1 else 0.75 * width
    _, axes = plt.subplots(1, n, figsize=(n * (panel + names), height), layout="constrained", squeeze=False)
    return list(axes[0])


def _range(values: np.ndarray) -> tuple[float, float, str, Literal["neither", "max", "both"]]:
    """Limits of the colours, the colour map, and which ends go beyond the limits."""
    magnitude = np.abs(values)
    high = float(np.percentile(magnitude, 99)) or float(magnitude.max()) or 1.0
    beyond = bool(magnitude.max() > high)
    if values.min() >= 0:
        return 0.0, high, plt.rcParams["image.cmap"], "max" if beyond else "neither"
    return -high, high, "RdBu_r", "both" if beyond else "neither"


def _enlarged(values: np.ndarray) -> np.ndarray:
    """Values repeated to at least as many rows and columns as a figure has pixels.

    Matplotlib then averages over what falls into a pixel, and only that. Without this it would also smear a
    few wide columns into each other wherever the many rows need averaging.
    """
    down, across = (max(1, -(-1000 // n)) for n in values.shape)
    return values.repeat(down, axis=0).repeat(across, axis=1)


def _label_genes(ax: Axes, names: list[str]) -> None:
    """Gene names below the columns, as large as they fit; none if there are too many."""
    if len(names) > _MOST_GENE_NAMES:
        ax.set_xticks([])
        ax.set_xlabel("genes")
        return
    size = float(np.clip(260 / len(names), 4.5, 0.9 * plt.rcParams["font.size"]))
    ax.set_xticks(range(len(names)), names, rotation=90 if len(names) > 6 else 0, fontsize=size)


def _group_bar(ax: Axes, codes: np.ndarray, names: list[str], colors: dict[str, str]) -> None:
    """Strip of group colours left of the cells; names beside it, moved apart where groups are small."""
    present = [code for code in [*range(len(names)), -1] if (codes == code).any()]
    shown = {code: names[code] if code >= 0 else MISSING for code in present}
    strip = ax.inset_axes((-0.05, 0, 0.035, 1))
    strip.set_label("groups")
    strip.imshow(
        np.array([present.index(code) for code in codes])[:, None],
        aspect="auto",
        interpolation="nearest",
        cmap=ListedColormap([colors.get(name, MISSING_COLOR) for name in shown.values()]),
        vmin=-0.5,
        vmax=len(present) - 0.5,
    )
    strip.grid(False)
    strip.set_xticks([])
    strip.set_yticks([])
    strip.spines[:].set_visible(False)
    middles = np.array([np.flatnonzero(codes == code).mean() for code in present])
    n = len(codes)
    assert ax.figure is not None
    ax.figure.figure.draw_without_rendering()
    height = ax.get_window_extent().height / ax.figure.dpi * 72
    size = float(np.clip(height / (1.25 * len(present)), 4.5, 0.9 * plt.rcParams["font.size"]))
    places = spread(middles, 1.25 * size / height * n, -0.5, n - 0.5)
    for name, middle, place in zip(shown.values(), middles, places, strict=True):
        strip.annotate(
            name,
            xy=(-0.5, middle),
            xytext=(-1.6, place),
            ha="right",
            va="center",
            fontsize=size,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": "0.5",
                "linewidth": 0.6,
                "shrinkA": 1,
                "shrinkB": 0,
                "relpos": (1, 0.5),
            },
        )
    for end in np.flatnonzero(np.diff(codes)) + 0.5:
        ax.axhline(end, color="0.5", linewidth=0.6)
