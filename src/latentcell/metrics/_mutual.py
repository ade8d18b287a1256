"""What single dimensions tell of known factors, from histograms: mutual information gap and modularity."""

from typing import Any

import numpy as np
import pandas as pd

from latentcell.metrics._factors import Factor, check_codes_and_factors, equal_width_bins, gaps, per_factor


def mutual_information_gap(z: Any, factors: Any, *, n_bins: int = 20) -> pd.DataFrame:
    r"""How far the most informative dimension is ahead of the next one, for each factor: MIG.

    With the mutual information I and the entropy H of the factor

    .. math::

        \mathrm{MIG}(v) = \frac{I(z_{(1)}; v) - I(z_{(2)}; v)}{H(v)}

    where (1) and (2) are the two dimensions that tell most of v. 0 to 1, **higher is better**. It is 0 where
    a factor is split evenly among two dimensions, be they a rotation or copies of each other; with one
    dimension only the second information is 0.

    Each dimension is divided into bins of equal width from its lowest to its highest value, and so is each
    continuous factor; discrete factors keep their levels. Few cells in many bins raise every information by
    chance, by about (bins of z - 1)(bins of v - 1) / 2n nats for n cells: .15 at 1,200 cells, of an entropy
    of 3 at most. A single outlying cell makes the bins wide: MIG, other than the correlations, sees the
    scale.

    Parameters
    ----------
    z, factors
        As for :func:`best_correlation`. A constant dimension tells nothing.
    n_bins
        Bins of every dimension and of every continuous factor. 20 is usual in the field; values for other
        numbers cannot be compared.

    Returns
    -------
    DataFrame with one row for each factor (index ``"factor"``), ``value``, and ``dim``, the dimension that
    tells most. The mean of ``value`` over factors is the MIG.

    Raises
    ------
    DataError
        As :func:`best_correlation`, and if `n_bins` is below 2.

    References
    ----------
    Chen et al. (2018), Isolating sources of disentanglement in variational autoencoders,
    https://arxiv.org/abs/1802.04942; 20 bins of equal width as Locatello et al. (2019), Challenging common
    assumptions in the unsupervised learning of disentangled representations, https://arxiv.org/abs/1811.12359

    Examples
    --------
    >>> import numpy as np
    >>> import latentcell as lc
    >>> group = np.repeat(["a", "b"], 50)
    >>> z = np.stack([group == "a", np.arange(100) % 2], axis=1)
    >>> lc.metrics.mutual_information_gap(z, group)["value"].round(2).tolist()
    [1.0]
    """
    codes, read = check_codes_and_factors(z, factors)
    information, entropy = mutual_information(codes, read, n_bins)
    values, dims = gaps(information / entropy)
    return per_factor(read, values, dims)


def modularity(z: Any, factors: Any, *, n_bins: int = 20) -> float:
    r"""How far each dimension tells of one factor only, mean over dimensions.

    With m the mutual information of dimension i and factor k (in bins, as :func:`mutual_information_gap`), K
    factors, and k* the factor that the dimension tells most of

    .. math::

        1 - \frac{\sum_{k \ne k^*} m_{ik}^2}{(K - 1)\, m_{ik^*}^2}

    0 to 1, **higher is better**. A dimension that tells nothing of any factor, as a constant one, counts 0.
    Two dimensions may share a factor without loss. Dimensions of mere noise are neither left out nor 0: what
    their bins tell by chance is about the same for all factors, which is a low modularity.

    Parameters
    ----------
    z, factors, n_bins
        As for :func:`mutual_information_gap`.

    Returns
    -------
    The mean over dimensions; NaN with one factor, of which nothing can be said.

    Raises
    ------
    DataError
        As :func:`mutual_information_gap`.

    References
    ----------
    Ridgeway and Mozer (2018), Learning deep disentangled embeddings with the F-statistic loss,
    https://arxiv.org/abs/1802.05312

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> import latentcell as lc
    >>> factors = pd.DataFrame({"type": np.repeat(["B", "T"], 50), "cycling": np.tile([False, True], 50)})
    >>> z = np.stack([factors["type"] == "B", factors["cycling"]], axis=1)
    >>> lc.metrics.modularity(z, factors)
    1.0
    >>> round(lc.metrics.modularity(z @ [[1, 1], [2, -2]], factors), 2)
    0.0
    """
    codes, read = check_codes_and_factors(z, factors)
    if len(read) < 2:
        return float("nan")
    squared = mutual_information(codes, read, n_bins)[0] ** 2
    most = squared.max(axis=1)
    told = most > 0
    others = (squared.sum(axis=1) - most) / (len(read) - 1)
    return float(np.where(told, 1 - others / np.where(told, most, 1), 0).mean())


def mutual_information(
    codes: np.ndarray, factors: list[Factor], n_bins: int
) -> tuple[np.ndarray, np.ndarray]:
    """Nats that each dimension tells of each factor (dimensions x factors), and the factors' entropies."""
    binned_codes = [equal_width_bins(column, n_bins) for column in codes.T]
    binned = [f.values if f.is_discrete else equal_width_bins(f.values, n_bins) for f in factors]
    information = np.array([[information_of(a, b) for b in binned] for a in binned_codes])
    return information, np.array([information_of(b, b) for b in binned])


def information_of(a: np.ndarray, b: np.ndarray) -> float:
    """Mutual information, in nats, of two columns of positions (cells)."""
    joint = np.bincount(a * (b.max() + 1) + b, minlength=(a.max() + 1) * (b.max() + 1))
    table = joint.reshape(a.max() + 1, b.max() + 1) / len(a)
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0)
    seen = table > 0
    return float(max(0.0, np.sum(table[seen] * np.log(table[seen] / expected[seen]))))
