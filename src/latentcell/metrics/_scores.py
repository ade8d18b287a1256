"""The scores of a set of cells against the judged real cells: what stands in the rows of fidelity."""

from __future__ import annotations

import numpy as np

from latentcell.metrics._basis import Basis, Sample
from latentcell.metrics._cells import Cells
from latentcell.metrics._copying import nearer_to_first
from latentcell.metrics._draws import ALL, Draws
from latentcell.metrics._groups import (
    centred,
    correlation_agreement,
    fold_change_agreement,
    fold_changes,
    label_f1,
    label_forest,
)
from latentcell.metrics._manifold import manifold_overlap, neighbor_mixing
from latentcell.metrics._marginals import gene_marginals, kolmogorov_smirnov
from latentcell.metrics._two_sample import classifier_auc, mmd, wasserstein

METRICS: dict[str, tuple[float, str]] = {
    "classifier_auc_genes": (0.5, "near best"),
    "classifier_auc_pcs": (0.5, "near best"),
    "mmd2": (0.0, "lower"),
    "wasserstein2": (0.0, "lower"),
    "neighbor_mixing": (1.0, "higher"),
    "precision": (1.0, "higher"),
    "recall": (1.0, "higher"),
    "density": (1.0, "near best"),
    "coverage": (1.0, "higher"),
    "gene_mean_pearson": (1.0, "higher"),
    "gene_mean_spearman": (1.0, "higher"),
    "gene_variance_spearman": (1.0, "higher"),
    "zero_fraction_rmse": (0.0, "lower"),
    "ks_genes": (0.0, "lower"),
    "ks_library_size": (0.0, "lower"),
    "ks_detected_genes": (0.0, "lower"),
    "gene_correlation": (1.0, "higher"),
    "marker_lfc_pearson": (1.0, "higher"),
    "marker_lfc_slope": (1.0, "near best"),
    "train_on_generated_f1": (1.0, "higher"),
    "label_f1": (1.0, "higher"),
    "nearer_to_training": (0.5, "near best"),
    "exact_copies": (0.0, "lower"),
}
"""Every row of the table: its best value, and which direction is better."""

COUNT_METRICS = {"ks_library_size", "ks_detected_genes"}
"""Rows that only counts have."""

GROUP_METRICS = {"marker_lfc_pearson", "marker_lfc_slope", "train_on_generated_f1", "label_f1"}
"""Rows that only cells with groups have."""

REFERENCE_METRICS = {"nearer_to_training", "exact_copies"}
"""Rows that only a reference gives."""

GROUP_TREES = 4
"""How many times fewer trees tell real from generated cells within a group."""

Scores = dict[str, float]


def scores_of(
    name: str, sets: dict[str, Sample], draws: Draws, basis: Basis, n_trees: int, seed: int
) -> dict[str, Scores]:
    """Scores of one set of cells against the judged cells, by group."""

    def drawn(part: str, groups: list[str]) -> Sample:
        return sets[part].take(np.concatenate([draws[part, group] for group in groups]))

    scores: dict[str, Scores] = {}
    for group in [ALL, *basis.groups]:
        if (name, group) in draws:
            judged, other = drawn("judged", [group]), drawn(name, [group])
            trees = n_trees if group == ALL else max(1, n_trees // GROUP_TREES)
            scores[group] = two_sample_scores(judged, other, trees, seed)
            scores[group] |= correlation_score(judged, other, basis)
    if not basis.groups:
        return scores
    scores[ALL]["gene_correlation"] = float("nan")
    present = [group for group in basis.groups if group in scores]
    if len(present) < 2:
        return scores
    judged, other = drawn("judged", present), drawn(name, present)
    share = np.bincount(sets["judged"].groups, minlength=len(basis.groups)).astype(float)
    share *= np.isin(basis.groups, present)
    share /= share.sum()
    asked = sets["judged" if name == "fresh" else name]
    for overall, each in (
        marker_scores(judged, other, basis, share),
        label_scores(other, sets["judged"], asked, basis, share, n_trees=n_trees, seed=seed),
    ):
        scores[ALL].update(overall)
        for position, of_group in each.items():
            scores[basis.groups[position]].update(of_group)
    scores[ALL].update(correlation_score(judged, other, basis))
    return scores


def two_sample_scores(judged: Sample, other: Sample, n_trees: int, seed: int) -> Scores:
    """Everything that compares two equally large sets of cells without asking for their groups."""
    marginals = gene_marginals(judged.values, other.values)
    scores = {
        "classifier_auc_genes": classifier_auc(judged.values, other.values, n_trees=n_trees, seed=seed),
        "classifier_auc_pcs": classifier_auc(judged.pcs, other.pcs, n_trees=n_trees, seed=seed),
        "mmd2": mmd(judged.pcs, other.pcs) if np.ptp(judged.pcs, axis=0).any() else float("nan"),
        "wasserstein2": wasserstein(judged.pcs, other.pcs),
        "neighbor_mixing": neighbor_mixing(judged.pcs, other.pcs),
        **manifold_overlap(judged.pcs, other.pcs),
        "gene_mean_pearson": marginals["mean_pearson"],
        "gene_mean_spearman": marginals["mean_spearman"],
        "gene_variance_spearman": marginals["variance_spearman"],
        "zero_fraction_rmse": marginals["zero_fraction_rmse"],
        "ks_genes": marginals["ks"],
    }
    for name in ("library_size", "detected_genes"):
        a, b = getattr(judged, name), getattr(other, name)
        if a is not None:
            scores[f"ks_{name}"] = float(kolmogorov_smirnov(a[:, None], b[:, None])[0])
    return scores


def correlation_score(judged: Sample, other: Sample, basis: Basis) -> Scores:
    """Agreement of the genes' correlations within groups (over all cells, if there are no groups)."""
    within = [centred(sample.values[:, basis.correlated], sample.groups) for sample in (judged, other)]
    return {"gene_correlation": correlation_agreement(*within)}


def marker_scores(
    judged: Sample, other: Sample, basis: Basis, share: np.ndarray
) -> tuple[Scores, dict[int, Scores]]:
    """Log-fold changes of markers: over all groups with a share, and for each of them."""
    present = np.flatnonzero(share).tolist()
    real = fold_changes(judged.values, judged.groups, share)
    generated = fold_changes(other.values, other.groups, share)
    each = {group: fold_change_agreement(real, generated, basis.markers, [group]) for group in present}
    return fold_change_agreement(real, generated, basis.markers, present), each


def label_scores(
    learned: Sample,
    judged: Sample,
    asked: Sample,
    basis: Basis,
    share: np.ndarray,
    *,
    n_trees: int,
    seed: int,
) -> tuple[Scores, dict[int, Scores]]:
    """F1 of labels: over all groups with a share (macro), and for each of them.

    A forest that learned the groups from `learned` is asked about the judged cells; the one that learned
    them from the basis is asked about `asked`.
    """
    forest = label_forest(learned.values, learned.groups, n_trees, seed)
    f1 = {
        "train_on_generated_f1": label_f1(forest, judged.values, judged.groups, share),
        "label_f1": label_f1(basis.forest, asked.values, asked.groups, share),
    }
    present = np.flatnonzero(share).tolist()
    each = {group: {name: float(scores[group]) for name, scores in f1.items()} for group in present}
    return {name: float(scores[present].mean()) for name, scores in f1.items()}, each


def copying_scores(
    name: str,
    cells: dict[str, Cells],
    sets: dict[str, Sample],
    reference: Cells,
    groups: list[str],
    min_cells: int,
) -> dict[str, Scores]:
    """Whether the cells of a set are near to, or copies of, the reference, by group."""
    training, held_out = sets["fresh"].pcs, sets["judged"].pcs
    each_cell = {
        "nearer_to_training": nearer_to_first(sets[name].pcs, training, held_out),
        "exact_copies": np.isin(cells[name].digests, reference.digests),
    }
    scores = {}
    for position, group in enumerate([ALL, *groups], start=-1):
        rows = (sets[name].groups == position) | (group == ALL)
        if rows.sum() >= min_cells:
            scores[group] = {metric: float(values[rows].mean()) for metric, values in each_cell.items()}
    return scores
