"""Groups of cells with known marker genes, and a rare group among them."""

from typing import Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from latentcell._errors import DataError


def simulate_groups(
    n_groups: int = 3,
    n_cells: int = 30,
    n_genes: int = 1000,
    n_markers: int = 100,
    n_rare: int = 5,
    *,
    n_rare_markers: int | None = None,
    mean: float = 5.0,
    sd: float = 5.0,
    shift_mean: float = 10.0,
    shift_sd: float = 5.0,
    rare_shift: float = 10.0,
    marker_base: Literal["own", "first"] = "own",
    seed: int = 0,
) -> AnnData:
    """Simulate groups of cells that differ in their marker genes, with a rare group inside the first one.

    Every value is drawn from N(`mean`, `sd`). Group g has the genes ``(g - 1) * n_markers`` up to
    ``g * n_markers`` as markers; each of them is raised in the group's cells by a draw from N(`shift_mean`,
    `shift_sd`), the same for all cells of the group. Negative values become 0. Then the first `n_rare` cells
    of the first group are made rare: the last `n_rare_markers` genes are raised by `rare_shift` in them.

    The defaults are the simulation of J. Fan's autoencoder tutorial (90 cells, 5 of them rare), whose first
    two principal components hide the rare cells. That of the VAExprs package (300 cells) is
    ``simulate_groups(n_cells=100, n_rare=0, shift_mean=6, shift_sd=10, marker_base="first")``.

    Parameters
    ----------
    n_groups, n_cells
        Number of groups, and of cells in each, the rare ones included.
    n_genes, n_markers
        Number of genes, and of marker genes of each group.
    n_rare
        Number of rare cells; 0: none.
    n_rare_markers
        Number of marker genes of the rare cells; ``None``: ``n_markers + 1``, as in the tutorial, where the
        range ``(M - ng):M`` holds 101 genes.
    mean, sd
        Of the normal distribution that all values come from.
    shift_mean, shift_sd
        Of the normal distribution that the shift of each marker gene comes from.
    rare_shift
        Shift of the marker genes of the rare cells.
    marker_base
        What the shift of a group's markers is added to: ``"own"``, the values of these genes; ``"first"``, in
        the same cells the values of the first `n_markers` genes (VAExprs; it ties the markers of a group to
        the first genes).
    seed
        Seed of the random numbers; no global state is used or changed.

    Returns
    -------
    AnnData of ``n_groups * n_cells`` cells x `n_genes` genes with

    ``X`` : dense float32
        Expression, arbitrary unit, 0 or above. These are not counts.
    ``obs["group"]`` : categorical
        ``"group1"``, ``"group2"``, ... and ``"rare"``.
    ``obs["parent_group"]`` : categorical
        The same, where rare cells belong to ``"group1"``.
    ``var["marker_of"]`` : categorical
        Group that the gene is a marker of; missing for the other genes.
    ``var["shift"]`` : float
        What was added to the gene in the cells of that group; 0 for the other genes.

    Raises
    ------
    DataError
        If a number is too small, or if the markers do not fit into the genes.

    References
    ----------
    J. Fan (2019), Single-cell RNA-seq dimensionality reduction with deep learning in R using Keras
    (tutorial); VAExprs, https://doi.org/10.18129/B9.bioc.VAExprs

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_groups()
    >>> adata.shape, adata.obs["group"].value_counts().to_dict()
    ((90, 1000), {'group2': 30, 'group3': 30, 'group1': 25, 'rare': 5})
    >>> adata.var["marker_of"].value_counts().to_dict()
    {'rare': 101, 'group1': 100, 'group2': 100, 'group3': 100}
    """
    if n_rare_markers is None:
        n_rare_markers = n_markers + 1 if n_rare else 0
    for name, value, low in (
        ("n_groups", n_groups, 1),
        ("n_cells", n_cells, 1),
        ("n_markers", n_markers, 0),
        ("n_rare", n_rare, 0),
        ("n_rare_markers", n_rare_markers, 0),
        ("sd", sd, 0),
        ("shift_sd", shift_sd, 0),
    ):
        if value < low:
            raise DataError(f"{name}={value} must be at least {low}.")
    if n_rare >= n_cells:
        raise DataError(
            f"n_rare={n_rare} must be below n_cells={n_cells}: the rare cells belong to the first group."
        )
    if n_groups * n_markers + n_rare_markers > n_genes:
        raise DataError(
            f"{n_groups} x {n_markers} markers and {n_rare_markers} of the rare cells do not fit into "
            f"n_genes={n_genes} genes. Raise n_genes, or lower n_markers."
        )
    if marker_base not in ("own", "first"):
        raise DataError(f"marker_base={marker_base!r} must be 'own' or 'first'.")

    rng = np.random.default_rng(seed)
    X = rng.normal(mean, sd, size=(n_groups * n_cells, n_genes))
    names = [f"group{g + 1}" for g in range(n_groups)]
    shift = np.zeros(n_genes)
    marker_of = np.full(n_genes, None, dtype=object)
    for g, name in enumerate(names):
        cells = slice(g * n_cells, (g + 1) * n_cells)
        genes = slice(g * n_markers, (g + 1) * n_markers)
        shift[genes] = rng.normal(shift_mean, shift_sd, size=n_markers)
        marker_of[genes] = name
        base = X[cells, genes] if marker_base == "own" else X[cells, :n_markers]
        X[cells, genes] = base + shift[genes]
    X = np.maximum(X, 0)

    group = np.repeat(np.array(names, dtype=object), n_cells)
    parent = group.copy()
    if n_rare:
        rare_genes = slice(n_genes - n_rare_markers, n_genes)
        X[:n_rare, rare_genes] += rare_shift
        shift[rare_genes] = rare_shift
        marker_of[rare_genes] = "rare"
        group[:n_rare] = "rare"
        all_names = [*names, "rare"]
    else:
        all_names = names

    obs = pd.DataFrame(
        {
            "group": pd.Categorical(group, categories=all_names),
            "parent_group": pd.Categorical(parent, categories=names),
        },
        index=[f"cell{i + 1}" for i in range(len(X))],
    )
    var = pd.DataFrame(
        {"marker_of": pd.Categorical(marker_of, categories=all_names), "shift": shift},
        index=[f"gene{j + 1}" for j in range(n_genes)],
    )
    return AnnData(X.astype(np.float32), obs=obs, var=var)
