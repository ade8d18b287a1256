"""How far the dimensions of a code depend on each other."""

from typing import Any

import numpy as np

from latentcell._errors import DataError
from latentcell.metrics._correlation import standardised
from latentcell.metrics._inputs import check_codes


def total_correlation(z: Any) -> float:
    r"""Total correlation of the dimensions of a code, as of a Gaussian with the same covariance.

    With the correlation matrix R of the dimensions

    .. math::

        \frac{1}{2} \Big(\sum_i \log \Sigma_{ii} - \log \det \Sigma\Big) = -\frac{1}{2} \log \det R

    which is the Kullback-Leibler divergence, in nats, from the product of the dimensions' own distributions
    to their joint one, if they are jointly Gaussian. **Lower is better**; 0 means uncorrelated dimensions,
    which principal components always are: it asks nothing of the factors, and no dependence but the linear
    one is seen. Infinite if a dimension is a linear combination of others, as a copy is. Codes of D
    independent dimensions and n cells have about D (D - 1) / 4n by chance. Values for different D are not
    comparable.

    Parameters
    ----------
    z
        Codes, cells x dimensions. Scales do not matter; constant dimensions, which are independent of all
        others, are left out.

    Returns
    -------
    Nats, 0 to infinity; 0 with at most one dimension that varies.

    Raises
    ------
    DataError
        If a code is not finite or if there are fewer than two cells.

    References
    ----------
    Watanabe (1960), Information theoretical analysis of multivariate correlation, IBM J Res Dev 4,
    https://doi.org/10.1147/rd.41.0066; as a score of codes: Locatello et al. (2019),
    https://arxiv.org/abs/1811.12359

    Examples
    --------
    >>> import numpy as np
    >>> import latentcell as lc
    >>> a, b = np.random.default_rng(0).normal(size=(2, 1000))
    >>> round(lc.metrics.total_correlation(np.stack([a, b], axis=1)), 2)
    0.0
    >>> round(lc.metrics.total_correlation(np.stack([a, a + b], axis=1)), 1)  # about log(2) / 2
    0.4
    """
    codes = check_codes(z, any_scale=True)
    if len(codes) < 2:
        raise DataError(f"z has {len(codes)} cells; at least 2 are needed.")
    standard = standardised(codes[:, np.ptp(codes, axis=0) > 0])
    n_cells, n_dims = standard.shape
    # singular values are more exact than eigenvalues of the correlation matrix
    scale = np.linalg.svd(standard / np.sqrt(n_cells), compute_uv=False)
    if len(scale) < n_dims or (n_dims and scale[-1] <= scale[0] * max(n_cells, n_dims) * np.finfo(float).eps):
        return float("inf")
    return float(max(0.0, -np.sum(np.log(scale))))
