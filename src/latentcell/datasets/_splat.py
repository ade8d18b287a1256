"""Splat's steps (Zappia et al. 2017): means of genes, effects of programmes and batches, counts."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.special import expit

from latentcell._errors import DataError


@dataclass(frozen=True, kw_only=True)
class Splat:
    """Numbers of Splat's model, checked; what they mean: :func:`latentcell.datasets.simulate_factors`."""

    library_size: float
    library_scale: float
    mean_shape: float
    mean_rate: float
    outlier_share: float
    outlier_loc: float
    outlier_scale: float
    bcv_common: float
    bcv_df: float | None
    batch_loc: float
    batch_scale: float
    dropout: float | None
    dropout_shape: float

    def __post_init__(self) -> None:
        for name in ("library_size", "mean_shape", "mean_rate"):
            check_range(name, getattr(self, name), 0, open_below=True)
        for name in ("library_scale", "outlier_scale", "bcv_common", "batch_scale"):
            check_range(name, getattr(self, name), 0)
        for name in ("outlier_loc", "batch_loc", "dropout_shape"):
            check_range(name, getattr(self, name))
        check_range("outlier_share", self.outlier_share, 0, 1)
        if self.bcv_df is not None:
            check_range("bcv_df", self.bcv_df, 0, open_below=True)
        if self.dropout is not None:
            check_range("dropout", self.dropout)

    def gene_means(self, rng: np.random.Generator, n_genes: int) -> tuple[np.ndarray, np.ndarray]:
        """Gamma means of `n_genes` genes, and which are outliers: these are a multiple of the median gene.

        A gamma variable of small shape can come to 0: such a mean becomes the smallest normal number, so that
        its log is finite.
        """
        means = rng.gamma(self.mean_shape, 1 / self.mean_rate, n_genes)
        is_outlier = rng.random(n_genes) < self.outlier_share
        factors = np.exp(effects(rng, n_genes, self.outlier_loc, self.outlier_scale, 0))
        means = np.where(is_outlier, np.median(means) * factors, means)
        return np.maximum(means, np.finfo(float).tiny), is_outlier

    def bcv_scales(self, rng: np.random.Generator, n_genes: int) -> np.ndarray:
        """Multiples of the biological coefficient of variation, one per gene; all 1 without `bcv_df`."""
        if self.bcv_df is None:
            return np.ones(n_genes)
        return np.sqrt(self.bcv_df / rng.chisquare(self.bcv_df, n_genes))

    def draw_counts(
        self, rng: np.random.Generator, means: np.ndarray, bcv_scale: np.ndarray
    ) -> tuple[sp.csr_matrix, sp.csr_matrix]:
        """Counts (cells x genes) of these means, and the same before dropout.

        The Poisson mean of each count is a gamma variable r of mean m and coefficient of variation
        ``bcv = (bcv_common + 1 / sqrt(m)) * bcv_scale``: the count has variance ``m + bcv**2 * m**2``. It is
        lost with probability ``expit(dropout_shape * (log(r) - dropout))``.
        """
        # bcv**2 * m, written without a division by means near 0
        scale = ((self.bcv_common * np.sqrt(means) + 1) * bcv_scale) ** 2
        rates = rng.gamma(means / scale, scale)
        complete = sp.csr_matrix(rng.poisson(rates).astype(np.float32))
        if self.dropout is None:
            return complete, complete
        # only counts above 0 can be lost; their rates are above 0 too
        lost = expit(self.dropout_shape * (np.log(rates[complete.nonzero()]) - self.dropout))
        observed = complete.copy()
        observed.data[rng.random(lost.size) < lost] = 0
        observed.eliminate_zeros()
        return observed, complete


def effects(rng: np.random.Generator, n: int, loc: float, scale: float, down: float) -> np.ndarray:
    """Natural-log fold changes of `n` genes: ``|N(loc, scale)|``, negative with probability `down`.

    This is Splat's ``getLNormFactors``: a factor below 1 is inverted before its direction is drawn.
    """
    return np.abs(rng.normal(loc, scale, n)) * np.where(rng.random(n) < down, -1.0, 1.0)


def cell_means(log_profile: np.ndarray, library_size: np.ndarray) -> np.ndarray:
    """Means of the genes of each cell, from their unscaled logs: rows sum to the cells' library sizes."""
    means = np.exp(log_profile - log_profile.max(axis=1, keepdims=True))
    return means * (library_size / means.sum(axis=1))[:, None]


def check_range(
    name: str, value: Any, low: float = -np.inf, high: float = np.inf, *, open_below: bool = False
) -> None:
    """Raise unless `value` is a finite number from `low` (itself excluded with `open_below`) to `high`."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if number and np.isfinite(value) and low <= value <= high and not (open_below and value == low):
        return
    bounds = [f"above {low:g}" if open_below else f"at least {low:g}"] if np.isfinite(low) else []
    bounds += [f"at most {high:g}"] if np.isfinite(high) else []
    raise DataError(
        " ".join([f"{name}={value!r} must be a finite number", " and ".join(bounds)]).strip() + "."
    )


def check_whole(name: str, value: Any, low: int) -> None:
    """Raise unless `value` is a whole number of at least `low`."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < low:
        raise DataError(f"{name}={value!r} must be a whole number of at least {low}.")
