"""How genes vary together inside a group of cells: a Gaussian copula that never holds genes x genes."""

from typing import Literal, NamedTuple, Self

import numpy as np
from scipy import sparse
from scipy.special import ndtri
from scipy.stats import rankdata

Shrinkage = float | Literal["ledoit-wolf"]

FEWEST_CELLS = 3
"""Cells below which genes are drawn independently: the correlation of two cells is always 1 or -1."""


class Dependence(NamedTuple):
    """Normal scores of some cells, whose random combinations have the cells' (shrunken) correlation.

    A draw is ``w @ (scores + offset) + noise * e``, standard normal w (one per cell) and e (one per gene).

    Attributes
    ----------
    scores
        What the scores of non-zero values have beyond `offset` (cells x genes), float32.
    offset
        The score of each gene's zeros (genes), float32; 0 where a gene has none.
    noise
        Standard deviation of what each gene does on its own (genes), float32.
    """

    scores: sparse.csr_matrix
    offset: np.ndarray
    noise: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray, shrinkage: Shrinkage) -> Self:
        """From values of cells x genes, shrinking correlations between genes by a share of themselves."""
        n_cells, n_genes = x.shape
        if n_cells < FEWEST_CELLS:
            nothing = sparse.csr_matrix((0, n_genes), dtype=np.float32)
            return cls(nothing, np.zeros(n_genes, dtype=np.float32), np.ones(n_genes, dtype=np.float32))
        z = standard_scores(x)
        share = shrinkage_intensity(z) if shrinkage == "ledoit-wolf" else float(shrinkage)
        noise = np.sqrt(np.where(z.any(axis=0), share, 1.0))
        z *= np.sqrt((1 - share) / (n_cells - 1))
        is_zero = x == 0
        offset = np.where(is_zero.any(axis=0), z[is_zero.argmax(axis=0), np.arange(n_genes)], 0.0)
        cells, genes = np.nonzero(~is_zero)
        beyond = (z[cells, genes] - offset[genes]).astype(np.float32)
        scores = sparse.csr_matrix((beyond, (cells, genes)), shape=x.shape)
        return cls(scores, offset.astype(np.float32), noise.astype(np.float32))

    def draw(self, n_cells: int, rng: np.random.Generator) -> np.ndarray:
        """Normal scores of new cells (n_cells x genes), float32; each is standard normal."""
        z = rng.standard_normal((n_cells, len(self.noise)), dtype=np.float32)
        z *= self.noise
        if self.scores.shape[0]:
            w = rng.standard_normal((n_cells, self.scores.shape[0]), dtype=np.float32)
            z += w @ self.scores
            z += w.sum(axis=1)[:, None] * self.offset
        return z


def standard_scores(x: np.ndarray) -> np.ndarray:
    """Normal scores of each gene's mid-ranks, to mean 0 and standard deviation 1 (cells x genes).

    Equal values share the mean of their ranks, so that zeros say nothing about each other. Genes without
    variation are 0.

    Examples
    --------
    >>> standard_scores(np.array([[0.0, 7], [0, 7], [5, 7]])).round(3).tolist()
    [[-0.577, 0.0], [-0.577, 0.0], [1.155, 0.0]]
    """
    z = ndtri((rankdata(x, axis=0) - 0.5) / len(x))
    z -= z.mean(axis=0)
    spread = z.std(axis=0, ddof=1)
    varies = x.max(axis=0) > x.min(axis=0)
    return np.where(varies, z / np.where(varies, spread, 1.0), 0.0)


def shrinkage_intensity(z: np.ndarray) -> float:
    """Share of the sample correlations that is expected to be noise, 0 to 1 (Ledoit-Wolf, Schaefer-Strimmer).

    It minimises the expected squared error of the correlation matrix when that is shrunk towards the
    identity: the sum of the sampling variances of all correlations, over the sum of their squares. Both sums
    are taken over cells x cells, never over genes x genes.

    Parameters
    ----------
    z
        Standardised scores (cells x genes).

    References
    ----------
    Ledoit and Wolf, Journal of Multivariate Analysis 2004, `doi:10.1016/S0047-259X(03)00096-4
    <https://doi.org/10.1016/S0047-259X(03)00096-4>`__; Schaefer and Strimmer, Statistical Applications in
    Genetics and Molecular Biology 2005, `doi:10.2202/1544-6115.1175
    <https://doi.org/10.2202/1544-6115.1175>`__.
    """
    n = len(z)
    products = z @ z.T
    of_cells = np.square(np.diag(products)).sum() - np.power(z, 4).sum()
    of_genes = np.square(products).sum() - np.square(np.square(z).sum(axis=0)).sum()
    if of_genes <= 0:
        return 1.0
    return float(np.clip(n / (n - 1) * (of_cells - of_genes / n) / of_genes, 0.0, 1.0))
