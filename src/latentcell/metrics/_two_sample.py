"""Whether two sets of cells come from the same distribution: classifier, kernel and transport distance."""

from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from latentcell._errors import DataError
from latentcell.metrics._inputs import check_sets

_N_SPLITS = 5
"""Folds of the cross-validation."""

_SCALES = 2.0 ** np.arange(-2, 3)
"""Multiples of the bandwidth in the sum of kernels."""


def classifier_auc(real: Any, generated: Any, *, n_trees: int = 100, seed: int = 0) -> float:
    """Score how well a random forest tells generated cells from real ones.

    The classifier two-sample test: the forest gives every cell a probability of being generated, in five-fold
    stratified cross-validation, so that no cell is judged by trees that saw it; the score is the area under
    the ROC curve of these probabilities over all cells.

    **The best value is 0.5**, where the two sets cannot be told apart; 1 means that every generated cell is
    recognised. Far below 0.5 means that the two sets share cells: a copy in the training folds bears the
    wrong name. About symmetric in the two sets (the folds differ).

    On principal components the classifier is blind to everything outside of them: cells drawn from a Gaussian
    in PCA space reach 0.64 on components and 1.00 on genes. Judge on genes as well.

    Parameters
    ----------
    real, generated
        Cells x features, the same features in both. Give equally many cells: the values for unlike numbers
        are not on the same scale.
    n_trees
        Trees of each of the five forests. More are a stronger judge (and linearly slower): values for
        different numbers of trees should not be compared.
    seed
        Seed of folds and forests.

    Returns
    -------
    Area under the curve, 0 to 1.

    Raises
    ------
    DataError
        If a value is not finite, if the features differ, if a set has fewer than five cells, or if `n_trees`
        is not positive.

    References
    ----------
    Lopez-Paz and Oquab (2017), Revisiting classifier two-sample tests, https://arxiv.org/abs/1610.06545; for
    cells: Marouf et al. (2020), Nat Commun 11, https://doi.org/10.1038/s41467-019-14018-z

    Examples
    --------
    >>> import numpy as np
    >>> import latentcell as lc
    >>> rng = np.random.default_rng(0)
    >>> real, generated = rng.normal(size=(2, 100, 3))
    >>> round(lc.metrics.classifier_auc(real, generated), 1)
    0.5
    >>> lc.metrics.classifier_auc(real, generated + 10)
    1.0
    """
    if n_trees < 1:
        raise DataError(f"n_trees={n_trees} must be at least 1.")
    real, generated = check_sets(_N_SPLITS, real=real, generated=generated)
    X = np.vstack([real, generated]).astype(np.float32)
    is_generated = np.repeat([0, 1], [len(real), len(generated)])
    forest = RandomForestClassifier(n_trees, random_state=seed)
    folds = StratifiedKFold(_N_SPLITS, shuffle=True, random_state=seed)
    probability = cross_val_predict(forest, X, is_generated, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(is_generated, probability))


def mmd(real: Any, generated: Any, *, bandwidth: float | None = None) -> float:
    r"""Squared maximum mean discrepancy of two sets of cells, unbiased, with a sum of five Gaussian kernels.

    With n real cells x and m generated cells y

    .. math::

        \frac{\sum_{i \ne j} k(x_i, x_j)}{n (n - 1)} + \frac{\sum_{i \ne j} k(y_i, y_j)}{m (m - 1)}
        - \frac{2 \sum_{i, j} k(x_i, y_j)}{n m},
        \qquad k(x, y) = \sum_{r=-2}^{2} \exp\!\left(-\frac{\lVert x - y \rVert^2}{2^r b}\right)

    **Lower is better**; 0 in expectation for the same distribution, so that a value may be slightly negative.
    Values from other kernels or bandwidths are not comparable. Symmetric in the two sets for a given
    `bandwidth`.

    Parameters
    ----------
    real, generated
        Cells x features, the same features in both.
    bandwidth
        b in the formula; ``None``: the mean squared distance between two different *real* cells, so that
        several generated sets are judged by the same kernel.

    Returns
    -------
    The squared discrepancy, from about 0 to at most 10.

    Raises
    ------
    DataError
        If a value is not finite, if the features differ, if a set has fewer than two cells, or if the
        bandwidth is not positive.

    References
    ----------
    Gretton et al. (2012), A kernel two-sample test, J Mach Learn Res 13,
    https://jmlr.org/papers/v13/gretton12a.html; the kernel as in scDiffusion,
    https://doi.org/10.1093/bioinformatics/btae518

    Examples
    --------
    >>> import numpy as np
    >>> import latentcell as lc
    >>> rng = np.random.default_rng(0)
    >>> real, generated = rng.normal(size=(2, 300, 3))
    >>> abs(lc.metrics.mmd(real, generated)) < 0.02
    True
    >>> round(lc.metrics.mmd(real, generated + 3), 1)
    3.7
    """
    real, generated = check_sets(real=real, generated=generated)
    within_real = cdist(real, real, "sqeuclidean")
    if bandwidth is None:
        bandwidth = _mean_of_pairs(within_real)
    if not bandwidth > 0:
        raise DataError(
            f"bandwidth={bandwidth:g} must be above 0; it is the mean squared distance between real cells "
            "unless given. Are all real cells the same?"
        )
    within_generated = _kernel(cdist(generated, generated, "sqeuclidean"), bandwidth)
    between = _kernel(cdist(real, generated, "sqeuclidean"), bandwidth)
    within = _mean_of_pairs(_kernel(within_real, bandwidth)) + _mean_of_pairs(within_generated)
    return float(within - 2 * between.mean())


def energy_distance(real: Any, generated: Any) -> float:
    r"""Energy distance of two sets of cells, unbiased, with Euclidean distances.

    With n real cells x and m generated cells y

    .. math::

        \frac{2}{n m} \sum_{i, j} \lVert x_i - y_j \rVert
        - \frac{1}{n (n - 1)} \sum_{i \ne j} \lVert x_i - x_j \rVert
        - \frac{1}{m (m - 1)} \sum_{i \ne j} \lVert y_i - y_j \rVert

    **Lower is better**; 0 in expectation for the same distribution, so that a value may be slightly negative.
    Symmetric. Papers on perturbations take distances among principal components, some of them squared ones:
    values of one choice are not comparable to those of another.

    Parameters
    ----------
    real, generated
        Cells x features, the same features in both.

    Returns
    -------
    The distance, in the unit of the features.

    Raises
    ------
    DataError
        If a value is not finite, if the features differ, or if a set has fewer than two cells.

    References
    ----------
    Székely and Rizzo (2013), Energy statistics, J Stat Plan Inference 143,
    https://doi.org/10.1016/j.jspi.2013.03.018; for perturbations: Peidli et al. (2024), scPerturb, Nat
    Methods 21, https://doi.org/10.1038/s41592-023-02144-y

    Examples
    --------
    >>> import numpy as np
    >>> import latentcell as lc
    >>> lc.metrics.energy_distance([[0.0], [2.0]], [[5.0], [5.0]])
    6.0
    >>> rng = np.random.default_rng(0)
    >>> real, generated = rng.normal(size=(2, 300, 3))
    >>> abs(lc.metrics.energy_distance(real, generated)) < 0.02
    True
    """
    real, generated = check_sets(real=real, generated=generated)
    within = _mean_of_pairs(cdist(real, real)) + _mean_of_pairs(cdist(generated, generated))
    return float(2 * cdist(real, generated).mean() - within)


def wasserstein(real: Any, generated: Any) -> float:
    r"""Wasserstein-2 distance of two equally large sets of cells, exact.

    .. math:: W_2 = \min_{\pi} \sqrt{\frac{1}{n} \sum_i \lVert x_i - y_{\pi(i)} \rVert^2}

    over all assignments :math:`\pi` of the n generated cells y to the n real cells x: the least distance, in
    the root mean square, by which real cells must be moved to become the generated ones. Symmetric.

    **Lower is better**, but 0 is reached by the same cells only: two samples of the same distribution lie
    apart, the further the more dimensions, and a sample that is shrunken to the mean may lie nearer. Compare
    with a second real sample of the same size.

    Parameters
    ----------
    real, generated
        Cells x features, the same features and equally many cells. Memory and time are those of the matrix of
        all distances and of the assignment problem: about a second for 2,000 cells.

    Returns
    -------
    The distance, in the unit of the features, 0 or above.

    Raises
    ------
    DataError
        If a value is not finite, if the features differ, or if the sets are not equally large.

    References
    ----------
    Peyré and Cuturi (2019), Computational optimal transport, https://arxiv.org/abs/1803.00567

    Examples
    --------
    >>> import numpy as np
    >>> import latentcell as lc
    >>> real = np.array([[0.0, 0.0], [4.0, 0.0]])
    >>> lc.metrics.wasserstein(real, real[::-1] + [0.0, 3.0])
    3.0
    """
    real, generated = check_sets(1, real=real, generated=generated)
    if len(real) != len(generated):
        raise DataError(
            f"The sets must be equally large: real has {len(real)} cells, generated {len(generated)}. Draw "
            "as many from the larger one: rng.choice(len(generated), len(real), replace=False)."
        )
    cost = cdist(real, generated, "sqeuclidean")
    return float(np.sqrt(cost[linear_sum_assignment(cost)].mean()))


def _kernel(squared: np.ndarray, bandwidth: float) -> np.ndarray:
    return sum(np.exp(-squared / (scale * bandwidth)) for scale in _SCALES)


def _mean_of_pairs(square: np.ndarray) -> float:
    """Mean over all entries off the diagonal."""
    n = len(square)
    return float((square.sum() - np.trace(square)) / (n * (n - 1)))
