"""Distributions of single genes, fitted to cells, and their values at given normal scores."""

from typing import NamedTuple, Self

import numpy as np
from scipy import sparse, stats
from scipy.special import digamma, ndtr, ndtri

from latentcell.model._sound import check_positions, check_shape

_LOG_SIZE = (-8.0, 14.0)
"""Logs of the smallest and largest size (inverse dispersion) that is looked for; beyond it is Poisson."""

_APART = 100.0
"""Distance of two genes' scores in one sorted list: more than any two normal scores are apart."""

_N_LISTED = 32
"""Counts from 0 that are looked up in a list; larger ones are computed one by one, which takes longer."""

_LARGEST = 8.0
"""Scores beyond it (one in 10^15) count as it, so that no quantile is infinite."""

_MOST = float(np.finfo(np.float32).max)
_STEP = float(np.finfo(np.float32).eps) / 2


class ValueCounts(NamedTuple):
    """Which values each gene takes and how often, sorted by gene, then value; zeros are among them."""

    gene: np.ndarray
    value: np.ndarray
    number: np.ndarray


def value_counts(x: sparse.csc_matrix) -> ValueCounts:
    """Distinct values of every gene with their numbers.

    Parameters
    ----------
    x
        Cells x genes.

    Examples
    --------
    >>> found = value_counts(sparse.csc_matrix([[0, 2.0], [5, 2], [5, 0]]))
    >>> list(zip(found.gene.tolist(), found.value.tolist(), found.number.tolist()))
    [(0, 0.0, 1), (0, 5.0, 2), (1, 0.0, 1), (1, 2.0, 2)]
    """
    x = x.copy()
    x.sum_duplicates()
    x.eliminate_zeros()
    n_stored = np.diff(x.indptr)
    with_zeros = np.flatnonzero(n_stored < x.shape[0])
    gene = np.concatenate([np.repeat(np.arange(x.shape[1]), n_stored), with_zeros])
    value = np.concatenate([x.data.astype(np.float64), np.zeros(len(with_zeros))])
    count = np.concatenate([np.ones(x.nnz, dtype=np.int64), x.shape[0] - n_stored[with_zeros]])
    order = np.lexsort((value, gene))
    gene, value, count = gene[order], value[order], count[order]
    is_new = np.ones(len(gene), dtype=bool)
    is_new[1:] = (np.diff(gene) != 0) | (np.diff(value) != 0)
    first = np.flatnonzero(is_new)
    return ValueCounts(gene[first], value[first], np.add.reduceat(count, first))


class EmpiricalMargins(NamedTuple):
    """Step functions: the values that each gene took, and the normal score above which each is reached.

    ``value`` (entries) is sorted by gene, then value; ``score`` is minus infinity at a gene's first value;
    ``start`` (genes) is where each gene's values begin.
    """

    value: np.ndarray
    score: np.ndarray
    start: np.ndarray

    @classmethod
    def fit(cls, x: sparse.csc_matrix) -> Self:
        """The margins of cells x genes."""
        gene, value, number = value_counts(x)
        start = np.searchsorted(gene, np.arange(x.shape[1]))
        below = np.cumsum(number) - number - np.arange(x.shape[1])[gene] * x.shape[0]
        return cls(value, ndtri(below / x.shape[0]), start)

    def check(self, n_genes: int) -> None:
        """Refuse arrays that are not of so many genes (`ValueError`)."""
        check_shape("value", self.value, (None,))
        check_shape("score", self.score, (len(self.value),))
        check_shape("start", self.start, (n_genes,), "iu")
        check_positions("start", self.start, max(len(self.value), 1))

    def quantile(self, z: np.ndarray) -> sparse.csr_matrix:
        """Values at normal scores `z` (cells x genes); float32."""
        lowest = self.value[self.start]
        sizes = np.diff(np.append(self.start, len(self.value)))
        second = np.full(len(self.start), np.inf)
        second[sizes > 1] = self.score[self.start[sizes > 1] + 1]
        cells, genes = np.nonzero(z > second)
        owner = np.repeat(np.arange(len(sizes)), sizes)
        keys = owner * _APART + np.maximum(self.score, -_APART / 3)
        asked = genes * _APART + np.clip(z[cells, genes].astype(np.float64), -_LARGEST, _LARGEST)
        found = self.value[np.searchsorted(keys, asked, side="left") - 1]
        if not lowest.any():
            return sparse.csr_matrix((found.astype(np.float32), (cells, genes)), shape=z.shape)
        full = np.tile(lowest.astype(np.float32), (len(z), 1))
        full[cells, genes] = found
        return sparse.csr_matrix(full)


class NegativeBinomialMargins(NamedTuple):
    """Mean (genes) and size (genes) of negative binomials; the variance is mean + mean^2 / size.

    An infinite size is a Poisson distribution.
    """

    mean: np.ndarray
    size: np.ndarray

    @classmethod
    def fit(cls, x: sparse.csc_matrix) -> Self:
        """Maximum likelihood, given counts (cells x genes)."""
        return cls(*fit_negative_binomial(value_counts(x), *x.shape))

    def check(self, n_genes: int) -> None:
        """Refuse arrays that are not of so many genes, or no parameters (`ValueError`)."""
        check_shape("mean", self.mean, (n_genes,))
        check_shape("size", self.size, (n_genes,))
        if (self.mean < 0).any() or (self.size <= 0).any():
            raise ValueError("a gene has a negative mean or size")
        if (self.mean > _MOST).any():
            raise ValueError("a gene has a mean beyond single precision")
        log_size = np.log(self.size[np.isfinite(self.size)])
        if (log_size < _LOG_SIZE[0]).any() or (log_size > _LOG_SIZE[1]).any():
            raise ValueError(f"a gene has a size beyond those looked for, exp{_LOG_SIZE}")

    def quantile(self, z: np.ndarray) -> sparse.csr_matrix:
        """Counts at normal scores `z` (cells x genes); float32."""
        steps = ndtri(self._cumulative(np.arange(_N_LISTED)[:, None]).T)
        cells, genes = np.nonzero(z > steps[:, 0])
        scores = np.minimum(z[cells, genes].astype(np.float64), _LARGEST)
        keys = np.arange(len(steps))[:, None] * _APART + np.clip(steps, -_APART / 3, _APART / 3)
        at = np.searchsorted(keys.ravel(), genes * _APART + scores) - genes * _N_LISTED
        found = at.astype(np.float32)
        larger = found == _N_LISTED
        found[larger] = self._large(ndtr(scores[larger]), genes[larger])
        return sparse.csr_matrix((found, (cells, genes)), shape=z.shape)

    def _cumulative(self, counts: np.ndarray, genes: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Probability of at most so many counts (... x genes); of `genes`, or all of them."""
        mean, size = self.mean[genes], self.size[genes]
        plain = np.isinf(size)
        found = np.empty(np.broadcast_shapes(counts.shape, mean.shape))
        counts = np.broadcast_to(counts, found.shape)
        found[..., plain] = stats.poisson.cdf(counts[..., plain], mean[plain])
        mean, size = mean[~plain], size[~plain]
        found[..., ~plain] = stats.nbinom.cdf(counts[..., ~plain], size, size / (size + mean))
        return found

    def _large(self, u: np.ndarray, genes: np.ndarray) -> np.ndarray:
        """Counts of `genes` at probabilities `u` (each: entries) that are at least those listed.

        By doubling and halving: scipy's quantiles do not come to an end with large, dispersed counts. Counts
        that single precision cannot tell apart are not told apart.
        """
        low, high = np.full(len(u), _N_LISTED - 1.0), np.full(len(u), 2.0 * _N_LISTED)
        left = np.arange(len(u))
        while len(left := left[self._cumulative(high[left], genes[left]) < u[left]]):
            low[left], high[left] = high[left], 2 * high[left]
            left = left[high[left] < _MOST]
        left = np.arange(len(u))
        while len(left := left[high[left] - low[left] > np.maximum(1.0, high[left] * _STEP)]):
            middle = np.floor((low[left] + high[left]) / 2)
            enough = self._cumulative(middle, genes[left]) >= u[left]
            high[left[enough]], low[left[~enough]] = middle[enough], middle[~enough]
        return high


def fit_negative_binomial(found: ValueCounts, n_cells: int, n_genes: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and size of each gene's negative binomial by maximum likelihood.

    The mean is the sample mean. The size solves, by bisection of its log, ``sum of digamma(x + size) -
    digamma(size) = n log(1 + mean / size)``. It has a finite solution just where the sample variance (divisor
    n) exceeds the mean; other genes are Poisson.

    Parameters
    ----------
    found
        Values of each gene, see :func:`value_counts`.
    n_cells, n_genes
        Their number.

    Returns
    -------
    Mean and size (each: genes); size is infinite where a gene is not over-dispersed.

    References
    ----------
    Levin and Reeds, Annals of Statistics 1977, `doi:10.1214/aos/1176343741
    <https://doi.org/10.1214/aos/1176343741>`__: when the solution exists.
    """

    def total(per_value: np.ndarray) -> np.ndarray:
        return np.bincount(gene, weights=number * per_value, minlength=n_genes)

    gene, value, number = found
    mean = total(value) / n_cells
    over = total(value**2) / n_cells - mean**2 > mean * (1 + 1e-9)
    low, high = (np.full(n_genes, bound) for bound in _LOG_SIZE)
    for _ in range(50):
        middle = (low + high) / 2
        size = np.exp(middle)
        slope = total(digamma(value + size[gene]) - digamma(size[gene])) - n_cells * np.log1p(mean / size)
        low, high = np.where(slope > 0, middle, low), np.where(slope > 0, high, middle)
    return mean, np.where(over & (low < _LOG_SIZE[1] - 1), np.exp(low), np.inf)
