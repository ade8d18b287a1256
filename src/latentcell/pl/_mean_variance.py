"""Mean and variance of genes, layer beside layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import sparse

from latentcell._checks import as_csr, usable
from latentcell._colors import check_layer
from latentcell._errors import DataError

from ._canvas import rasterize
from ._layers import blocks, check_room, layer_keys, layer_titles

_FLOORS = (1.0, 0.1)
"""The dispersion is fitted to genes with a mean above the first of these that enough genes exceed."""

_FEWEST_GENES = 10
"""So many genes are enough."""

_ROUNDING = 1e-6
"""A standard deviation below this part of the mean is the rounding of single precision: a constant gene."""


@dataclass(frozen=True)
class _Moments:
    """Mean and variance of each gene (genes) over all cells, and whether no value is negative."""

    mean: np.ndarray
    variance: np.ndarray
    non_negative: bool

    def drawn(self, log: bool) -> np.ndarray:
        """Which genes have a place on the axes."""
        if not log:
            return np.ones(len(self.mean), dtype=bool)
        return (self.mean > 0) & (self.variance > 0)


def mean_variance(
    adata: AnnData,
    *,
    layers: str | Sequence[str | None] | None = (None, "denoised"),
    titles: str | Sequence[str] | None = None,
    log: bool = True,
    ax: Axes | None = None,
) -> Figure | Axes:
    r"""Draw the variance of every gene against its mean, one panel per layer: observed beside denoised.

    Each gene is a dot at its mean and variance over all cells. All panels have the same limits. Two lines
    help to read them: the Poisson line, variance = mean, on which genes lie whose cells differ by counting
    alone; and for layers without negative values the negative binomial trend

    .. math:: \mathrm{variance} = \mathrm{mean} + \varphi\, \mathrm{mean}^2,

    where :math:`\varphi` is the median of (variance - mean) / mean² over the genes with a mean above 1 (above
    0.1 if fewer than ten genes have that; no trend if fewer than ten have that, too). Of genes with a lower
    mean nearly all variance is Poisson's, and the ratio is noise. A median below 0 is given as φ = 0, and no
    trend is drawn: the typical gene varies no more than counting alone would make it, as may be after
    denoising. Sequencing depth that differs between cells adds to φ.

    On logarithmic axes genes without a place there are left out, and the title says how many: those with
    mean 0 and those that are constant (a standard deviation below a millionth of the mean).

    Parameters
    ----------
    adata
        Cells x genes; may be dense, sparse or backed, and is read in blocks. Nothing is written into it.
    layers
        Layers to draw, from left to right; None is ``X``.
    titles
        One title per layer; by default ``"observed"`` for ``X`` and the names of layers.
    log
        Logarithmic axes. Without, all genes are drawn.
    ax
        Draw the only layer here.

    Returns
    -------
    The Figure if it has several panels, the Axes if there is one panel or `ax` was given. Means have the unit
    of the layer, variances (divided by the number of cells) its square.

    Raises
    ------
    DataError
        If a layer does not exist, holds NaN or infinite values, no layer has a gene that can be drawn, or
        `titles` or `ax` do not fit the number of layers.

    References
    ----------
    Eraslan et al. (2019), Single-cell RNA-seq denoising using a deep count autoencoder, Nat Commun 10:390,
    https://doi.org/10.1038/s41467-018-07931-2

    Examples
    --------
    >>> import anndata as ad, numpy as np
    >>> import latentcell as lc
    >>> rng = np.random.default_rng(0)
    >>> rates = rng.gamma(2.0, 0.5, size=(300, 1)) * np.linspace(0.2, 20, 50)  # dispersion 1 / 2
    >>> adata = ad.AnnData(rng.poisson(rates).astype(np.float32), layers={"denoised": rates})
    >>> figure = lc.pl.mean_variance(adata)
    >>> [panel.get_title().split("\n")[0] for panel in figure.axes]
    ['observed', 'denoised']
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['Poisson: variance = mean', 'negative binomial: φ = 0.5...']
    """
    keys = layer_keys(layers)
    names = layer_titles(titles, keys)
    check_room(ax, len(keys))
    for key in keys:
        check_layer(adata, key, "layers")
    if 0 in adata.shape:
        raise DataError(f"adata: {adata.n_obs} cells x {adata.n_vars} genes are nothing to draw.")
    panels = [_moments(adata, key) for key in keys]
    x_limits = _limits([panel.mean[panel.drawn(log)] for panel in panels], log)
    y_limits = _limits([panel.variance[panel.drawn(log)] for panel in panels], log)
    axes = [ax] if ax is not None else _new_axes(len(keys))
    for panel_axes, name, panel in zip(axes, names, panels, strict=True):
        if log:
            panel_axes.set_xscale("log")
            panel_axes.set_yscale("log")
        panel_axes.set_xlim(x_limits)
        panel_axes.set_ylim(y_limits)
        _draw(panel_axes, panel, log)
        panel_axes.set_title(f"{name}\n{_count(panel, log)}", fontsize="medium")
        panel_axes.set_xlabel("mean")
    axes[0].set_ylabel("variance")
    return axes[0] if len(axes) == 1 else axes[0].figure  # type: ignore[return-value]


def _moments(adata: AnnData, layer: str | None) -> _Moments:
    """Moments of a layer, summed in blocks about the first cell, which makes that of constant genes exact."""
    n_cells, n_genes = adata.shape
    first, sums, squares = np.zeros(n_genes), np.zeros(n_genes), np.zeros(n_genes)
    non_negative = True
    for (cells, genes), block in blocks(adata, layer):
        _check_finite(adata, layer, genes, block)
        if cells.start == 0:
            row = block[:1]
            first[genes] = (row.toarray() if sparse.issparse(row) else row)[0]
        block_sums, block_squares, low = _block_sums(block, first[genes])
        sums[genes] += block_sums
        squares[genes] += block_squares
        non_negative = non_negative and low >= 0
    mean = first + sums / n_cells
    variance = np.maximum(squares - sums**2 / n_cells, 0) / n_cells
    variance[variance <= (_ROUNDING * mean) ** 2] = 0
    return _Moments(mean, variance, non_negative)


def _check_finite(adata: AnnData, layer: str | None, genes: slice, block: Any) -> None:
    """Raise a DataError that names the first gene of a block with a value that is NaN or infinite."""
    if usable(block.data if sparse.issparse(block) else block).all():
        return
    entries = as_csr(block).tocoo()
    gene = adata.var_names[genes][entries.col[~usable(entries.data)].min()]
    raise DataError(f"layers: {layer or 'X'} is NaN or infinite, first in gene {gene!r}.")


def _block_sums(block: Any, center: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Sums of deviations from `center` and of their squares by gene, and the lowest value that is stored."""
    if not sparse.issparse(block):
        deviations = block - center
        return deviations.sum(axis=0), np.einsum("ij,ij->j", deviations, deviations), float(block.min())
    if not block.has_canonical_format:
        block = block.copy()
        block.sum_duplicates()
    entries = block.tocoo()
    n_cells, n_genes = block.shape
    deviations = entries.data - center[entries.col]
    n_missing = n_cells - np.bincount(entries.col, minlength=n_genes)
    sums = np.bincount(entries.col, deviations, n_genes) - n_missing * center
    squares = np.bincount(entries.col, deviations**2, n_genes) + n_missing * center**2
    return sums, squares, float(entries.data.min(initial=0))


def _dispersion(moments: _Moments) -> float | None:
    """Median over genes of (variance - mean) / mean², at least 0; None if too few have the mean for it."""
    kept = next((kept for floor in _FLOORS if (kept := moments.mean > floor).sum() >= _FEWEST_GENES), None)
    if kept is None:
        return None
    mean = moments.mean[kept]
    return max(0.0, float(np.median((moments.variance[kept] - mean) / mean**2)))


def _limits(values: Sequence[np.ndarray], log: bool) -> tuple[float, float]:
    """Limits of an axis that hold all values and a margin."""
    together = np.concatenate(values)
    if not len(together):
        raise DataError(
            "layers: no gene has a mean and a variance above 0, as logarithmic axes need. Use log=False."
        )
    low, high = float(together.min()), float(together.max())
    if log:
        margin = max((high / low) ** 0.05, 1.2)
        return low / margin, high * margin
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin


def _new_axes(n_panels: int) -> list[Axes]:
    """Panels of a new figure in one row, about square."""
    side = max(0.85 * plt.rcParams["figure.figsize"][1], 27 * plt.rcParams["font.size"] / 72)
    _, axes = plt.subplots(
        1,
        n_panels,
        figsize=(side * n_panels, side),
        layout="constrained",
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    return list(axes[0])


def _draw(ax: Axes, moments: _Moments, log: bool) -> None:
    """Dots, lines and legend of one panel, within the limits that its axes have."""
    drawn = moments.drawn(log)
    ax.scatter(
        moments.mean[drawn],
        moments.variance[drawn],
        s=float(np.clip(20_000 / max(drawn.sum(), 1), 4, 18)),
        color="C0",
        alpha=0.5,
        linewidths=0,
        rasterized=rasterize(),
    )
    low, high = ax.get_xlim()
    means = np.geomspace(low, high, 200) if log else np.linspace(max(low, 0), high, 200)
    poisson = "Poisson: variance = mean"
    ax.plot(means, means, color="black", linestyle="--", linewidth=1.2, zorder=2.5, label=poisson)
    if moments.non_negative:
        _draw_trend(ax, means, _dispersion(moments))
    ax.legend(loc="upper left", fontsize="small", edgecolor="none")


def _draw_trend(ax: Axes, means: np.ndarray, dispersion: float | None) -> None:
    """The negative binomial trend, or what the legend says in its place."""
    if dispersion is None:
        ax.plot([], [], linestyle="", label=f"negative binomial: too few means above {_FLOORS[-1]}")
    elif dispersion == 0:
        ax.plot([], [], linestyle="", label="negative binomial: φ = 0 (not above Poisson)")
    else:
        label = f"negative binomial: φ = {dispersion:.3g}"
        ax.plot(means, means + dispersion * means**2, color="C1", linewidth=1.8, label=label)


def _count(moments: _Moments, log: bool) -> str:
    """How many genes are drawn, and why others are not."""
    drawn = moments.drawn(log)
    missing = {
        "with mean 0": moments.mean == 0,
        "with a mean below 0": moments.mean < 0,
        "constant": (moments.mean > 0) & (moments.variance == 0),
    }
    reasons = [f"{(why & ~drawn).sum():,} {name}" for name, why in missing.items() if (why & ~drawn).any()]
    return f"{drawn.sum():,} genes" + (f"\nleft out: {', '.join(reasons)}" if reasons else "")
