"""Real and generated cells in one embedding, side by side."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from latentcell import _keys
from latentcell._checks import matrix_kind
from latentcell._colors import check_layer, listed
from latentcell._errors import DataError

from ._canvas import rasterize
from ._embedding import _basis_title, _coordinates, _label_axes
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

_BEHIND = "0.88"
"""Colour of the cells of the other kind."""
_KIND_COLORS = {"real": "#0072B2", "generated": "#D55E00"}
"""Blue and vermilion of Okabe and Ito, which all kinds of colour vision tell apart."""
_COMPUTED = ("pca", "umap", "tsne")
_N_PCS = 50


def augmentation(
    adata: AnnData,
    basis: str | Sequence[str] = "pca",
    color: str | None = None,
    *,
    layer: str | None = None,
    size: float | None = None,
    cmap: str | Colormap | None = None,
    seed: int = 0,
) -> Figure:
    """Draw real cells beside generated ones in the same coordinates, to see where either kind has none.

    The left panel has the real cells in colour, the right one the generated cells, each above the cells of
    the other panel in pale grey; both have the same limits. Colours are those of groups
    (kept in ``adata.uns``, see :func:`latentcell.pl.embedding`) or of a number.

    An embedding that `adata` does not have is computed with scanpy from all cells, real and generated
    together, so that whatever sets one kind apart can show: principal components of ``X`` (or `layer`), of
    its highly variable genes where ``var`` marks them; UMAP and t-SNE of the first 50 components. Counts are
    normalised to 10,000 per cell and logarithmised first, other values taken as they are. Such a map shows
    what is grossly wrong; whether cells can be told apart takes a measure.

    Parameters
    ----------
    adata
        Cells with ``obs["is_generated"]``, as :func:`latentcell.tl.augment` makes them. Nothing is written
        to it.
    basis
        ``"pca"``, ``"umap"``, ``"tsne"`` or a key of ``obsm`` (with or without its ``X_``); or several, one
        row of two panels each. What is in ``obsm`` is drawn, the first three are otherwise computed.
    color
        Column of ``obs``, or a gene. Default: the groups that :func:`latentcell.tl.augment` filled
        (``uns["latentcell"]["groupby"]``), else real and generated in two colours.
    layer
        Layer to compute embeddings from, and that holds the expression of a gene in `color`; by default
        ``X``.
    size
        Area of a point in square points; by default smaller the more cells there are.
    cmap
        Colour map of numbers; by default that of the user's settings (``rcParams["image.cmap"]``).
    seed
        Of the embedding, and of the order in which cells are drawn.

    Returns
    -------
    The Figure.

    Raises
    ------
    DataError
        If ``obs["is_generated"]`` is missing or all cells are of one kind, a key does not exist, or values
        are NaN.

    References
    ----------
    VAExprs (``plot_aug``), https://doi.org/10.18129/B9.bioc.VAExprs

    Examples
    --------
    >>> import numpy as np
    >>> import latentcell as lc
    >>> adata = lc.datasets.pbmc68k()
    >>> adata.obs["is_generated"] = np.arange(700) >= 500  # these are not, but look like it
    >>> figure = lc.pl.augmentation(adata, "pca", "cell_type")
    >>> [panel.get_title() for panel in figure.axes]
    ['PCA: 500 real cells', 'PCA: 200 generated cells']
    """
    bases = [basis] if isinstance(basis, str) else list(basis)
    if not bases:
        raise DataError("basis: name at least one embedding.")
    check_layer(adata, layer)
    generated = _is_generated(adata)
    coloring = _coloring(adata, color, layer, generated)
    coordinates = _embeddings(adata, bases, layer, seed)
    legends = _legends(coloring)
    axes = panel_grid(["2d"] * 2 * len(bases), 2, legends)
    norm, colormap = number_range(coloring), plt.get_cmap(cmap)
    size = point_size(adata.n_obs) if size is None else size
    order = np.random.default_rng(seed).permutation(adata.n_obs)  # no group covers another as a whole
    for i, (name, xy) in enumerate(coordinates.items()):
        pair = list(zip(axes[2 * i : 2 * i + 2], (~generated, generated), ("real", "generated"), strict=True))
        for panel, shown, kind in pair:
            cells = order[shown[order]]
            behind: dict[str, Any] = {"c": _BEHIND, "s": size, "linewidths": 0, "rasterized": rasterize()}
            panel.scatter(*xy[~shown].T, **behind)
            draw_points(panel, xy[cells], _of_cells(coloring, cells), size, colormap, norm)
            panel.set_title(f"{name}: {int(shown.sum()):,} {kind} cells")
            _label_axes(panel, name)
            _set_limits(panel, xy)
    figure = axes[0].figure
    assert figure is not None
    if norm is not None:
        draw_color_bar(axes, norm, colormap, coloring.title)
    draw_legend(figure, legends)
    return figure  # type: ignore[return-value]


def _is_generated(adata: AnnData) -> np.ndarray:
    key = _keys.IS_GENERATED
    if key not in adata.obs or not pd.api.types.is_bool_dtype(adata.obs[key]) or adata.obs[key].isna().any():
        raise DataError(
            f"adata.obs has no column {key!r} of True and False; its columns are: "
            f"{listed(adata.obs.columns)}. Join the cells with latentcell.tl.augment, which marks them."
        )
    generated = adata.obs[key].to_numpy(dtype=bool)
    if generated.all() or not generated.any():
        raise DataError(
            f"all cells are {'generated' if generated.any() else 'real'}; there is nothing to compare."
        )
    return generated


def _coloring(adata: AnnData, color: str | None, layer: str | None, generated: np.ndarray) -> Coloring:
    if color is None:
        known = adata.uns.get(_keys.UNS, {}).get("groupby")
        color = known if known in adata.obs else None
    if color is not None:
        return coloring_of(adata, color, layer)
    kinds: Any = pd.Categorical(np.where(generated, "generated", "real"), list(_KIND_COLORS))
    return Coloring("cells", kinds, _KIND_COLORS)


def _of_cells(coloring: Coloring, cells: np.ndarray) -> Coloring:
    if coloring.numbers is not None:
        return replace(coloring, numbers=coloring.numbers[cells])
    assert coloring.labels is not None
    return replace(coloring, labels=coloring.labels[cells])


def _embeddings(adata: AnnData, bases: Sequence[str], layer: str | None, seed: int) -> dict[str, np.ndarray]:
    """First two coordinates of every basis, by its title: those in ``obsm``, else computed."""
    found, computed = {}, None
    for basis in bases:
        key = next((key for key in (basis, f"X_{basis}") if key in adata.obsm), None)
        if key is not None:
            found[_basis_title(key)] = _coordinates(adata, key, 2)
            continue
        if basis not in _COMPUTED:
            raise DataError(
                f"basis={basis!r} is neither in adata.obsm, which has: {listed(adata.obsm)}, nor one of "
                f"{', '.join(_COMPUTED)}, which are computed."
            )
        if computed is None:
            computed = _with_pcs(adata, layer, seed)
        if basis == "umap":
            sc.pp.neighbors(computed, use_rep="X_pca", random_state=seed)
            sc.tl.umap(computed, random_state=seed)
        elif basis == "tsne":
            n = computed.n_obs
            rate = max(n / 48, 50)  # scikit-learn's "auto"; scanpy's 1,000 tears small data apart
            perplexity = min(30, (n - 1) / 3)
            sc.tl.tsne(
                computed, use_rep="X_pca", perplexity=perplexity, learning_rate=rate, random_state=seed
            )
        found[_basis_title(f"X_{basis}")] = _coordinates(computed, f"X_{basis}", 2)
    return found


def _with_pcs(adata: AnnData, layer: str | None, seed: int) -> AnnData:
    """A new object with principal components of the cells; counts are log-normalised before."""
    matrix = adata.X if layer is None else adata.layers[layer]
    if matrix is None:
        raise DataError("adata.X is empty; name the layer to compute an embedding from.")
    kind = matrix_kind(matrix, adata.obs_names, adata.var_names, where=layer or "X")
    cells = AnnData(matrix.astype(np.float32), obs=adata.obs[[]].copy(), var=adata.var[[]].copy())
    if kind == "counts":
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Some cells have zero counts", UserWarning)  # they stay zero
            sc.pp.normalize_total(cells, target_sum=1e4)
        sc.pp.log1p(cells)
    if "highly_variable" in adata.var and adata.var["highly_variable"].any():
        cells = cells[:, adata.var["highly_variable"].to_numpy(dtype=bool)].copy()
    if min(cells.shape) < 3:
        raise DataError(f"adata: {cells.n_obs} cells and {cells.n_vars} genes are too few for an embedding.")
    sc.pp.pca(cells, n_comps=min(_N_PCS, min(cells.shape) - 1), random_state=seed)
    return cells


def _legends(coloring: Coloring) -> list[tuple[str, list[Line2D]]]:
    """Legend of the groups, and what pale grey is."""
    style: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 6, "color": _BEHIND}
    other = Line2D([], [], label="in the other panel", **style)
    entries = legend_entries([coloring], on_data=False)
    if not entries:
        return [("", [other])]
    return [(entries[0][0], [*entries[0][1], other])]


def _set_limits(ax: Axes, xy: np.ndarray) -> None:
    low, high = xy.min(axis=0), xy.max(axis=0)
    room = 0.05 * np.where(high > low, high - low, 1)
    ax.set_xlim(low[0] - room[0], high[0] + room[0])
    ax.set_ylim(low[1] - room[1], high[1] + room[1])
