"""How well the dimensions of a code stand for known factors, in one table."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from latentcell._errors import DataError
from latentcell.metrics._correlation import best_correlation, matched_correlation
from latentcell.metrics._dci import concentration, importances, row_concentration
from latentcell.metrics._factors import ALL, Factor, check_codes_and_factors, per_factor
from latentcell.metrics._mutual import modularity, mutual_information_gap
from latentcell.metrics._threshold import separated_attribute_predictability, single_latent_accuracy
from latentcell.metrics._total_correlation import total_correlation

BEST: dict[str, float] = {
    "best_correlation": 1.0,
    "matched_correlation": 1.0,
    "mig": 1.0,
    "sap": 1.0,
    "modularity": 1.0,
    "dci_disentanglement": 1.0,
    "dci_completeness": 1.0,
    "dci_informativeness": 1.0,
    "total_correlation": 0.0,
    "single_latent_accuracy": 1.0,
}
"""Every metric, in the order of the table, and its best value."""

LOWER_IS_BETTER = {"total_correlation"}
"""The metrics of which less is better."""

DCI_METRICS = {"dci_disentanglement", "dci_completeness", "dci_informativeness"}
"""The metrics that need trees, which take nearly all of the time."""


def disentanglement(
    z: Any,
    factors: Any,
    *,
    metrics: Sequence[str] | None = None,
    n_bins: int = 20,
    max_cells: int = 3000,
    seed: int = 0,
) -> pd.DataFrame:
    """Judge whether the dimensions of a code stand for known factors, one for each.

    No single score says it. Those that look for the best dimension are raised by many dimensions; gaps punish
    a factor that two dimensions share, be it split in two readable halves; a rotation of the code destroys
    all of them, and leaves only informativeness. Read a matched score and a gap score together, and compare
    codes with the same number of dimensions.

    ``best_correlation``
        :func:`best_correlation`: does some dimension follow the factor?
    ``matched_correlation``
        :func:`matched_correlation` (MCC): does one follow it that no other factor needs?
    ``mig``
        :func:`mutual_information_gap` (MIG): does only one dimension tell of it?
    ``sap``
        :func:`separated_attribute_predictability` (SAP): the same, by correlation and thresholds.
    ``modularity``
        :func:`modularity`: does each dimension tell of only one factor?
    ``dci_disentanglement``, ``dci_completeness``, ``dci_informativeness``
        :func:`dci`: does each dimension serve one factor, does each factor need one dimension, and can the
        factors be predicted from all dimensions at all?
    ``total_correlation``
        :func:`total_correlation` of the code alone: do dimensions vary together?
    ``single_latent_accuracy``
        :func:`single_latent_accuracy`, for each level of a discrete factor: can one threshold on one
        dimension tell its cells from the others? Balanced accuracy, cross-validated. Only with discrete
        factors.

    Parameters
    ----------
    z
        Codes, cells x dimensions.
    factors
        Known factors of the same cells, in the same order: DataFrame or array (cells x factors), or one
        factor. Columns of floating-point numbers are continuous, be they mostly zeros; all others
        (categories, strings, booleans, integers) are discrete.
    metrics
        Names of rows to compute, as above; ``None``: all. The three of DCI take nearly all of the time.
    n_bins
        Bins of dimensions and of continuous factors, for ``mig`` and ``modularity``.
    max_cells
        Cells that the trees of DCI use at most; everything else is of all cells.
    seed
        Seed of folds, divisions and trees.

    Returns
    -------
    DataFrame with the columns

    ``metric``
        As above.
    ``factor``
        ``"all"`` for the mean over factors (what is usually reported), the factor's name, or, of
        ``single_latent_accuracy`` with more than two levels, ``"factor=level"``. ``modularity``,
        ``dci_disentanglement`` and ``total_correlation`` have the row ``"all"`` only.
    ``value``
        The score.
    ``dim``
        The dimension (position from 0) that was chosen for the factor; else missing.
    ``best``
        The ideal. That of ``sap`` is 0.5 for discrete factors, since a useless dimension has an accuracy of
        0.5.
    ``better``
        ``"higher"`` or ``"lower"``.

    ``.attrs["disentanglement"]`` is a dict: ``n_cells``, ``n_dims``, ``constant_dims`` (positions of
    dimensions that have one value only), ``discrete`` (names of the discrete factors), ``n_bins``,
    ``max_cells``, ``seed``.

    Raises
    ------
    DataError
        If the numbers of cells differ, if a value is missing or infinite, if a factor is constant, if a level
        has fewer than five cells, if names of factors repeat or one is ``"all"``, or if a metric is unknown.

    References
    ----------
    Locatello et al. (2019), Challenging common assumptions in the unsupervised learning of disentangled
    representations, https://arxiv.org/abs/1811.12359; and those of each metric.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> import latentcell as lc
    >>> rng = np.random.default_rng(0)
    >>> factors = pd.DataFrame({"activity": rng.random(200), "type": np.repeat(["B", "T"], 100)})
    >>> z = np.stack([factors["type"] == "B", -2 * factors["activity"]], axis=1)
    >>> table = lc.metrics.disentanglement(z, factors, metrics=["matched_correlation", "total_correlation"])
    >>> table[["metric", "factor", "value", "dim"]].round(2)
                    metric    factor  value   dim
    0  matched_correlation       all    1.0  <NA>
    1  matched_correlation  activity    1.0     1
    2  matched_correlation      type    1.0     0
    3    total_correlation       all    0.0  <NA>
    """
    codes, read = check_codes_and_factors(z, factors)
    asked = _asked(metrics, read)
    simple: dict[str, Callable[[], pd.DataFrame]] = {
        "best_correlation": lambda: best_correlation(codes, factors),
        "matched_correlation": lambda: matched_correlation(codes, factors),
        "mig": lambda: mutual_information_gap(codes, factors, n_bins=n_bins),
        "sap": lambda: separated_attribute_predictability(codes, factors, seed=seed),
        "modularity": lambda: _over_all(modularity(codes, factors, n_bins=n_bins)),
        "total_correlation": lambda: _over_all(total_correlation(codes)),
        "single_latent_accuracy": lambda: single_latent_accuracy(codes, factors, seed=seed),
    }
    trees = _dci_tables(codes, read, max_cells, seed) if DCI_METRICS & set(asked) else {}
    tables = [_rows(name, trees[name] if name in DCI_METRICS else simple[name](), read) for name in asked]
    table = pd.concat(tables, ignore_index=True)
    table.attrs["disentanglement"] = {
        "n_cells": len(codes),
        "n_dims": codes.shape[1],
        "constant_dims": np.flatnonzero(np.ptp(codes, axis=0) == 0).tolist(),
        "discrete": [factor.name for factor in read if factor.is_discrete],
        "n_bins": n_bins,
        "max_cells": max_cells,
        "seed": seed,
    }
    return table


def _asked(metrics: Sequence[str] | None, factors: list[Factor]) -> list[str]:
    """Names of the metrics to compute, in the order of the table."""
    has_levels = any(factor.is_discrete for factor in factors)
    if metrics is None:
        return [name for name in BEST if has_levels or name != "single_latent_accuracy"]
    wanted = [metrics] if isinstance(metrics, str) else list(metrics)
    unknown = [name for name in wanted if name not in BEST]
    if unknown or not wanted:
        raise DataError(f"metrics={metrics!r} must be among {', '.join(BEST)}.")
    return [name for name in BEST if name in wanted]


def _over_all(value: float) -> pd.DataFrame:
    """Table of a score that factors do not have on their own."""
    return per_factor([Factor(ALL, np.empty(0))], np.array([value]))


def _dci_tables(
    codes: np.ndarray, factors: list[Factor], max_cells: int, seed: int
) -> dict[str, pd.DataFrame]:
    """The three tables of DCI, from trees grown once."""
    importance, predicted = importances(codes, factors, max_cells, seed)
    completeness = concentration(importance.T)
    each = row_concentration(importance.T) if codes.shape[1] > 1 else np.full(len(factors), np.nan)
    chosen = importance.argmax(axis=0)
    return {
        "dci_disentanglement": _over_all(concentration(importance)),
        "dci_completeness": pd.concat([_over_all(completeness), per_factor(factors, each, chosen)]),
        "dci_informativeness": per_factor(factors, predicted),
    }


def _rows(metric: str, scores: pd.DataFrame, factors: list[Factor]) -> pd.DataFrame:
    """Rows of one metric: the mean over factors first, unless it is given."""
    best = dict.fromkeys([ALL, *scores.index], BEST[metric])
    if metric == "sap":
        best |= {factor.name: 0.5 for factor in factors if factor.is_discrete}
        best[ALL] = float(np.mean([best[factor.name] for factor in factors]))
    if ALL not in scores.index:
        own = [factor.name for factor in factors if factor.name in scores.index]
        scores = pd.concat([_over_all(scores.loc[own, "value"].mean()), scores])
    return pd.DataFrame(
        {
            "metric": metric,
            "factor": scores.index,
            "value": scores["value"].to_numpy(),
            "dim": scores["dim"].array,
            "best": [best[name] for name in scores.index],
            "better": "lower" if metric in LOWER_IS_BETTER else "higher",
        }
    )
