"""Latent dimensions by groups of cells: where each is on, and at which level."""

from collections.abc import Sequence
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize

from latentcell._codes import checked_dims, dimension_names, stored_codes, where_on
from latentcell._colors import obs_labels
from latentcell._errors import DataError

from ._matrix import order_by_group

_LARGEST = 180.0
"""Area of the disc of a dimension that is on in all cells of a group, in square points."""

_SHOWN = 95
"""Percentile of the discs' levels at which the colours end."""


def latent_heatmap(
    adata: AnnData,
    key: str,
    groupby: str,
    *,
    dims: int | Sequence[int] | None = None,
    threshold: float = 1.0,
    sort: bool = True,
    cmap: str | Colormap | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw in which groups each latent dimension is on, and how strongly: groups by dimensions.

    The area of a disc is the share of the group's cells in which the dimension is on; its colour is the mean
    code over those cells, in standard deviations of the dimension over all cells (not centred, so that 0
    stays 0). No disc: on in none, as is a dimension that is not active (see
    :func:`latentcell.tl.describe_latent`). Codes without negative values run from 0 on the user's colour map
    (``rcParams["image.cmap"]``), others symmetrically about 0 from blue to red; the strongest twentieth of
    the discs has the last colour, as a rare group may lie many standard deviations out.

    Parameters
    ----------
    adata
        Cells with codes. Nothing is written into it.
    key
        ``obsm`` key of the codes, e.g. ``"X_vsc"``.
    groupby
        Column of ``obs``. Cells without a label are left out.
    dims
        Dimensions to draw, from 0: one, several, or a mask of all; by default all.
    threshold
        Of dense codes: on where the code is more than so many standard deviations from the median; see
        :func:`latentcell.tl.describe_latent`, which counts in the same way.
    sort
        Order dimensions by the group in which they stand out most, so that the discs follow the diagonal;
        False keeps the order of `dims`.
    cmap
        Colour map.
    ax
        Axes to draw on; the keys are put beside it. By default a new figure, large enough for the table.

    Returns
    -------
    The Axes of the discs.

    Raises
    ------
    DataError
        If the codes or the column do not exist, or there are no labelled cells.

    Examples
    --------
    >>> import numpy as np
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_groups(n_rare=0)
    >>> markers = adata.X[:, :300]
    >>> adata.obsm["X_mine"] = markers.reshape(adata.n_obs, 3, 100).mean(axis=2)
    >>> ax = lc.pl.latent_heatmap(adata, "X_mine", "group")
    >>> [label.get_text() for label in ax.get_xticklabels()]
    ['0', '1', '2']
    """
    codes = stored_codes(adata, key)
    names = dimension_names(codes.shape[1])
    chosen = np.array(checked_dims(dims, len(names)))
    labels = obs_labels(adata, groupby, "groupby")
    groups = [code for code in range(len(labels.categories)) if (labels.codes == code).any()]
    if not groups:
        raise DataError(f"groupby={groupby!r}: no cell has a label.")
    on = where_on(adata, key, codes, threshold)
    deviation = codes.std(axis=0)
    scaled = codes / np.where(deviation > 0, deviation, 1.0)
    if sort:
        labelled = labels.codes >= 0
        strength = np.where(on, np.abs(scaled), 0.0)[labelled][:, chosen]
        chosen = chosen[order_by_group(strength, labels.codes[labelled])]
    share, level = _table(scaled[:, chosen], on[:, chosen], labels, groups)
    if ax is None:
        ax = _new_axes(len(chosen), [str(labels.categories[code]) for code in groups])
    rows, columns = np.nonzero(share > 0)
    magnitude = np.abs(level[rows, columns])
    high = (float(np.percentile(magnitude, _SHOWN)) if magnitude.size else 0.0) or 1.0
    beyond: Literal["neither", "max", "both"] = "neither"
    if (magnitude > high).any():
        beyond = "both" if (codes < 0).any() else "max"
    signed = bool((codes < 0).any())
    colormap = plt.get_cmap("RdBu_r" if signed and cmap is None else cmap)
    discs = ax.scatter(
        columns,
        rows,
        s=_LARGEST * share[rows, columns],
        c=level[rows, columns],
        cmap=colormap,
        norm=Normalize(-high if signed else 0.0, high),
        edgecolors="0.4",
        linewidths=0.4,
    )
    ax.set_xticks(range(len(chosen)), [str(dim) for dim in chosen])
    ax.set_yticks(range(len(groups)), [str(labels.categories[code]) for code in groups])
    ax.set_xlim(-0.7, len(chosen) - 0.3)
    ax.set_ylim(len(groups) - 0.3, -0.7)
    ax.set_xlabel(f"dimension of {key}")
    ax.tick_params(length=0)
    ax.grid(False)
    assert ax.figure is not None
    bar = ax.figure.colorbar(discs, ax=ax, shrink=0.5, aspect=12, anchor=(0.0, 0.0), extend=beyond)
    bar.set_label("mean code where on (sd)")
    bar.outline.set_visible(False)
    _size_key(ax)
    return ax


def _table(
    scaled: np.ndarray, on: np.ndarray, labels: pd.Categorical, groups: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Share of on cells, and mean code over them (0 where there are none): each groups x dimensions."""
    share, level = np.zeros((len(groups), on.shape[1])), np.zeros((len(groups), on.shape[1]))
    for row, code in enumerate(groups):
        cells = labels.codes == code
        share[row] = on[cells].mean(axis=0)
        level[row] = (scaled[cells] * on[cells]).sum(axis=0) / np.maximum(on[cells].sum(axis=0), 1)
    return share, level


def _size_key(ax: Axes) -> None:
    """Legend of the areas, at the right of the discs' upper part."""
    handles = [
        ax.scatter([], [], s=_LARGEST * share, color="0.75", edgecolors="0.4", linewidths=0.4, label=name)
        for share, name in ((0.25, "25 %"), (0.5, "50 %"), (1.0, "100 %"))
    ]
    legend = ax.legend(
        handles=handles, title="cells on", loc="upper left", bbox_to_anchor=(1.02, 1.02), frameon=False
    )
    legend.set_alignment("left")


def _new_axes(n_dims: int, names: list[str]) -> Axes:
    """Axes on a new figure with room for the discs, the names of groups and the keys."""
    size = plt.rcParams["font.size"] / 72
    pitch = 1.25 * np.sqrt(_LARGEST) / 72
    width = pitch * (n_dims + 1) + size * (0.6 * max(map(len, names)) + 11)
    height = max(pitch * (len(names) + 1) + 4 * size, 20 * size)
    _, ax = plt.subplots(figsize=(width, height), layout="constrained")
    return ax
