"""Predicted against real means, gene by gene."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes

from latentcell._checks import check_numbers
from latentcell._colors import listed
from latentcell._errors import DataError, nearest

from ._canvas import part


def perturbation(
    predicted: AnnData,
    real: AnnData,
    *,
    top: Sequence[str] = (),
    labels: int | Sequence[str] = 10,
    layer: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the mean of every gene in predicted cells against that in real ones.

    The title has R² over all genes and over the top ones: the **squared Pearson correlation** of means, as in
    scGen's figures. Most genes do not respond and lie on the diagonal whatever is predicted, so look at the
    top ones.

    Parameters
    ----------
    predicted, real
        Cells with the same genes (in any order), log-normalised in the same way. Nothing is written to them.
    top
        Genes to mark, most differential first: of real stimulated and control cells, e.g.
        ``adata.var_names[lc.metrics.rank_differential_genes(real.X, control.X)[:100]]``.
    labels
        How many of `top` to name, or the genes to name.
    layer
        Layer of `real` to draw; None is ``X``. Of `predicted` it is always ``X``.
    ax
        Draw here.

    Returns
    -------
    The Axes, in the unit of the values.

    Raises
    ------
    DataError
        If genes differ, are unknown or repeated, a layer is missing, or values are not finite.

    References
    ----------
    Lotfollahi et al. (2019), scGen, Nat Methods 16, https://doi.org/10.1038/s41592-019-0494-8

    Examples
    --------
    >>> import anndata as ad, numpy as np, pandas as pd
    >>> import latentcell as lc
    >>> genes = pd.DataFrame(index=["ISG15", "IFI6", "CD3D"])
    >>> real = ad.AnnData(np.array([[3.0, 2.0, 1.0], [5.0, 2.0, 1.0]]), var=genes)
    >>> predicted = ad.AnnData(np.array([[4.0, 2.0, 1.0]]), var=genes)
    >>> lc.pl.perturbation(predicted, real, top=["ISG15", "IFI6"]).get_title()
    'R² 1.00 (all), 1.00 (top 2)'
    """
    for name, adata in (("predicted", predicted), ("real", real)):
        if not adata.n_obs:
            raise DataError(f"{name}: there are no cells to draw.")
        if not adata.var_names.is_unique:
            raise DataError(
                f"gene names of {name} are not unique; first call {name}.var_names_make_unique()."
            )
    genes = real.var_names
    if set(genes) != set(predicted.var_names):
        apart = genes.symmetric_difference(predicted.var_names)
        raise DataError(f"predicted and real differ in {len(apart)} genes, e.g. {listed(apart[:3])}.")
    x = _means(real, layer, "real")
    y = _means(predicted, None, "predicted")[predicted.var_names.get_indexer(genes)]
    marked = _positions(genes, top, "top")
    named = marked[:labels] if isinstance(labels, int) else _positions(genes, labels, "labels")
    ax = plt.subplots(figsize=(4.5, 4.5), layout="constrained")[1] if ax is None else ax
    ends = [min(x.min(), y.min()), max(x.max(), y.max())]
    ax.plot(ends, ends, color="0.7", linewidth=1, zorder=0)
    ax.scatter(x, y, s=6, color="0.5", linewidths=0, rasterized=len(x) > 2000)
    if len(marked):
        ax.scatter(x[marked], y[marked], s=14, color="C3", linewidths=0)
    ax.margins(x=0.15)  # room for names
    texts = [ax.text(x[i], y[i], f" {genes[i]}", fontsize="small", va="center") for i in named]
    part(ax, texts)
    told = f"R² {_r2(x, y)} (all)"
    ax.set_title(f"{told}, {_r2(x[marked], y[marked])} (top {len(marked)})" if len(marked) else told)
    ax.set_xlabel("real mean")
    ax.set_ylabel("predicted mean")
    return ax


def _means(adata: AnnData, layer: str | None, name: str) -> np.ndarray:
    """Mean of each gene over cells (genes)."""
    if layer is not None and layer not in adata.layers:
        raise DataError(
            f"layer={layer!r} is not in {name}.layers, which has: {listed(adata.layers)}."
            f"{nearest(layer, adata.layers)}"
        )
    values = adata.X if layer is None else adata.layers[layer]
    if values is None:
        raise DataError(f"{name}.X is None; name the layer to draw.")
    check_numbers(values, name)
    means = np.asarray(values.mean(axis=0), dtype=np.float64).ravel()
    if not np.isfinite(means).all():
        raise DataError(f"{name} is NaN or infinite in gene {adata.var_names[~np.isfinite(means)][0]!r}.")
    return means


def _positions(genes: pd.Index, wanted: Sequence[str], argument: str) -> np.ndarray:
    if isinstance(wanted, str):
        raise DataError(f"{argument} must be a list of genes; for one gene pass {[wanted]}.")
    found = genes.get_indexer(pd.Index(list(wanted)))
    if (found < 0).any():
        missing = [gene for gene, at in zip(wanted, found, strict=True) if at < 0]
        raise DataError(f"{argument}: not among the genes: {listed(missing[:3])}.")
    return found


def _r2(x: np.ndarray, y: np.ndarray) -> str:
    """Squared Pearson correlation, for the title; a dash where one side is constant."""
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return "–"
    return f"{np.corrcoef(x, y)[0, 1] ** 2:.2f}"
