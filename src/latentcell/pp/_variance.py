"""Variance normalisation of genes against the trend of the variance over the mean (pagoda2, MUDAN)."""

from typing import Any

import numpy as np
from anndata import AnnData
from scipy import sparse, stats
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer

from latentcell._checks import check_matrix
from latentcell._errors import DataError
from latentcell.pp._canonical import canonical_csr
from latentcell.pp._check import expression, refuse_backed, refuse_view
from latentcell.pp._log_tails import chi2_quantile, log_f_sf

_ADJUSTED_VARIANCE = (1e-3, 1e3)
"""Smallest and largest variance that a gene can have after normalisation, as in pagoda2."""

_ROUNDING = 1e-24
"""A gene whose variance is below this share of its squared mean is constant up to rounding."""


def normalize_variance(
    adata: AnnData,
    *,
    alpha: float = 0.05,
    k: int = 5,
    layer: str | None = None,
    key_added: str = "variance_normalized",
    copy: bool = False,
) -> AnnData | None:
    r"""Give each gene the variance it has beyond what its mean lets expect.

    In most single-cell data the variance of a gene follows its mean, so the genes of highest mean dominate
    distances and principal components, and the markers of rare cells do not show. The steps are those of
    pagoda2 and of MUDAN's ``normalizeVariance``, for gene g with mean :math:`m_g` and variance :math:`v_g`
    over n cells:

    1. fit a smooth trend :math:`\log v = s(\log m) + r` over all genes (cubic spline of `k` basis functions);
    2. test the residual: :math:`p_g = P(F_{n,n} > e^{r_g})`, Benjamini-Hochberg over genes;
    3. turn it into a variance: :math:`u_g` with :math:`P(\chi^2_{n-1} > (n-1) u_g) = p_g`, within 1e-3 and
       1e3;
    4. multiply the gene by :math:`\sqrt{u_g / v_g}`, after which its variance is :math:`u_g`, about 1 for a
       gene on the trend.

    Values keep their zero; nothing is centred. Two differences: MUDAN's code takes the number of genes for n
    in step 3, where the number of cells belongs and is used here; and its trend is a penalised spline of the
    same size, this one is not penalised.

    Parameters
    ----------
    adata
        Cells x genes, non-negative values of any unit (counts, normalised, log1p), in memory.
    alpha
        Genes whose adjusted p-value is at most this are marked overdispersed; with 1 all are that vary at
        all. The matrix always holds all genes.
    k
        Number of basis functions of the trend; 2 is a straight line.
    layer
        Layer to read; ``None`` is ``adata.X``.
    key_added
        Name of the layer, and beginning of the names of the columns, that are written.
    copy
        Return a new object and leave `adata` alone.

    Returns
    -------
    ``None`` with `adata` changed in place, or the new AnnData if `copy`. Its slots:

    ``layers[key_added]`` : cells x genes, sparse if the input is, float
        Values of each gene times its scale; 0 for genes that do not vary.
    ``var[f"{key_added}_residual"]`` : float
        Residual log variance; NaN for genes that do not vary.
    ``var[f"{key_added}_pvals_adj"]`` : float
        Adjusted p-value of the test that the gene varies more than the trend; 1 for genes that do not vary.
    ``var[f"{key_added}_overdispersed"]`` : bool
        Whether that p-value is at most `alpha`, and the gene varies.
    ``var[f"{key_added}_scale"]`` : float
        The factor; 0 for genes that do not vary.

    Raises
    ------
    DataError
        If values are negative or not finite, if there are fewer than ``1.5 * k`` genes that vary, if `adata`
        is a view or backed, or if a parameter makes no sense.

    References
    ----------
    Fan et al. (2016), Characterizing transcriptional heterogeneity through pathway and gene set
    overdispersion analysis, Nat Methods 13, https://doi.org/10.1038/nmeth.3734 (PAGODA);
    https://github.com/kharchenkolab/pagoda2 and https://github.com/JEFworks/MUDAN for the steps.

    Examples
    --------
    >>> import latentcell as lc
    >>> from sklearn.decomposition import PCA
    >>> adata = lc.datasets.simulate_groups()  # 5 of the 90 cells are rare
    >>> lc.pp.normalize_variance(adata, alpha=1)
    >>> for X in (adata.X, adata.layers["variance_normalized"]):
    ...     z = PCA(2, random_state=0).fit_transform(X)
    ...     print(round(lc.metrics.neighbor_purity(z, adata.obs["group"], "rare"), 2))
    0.55
    1.0
    """
    if not 0 < alpha <= 1:
        raise DataError(f"alpha={alpha} must be above 0 and at most 1.")
    if k < 2:
        raise DataError(f"k={k} must be at least 2.")
    refuse_backed(adata, "normalize_variance")
    if not copy:
        refuse_view(adata, "normalize_variance")
    matrix, where = expression(adata, layer)
    check_matrix(matrix, adata.obs_names, adata.var_names, kind="non-negative", where=where)

    n_obs = adata.n_obs
    if n_obs < 2:
        raise DataError(f"{where} has {n_obs} cells; a variance needs at least 2.")
    mean, variance = _mean_variance(matrix)
    varies = variance > _ROUNDING * mean**2
    if varies.sum() < 1.5 * k:
        raise DataError(
            f"{where} has {varies.sum()} genes that vary over its {n_obs} cells, "
            f"too few to fit a trend with k={k}. "
            "Pass a smaller k, or more genes."
        )
    log_mean, log_variance = np.log(mean[varies]), np.log(variance[varies])
    residual = log_variance - _trend(log_mean, log_variance, k)
    above = residual > 0
    log_tail = log_f_sf(np.exp(np.abs(residual)), n_obs)  # the smaller tail: precise on both sides
    adjusted = chi2_quantile(log_tail, n_obs - 1, upper=above) / (n_obs - 1)
    adjusted = np.clip(adjusted, *_ADJUSTED_VARIANCE)
    p = np.where(above, np.exp(log_tail), -np.expm1(log_tail))

    def over_all_genes(values: np.ndarray, otherwise: float) -> np.ndarray:
        column = np.full(len(varies), otherwise, dtype=np.float64)
        column[varies] = values
        return column

    pvals_adj = over_all_genes(stats.false_discovery_control(p), 1.0)
    scale = over_all_genes(np.sqrt(adjusted / variance[varies]), 0.0)
    result = adata.copy() if copy else adata
    result.layers[key_added] = _scale_genes(matrix, scale)
    result.var[f"{key_added}_residual"] = over_all_genes(residual, np.nan)
    result.var[f"{key_added}_pvals_adj"] = pvals_adj
    result.var[f"{key_added}_overdispersed"] = varies & (pvals_adj <= alpha)
    result.var[f"{key_added}_scale"] = scale
    return result if copy else None


def _mean_variance(matrix: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and unbiased variance of each gene, in double precision."""
    if not sparse.issparse(matrix):
        return matrix.mean(axis=0, dtype=np.float64), matrix.var(axis=0, ddof=1, dtype=np.float64)
    n_obs, n_vars = matrix.shape
    csr = canonical_csr(matrix)
    mean = np.bincount(csr.indices, weights=csr.data, minlength=n_vars) / n_obs
    squares = np.bincount(csr.indices, weights=(csr.data - mean[csr.indices]) ** 2, minlength=n_vars)
    n_zero = n_obs - np.bincount(csr.indices, minlength=n_vars)
    return mean, (squares + n_zero * mean**2) / (n_obs - 1)


def _trend(x: np.ndarray, y: np.ndarray, k: int) -> np.ndarray:
    """Least-squares spline of y on x with `k` basis functions; knots at quantiles of the distinct x."""
    degree = min(3, k - 1)
    knots = np.quantile(np.unique(x), np.linspace(0, 1, k - degree + 1))
    if knots[0] == knots[-1]:
        return np.full_like(y, y.mean())
    spline = SplineTransformer(degree=degree, knots=knots[:, None])
    model = make_pipeline(spline, LinearRegression(fit_intercept=False))
    return model.fit(x[:, None], y).predict(x[:, None])


def _scale_genes(matrix: Any, scale: np.ndarray) -> Any:
    dtype = np.result_type(matrix.dtype, np.float32)
    if sparse.issparse(matrix):
        scaled = matrix.multiply(scale[None, :])
        return scaled.asformat(matrix.format if matrix.format == "csc" else "csr").astype(dtype)
    return (matrix * scale.astype(dtype)).astype(dtype, copy=False)
