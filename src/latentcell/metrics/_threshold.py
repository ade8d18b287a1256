"""What one threshold on one dimension can tell: single-latent accuracy, and SAP, the gap of such scores."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

from latentcell._errors import DataError
from latentcell.metrics._correlation import absolute_correlations
from latentcell.metrics._factors import LEAST_CELLS, Factor, check_codes_and_factors, gaps, per_factor


def single_latent_accuracy(z: Any, factors: Any, *, seed: int = 0) -> pd.DataFrame:
    """How well one threshold on one dimension tells a level of a factor from the others.

    For every level and every dimension a threshold, and the side on which the level lies, are chosen for the
    highest balanced accuracy on four fifths of the cells; the rest is classified, five times in turn, in
    stratified folds. The score is the **balanced accuracy** of these predictions, the mean of the shares of
    cells recognised in and outside of the level, for the dimension where it is highest. **Higher is better**,
    1 at best; 0.5 is chance for common and rare levels alike, though the best of many dimensions lies a
    little above. A level in the middle of a dimension cannot be told by one threshold.

    Parameters
    ----------
    z
        Codes, cells x dimensions.
    factors
        As for :func:`best_correlation`; continuous factors are left out, one of them must be discrete.
    seed
        Seed of the folds.

    Returns
    -------
    DataFrame with the index ``"factor"``, ``value``, and ``dim``, the dimension. Each factor has a row of its
    name, the mean over its levels, and one row for each level, ``"cell_type=B"``; a factor of two levels has
    one row, as both levels have the same score.

    Raises
    ------
    DataError
        As :func:`best_correlation`, and if no factor is discrete.

    References
    ----------
    Kimmel (2020), Disentangling latent representations of single cell RNA-seq experiments, bioRxiv,
    https://doi.org/10.1101/2020.03.04.972166, which does not say by which classifier.

    Examples
    --------
    >>> import numpy as np
    >>> import latentcell as lc
    >>> types = np.repeat(["B", "T", "NK"], 20)
    >>> z = np.stack([types == "B", types == "T"], axis=1)
    >>> lc.metrics.single_latent_accuracy(z, types).round(2)
               value   dim
    factor
    factor      0.92  <NA>
    factor=B    1.00     0
    factor=NK   0.75     0
    factor=T    1.00     1
    """
    codes, read = check_codes_and_factors(z, factors)
    discrete = [factor for factor in read if factor.is_discrete]
    if not discrete:
        raise DataError("No factor is discrete: give categories, strings, booleans or integers.")
    rows, values, dims = [], [], []
    for factor in discrete:
        accuracy = threshold_accuracies(codes, factor, seed)
        best, best_dim = accuracy.max(axis=0), accuracy.argmax(axis=0)
        if len(factor.levels) == 2:
            # up to ties, both levels have the same threshold
            best, best_dim = best[:1], best_dim[:1]
        several = len(best) > 1
        rows += [factor.name] + [f"{factor.name}={level}" for level in factor.levels if several]
        values += [best.mean(), *best] if several else [best[0]]
        dims += [-1, *best_dim] if several else [best_dim[0]]
    return per_factor([Factor(name, np.empty(0)) for name in rows], np.array(values), np.array(dims))


def separated_attribute_predictability(z: Any, factors: Any, *, seed: int = 0) -> pd.DataFrame:
    r"""How far the most predictive dimension is ahead of the next one, for each factor: SAP.

    The score of a single dimension is, for a continuous factor, the squared correlation :math:`r^2`; for a
    discrete one the balanced accuracy of one threshold for each level, mean over levels, as in
    :func:`single_latent_accuracy`. SAP is the difference of the two highest scores: 0 to 1 for continuous, 0
    to 0.5 for discrete factors, whose chance is 0.5. **Higher is better**. Like every gap it is 0 for a
    factor that two dimensions share; with one dimension only, the second score is chance.

    Parameters
    ----------
    z, factors
        As for :func:`best_correlation`.
    seed
        Seed of the folds, for discrete factors.

    Returns
    -------
    DataFrame with one row for each factor (index ``"factor"``), ``value``, and ``dim``, the most predictive
    dimension. The mean of ``value`` over factors is the SAP score.

    Raises
    ------
    DataError
        As :func:`best_correlation`.

    References
    ----------
    Kumar et al. (2018), Variational inference of disentangled latent concepts from unlabeled observations,
    https://arxiv.org/abs/1711.00848, section 3. The code of Locatello et al., https://arxiv.org/abs/1811.12359,
    has a linear support vector machine in place of the thresholds.

    Examples
    --------
    >>> import numpy as np
    >>> import latentcell as lc
    >>> factors = np.random.default_rng(0).normal(size=(500, 2))
    >>> lc.metrics.separated_attribute_predictability(factors, factors)["value"].round(1).tolist()
    [1.0, 1.0]
    >>> rotated = factors @ [[1, 1], [1, -1]]
    >>> lc.metrics.separated_attribute_predictability(rotated, factors)["value"].round(1).tolist()
    [0.1, 0.1]
    """
    codes, read = check_codes_and_factors(z, factors)
    scores = absolute_correlations(codes, read) ** 2
    for k, factor in enumerate(read):
        if factor.is_discrete:
            # above chance, of which the gap sees nothing unless there is one dimension only
            scores[:, k] = threshold_accuracies(codes, factor, seed).mean(axis=1) - 0.5
    values, dims = gaps(scores)
    return per_factor(read, values, dims)


def threshold_accuracies(codes: np.ndarray, factor: Factor, seed: int) -> np.ndarray:
    """Balanced accuracy of one threshold, by cross-validation (dimensions x levels)."""
    members = factor.members
    folds = StratifiedKFold(LEAST_CELLS, shuffle=True, random_state=seed)
    right = np.empty((codes.shape[1], *members.shape), dtype=bool)
    for train, test in folds.split(codes, factor.values):
        for dim, values in enumerate(codes.T):
            cut, above = best_thresholds(values[train], members[train])
            predicted = (values[test, None] > cut) == above
            right[dim, test] = predicted == members[test]
    inside = (right & members).sum(axis=1) / members.sum(axis=0)
    outside = (right & ~members).sum(axis=1) / (~members).sum(axis=0)
    return (inside + outside) / 2


def best_thresholds(values: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Threshold of the best balanced accuracy for each level (levels), and whether the level is above it."""
    order = np.argsort(values, kind="stable")
    ordered, inside = values[order], members[order]
    cuts = np.flatnonzero(ordered[1:] > ordered[:-1])
    if len(cuts) == 0:
        n_levels = members.shape[1]
        return np.full(n_levels, np.inf), np.ones(n_levels, dtype=bool)
    # share of the level's cells at or below a cut, less that of the others
    below = np.cumsum(inside / inside.sum(axis=0) - ~inside / (~inside).sum(axis=0), axis=0)[cuts]
    best = np.abs(below).argmax(axis=0)
    # half of each, as the sum may overflow
    middle = ordered[cuts[best]] / 2 + ordered[cuts[best] + 1] / 2
    return middle, below[best, np.arange(members.shape[1])] < 0
