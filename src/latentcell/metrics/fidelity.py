"""How real generated cells are, in one table: overall and per group, beside real cells and chance."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData

from latentcell._errors import DataError
from latentcell.metrics._basis import Basis
from latentcell.metrics._cells import Cells, check_unseen, named, read_sets
from latentcell.metrics._draws import ALL, draw
from latentcell.metrics._scores import (
    COUNT_METRICS,
    GROUP_METRICS,
    METRICS,
    REFERENCE_METRICS,
    Scores,
    copying_scores,
    scores_of,
)

COLUMNS = {"value": "generated", "real": "fresh", "chance": "chance"}
"""The set of cells whose scores stand in each column."""

_LEAST_CELLS = 6
"""Fewest cells in which every cell has five neighbours."""


def fidelity(
    real: AnnData,
    generated: AnnData,
    groupby: str | None = None,
    reference: AnnData | None = None,
    *,
    basis: AnnData | None = None,
    layer: str | None = None,
    n_top_genes: int = 1000,
    n_comps: int = 30,
    n_trees: int = 100,
    max_cells: int = 2000,
    min_cells: int = 10,
    controls: bool = True,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Judge generated cells against real ones that the generator has not seen.

    Each figure stands beside what real cells score against real cells, and beside chance, because neither 0
    nor 1 is what real cells reach: two samples of the same cells differ.

    **Sets of cells.** `real` is divided at random, groups in proportion, into a *basis* and a *judged* part.
    Variable genes, principal components, markers and the classifier of groups are fitted on the basis cells
    alone: fitted on cells that are compared, or on training cells, they would favour one side. Everything
    is then compared with the judged cells, with equally many cells in each set, drawn at random, groups in
    proportion:

    ``value``
        The generated cells.
    ``real``
        Real cells: those of `reference`, which is as fresh to basis and judged cells as any. Without
        `reference`, `real` is divided in three, and the third part is used.
    ``chance``
        The cells of the ``real`` column with every gene permuted on its own over all of them, and groups
        shuffled. They know every gene's distribution and nothing else.

    Counts are compared after scaling every cell to the median library size of the basis cells, and log1p;
    library sizes and detected genes as counts. (A larger scale, such as 10,000 counts over some hundred
    genes, would leave little but whether a gene was seen.) Other values are compared as they are.

    **Rows**, for all cells (group ``"all"``), and for each group:

    ``classifier_auc_genes``, ``classifier_auc_pcs``
        :func:`classifier_auc` on variable genes and on principal components.
    ``mmd2``, ``wasserstein2``, ``neighbor_mixing``, ``precision``, ``recall``, ``density``, ``coverage``
        :func:`mmd`, :func:`wasserstein`, :func:`neighbor_mixing` and :func:`manifold_overlap` on principal
        components.
    ``gene_mean_*``, ``gene_variance_spearman``, ``zero_fraction_rmse``, ``ks_genes``
        :func:`gene_marginals` of the variable genes; of their means Pearson's and Spearman's correlation.
    ``ks_library_size``, ``ks_detected_genes``
        Kolmogorov-Smirnov statistic of the counts of a cell, and of its number of genes with any count, over
        all genes. Only with counts.
    ``gene_correlation``
        Pearson's r between the gene-gene correlations of both sets, over all pairs of the 100 genes that vary
        most within groups of the basis. Correlations are those of values less the mean of the cell's group:
        over several groups they would only tell the groups apart. Without `groupby`, over all cells.
    ``marker_lfc_pearson``, ``marker_lfc_slope``
        Log-fold changes a (this set) and b (judged cells) of each group's 50 best markers on the basis:
        Pearson's r, and the slope :math:`\sum a b / \sum b^2`, below 1 where differences between groups are
        attenuated. A log-fold change is the mean value in the group less that in the rest, whose groups are
        weighted as among the judged cells. Only with `groupby`.
    ``train_on_generated_f1``
        F1 of the groups (macro over groups) that a random forest trained on this set gives to judged cells.
        Only with `groupby`.
    ``label_f1``
        F1 of the groups that a random forest trained on basis cells gives to this set's cells, for column
        ``real`` to the judged cells; groups weighted as among the judged cells. Only with `groupby`.
    ``nearer_to_training``
        :func:`nearer_to_training` on principal components, with cells of `reference` and judged cells; for
        column ``real``, of the basis cells. Only with `reference`.
    ``exact_copies``
        :func:`exact_copies`, over all genes and the whole `reference`; for column ``real``, of the basis
        cells. Only with `reference`.

    Parameters
    ----------
    real
        Real cells that the generator has **not** been trained on; at least some hundred.
    generated
        Generated cells, with the genes and on the scale of `real`. Their groups should be as frequent as
        among the real ones for the rows over all cells: another composition is a difference, too.
    groupby
        Column of ``obs`` with the group, in all sets; ``None``: no groups.
    reference
        The real cells that the generator was trained on.
    basis
        Real cells to fit the view on, seen by no generator either; `real` is then judged whole.
    layer
        Layer to compare; ``None`` is ``X``. Generated cells without such a layer are taken from ``X``.
    n_top_genes
        Genes that are compared: those of the highest variance among the basis cells, of all if there are no
        more. Library sizes and normalisation are over all genes.
    n_comps
        Principal components, of centred, unscaled values.
    n_trees
        Trees of every random forest. Values for unlike numbers are not comparable: with more trees a forest
        sees more (PBMC3k, shuffled genes: AUC on genes .62, .66, .68 with 100, 300, 1,000).
    max_cells
        Cells used of each set at most. Time grows with the number of cells, that of ``wasserstein2`` faster.
    min_cells
        Groups with fewer judged or generated cells have the value NaN, and no part in the macro averages;
        those with fewer fresh real cells have NaN in the other two columns. At least 6.
    controls
        Compute the columns ``real`` and ``chance``. They hang on the real cells and the number of generated
        ones alone, so that of several generators only the first needs them; without, a third of the time.
    seed
        Seed of division, draws, permutations and forests. The order of cells and genes has no influence, if
        cell names are unique.

    Returns
    -------
    DataFrame with one row for each group and metric and the columns

    ``group``
        ``"all"``, or the name of the group.
    ``metric``
        As above.
    ``value``, ``real``, ``chance``
        Score of generated, real and permuted cells.
    ``best``
        The ideal, which real cells need not reach.
    ``better``
        ``"higher"``, ``"lower"`` or ``"near best"``.

    ``.attrs["fidelity"]`` is a dict: ``n_cells`` (cells compared, by group), ``too_few`` (for each group that
    is left out somewhere: cells in each set), ``n_cells_per_set``, ``n_genes``, ``n_comps``, ``counts``
    (whether the data are), ``n_trees``, ``seed``.

    Raises
    ------
    DataError
        If genes differ, if counts are compared with other values, if a column or layer is missing, if values
        or groups are, if there are too few cells, if real cells are among the reference's, or if a number
        makes no sense.

    Notes
    -----
    With 527 cells in each set, 1,000 genes and 100 trees it takes about half a minute on one slow core, and
    nine groups add about a minute; nine tenths of it are the classifiers of real and generated cells, which
    for each group have a quarter of `n_trees`. They run on several cores within
    ``joblib.parallel_config(n_jobs=8)``. Their score on genes moves by some 0.02 from seed to seed.

    References
    ----------
    The rules on the basis and on real cells as the yardstick were measured on PBMC3k; see the page on
    metrics. Marouf et al. (2020), Nat Commun 11, https://doi.org/10.1038/s41467-019-14018-z (classifier);
    Song et al. (2024), scDesign3, Nat Biotechnol 42, https://doi.org/10.1038/s41587-023-01772-1
    (correlations); Esteban et al. (2017), https://arxiv.org/abs/1706.02633 (train on generated, test on
    real).

    Examples
    --------
    >>> import latentcell as lc
    >>> cells = lc.datasets.simulate_groups(n_cells=60, n_genes=60, n_markers=10, n_rare=0)
    >>> table = lc.metrics.fidelity(cells[::2], cells[1::2], "group", n_trees=10)
    >>> table.loc[table["metric"] == "wasserstein2", ["group", "value", "real", "chance"]].round(-1)
         group  value  real  chance
    3      all   30.0  30.0    40.0
    22  group1   30.0  30.0    40.0
    41  group2   30.0  30.0    40.0
    60  group3   30.0  30.0    50.0
    """
    _check_numbers(n_top_genes, n_comps, n_trees, max_cells, min_cells)
    given = {"real": real, "generated": generated, "reference": reference, "basis": basis}
    read, counts = read_sets({k: v for k, v in given.items() if v is not None}, groupby, layer)
    groups = _group_names(read)
    rng = np.random.default_rng(seed)
    cells = {name: part.draw(max_cells, rng) for name, part in _divided(read, rng).items()}
    cells["chance"] = cells["fresh"].permuted(rng)
    fitted = Basis.fit(
        cells["basis"],
        groups,
        counts=counts,
        n_top_genes=n_top_genes,
        n_comps=n_comps,
        n_trees=n_trees,
        seed=seed,
    )
    sets = {name: fitted.view(part) for name, part in cells.items()}
    draws, n_cells, too_few = draw(sets, groups, min_cells, rng)
    columns = COLUMNS if controls else {"value": COLUMNS["value"]}
    scores = {column: scores_of(name, sets, draws, fitted, n_trees, seed) for column, name in columns.items()}
    if reference is not None:
        for column, name in (columns | ({"real": "basis"} if controls else {})).items():
            added = copying_scores(name, cells, sets, read["reference"], groups, min_cells)
            for group in added.keys() & scores[column].keys():
                scores[column][group].update(added[group])

    table = _table(scores, groups, counts=counts, copying=reference is not None)
    table.attrs["fidelity"] = {
        "n_cells": n_cells,
        "too_few": too_few,
        "n_cells_per_set": {name: len(part) for name, part in cells.items()},
        "n_genes": len(fitted.genes),
        "n_comps": int(fitted.pca.n_components_),
        "counts": counts,
        "n_trees": n_trees,
        "seed": seed,
    }
    return table


def _check_numbers(n_top_genes: int, n_comps: int, n_trees: int, max_cells: int, min_cells: int) -> None:
    if n_top_genes < 2:
        raise DataError(f"n_top_genes={n_top_genes} must be at least 2.")
    if n_comps < 1 or n_trees < 1:
        raise DataError(f"n_comps={n_comps} and n_trees={n_trees} must be at least 1.")
    if not _LEAST_CELLS <= min_cells <= max_cells:
        raise DataError(
            f"min_cells={min_cells} must be at least {_LEAST_CELLS} and at most max_cells={max_cells}."
        )


def _group_names(read: dict[str, Cells]) -> list[str]:
    """All groups of all sets, sorted; refuse real and generated cells without one in common."""
    found = {name: set(cells.groups) for name, cells in read.items() if cells.groups is not None}
    if not found:
        return []
    if not found["real"] & found["generated"]:
        raise DataError(
            "real and generated have no group in common: "
            f"{named(sorted(found['real']))} and {named(sorted(found['generated']))}."
        )
    groups = sorted(set.union(*found.values()))
    if ALL in groups:
        raise DataError(f"A group is named {ALL!r}, as are the rows over all cells. Rename the group.")
    return [str(group) for group in groups]


def _divided(read: dict[str, Cells], rng: np.random.Generator) -> dict[str, Cells]:
    """The five sets (without the permuted one): judged, generated, fresh, basis."""
    own = [name for name, other in (("basis", "basis"), ("fresh", "reference")) if other not in read]
    parts = read["real"].parts(1 + len(own), rng)
    sets = {"judged": parts[0], "generated": read["generated"], **dict(zip(own, parts[1:], strict=True))}
    if "basis" in read:
        sets["basis"] = read["basis"]
    if "reference" in read:
        check_unseen(read["real"], read["reference"])
        sets["fresh"] = read["reference"]
    return sets


def _table(
    scores: dict[str, dict[str, Scores]], groups: list[str], *, counts: bool, copying: bool
) -> pd.DataFrame:
    """One row for each group and metric that such data have."""
    left_out = set()
    left_out |= set() if counts else COUNT_METRICS
    left_out |= set() if groups else GROUP_METRICS
    left_out |= set() if copying else REFERENCE_METRICS
    rows = []
    for group in [ALL, *groups]:
        for metric, (best, better) in METRICS.items():
            if metric not in left_out:
                values = {c: scores[c].get(group, {}).get(metric, float("nan")) for c in scores}
                rows.append({"group": group, "metric": metric, **values, "best": best, "better": better})
    return pd.DataFrame(rows)
