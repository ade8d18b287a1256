"""How closely single dimensions follow known factors: best and one-to-one matched correlation."""

from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from latentcell.metrics._factors import Factor, check_codes_and_factors, per_factor


def best_correlation(z: Any, factors: Any) -> pd.DataFrame:
    r"""Correlation of each factor with the dimension that follows it best.

    For factor v the score is :math:`\max_i |r(z_i, v)|`, with Pearson's r. 0 to 1, **higher is better**;
    chance lies above 0, at about :math:`\sqrt{2 \log D / n}` for the best of D dimensions and n cells. For a
    discrete factor ``|r|`` is the correlation ratio, the square root of the share of variance of the
    dimension that lies between levels; with two levels that is ``|r|`` itself.

    Several factors may have the same best dimension, so that one dimension which mixes two factors scores .71
    on both; :func:`matched_correlation` allows each dimension one factor.

    Parameters
    ----------
    z
        Codes, cells x dimensions. Their signs and scales do not matter; a constant dimension has r = 0.
    factors
        Known factors of the same cells: DataFrame or array (cells x factors), or one factor. Columns of
        floating-point numbers are continuous, all others (categories, strings, booleans, integers) discrete.

    Returns
    -------
    DataFrame with one row for each factor (index ``"factor"``), ``value``, and ``dim``, the dimension
    (position from 0). The mean of ``value`` over factors is what is usually reported.

    Raises
    ------
    DataError
        If codes and factors do not fit each other, if a value is missing or infinite, if a factor is
        constant, or if a level of a discrete factor has fewer than five cells.

    References
    ----------
    Kimmel (2020), Disentangling latent representations of single cell RNA-seq experiments, bioRxiv,
    https://doi.org/10.1101/2020.03.04.972166

    Examples
    --------
    >>> import numpy as np
    >>> import latentcell as lc
    >>> factors = np.random.default_rng(0).normal(size=(200, 2))
    >>> z = np.stack([-3 * factors[:, 1], factors[:, 0] + factors[:, 1]], axis=1)
    >>> lc.metrics.best_correlation(z, factors).round(1)
              value  dim
    factor
    factor_0    0.7    1
    factor_1    1.0    0
    """
    codes, read = check_codes_and_factors(z, factors, any_scale=True)
    r = absolute_correlations(codes, read)
    return per_factor(read, r.max(axis=0), r.argmax(axis=0))


def matched_correlation(z: Any, factors: Any) -> pd.DataFrame:
    r"""Correlation of each factor with a dimension of its own: the mean correlation coefficient, MCC.

    Dimensions are assigned to factors one to one, so that the sum of ``|r|`` is as large as possible (the
    Hungarian method). 0 to 1, **higher is better**. Factors that get no dimension, because there are fewer
    dimensions than factors, have the value 0. Further dimensions cost nothing: read it beside
    :func:`mutual_information_gap`, which punishes a factor that is split in two.

    Parameters
    ----------
    z, factors
        As for :func:`best_correlation`; so is ``|r|`` of a discrete factor.

    Returns
    -------
    DataFrame with one row for each factor (index ``"factor"``), ``value``, and ``dim``, the matched
    dimension. The mean of ``value`` over factors is the MCC.

    Raises
    ------
    DataError
        As :func:`best_correlation`.

    References
    ----------
    Hyvarinen and Morioka (2016), Unsupervised feature extraction by time-contrastive learning and
    nonlinear ICA, https://arxiv.org/abs/1605.06336; Khemakhem et al. (2020), Variational autoencoders and
    nonlinear ICA, https://arxiv.org/abs/1907.04809

    Examples
    --------
    >>> import numpy as np
    >>> import latentcell as lc
    >>> factors = np.random.default_rng(0).normal(size=(200, 2))
    >>> z = factors[:, ::-1] * [-3, 1]
    >>> lc.metrics.matched_correlation(z, factors)["dim"].tolist()
    [1, 0]
    >>> round(float(lc.metrics.matched_correlation(z, factors)["value"].mean()), 3)
    1.0
    """
    codes, read = check_codes_and_factors(z, factors, any_scale=True)
    r = absolute_correlations(codes, read)
    dims, columns = linear_sum_assignment(r, maximize=True)
    values, matched = np.zeros(len(read)), np.full(len(read), -1)
    values[columns], matched[columns] = r[dims, columns], dims
    return per_factor(read, values, matched)


def absolute_correlations(codes: np.ndarray, factors: list[Factor]) -> np.ndarray:
    """|r| of every dimension and factor (dimensions x factors); of discrete factors the correlation ratio."""
    standard = standardised(codes)
    r = np.empty((codes.shape[1], len(factors)))
    for k, factor in enumerate(factors):
        if factor.is_discrete:
            share = factor.members.mean(axis=0)
            means = standard.T @ factor.members / len(codes) / share
            r[:, k] = np.sqrt(means**2 @ share)
        else:
            r[:, k] = np.abs(standard.T @ standardised(factor.values[:, None])[:, 0]) / len(codes)
    return r.clip(0, 1)


def standardised(values: np.ndarray) -> np.ndarray:
    """Columns with mean 0 and variance 1; constant ones are 0."""
    # through the range first, so that tiny and huge columns neither vanish nor overflow
    spread = np.ptp(values, axis=0)
    unit = (values - values.min(axis=0)) / np.where(spread > 0, spread, 1)
    unit -= unit.mean(axis=0)
    return unit / np.where(spread > 0, unit.std(axis=0), 1)
