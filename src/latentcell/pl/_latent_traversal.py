"""What happens to genes on a way through latent space: along a dimension, a direction, or a path."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from latentcell import _keys
from latentcell._errors import DataError

from ._canvas import name_lines
from ._matrix import chosen_genes, decoded_values


def latent_traversal(
    adata: AnnData,
    genes: Sequence[str] | None = None,
    *,
    n_genes: int = 10,
    unit: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw expression of genes along a latent dimension, a direction, or a path between groups.

    One line per gene, with its name at the right end: genes that rise red, genes that fall blue, each the
    darker the more it changes. Counts are drawn as log(1 + counts per 10,000), so that genes of any level can
    be compared; other data as they are. Where several cells were moved, lines are their means.

    Parameters
    ----------
    adata
        What ``traverse`` of a model returned (:meth:`latentcell.model.VSC.traverse`: one dimension moves, all
        others are held), what :func:`latentcell.tl.move_along` returned for several amounts, or what
        :func:`latentcell.tl.interpolate` did. Nothing is written into it.
    genes
        Genes to draw; by default those that change most between any two values.
    n_genes
        Number of genes when `genes` is not given.
    unit
        What the values are, for the axis; by default ``"log1p CP10k"`` of counts, else ``"expression"``.
    ax
        Axes to draw on; by default a new figure.

    Returns
    -------
    The Axes.

    Raises
    ------
    DataError
        If this is nothing of these, or a gene does not exist.

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.pbmc68k()
    >>> model = lc.tl.vae(adata, max_epochs=2, n_latent=3, progress=False)
    >>> ax = lc.pl.latent_traversal(model.traverse(0), n_genes=4)
    >>> ax.get_xlabel(), len(ax.lines)
    ('dim_0', 4)
    """
    where, label = _way(adata)
    if n_genes < 1:
        raise DataError(f"n_genes must be at least 1, got {n_genes}")
    positions = np.arange(adata.n_vars) if genes is None else chosen_genes(adata, genes, n_genes)
    counts = "library_size" in adata.obs
    along = np.unique(where)
    values = np.stack(
        [decoded_values(adata, np.flatnonzero(where == at), positions).mean(axis=0) for at in along]
    )
    change = values.max(axis=0) - values.min(axis=0)
    if genes is None:
        most = np.argsort(-change, kind="stable")[:n_genes]
        positions, values, change = positions[most], values[:, most], change[most]
    rises = values[-1] >= values[0]
    if ax is None:
        _, ax = plt.subplots(layout="constrained")
    for column, color in enumerate(_shades(change, rises)):
        ax.plot(along, values[:, column], color=color, linewidth=1.6)
    ax.margins(x=0.02)
    ax.grid(False)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel(label)
    ax.set_ylabel(unit or ("log1p CP10k" if counts else "expression"))
    name_lines(ax, [str(name) for name in adata.var_names[positions]], values[-1])
    return ax


def _way(adata: AnnData) -> tuple[np.ndarray, str]:
    """Where on the way each row is, and what the axis is called."""
    said = adata.uns.get(_keys.UNS, {})
    column = "value" if "value" in adata.obs else "step"
    if column not in adata.obs or adata.obs[column].nunique() < 2:
        raise DataError(
            'adata: obs has neither "value" nor "step", or one place only; draw what model.traverse(dim), '
            "lc.tl.move_along with several amounts, or lc.tl.interpolate returned."
        )
    where = adata.obs[column].to_numpy(dtype=float)
    if column == "step":
        return where, f"{said['start']} to {said['end']}" if "start" in said else "path"
    if "direction" in said:
        return where, f"{said['direction']} (steps)"
    return where, f"dim_{said['dim']}" if "dim" in said else "value of the dimension"


def _shades(change: np.ndarray, rises: np.ndarray) -> list[str]:
    """Red for genes that rise, blue for those that fall, darker the more they change."""
    weight = 0.5 + 0.45 * change / (change.max() or 1.0)
    maps = plt.get_cmap("Reds"), plt.get_cmap("Blues")
    return [to_hex(maps[0 if up else 1](shade)) for shade, up in zip(weight, rises, strict=True)]
