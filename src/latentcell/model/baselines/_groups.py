"""Groups of cells: those of one label in one batch, as far as the model was told of them."""

from collections.abc import Callable

import numpy as np
from scipy import sparse
from scvi import REGISTRY_KEYS

from latentcell._checks import as_csr
from latentcell.model._noise import Noise
from latentcell.model._templates import Templates
from latentcell.train.loading import Cells

Drawn = tuple[sparse.csr_matrix | np.ndarray, np.ndarray | None]
"""Values (cells x genes) and codes (cells x dimensions), if the model has codes."""

Draw = Callable[[int, int, np.random.Generator], Drawn]
"""New cells of a group: its number, how many, and where randomness comes from."""

_KEYS = (REGISTRY_KEYS.BATCH_KEY, REGISTRY_KEYS.LABELS_KEY)


def groups_of(cells: Cells) -> Templates:
    """Every group as one template, which stands for as many cells as the group has."""
    groups, sizes = np.unique(_codes(cells), axis=0, return_counts=True)
    keys = [key for key in _KEYS if key in cells.arrays]
    return Templates(
        covariates={key: groups[:, [i]] for i, key in enumerate(keys)},
        library=np.ones(len(groups)),
        weight=sizes.astype(np.float64),
        posterior={},
        noise=Noise(),
    )


def members_of(groups: Templates, cells: Cells) -> list[np.ndarray]:
    """Rows of the cells of every group."""
    columns = [groups.codes_of(key) for key in _KEYS if key in groups.covariates]
    wanted = np.stack(columns or [np.zeros(len(groups), dtype=np.int64)], axis=1)
    codes = _codes(cells)
    return [np.flatnonzero((codes == group).all(axis=1)) for group in wanted]


def rows_of_group(cells: Cells, rows: np.ndarray) -> sparse.csr_matrix:
    """Cells `rows` without stored zeros, each gene once."""
    x = as_csr(cells.rows(rows))
    x.sum_duplicates()
    x.eliminate_zeros()
    return x


def _codes(cells: Cells) -> np.ndarray:
    """Codes of batch and label (cells x keys); one column of 0 where there is neither."""
    columns = [cells.arrays[key] for key in _KEYS if key in cells.arrays]
    return np.concatenate(columns or [np.zeros((cells.n_obs, 1), dtype=np.int64)], axis=1)


def draw_in_order(draw: Draw, groups: np.ndarray, rng: np.random.Generator) -> Drawn:
    """A new cell for each entry of `groups`, in that order."""
    order = np.argsort(groups, kind="stable")
    numbers, sizes = np.unique(groups, return_counts=True)
    parts = [draw(int(number), int(size), rng) for number, size in zip(numbers, sizes, strict=True)]
    back = np.argsort(order)
    codes = [z for _, z in parts if z is not None]
    if sparse.issparse(parts[0][0]):
        x = sparse.csr_matrix(sparse.vstack([x for x, _ in parts]))[back]
    else:
        x = np.concatenate([x for x, _ in parts])[back]
    return x, np.concatenate(codes)[back] if codes else None
