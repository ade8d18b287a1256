"""Whether generated cells are copies of the cells a generator was trained on."""

from hashlib import blake2b
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import betaln

from latentcell._checks import as_csr
from latentcell._errors import DataError
from latentcell.metrics._inputs import check_sets

_BLOCK = 2**22
"""Distances that are held at once, about."""


def nearer_to_training(generated: Any, training: Any, held_out: Any) -> float:
    r"""Share of generated cells that are nearer to a training cell than to a held-out cell, of equally many.

    Each generated cell is compared with its nearest training cell and its nearest held-out cell (Euclidean
    distance; equal distances count half). If there are N training cells and only n held-out cells, the share
    is the expectation over all draws of n training cells: a cell with k training cells nearer than the
    nearest held-out one counts :math:`1 - \binom{N - k}{n} / \binom{N}{n}`; and the other way round.

    **The best value is 0.5**: a generator that learned the distribution lies as near to cells it never saw.
    Above, generated cells keep to the training cells; clearly below, training and held-out cells are not
    samples of the same distribution. Copies of all training cells reach 1 with as many held-out cells, and
    about (1 + n / N) / 2 with fewer. Exchanging training and held-out cells gives 1 less the share.

    Parameters
    ----------
    generated, training, held_out
        Cells x features, the same features in all. Features that were fitted on the training cells
        (principal components) bias the result: fit them on other cells.

    Returns
    -------
    The share, 0 to 1.

    Raises
    ------
    DataError
        If a value is not finite, if the features differ, or if a set is empty.

    References
    ----------
    Meehan et al. (2020), A non-parametric test to detect data-copying in generative models,
    https://arxiv.org/abs/2004.05675 (the same comparison, there as a rank test)

    Examples
    --------
    >>> import numpy as np
    >>> import latentcell as lc
    >>> rng = np.random.default_rng(0)
    >>> training, held_out, new = rng.normal(size=(3, 200, 2))
    >>> round(lc.metrics.nearer_to_training(new, training, held_out), 1)
    0.5
    >>> lc.metrics.nearer_to_training(training[:20], training, held_out)
    1.0
    """
    generated, training, held_out = check_sets(1, generated=generated, training=training, held_out=held_out)
    return float(nearer_to_first(generated, training, held_out).mean())


def exact_copies(generated: Any, training: Any) -> float:
    """Share of generated cells that equal a training cell in every gene.

    0 to 1, **lower is better**; 0 unless cells hold so little that two of them agree by chance.

    Parameters
    ----------
    generated, training
        Cells x genes, the same genes in both; dense or sparse. Give the values that the model was trained on
        (counts), all training cells, and all genes.

    Returns
    -------
    The share.

    Raises
    ------
    DataError
        If the genes differ, or if there are no generated cells.

    References
    ----------
    Carlini et al. (2023), Extracting training data from diffusion models, https://arxiv.org/abs/2301.13188

    Examples
    --------
    >>> import numpy as np
    >>> import latentcell as lc
    >>> training = np.array([[0, 3, 1], [2, 0, 0]])
    >>> lc.metrics.exact_copies(np.array([[2, 0, 0], [0, 3, 2]]), training)
    0.5
    """
    if generated.shape[1] != training.shape[1]:
        raise DataError(
            f"The sets must have the same genes: generated has {generated.shape[1]}, training "
            f"{training.shape[1]}."
        )
    if not generated.shape[0]:
        raise DataError("generated has no cells.")
    return float(np.isin(row_digests(generated), row_digests(training)).mean())


def nearer_to_first(cells: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Probability that a cell is nearer to `first` than to `second`, of equally many (cells); ties 0.5."""
    if len(first) < len(second):
        return 1 - nearer_to_first(cells, second, first)
    blocks = np.array_split(cells, max(1, len(cells) * len(first) // _BLOCK))
    nearer, as_near = (
        np.concatenate(n) for n in zip(*(_nearer(b, first, second) for b in blocks), strict=True)
    )
    none_nearer, none_as_near = (_none_drawn(k, len(first), len(second)) for k in (nearer, as_near))
    return 1 - (none_nearer + none_as_near) / 2


def _nearer(cells: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many of `first` are nearer than the nearest of `second`, and how many at most as far (cells)."""
    to_first, to_second = cdist(cells, first), cdist(cells, second).min(axis=1, keepdims=True)
    return (to_first < to_second).sum(axis=1), (to_first <= to_second).sum(axis=1)


def _none_drawn(n_marked: np.ndarray, n_cells: int, n_drawn: int) -> np.ndarray:
    """Probability that a draw without replacement has none of the marked cells."""
    log_choices = betaln(n_cells - n_drawn + 1, n_drawn + 1)
    left = n_cells - n_marked
    log_left = betaln(np.maximum(left - n_drawn, 0) + 1, n_drawn + 1)
    # log of 1 / ((n + 1) B(n - k + 1, k + 1)) is that of a binomial coefficient
    ratio = np.exp(log_choices - log_left + np.log(n_cells + 1) - np.log(left + 1))
    return np.where(left >= n_drawn, ratio, 0.0)


def row_digests(X: Any) -> np.ndarray:
    """A fixed-length fingerprint of every row (cells, bytes): equal where all values are."""
    if X.dtype.kind not in "biuf":
        raise DataError(f"cells must be a matrix of numbers; it holds {X.dtype}.")
    csr = as_csr(X).astype(np.float64, copy=True)
    csr.sum_duplicates()
    csr.eliminate_zeros()
    genes, edges = csr.indices.astype(np.int64), csr.indptr
    digests = [
        blake2b(genes[a:b].tobytes() + csr.data[a:b].tobytes(), digest_size=16).hexdigest()
        for a, b in zip(edges[:-1], edges[1:], strict=True)
    ]
    return np.array(digests, dtype="U32")
