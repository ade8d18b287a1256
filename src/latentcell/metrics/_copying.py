"""Whether generated cells are copies of the cells a generator was trained on."""

from hashlib import blake2b
from typing import Any

import numpy as np
from scipy import sparse
from scipy.spatial.distance import cdist

from latentcell._errors import DataError
from latentcell.metrics._inputs import check_sets

_BLOCK = 2**22
"""Distances that are held at once, about."""


def nearer_to_training(generated: Any, training: Any, held_out: Any) -> float:
    """Share of generated cells whose nearest real cell was trained on, among as many that were not.

    Each generated cell is compared with its nearest training cell and its nearest held-out cell (Euclidean
    distance); equal distances count half.

    **The best value is 0.5**: a generator that learned the distribution lies as near to cells it never saw.
    1 means that every generated cell is nearer to a training cell (copying); clearly below 0.5, that training
    and held-out cells are not samples of the same distribution. Training and held-out cells change places
    with 1 - share.

    Parameters
    ----------
    generated, training, held_out
        Cells x features, the same features in all; as many training as held-out cells, else the larger set
        wins by its number. Features that were fitted on the training cells (principal components) bias the
        result: fit them on other cells.

    Returns
    -------
    The share, 0 to 1.

    Raises
    ------
    DataError
        If a value is not finite, if the features differ, or if the numbers of training and held-out cells do.

    References
    ----------
    Meehan et al. (2020), A non-parametric test to detect data-copying in generative models,
    https://arxiv.org/abs/2004.05675 (the share is its statistic without regions)

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
    if len(training) != len(held_out):
        raise DataError(
            f"There must be as many training as held-out cells: training has {len(training)}, held_out "
            f"{len(held_out)}. Draw from the larger one: rng.choice(len(training), len(held_out), "
            "replace=False)."
        )
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
    """1 where a cell's nearest among `first` is nearer than its nearest among `second`, else 0; ties 0.5."""
    to_first, to_second = _nearest(cells, first), _nearest(cells, second)
    return (to_first < to_second) + 0.5 * (to_first == to_second)


def row_digests(X: Any) -> np.ndarray:
    """A fixed-length fingerprint of every row (cells, bytes): equal where all values are."""
    csr = sparse.csr_matrix(X, dtype=np.float64, copy=True)
    csr.sum_duplicates()
    csr.eliminate_zeros()
    genes, edges = csr.indices.astype(np.int64), csr.indptr
    digests = [
        blake2b(genes[a:b].tobytes() + csr.data[a:b].tobytes(), digest_size=16).hexdigest()
        for a, b in zip(edges[:-1], edges[1:], strict=True)
    ]
    return np.array(digests, dtype="U32")


def _nearest(cells: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distance of every cell to the nearest of the others, exactly 0 for a copy (cells)."""
    blocks = np.array_split(cells, max(1, len(cells) * len(others) // _BLOCK))
    return np.concatenate([cdist(block, others).min(axis=1) for block in blocks])
