"""Expression of cells by genes, cells ordered by group."""

from collections.abc import Sequence
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap

from latentcell._errors import DataError

from ._canvas import spread
from ._colors import MISSING, MISSING_COLOR, check_layer, label_colors, obs_labels

_FEWEST_CELLS = 10
"""Groups are not thinned below this."""

_MOST_GENE_NAMES = 60
_RANKINGS = (("highly_variable_rank", True), ("dispersions_norm", False), ("variances_norm", False))
"""Columns of ``var`` that rank highly variable genes, and whether low is first."""


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
    seed: int = 0,
    ax: Axes | None = None,
) -> Axes:
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
        Cells by genes; may be sparse or backed. Nothing is written into it.
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
    seed
        Seed of the sample.
    ax
        Axes to draw on; the bars are put beside it. By default a new figure.

    Returns
    -------
    The Axes of the heat map.

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
    columns = _genes(adata, genes, max_genes)
    rows = _rows(labels.codes, max_cells, seed)
    if not len(rows):
        raise DataError("adata: there are no cells to draw.")
    values = _dense(adata, rows, columns, layer)
    if standardize == "gene":
        deviation = values.std(axis=0)
        values = (values - values.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    codes = labels.codes[rows]
    if genes is None:
        order = _by_group(values, codes)
        values, columns = values[:, order], columns[order]

    if ax is None:
        width, height = plt.rcParams["figure.figsize"]
        names = 0.5 * max(map(len, labels.categories), default=0) * plt.rcParams["font.size"] / 72
        _, ax = plt.subplots(figsize=(width + names, height), layout="constrained")
    low, high, cmap, extend = _range(values)
    image = ax.imshow(
        _enlarged(values),
        aspect="auto",
        vmin=low,
        vmax=high,
        cmap=cmap,
        interpolation_stage="data",
        extent=(-0.5, values.shape[1] - 0.5, len(values) - 0.5, -0.5),
    )
    ax.grid(False)
    ax.set_yticks([])
    _label_genes(ax, list(adata.var_names[columns]))
    assert ax.figure is not None
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.6, aspect=20, extend=extend)
    name = unit or layer or "X"
    bar.set_label(f"z-score of {name}" if standardize == "gene" else name)
    bar.outline.set_visible(False)
    shown = f"{len(rows):,} cells" if len(rows) == adata.n_obs else f"{len(rows):,} of {adata.n_obs:,} cells"
    ax.set_title(f"{shown}, {len(columns):,} genes" if len(columns) > 1 else shown, fontsize="medium")
    _group_bar(ax, codes, list(labels.categories), label_colors(adata, groupby, labels))
    return ax


def _genes(adata: AnnData, genes: Sequence[str] | None, max_genes: int) -> np.ndarray:
    """Positions of the genes to draw."""
    if genes is not None:
        genes = [genes] if isinstance(genes, str) else list(genes)
        positions = adata.var_names.get_indexer(pd.Index(genes)) if adata.var_names.is_unique else None
        if positions is None:
            raise DataError("adata.var_names are not unique; call adata.var_names_make_unique() first.")
        unknown = [gene for gene, position in zip(genes, positions, strict=True) if position < 0]
        if unknown:
            raise DataError(
                f"genes: {len(unknown)} of them are not in adata.var_names: "
                f"{', '.join(map(repr, unknown[:12]))}. "
                f"The names there look like: {', '.join(map(repr, adata.var_names[:3]))}."
            )
        if not genes:
            raise DataError("genes: name at least one gene, or leave it out for the highly variable ones.")
        return positions
    chosen = np.arange(adata.n_vars)
    if "highly_variable" in adata.var:
        chosen = np.flatnonzero(adata.var["highly_variable"].to_numpy(dtype=bool))
    if len(chosen) > max_genes:
        for column, ascending in _RANKINGS:
            if column in adata.var:
                ranks = adata.var[column].iloc[chosen].to_numpy(dtype=float)
                ranks = np.where(np.isnan(ranks), np.inf, ranks if ascending else -ranks)
                chosen = np.sort(chosen[np.argsort(ranks, kind="stable")[:max_genes]])
                break
        chosen = chosen[:max_genes]
    if not len(chosen):
        raise DataError('adata.var["highly_variable"] marks no gene; name some with genes=.')
    return chosen


def _rows(codes: np.ndarray, max_cells: int, seed: int) -> np.ndarray:
    """Cells to draw, ordered by group and within it as they are in the data; missing groups last."""
    groups = [np.flatnonzero(codes == code) for code in [*range(codes.max(initial=-1) + 1), -1]]
    if len(codes) > max_cells:
        rng = np.random.default_rng(seed)
        kept = [
            min(len(group), max(_FEWEST_CELLS, round(len(group) * max_cells / len(codes))))
            for group in groups
        ]
        groups = [np.sort(rng.choice(group, n, replace=False)) for group, n in zip(groups, kept, strict=True)]
    return np.concatenate(groups)


def _dense(adata: AnnData, rows: np.ndarray, columns: np.ndarray, layer: str | None) -> np.ndarray:
    """Drawn cells x drawn genes. They are read in the order of the file, which backed data need."""
    rows_in_file, row_places = np.unique(rows, return_inverse=True)
    columns_in_file, column_places = np.unique(columns, return_inverse=True)
    shown = adata[rows_in_file, columns_in_file]
    if adata.isbacked:
        shown = shown.to_memory()
    values = shown.X if layer is None else shown.layers[layer]
    if values is None:
        raise DataError("adata.X is empty; name a layer.")
    values = np.asarray(values.toarray() if hasattr(values, "toarray") else values, dtype=float)
    values = values[np.ix_(row_places, column_places)]
    if not np.isfinite(values).all():
        gene = adata.var_names[columns[np.flatnonzero(~np.isfinite(values).all(axis=0))[0]]]
        raise DataError(f"{layer or 'X'} is NaN or infinite, first in gene {gene!r}.")
    return values


def _by_group(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Order of genes by the group whose mean stands out most (in standard deviations of the gene)."""
    groups = np.unique(codes[codes >= 0])
    if len(groups) < 2:
        return np.arange(values.shape[1])
    means = np.stack([values[codes == group].mean(axis=0) for group in groups])
    return np.lexsort((-means.max(axis=0) / (values.std(axis=0) + 1e-12), means.argmax(axis=0)))


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
