"""How well cells are predicted that a condition has changed: means, variances, the change itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from latentcell._errors import DataError
from latentcell.metrics._inputs import check_sets


def perturbation_response(
    real: Any, predicted: Any, control: Any, *, n_top: Sequence[int] = (100, 20)
) -> pd.DataFrame:
    r"""Compare predicted cells with real stimulated ones, gene by gene, in means, variances and change.

    With the mean :math:`m_g` of gene g in real stimulated, :math:`\hat m_g` in predicted and :math:`c_g` in
    control cells, over the genes of each set:

    ``r2``
        **Squared Pearson correlation** of :math:`m` and :math:`\hat m`, the R² of scGen's papers and figures.
        It forgives a wrong scale and offset. 1 is best.
    ``r2_score``
        **Coefficient of determination** :math:`1 - \sum_g (m_g - \hat m_g)^2 / \sum_g (m_g - \bar m)^2`, the
        R² of CPA's. 1 is best; it can be below 0.
    ``r2_variance``, ``r2_score_variance``
        The same of variances over cells (with n - 1). Predictions that are means by nature, such as decoded
        codes, are less variable than cells.
    ``delta_correlation``
        Pearson correlation of the changes :math:`m - c` and :math:`\hat m - c`: what is right beyond the
        cells' being the cells they were, which both R² reward even where nothing is predicted to change.
    ``direction``
        Share of genes whose predicted change has the sign of the real one.
    ``overlap``
        Of a top set of n genes: the share of the n genes with the largest real change :math:`|m - c|` that
        are among the n with the largest predicted change (genes predicted not to change are none).

    Parameters
    ----------
    real, predicted, control
        Cells x genes, the same genes: real stimulated cells, predicted ones, and real control cells of the
        same type, all **log-normalised** in the same way (arrays or sparse matrices).
    n_top
        Sizes of the sets of differential genes. They are chosen among real cells, see
        :func:`rank_differential_genes`, **with the real stimulated cells**: the judge may see them, a
        predictor may not.

    Returns
    -------
    DataFrame with a row per set of genes (index ``"genes"``: ``"all"``, ``"top 100"``, ``"top 20"``) and the
    columns above, preceded by ``n_genes``. A correlation is NaN where one side is constant, such as the
    change of a prediction without any.

    Raises
    ------
    DataError
        If a value is not finite, genes differ, a set has fewer than two cells, or a size in `n_top` is not
        from 2 to the number of genes.

    References
    ----------
    Lotfollahi et al. (2019), scGen, Nat Methods 16, https://doi.org/10.1038/s41592-019-0494-8 (r2);
    Lotfollahi et al. (2023), CPA, Mol Syst Biol 19, https://doi.org/10.15252/msb.202211517 (r2_score).

    Examples
    --------
    >>> import numpy as np
    >>> import latentcell as lc
    >>> rng = np.random.default_rng(0)
    >>> rates = np.linspace(1.0, 3.0, 30)
    >>> control = rng.poisson(rates, size=(60, 30)).astype(float)
    >>> real = rng.poisson(rates + 4 * (np.arange(30) < 5), size=(60, 30)).astype(float)
    >>> halfway = control + 0.5 * (real.mean(axis=0) - control.mean(axis=0))
    >>> nothing, half = (
    ...     lc.metrics.perturbation_response(real, predicted, control, n_top=[10]).loc["top 10"]
    ...     for predicted in (control, halfway)
    ... )
    >>> bool(nothing["r2_score"] < 0 < half["r2_score"]), bool(np.isnan(nothing["delta_correlation"]))
    (True, True)
    >>> half[["delta_correlation", "direction", "overlap"]].tolist()
    [1.0, 1.0, 1.0]
    """
    real, predicted, control = check_sets(real=real, predicted=predicted, control=control)
    n_genes = real.shape[1]
    wrong = [n for n in n_top if not 2 <= n <= n_genes]
    if wrong:
        raise DataError(f"n_top={wrong[0]} must be from 2 to the number of genes ({n_genes}).")
    order = rank_differential_genes(real, control)
    sets = {"all": order} | {f"top {n}": order[:n] for n in n_top}
    means = [X.mean(axis=0) for X in (real, predicted)]
    variances = [X.var(axis=0, ddof=1) for X in (real, predicted)]
    changes = [mean - control.mean(axis=0) for mean in means]
    rows = {
        name: {
            "n_genes": len(genes),
            "r2": _correlation(*means, genes) ** 2,
            "r2_score": _determination(*means, genes),
            "r2_variance": _correlation(*variances, genes) ** 2,
            "r2_score_variance": _determination(*variances, genes),
            "delta_correlation": _correlation(*changes, genes),
            "direction": float(np.mean(np.sign(changes[0][genes]) == np.sign(changes[1][genes]))),
            "overlap": np.nan if name == "all" else _overlap(*changes, len(genes)),
        }
        for name, genes in sets.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("genes")


def rank_differential_genes(stimulated: Any, control: Any) -> np.ndarray:
    """Rank genes by how sure it is that two sets of cells differ in them: by the absolute Welch t statistic.

    Up and down count the same. (scGen's notebooks take the genes that Scanpy ranks highest in stimulated
    cells, which are those that rise.) A gene that is constant within both sets comes first if it differs
    between them and last if not; genes that are alike keep their order.

    Parameters
    ----------
    stimulated, control
        Cells x genes, the same genes, log-normalised in the same way.

    Returns
    -------
    Positions of all genes (genes), most differential first.

    Raises
    ------
    DataError
        If a value is not finite, genes differ, or a set has fewer than two cells.

    References
    ----------
    Welch (1947), Biometrika 34, https://doi.org/10.1093/biomet/34.1-2.28

    Examples
    --------
    >>> import latentcell as lc
    >>> control = [[0.0, 1.0, 3.0], [1.0, 1.1, 3.0]]
    >>> stimulated = [[0.0, 5.0, 3.0], [2.0, 5.1, 3.0]]
    >>> lc.metrics.rank_differential_genes(stimulated, control).tolist()
    [1, 0, 2]
    """
    stimulated, control = check_sets(stimulated=stimulated, control=control)
    change = np.abs(stimulated.mean(axis=0) - control.mean(axis=0))
    error = np.sqrt(sum(X.var(axis=0, ddof=1) / len(X) for X in (stimulated, control)))
    t = np.divide(change, error, out=np.where(change > 0, np.inf, 0.0), where=error > 0)
    return np.argsort(-t, kind="stable")


def _correlation(a: np.ndarray, b: np.ndarray, genes: np.ndarray) -> float:
    """Pearson's, over some genes; NaN where one side is constant."""
    a, b = a[genes], b[genes]
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return np.nan
    return float(np.corrcoef(a, b)[0, 1])


def _determination(real: np.ndarray, predicted: np.ndarray, genes: np.ndarray) -> float:
    """Coefficient of determination, over some genes; NaN where the real values are constant."""
    total = np.square(real[genes] - real[genes].mean()).sum()
    if total == 0:
        return np.nan
    return float(1 - np.square(real[genes] - predicted[genes]).sum() / total)


def _overlap(real: np.ndarray, predicted: np.ndarray, n: int) -> float:
    """Share of the n largest real changes that are among the n largest predicted ones."""
    tops = [np.argsort(-np.abs(change), kind="stable")[:n] for change in (real, predicted)]
    return len(np.intersect1d(tops[0], tops[1][predicted[tops[1]] != 0])) / n
