"""Figures of a report: real cells beside generated ones."""

import io
from typing import TYPE_CHECKING, Any

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scanpy as sc

import latentcell as lc
from latentcell import _keys
from latentcell._checks import as_csr, matrix_kind

from ._report import Picture

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

MOST_CELLS = 2000
"""Cells of each kind that are drawn as points or rows; a larger set is thinned at random."""

N_GENES = 60
"""Genes of the heat map."""

_COUNTS = "counts"
_KIND = "cells"
_REAL, _NEW = "real", "generated"
_COLORS = {_REAL: "#0072B2", _NEW: "#D55E00"}


def pictures(
    real: "AnnData", new: "AnnData", groupby: str | None, *, layer: str | None, seed: int
) -> list[Picture]:
    """Draw what a report shows.

    Parameters
    ----------
    real, new
        Real and generated cells with the same genes in the same order.
    groupby
        Column of ``obs`` of both.
    layer
        Layer of the values; ``X`` of the generated cells if they lack it.
    seed
        Of the sample that is drawn.
    """
    plt.switch_backend("Agg")  # files, never windows
    rng = np.random.default_rng(seed)
    sets = {_REAL: _values(real, layer, groupby, rng), _NEW: _values(new, layer, groupby, rng)}
    both = ad.concat(sets, label=_KIND, index_unique="-")
    both.obs[_KIND] = pd.Categorical(both.obs[_KIND], categories=[_REAL, _NEW])
    both.obs[_keys.IS_GENERATED] = (both.obs[_KIND] == _NEW).to_numpy()
    kinds = {matrix_kind(part.X, part.obs_names, part.var_names) for part in sets.values()}
    counts = kinds == {"counts"}
    if counts:
        both.layers[_COUNTS] = both.X.copy()
        sc.pp.normalize_total(both, target_sum=1e4)
        sc.pp.log1p(both)
    unit = "log1p CP10k" if counts else "values as given"
    drawn = " and ".join(f"{part.n_obs:,} {name}" for name, part in sets.items()) + " cells"
    found = [_pca(both, groupby, unit, drawn), _heatmap(both, groupby, unit, drawn), _gene_means(both, unit)]
    if counts:
        found += [_mean_variance(both), _depth(both)]
    return found


def _values(adata: "AnnData", layer: str | None, groupby: str | None, rng: np.random.Generator) -> "AnnData":
    """The compared values of some of the cells, and their groups as text."""
    rows = np.arange(adata.n_obs)
    if adata.n_obs > MOST_CELLS:
        rows = np.sort(rng.choice(adata.n_obs, MOST_CELLS, replace=False))
    values = adata.X if layer is None or layer not in adata.layers else adata.layers[layer]
    obs = pd.DataFrame(index=adata.obs_names[rows])
    if groupby is not None:
        obs[groupby] = adata.obs[groupby].to_numpy(dtype=object)[rows].astype(str)
    var = pd.DataFrame(index=adata.var_names)
    return ad.AnnData(as_csr(values)[rows].astype(np.float32), obs=obs, var=var)


def _pca(both: "AnnData", groupby: str | None, unit: str, drawn: str) -> Picture:
    """Cells on the first two principal components of real cells."""
    is_real = (both.obs[_KIND] == _REAL).to_numpy()
    real = both[is_real].copy()
    sc.pp.pca(real, n_comps=min(2, real.n_obs - 1, real.n_vars - 1), mask_var=None, random_state=0)
    loadings = real.varm["PCs"]
    center = np.asarray(real.X.mean(axis=0)).ravel() @ loadings
    both.obsm["X_pca"] = np.asarray(both.X @ loadings) - center
    with plt.rc_context({"text.parse_math": False}):  # names of groups are not formulas
        png = _png(lc.pl.augmentation(both, "X_pca", groupby))
    return Picture(
        "Principal components",
        f"Scatter plots of {drawn} on two principal components, real beside generated.",
        f"{drawn} ({unit}). The axes are the first two principal components of the real cells alone, and the "
        "same in both panels. Look for places where only one of the two has cells.",
        png,
    )


def _heatmap(both: "AnnData", groupby: str | None, unit: str, drawn: str) -> Picture:
    """Expression of the most variable genes, cells by group."""
    real = both[(both.obs[_KIND] == _REAL).to_numpy()].X
    mean = np.asarray(real.mean(axis=0)).ravel()
    variance = np.asarray(real.multiply(real).mean(axis=0)).ravel() - mean**2
    genes = both.var_names[np.sort(np.argsort(-variance, kind="stable")[:N_GENES])]
    with plt.rc_context({"text.parse_math": False}):
        png = _png(lc.pl.heatmap(both, groupby or _KIND, genes=list(genes), unit=unit, split=_KIND))
    return Picture(
        "Heat map",
        f"Heat maps of {len(genes)} genes in {drawn}, real beside generated.",
        f"The {len(genes)} genes that vary most in real cells ({unit}), cells ordered by group. Genes of a "
        "programme should be on in the same cells of both.",
        png,
    )


def _gene_means(both: "AnnData", unit: str) -> Picture:
    """Mean of every gene in generated against real cells."""
    real, new = (
        np.asarray(both[(both.obs[_KIND] == kind).to_numpy()].X.mean(axis=0)).ravel()
        for kind in (_REAL, _NEW)
    )
    figure, ax = plt.subplots(figsize=(4.5, 4.5), layout="constrained")
    ends = [float(min(real.min(), new.min())), float(max(real.max(), new.max()))]
    ax.plot(ends, ends, color="black", linestyle="--", linewidth=1, label="equal")
    ax.scatter(real, new, s=10, alpha=0.5, linewidths=0, color="0.3")
    ax.set(
        xlabel=f"mean of real cells ({unit})", ylabel="mean of generated cells", title=f"{len(real):,} genes"
    )
    ax.legend(loc="upper left", frameon=False)
    return Picture(
        "Means of genes",
        f"Scatter plot of the means of {len(real):,} genes, generated against real.",
        "Every dot is a gene. Those off the line are expressed too much (above) or too little (below).",
        _png(figure),
    )


def _mean_variance(both: "AnnData") -> Picture:
    """Variance of every gene against its mean, on the same axes."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.5), layout="constrained")
    for ax, kind in zip(axes, (_REAL, _NEW), strict=True):
        part = both[(both.obs[_KIND] == kind).to_numpy()].copy()
        lc.pl.mean_variance(part, layers=_COUNTS, titles=kind, ax=ax)
    for name in ("xlim", "ylim"):
        limits = np.array([getattr(ax, f"get_{name}")() for ax in axes])
        for ax in axes:
            getattr(ax, f"set_{name}")(limits.min(), limits.max())
    return Picture(
        "Mean and variance of counts",
        "Two scatter plots of the variance of genes against their mean, of real and of generated cells.",
        "Every dot is a gene, counts as they are. Generated cells that all look alike have too low a "
        "variance: their dots fall to the dashed line, on which cells differ by counting alone.",
        _png(figure),
    )


def _depth(both: "AnnData") -> Picture:
    """Histograms of library sizes and of detected genes."""
    counts = both.layers[_COUNTS]
    n_detected = np.bincount(counts.nonzero()[0], minlength=both.n_obs)
    shown = {
        "library size (counts per cell)": np.asarray(counts.sum(axis=1)).ravel(),
        "detected genes": n_detected,
    }
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for ax, (name, values) in zip(axes, shown.items(), strict=True):
        bins = np.histogram_bin_edges(values, bins=40)
        for kind in (_REAL, _NEW):
            _histogram(ax, values[(both.obs[_KIND] == kind).to_numpy()], bins, kind)
        ax.set(xlabel=name, ylabel="share of cells")
        ax.legend(frameon=False)
    return Picture(
        "Library sizes and detected genes",
        "Histograms of library sizes and of detected genes of real and generated cells.",
        "Over the compared genes. The two outlines should lie on each other.",
        _png(figure),
    )


def _histogram(ax: "Axes", values: np.ndarray, bins: np.ndarray, kind: str) -> None:
    weights = np.full(len(values), 1 / len(values))
    style: Any = "solid" if kind == _NEW else "dashed"
    ax.hist(
        values,
        bins.tolist(),
        weights=weights,
        histtype="step",
        linewidth=2,
        color=_COLORS[kind],
        linestyle=style,
        label=kind,
    )


def _png(drawn: Any) -> bytes:
    """A figure as PNG; it is closed."""
    figure = drawn.figure or drawn
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=150, format="png", bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()
