"""Whether every gene on its own is distributed as among real cells."""

from typing import Any

import numpy as np
from scipy.stats import rankdata

from latentcell.metrics._inputs import check_sets


def gene_marginals(real: Any, generated: Any) -> dict[str, float]:
    """Compare the distributions of single genes: means, variances, zeros, Kolmogorov-Smirnov.

    * ``mean_pearson``, ``mean_spearman``: correlation over genes of the gene means. -1 to 1, **higher is
      better**. Saturates: generators that are otherwise poor reach 0.99.
    * ``variance_spearman``: rank correlation over genes of the variances. -1 to 1, **higher is better**.
    * ``zero_fraction_rmse``: root mean square, over genes, of the difference of the shares of zeros. 0 to 1,
      **lower is better**.
    * ``ks``: largest difference of the two cumulative distributions of a gene, mean over genes. 0 to 1,
      **lower is better**; two samples of the same cells lie above 0.

    All are symmetric in the two sets, and all are blind to what genes do together: cells in which each gene
    was permuted on its own are perfect here.

    Parameters
    ----------
    real, generated
        Cells x genes, on the same scale, the same genes in both; dense or sparse.

    Returns
    -------
    Dict with the five keys above, in this order. A correlation is NaN where all genes have the same value.

    Raises
    ------
    DataError
        If a value is not finite, if the genes differ, or if a set has fewer than two cells.

    References
    ----------
    Crowell et al. (2023), The shaky foundations of simulating single-cell RNA sequencing data, Genome Biol
    24, https://doi.org/10.1186/s13059-023-02904-1; Cao et al. (2021), A benchmark study of simulation methods
    for single-cell RNA sequencing data, Nat Commun 12, https://doi.org/10.1038/s41467-021-27130-w

    Examples
    --------
    >>> import numpy as np
    >>> import latentcell as lc
    >>> real = np.array([[0.0, 1.0, 5.0], [0.0, 3.0, 7.0]])
    >>> scores = lc.metrics.gene_marginals(real, real + [0.0, 0.0, 1.0])
    >>> scores["mean_spearman"], scores["zero_fraction_rmse"], round(scores["ks"], 3)
    (1.0, 0.0, 0.167)
    """
    real, generated = check_sets(real=real, generated=generated)
    means = real.mean(axis=0), generated.mean(axis=0)
    zeros = (real == 0).mean(axis=0) - (generated == 0).mean(axis=0)
    return {
        "mean_pearson": pearson(*means),
        "mean_spearman": spearman(*means),
        "variance_spearman": spearman(real.var(axis=0), generated.var(axis=0)),
        "zero_fraction_rmse": float(np.sqrt(np.mean(zeros**2))),
        "ks": float(kolmogorov_smirnov(real, generated).mean()),
    }


def kolmogorov_smirnov(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Largest difference of the cumulative distributions in two sets, for each column (columns)."""
    values = np.concatenate([a, b])
    order = np.argsort(values, axis=0, kind="stable")
    ordered = np.take_along_axis(values, order, axis=0)
    steps = np.where(order < len(a), 1 / len(a), -1 / len(b))
    difference = np.abs(np.cumsum(steps, axis=0))
    # the distributions are known only behind the last of several equal values
    difference[:-1][ordered[1:] == ordered[:-1]] = 0
    return difference.max(axis=0)


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation; NaN if either has one value only."""
    if len(a) < 2 or not np.ptp(a) or not np.ptp(b):
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation; NaN if either has one value only."""
    return pearson(rankdata(a), rankdata(b))
