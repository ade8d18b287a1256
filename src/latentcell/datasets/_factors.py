"""Counts of cells that known programmes of genes drive."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from latentcell import __version__, _keys
from latentcell._errors import DataError
from latentcell.datasets._programmes import (
    DiscreteFactor,
    Factor,
    FactorLike,
    draw_genes,
    resolve_factors,
    share_out,
)
from latentcell.datasets._splat import Splat, cell_means, check_whole, effects

VALUES_AT_ONCE = 1 << 22
"""Cells x genes that are drawn together: bounds the memory that a simulation needs beside its result."""


def simulate_factors(
    n_cells: int = 1200,
    n_genes: int = 400,
    factors: Mapping[str, FactorLike] | None = None,
    *,
    batches: int | Sequence[int] = 1,
    dropout: float | Literal[False] | None = None,
    disjoint: bool = False,
    truth: bool = False,
    library_size: float = 3000.0,
    library_scale: float = 0.2,
    mean_shape: float = 0.6,
    mean_rate: float = 0.3,
    outlier_share: float = 0.05,
    outlier_loc: float = 4.0,
    outlier_scale: float = 0.5,
    bcv_common: float = 0.1,
    bcv_df: float | None = 60.0,
    batch_loc: float = 0.1,
    batch_scale: float = 0.1,
    dropout_shape: float = -1.0,
    seed: int = 0,
) -> AnnData:
    """Simulate counts that are driven by known factors acting on known genes.

    The counts are those of Splat (Zappia et al.), where instead of groups any number of programmes of genes
    act at once. Gene g of cell i has the relative log mean

        log base_mean[g] + sum over programmes k of usage[i, k] * fold_change[g, k] + batch effect;

    its mean is its share of the cell's expected library size, and its count gamma-Poisson with variance
    ``m + bcv**2 * m**2`` about the mean m, where ``bcv = (bcv_common + 1 / sqrt(m)) * bcv_scale[g]``.
    Because the shares of a cell sum to 1, a programme lowers a little the genes that it does not act on, as
    in Splat and in sequencing.

    The default has six programmes, in the manner of Kimmel's simulation: five identities that are the arms of
    a star (every cell is on one of them, anywhere between the centre and its tip) and an activity that a
    third of the cells of every arm use, to any degree.

    Parameters
    ----------
    n_cells, n_genes
        Numbers of cells and genes.
    factors
        Name and kind of each factor: a number of levels (:class:`DiscreteFactor` of that many),
        ``"continuous"`` (:class:`ContinuousFactor`), or one of these objects. ``None``:
        ``{"identity": 5, "activity": "continuous"}``. ``{}``: one homogeneous population.
    batches
        Number of batches of equal size, or the size of each. The first cells are the first batch; which
        programmes a cell uses does not depend on its batch.
    dropout
        Natural log of the mean at which half of the counts are lost; ``None`` or ``False``: none are. UMI
        counts need none (the default); ``3`` is that of ``splatter_6group``, a simulation of DCA's authors.
    disjoint
        Whether no gene may belong to two programmes. By default each programme draws its genes at random from
        all genes, and effects on the same gene add up.
    truth
        Whether to keep ``layers["true_means"]`` and, with dropout, ``layers["true_counts"]``.
    library_size, library_scale
        Median of the expected library sizes and sd of their natural log; Splat's ``lib.loc`` is
        ``log(library_size)``. The default gives a gene 7.5 counts
        per cell on average; two fifths of the counts are 0.
    mean_shape, mean_rate
        Of the gamma distribution of the genes' base means.
    outlier_share, outlier_loc, outlier_scale
        Probability that a gene is an outlier; its base mean is then that of the median gene times
        ``exp(|N(outlier_loc, outlier_scale)|)``.
    bcv_common, bcv_df
        Biological coefficient of variation of highly expressed genes, and degrees of freedom of its spread
        among genes, ``bcv_scale = sqrt(bcv_df / chi-square(bcv_df))``; ``None``: the same for all genes.
    batch_loc, batch_scale
        The natural-log effect of each batch on each gene has the size ``|N(batch_loc, batch_scale)|`` and a
        random sign. A single batch has none.
    dropout_shape
        Slope of the logistic curve of dropout; a count whose gamma-distributed Poisson mean is r is lost with
        probability ``1 / (1 + exp(-dropout_shape * (log(r) - dropout)))``.
    seed
        Seed of the random numbers; no global state is used or changed.

    Returns
    -------
    AnnData of `n_cells` x `n_genes` with

    ``X`` : csr float32
        Counts. A cell may be empty when the library size is small or dropout heavy.
    ``obsm["factors"]`` : DataFrame, cells x programmes
        Usage of each programme by each cell, 0 to 1. A discrete factor has one programme per level
        (``"identity_1"``, ...), a continuous one has its own name (``"activity"``).
    ``varm["factor_genes"]`` : DataFrame, genes x programmes
        Natural-log fold change of each gene at usage 1; exactly 0 where the programme does not act.
    ``obs``
        One categorical per discrete factor, with its name and the programmes' names as levels; ``"batch"``
        (categorical ``"batch1"``, ...); ``"expected_library_size"``, the sum of the cell's means.
    ``var``
        ``"base_mean"`` (relative expression without any programme, outliers included), ``"is_outlier"``,
        ``"bcv_scale"``.
    ``varm["batch_effects"]`` : DataFrame, genes x batches, with more than one batch
        Natural-log effect of each batch.
    ``layers["true_means"]`` (dense float32), ``layers["true_counts"]`` (csr float32), with `truth`
        Means that the counts were drawn from; counts before dropout.
    ``uns["latentcell"]``
        Name of this function, version, seed and all settings.

    Raises
    ------
    DataError
        If a number is out of range, the sizes of the batches do not sum to `n_cells`, names of factors clash,
        or disjoint programmes do not fit into the genes.

    References
    ----------
    Zappia et al. (2017), Splatter, https://doi.org/10.1186/s13059-017-1305-0; Kimmel (2020), Disentangling
    latent representations of single cell RNA-seq experiments, https://doi.org/10.1101/2020.03.04.972166;
    Kotliar et al. (2019), cNMF (identity and activity programmes), https://doi.org/10.7554/eLife.43803

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_factors()
    >>> adata.shape, list(adata.obsm["factors"].columns)
    ((1200, 400), ['identity_1', 'identity_2', 'identity_3', 'identity_4', 'identity_5', 'activity'])
    >>> (adata.varm["factor_genes"] != 0).sum().to_dict()["activity"]
    40

    Two clear-cut types, a gradient that all cells are on, and two batches:

    >>> types = lc.datasets.DiscreteFactor(2, usage=(1, 1))
    >>> gradient = lc.datasets.ContinuousFactor(cell_share=1)
    >>> adata = lc.datasets.simulate_factors(500, factors={"type": types, "age": gradient}, batches=2)
    >>> adata.obs.groupby("batch", observed=True).size().to_dict()
    {'batch1': 250, 'batch2': 250}
    """
    check_whole("n_cells", n_cells, 1)
    check_whole("n_genes", n_genes, 1)
    splat = Splat(
        library_size=library_size,
        library_scale=library_scale,
        mean_shape=mean_shape,
        mean_rate=mean_rate,
        outlier_share=outlier_share,
        outlier_loc=outlier_loc,
        outlier_scale=outlier_scale,
        bcv_common=bcv_common,
        bcv_df=bcv_df,
        batch_loc=batch_loc,
        batch_scale=batch_scale,
        dropout=None if dropout is False else dropout,
        dropout_shape=dropout_shape,
    )
    resolved = resolve_factors(factors)
    sizes = _batch_sizes(batches, n_cells)
    rng = np.random.default_rng(seed)
    genes = pd.Index([f"gene{j + 1}" for j in range(n_genes)])
    var, varm = _genes(rng, splat, resolved, genes, len(sizes), disjoint=disjoint)
    cells = pd.Index([f"cell{i + 1}" for i in range(n_cells)])
    obs, usages = _cells(rng, splat, resolved, cells, sizes)
    counts, layers = _counts(rng, splat, obs, usages, var, varm, truth=truth)
    adata = AnnData(counts, obs=obs, var=var, obsm={"factors": usages}, varm=varm, layers=layers)
    adata.uns[_keys.UNS] = {
        "model": "simulate_factors",
        "latentcell": __version__,
        "seed": seed,
        "batches": sizes,
        "disjoint": disjoint,
        **{name: value for name, value in asdict(splat).items() if value is not None},
        "factors": {name: _described(factor) for name, factor in resolved.items()},
    }
    return adata


def _batch_sizes(batches: Any, n_cells: int) -> list[int]:
    """Cells of each batch."""
    if isinstance(batches, int | np.integer):
        check_whole("batches", batches, 1)
        sizes = share_out(n_cells, [1.0] * int(batches))
    else:
        sizes = list(batches)
    for size in sizes:
        check_whole("size in batches", size, 1)
    if sum(sizes) != n_cells:
        raise DataError(f"batches={batches!r} sum to {sum(sizes)}, and n_cells={n_cells}: make them equal.")
    return [int(size) for size in sizes]


def _genes(
    rng: np.random.Generator,
    splat: Splat,
    factors: Mapping[str, Factor],
    index: pd.Index,
    n_batches: int,
    *,
    disjoint: bool,
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """``var`` and ``varm``."""
    base_mean, is_outlier = splat.gene_means(rng, len(index))
    var = pd.DataFrame(
        {"base_mean": base_mean, "is_outlier": is_outlier, "bcv_scale": splat.bcv_scales(rng, len(index))},
        index=index,
    )
    varm = {"factor_genes": draw_genes(rng, factors, index, disjoint=disjoint)}
    if n_batches > 1:
        varm["batch_effects"] = pd.DataFrame(
            {
                f"batch{b + 1}": effects(rng, len(index), splat.batch_loc, splat.batch_scale, 0.5)
                for b in range(n_batches)
            },
            index=index,
        )
    return var, varm


def _cells(
    rng: np.random.Generator, splat: Splat, factors: Mapping[str, Factor], index: pd.Index, sizes: list[int]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``obs`` and the usages."""
    names = [f"batch{b + 1}" for b in range(len(sizes))]
    library = splat.library_size * np.exp(rng.normal(0, splat.library_scale, len(index)))
    obs = pd.DataFrame(
        {
            "batch": pd.Categorical(np.repeat(names, sizes), categories=names),
            "expected_library_size": library,
        },
        index=index,
    )
    usages: dict[str, np.ndarray] = {}
    for name, factor in factors.items():
        levels, values = factor.draw(rng, len(index))
        columns = factor.columns(name)
        usages |= dict(zip(columns, values.T, strict=True))
        if levels is not None:
            if name in obs:
                raise DataError(
                    f"factors has a discrete factor {name!r}, which is a column of obs: rename it."
                )
            obs[name] = pd.Categorical(np.array(columns)[levels], categories=columns)
    return obs, pd.DataFrame(usages, index=index)


def _counts(
    rng: np.random.Generator,
    splat: Splat,
    obs: pd.DataFrame,
    usages: pd.DataFrame,
    var: pd.DataFrame,
    varm: Mapping[str, pd.DataFrame],
    *,
    truth: bool,
) -> tuple[sp.csr_matrix, dict[str, Any]]:
    """Counts, and what they came from if `truth` is asked for; a block of cells at a time."""
    base = np.log(var["base_mean"].to_numpy())
    fold_changes = varm["factor_genes"].to_numpy().T
    shifts = varm["batch_effects"].to_numpy().T if "batch_effects" in varm else np.zeros((1, len(var)))
    batch, usage = obs["batch"].cat.codes.to_numpy(), usages.to_numpy()
    library, bcv_scale = obs["expected_library_size"].to_numpy(), var["bcv_scale"].to_numpy()
    observed, complete, means = [], [], []
    step = max(1, VALUES_AT_ONCE // len(var))
    for start in range(0, len(obs), step):
        rows = slice(start, start + step)
        block = cell_means(base + usage[rows] @ fold_changes + shifts[batch[rows]], library[rows])
        counts, before = splat.draw_counts(rng, block, bcv_scale)
        observed.append(counts)
        if truth:
            complete.append(before)
            means.append(block.astype(np.float32))
    layers: dict[str, Any] = {"true_means": np.concatenate(means)} if truth else {}
    if truth and splat.dropout is not None:
        layers["true_counts"] = sp.vstack(complete, format="csr")
    return sp.vstack(observed, format="csr"), layers


def _described(factor: Factor) -> dict[str, Any]:
    """A factor as plain values that AnnData files hold."""
    values = {name: value for name, value in asdict(factor).items() if value is not None}
    plain = {name: list(value) if isinstance(value, Sequence) else value for name, value in values.items()}
    return {"kind": "discrete" if isinstance(factor, DiscreteFactor) else "continuous", **plain}
