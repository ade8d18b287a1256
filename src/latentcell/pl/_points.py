"""Cells as points: what colours them, the panels they stand in, their legends."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from latentcell._colors import MISSING, MISSING_COLOR, color_values, kept_colors

from ._canvas import rasterize

_LONGEST_MARK = 3
"""Clusters with longer names than this are named in the legend, not on their centroids."""


@dataclass(frozen=True)
class Coloring:
    """What colours the points: labels and the colour of each, or numbers, or nothing."""

    title: str
    labels: pd.Categorical | None = None
    colors: dict[str, str] | None = None
    numbers: np.ndarray | None = None
    centroids: bool = False

    @property
    def has_missing(self) -> bool:
        return self.labels is not None and bool((self.labels.codes < 0).any())


def coloring_of(adata: AnnData, color: str | None, layer: str | None) -> Coloring:
    """Colour by a column of ``obs`` or a gene; by nothing if `color` is None."""
    if color is None:
        return Coloring("")
    values = color_values(adata, color, layer, "color")
    if isinstance(values, pd.Categorical):
        return Coloring(color, values, kept_colors(adata, color, values))
    where = f" ({layer})" if layer is not None and color not in adata.obs else ""
    return Coloring(color + where, numbers=values)


def number_range(coloring: Coloring) -> Normalize | None:
    """Range of the numbers that colour the points; None for labels."""
    if coloring.numbers is None:
        return None
    finite = coloring.numbers[np.isfinite(coloring.numbers)]
    return Normalize(finite.min(), finite.max()) if finite.size else Normalize(0, 1)


def panel_grid(
    projections: Sequence[str], ncols: int, legends: Sequence[tuple[str, list[Line2D]]]
) -> list[Axes]:
    """Panels on a new figure, about square, with room for legends, or a colour bar, beside them."""
    ncols = min(ncols, len(projections))
    nrows = -(-len(projections) // ncols)
    side = plt.rcParams["figure.figsize"][1] * (1.0 if len(projections) == 1 else 0.85)
    width = side * ncols + _legend_width(legends, side * nrows)
    figure = plt.figure(figsize=(width, side * nrows), layout="constrained")
    return [
        figure.add_subplot(nrows, ncols, i + 1, projection=None if projection == "2d" else projection)
        for i, projection in enumerate(projections)
    ]


def point_size(n_cells: int) -> float:
    """Area of a point in square points: smaller the more cells there are."""
    return float(np.clip(15_000 / max(n_cells, 1), 0.5, 18))


def draw_points(
    ax: Any, xyz: np.ndarray, coloring: Coloring, size: float, cmap: Colormap, norm: Normalize | None
) -> None:
    """The points: those without a value first, so that they lie below."""
    shape: dict[str, Any] = {"s": size, "linewidths": 0, "rasterized": rasterize()}
    if ax.name == "3d":
        shape["depthshade"] = False
        ax.computed_zorder = False
        ax.set_box_aspect(None, zoom=0.9)
    if coloring.labels is not None and coloring.colors is not None:
        known = coloring.labels.codes >= 0
        palette = to_rgba_array(
            [coloring.colors.get(name, MISSING_COLOR) for name in coloring.labels.categories]
        )
        style: dict[str, Any] = {"c": palette[coloring.labels.codes[known]]}
        order = np.flatnonzero(known)
    elif coloring.numbers is not None:
        known = np.isfinite(coloring.numbers)
        order = np.flatnonzero(known)
        order = order[np.argsort(coloring.numbers[order], kind="stable")]
        style = {"c": coloring.numbers[order], "cmap": cmap, "norm": norm}
    else:
        known = np.zeros(len(xyz), dtype=bool)
        order = np.flatnonzero(known)
        style = {}
    if not known.all():
        ax.scatter(*xyz[~known].T, c=MISSING_COLOR, **shape)
    if len(order):
        ax.scatter(*xyz[order].T, **style, **shape)


def draw_color_bar(axes: Sequence[Axes], norm: Normalize, cmap: Colormap, label: str) -> None:
    """One colour bar at the right of panels of the same figure."""
    assert axes[0].figure is not None
    bar = axes[0].figure.colorbar(
        ScalarMappable(norm, cmap), ax=list(axes), shrink=0.7, aspect=25, label=label
    )
    bar.outline.set_visible(False)


def are_short(names: Sequence[str]) -> bool:
    """Whether all names are short enough to stand on the points."""
    return all(len(name) <= _LONGEST_MARK for name in names)


def legend_entries(colorings: Sequence[Coloring], *, on_data: bool) -> list[tuple[str, list[Line2D]]]:
    """Title and entries of the legends that the panels need, each once."""
    legends: dict[str, list[Line2D]] = {}
    for coloring in colorings:
        if coloring.colors is None or coloring.title in legends:
            continue
        named_in_panel = are_short(list(coloring.colors)) if coloring.centroids else on_data
        shown = {} if named_in_panel else dict(coloring.colors)
        if coloring.has_missing:
            shown |= {MISSING: MISSING_COLOR}
        if shown:
            legends[coloring.title] = [
                Line2D([], [], linestyle="", marker="o", markersize=6, color=color, label=name)
                for name, color in shown.items()
            ]
    return list(legends.items())


def _handles(legends: Sequence[tuple[str, list[Line2D]]]) -> tuple[list[Line2D], list[int]]:
    """All entries, with the title before those of each of several legends, and where these titles are."""
    if len(legends) == 1:
        return legends[0][1], []
    handles: list[Line2D] = []
    headings: list[int] = []
    for title, entries in legends:
        headings.append(len(handles))
        handles += [Line2D([], [], linestyle="", label=title), *entries]
    return handles, headings


def _legend(where: Any, legends: Sequence[tuple[str, list[Line2D]]], ncols: int, **place: Any) -> Legend:
    """All legends as one block."""
    handles, headings = _handles(legends)
    title = legends[0][0] if len(legends) == 1 else ""
    legend = where.legend(handles=handles, title=title, frameon=False, ncols=ncols, **place)
    legend.set_alignment("left")
    for i in headings:
        legend.get_texts()[i].set_fontweight("bold")
    return legend


def _legend_columns(legends: Sequence[tuple[str, list[Line2D]]], height: float) -> tuple[int, float]:
    """Columns in which the legends are no higher than `height` inches, and their width in inches.

    As many as scanpy makes, or more where they would be cut off.
    """
    n_entries = len(_handles(legends)[0])
    ncols = 1 if n_entries <= 20 else 2 if n_entries <= 40 else 3
    pad = FontProperties(size=plt.rcParams["legend.fontsize"]).get_size_in_points() / 72
    height = 0.98 * height - 2 * plt.rcParams["legend.borderaxespad"] * pad
    while True:
        figure = Figure()
        FigureCanvasAgg(figure)
        box = _legend(figure, legends, ncols, loc="center").get_window_extent()
        if box.height <= height * figure.dpi or ncols >= n_entries:
            return ncols, box.width / figure.dpi
        ncols += 1


def _legend_width(legends: Sequence[tuple[str, list[Line2D]]], height: float) -> float:
    """Inches that the legends, or a colour bar in their place, take beside panels of `height` inches."""
    size = plt.rcParams["font.size"] / 72
    return _legend_columns(legends, height)[1] + size if legends else 4.8 * size


def draw_legend(where: Any, legends: Sequence[tuple[str, list[Line2D]]]) -> None:
    """All legends as one block at the right, in as many columns as its height asks for."""
    figure = where.figure if isinstance(where, Axes) else where
    height = figure.bbox.height
    if isinstance(where, Axes):
        own = where.get_position()
        # beside other panels it keeps to its own, else it may reach to the edge of the figure
        height *= own.height if len(figure.axes) > 1 else min(own.y0 + own.y1, 2 - own.y0 - own.y1)
    ncols, _ = _legend_columns(legends, height / figure.dpi)
    if isinstance(where, Axes):
        offset = 1.15 if where.name == "3d" else 1.02
        _legend(where, legends, ncols, loc="center left", bbox_to_anchor=(offset, 0.5))
    else:
        _legend(where, legends, ncols, loc="outside right center")
