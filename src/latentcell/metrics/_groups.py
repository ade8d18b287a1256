"""Whether generated cells keep what tells groups apart, and what genes do together within groups."""

from collections.abc import Sequence

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import f1_score

from latentcell.metrics._marginals import pearson


def group_means(values: np.ndarray, groups: np.ndarray, n_groups: int) -> np.ndarray:
    """Mean of every gene in every group (groups x genes); 0 in groups without cells."""
    member = groups[None, :] == np.arange(n_groups)[:, None]
    return (member @ values) / np.maximum(member.sum(axis=1, keepdims=True), 1)


def fold_changes(values: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Log-fold change of every gene in each group against the rest (groups x genes).

    That is the difference of mean values, which are logarithms. The rest is the mean over the other groups,
    each with its weight (groups), so that it is the same for sets in which groups are not equally frequent.
    Groups of weight 0 are left out; theirs are NaN, as all are if only one group is left.
    """
    means = group_means(values, groups, len(weights))
    others = weights.sum() - weights
    rest = (weights @ means - weights[:, None] * means) / np.where(others > 0, others, np.nan)[:, None]
    return np.where(weights[:, None] > 0, means - rest, np.nan)


def top_markers(values: np.ndarray, groups: np.ndarray, n_groups: int, n_markers: int) -> list[np.ndarray]:
    """Positions of the genes with the highest log-fold changes above 0, for each group."""
    changes = fold_changes(values, groups, np.bincount(groups, minlength=n_groups) / len(groups))
    top = np.argsort(-changes, axis=1, kind="stable")[:, :n_markers]
    return [genes[changes[group, genes] > 0] for group, genes in enumerate(top)]


def fold_change_agreement(
    real: np.ndarray, generated: np.ndarray, markers: list[np.ndarray], groups: Sequence[int]
) -> dict[str, float]:
    """Pearson's correlation and slope of log-fold changes over the markers of the given groups.

    With a those of generated and b those of real cells, the slope is sum(a b) / sum(b^2).
    """
    a = np.concatenate([generated[group, markers[group]] for group in groups])
    b = np.concatenate([real[group, markers[group]] for group in groups])
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    slope = a @ b / (b @ b) if b.any() else float("nan")
    return {"marker_lfc_pearson": pearson(a, b), "marker_lfc_slope": float(slope)}


def centred(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Values less the mean of the cell's group (cells x genes)."""
    return values - group_means(values, groups, groups.max() + 1)[groups]


def correlation_agreement(real: np.ndarray, generated: np.ndarray) -> float:
    """Pearson's correlation over all pairs of genes of their correlation in two sets of cells.

    A gene with one value only is correlated with none: its correlations count as 0.
    """
    upper = np.triu_indices(real.shape[1], k=1)
    return pearson(_correlations(real)[upper], _correlations(generated)[upper])


def _correlations(values: np.ndarray) -> np.ndarray:
    values = values - values.mean(axis=0)
    norm = np.sqrt((values**2).sum(axis=0))
    # a gene that varies by rounding only is constant
    varies = norm > 1e-9 * np.abs(values).max(initial=1.0)
    values = np.divide(values, norm, out=np.zeros_like(values), where=varies)
    return values.T @ values


def label_forest(values: np.ndarray, groups: np.ndarray, n_trees: int, seed: int) -> RandomForestClassifier:
    """A random forest that learned to name the group of a cell."""
    return RandomForestClassifier(n_trees, random_state=seed).fit(values.astype(np.float32), groups)


def label_f1(
    forest: RandomForestClassifier, values: np.ndarray, groups: np.ndarray, share: np.ndarray
) -> np.ndarray:
    """F1 of a forest's answers for every group (groups); NaN where the group's `share` is 0.

    Cells are weighted so that every group has its share, however frequent it is in the set; cells of groups
    of share 0 are left out.
    """
    f1 = np.full(len(share), np.nan)
    asked = share[groups] > 0
    values, groups = values[asked], groups[asked]
    if not len(groups):
        return f1
    weights = (share / np.maximum(np.bincount(groups, minlength=len(share)), 1))[groups]
    answers = forest.predict(values.astype(np.float32))
    present = np.flatnonzero(share)
    f1[present] = f1_score(
        groups, answers, labels=present, average=None, sample_weight=weights, zero_division=0.0
    )
    return f1
