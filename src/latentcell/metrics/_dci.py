"""Disentanglement, completeness and informativeness, from what trees use to predict the factors."""

from typing import Any

import numpy as np
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
from sklearn.model_selection import train_test_split

from latentcell._errors import DataError
from latentcell.metrics._correlation import standardised
from latentcell.metrics._factors import LEAST_CELLS, Factor, check_codes_and_factors

_LEAST_CELLS = 10
"""Fewest cells that are divided into training and test."""


def dci(z: Any, factors: Any, *, max_cells: int = 3000, seed: int = 0) -> dict[str, float]:
    r"""Disentanglement, completeness and informativeness of a code (DCI).

    For each factor gradient boosted trees learn it from all dimensions on two thirds of the cells. With
    :math:`R_{ij}` the importance of dimension i for factor j (of K factors and D dimensions; they sum to 1
    for each factor), :math:`P_{ij} = R_{ij} / \sum_k R_{ik}` and :math:`Q_{ij} = R_{ij} / \sum_d R_{dj}`:

    disentanglement
        :math:`\sum_i \rho_i (1 + \sum_j P_{ij} \log_K P_{ij})`, with :math:`\rho_i` the dimension's share of
        all importance: whether each dimension serves one factor.
    completeness
        :math:`\sum_j w_j (1 + \sum_i Q_{ij} \log_D Q_{ij})`, with :math:`w_j` the factor's share: whether
        each factor needs one dimension.
    informativeness
        How well the trees predict the other third of the cells, mean over factors: :math:`R^2` for continuous
        factors (0 is chance, and worse than the mean is negative), accuracy for discrete ones (chance is the
        share of the largest level). It does not fall if a code is rotated, but for what trees cannot cut.

    Each is at most 1, **higher is better**. Where dimensions follow their factors with noise, trees use
    others as well, so that disentanglement and completeness stay somewhat below 1.

    The trees are scikit-learn's gradient boosting with its defaults (100 trees of depth 3), as in the code
    that published figures come from. Random forests that try all dimensions at each split order codes alike,
    at the same cost; those that try some of the dimensions spread importance, and find half of the
    disentanglement.

    Parameters
    ----------
    z, factors
        As for :func:`best_correlation`. A constant dimension has no importance.
    max_cells
        Cells used at most, drawn at random for each factor, levels in proportion but five of each. Time
        grows with cells x dimensions x factors, a discrete one counting as many as it has levels above two.
    seed
        Seed of division and trees.

    Returns
    -------
    Dict with the three keys above. ``"disentanglement"`` is NaN with one factor, ``"completeness"`` with one
    dimension: there is nothing to divide.

    Raises
    ------
    DataError
        As :func:`best_correlation`; if there are fewer than ten cells, or `max_cells` is below ten.

    References
    ----------
    Eastwood and Williams (2018), A framework for the quantitative evaluation of disentangled representations,
    ICLR, https://openreview.net/forum?id=By-7dz-AZ; gradient boosted trees as Locatello et al. (2019),
    https://arxiv.org/abs/1811.12359

    Examples
    --------
    >>> import numpy as np
    >>> import latentcell as lc
    >>> factors = np.random.default_rng(0).normal(size=(300, 2))
    >>> {name: round(score, 1) for name, score in lc.metrics.dci(factors, factors).items()}
    {'disentanglement': 1.0, 'completeness': 1.0, 'informativeness': 1.0}
    """
    codes, read = check_codes_and_factors(z, factors)
    importance, predicted = importances(codes, read, max_cells, seed)
    return {
        "disentanglement": concentration(importance),
        "completeness": concentration(importance.T),
        "informativeness": float(predicted.mean()),
    }


def importances(
    codes: np.ndarray, factors: list[Factor], max_cells: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Importance of each dimension for each factor (dimensions x factors), and the test scores (factors)."""
    if max_cells < _LEAST_CELLS or len(codes) < _LEAST_CELLS:
        raise DataError(
            f"z has {len(codes)} cells, of which at most max_cells={max_cells} are used; "
            f"at least {_LEAST_CELLS} are needed."
        )
    unit = standardised(codes)  # trees read single precision
    importance, scores = np.empty((codes.shape[1], len(factors))), np.empty(len(factors))
    for k, factor in enumerate(factors):
        rows = _sample(factor, max_cells, seed)
        levels = factor.values[rows] if factor.is_discrete else None
        test_size = len(rows) // 3
        train, test = train_test_split(rows, test_size=test_size, random_state=seed, stratify=levels)
        trees = GradientBoostingClassifier if factor.is_discrete else GradientBoostingRegressor
        fitted = trees(random_state=seed).fit(unit[train], factor.values[train])
        importance[:, k] = fitted.feature_importances_
        scores[k] = fitted.score(unit[test], factor.values[test])
    return importance, scores


def _sample(factor: Factor, n_cells: int, seed: int) -> np.ndarray:
    """Positions of cells, all or about `n_cells` at random: levels in proportion, but none left out."""
    if len(factor.values) <= n_cells:
        return np.arange(len(factor.values))
    rng = np.random.default_rng(seed)
    if not factor.is_discrete:
        return np.sort(rng.choice(len(factor.values), n_cells, replace=False))
    rows = []
    for level in range(len(factor.levels)):
        members = np.flatnonzero(factor.values == level)
        wanted = max(round(n_cells * len(members) / len(factor.values)), LEAST_CELLS)
        rows.append(rng.choice(members, min(wanted, len(members)), replace=False))
    return np.sort(np.concatenate(rows))


def concentration(importance: np.ndarray) -> float:
    """1 less the entropy of each row (to the base of its length), weighted by the sums of rows.

    Of importances (dimensions x factors) the disentanglement; of factors x dimensions the completeness. NaN
    if rows have one entry.
    """
    total = importance.sum(axis=1)
    if importance.shape[1] < 2:
        return float("nan")
    if not total.any():
        return 0.0
    return float(total @ row_concentration(importance) / total.sum())


def row_concentration(importance: np.ndarray) -> np.ndarray:
    """1 less the entropy of each row, to the base of its length: 0 if even or all zero, 1 if in one place."""
    total = importance.sum(axis=1, keepdims=True)
    share = np.where(total > 0, importance / np.where(total > 0, total, 1), 1 / importance.shape[1])
    logs = np.log(np.where(share > 0, share, 1))
    return 1 + (share * logs).sum(axis=1) / np.log(importance.shape[1])
