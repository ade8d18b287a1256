"""Layers drawn side by side: which they are, how they are called, and their values, read in blocks."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from anndata import AnnData
from matplotlib.axes import Axes
from scipy import sparse

from latentcell._checks import check_numbers
from latentcell._errors import DataError

_BLOCK = 2**22
"""Values (32 MB in double precision) that are looked at in one step."""

Place = tuple[slice, slice]
"""Cells and genes of a block."""


def layer_keys(layers: str | Sequence[str | None] | None) -> list[str | None]:
    """The layers to draw as a list; None is ``X``."""
    keys = [layers] if layers is None or isinstance(layers, str) else list(layers)
    if not keys:
        raise DataError("layers: name at least one layer; None stands for adata.X.")
    return keys


def layer_titles(titles: str | Sequence[str] | None, keys: Sequence[str | None]) -> list[str]:
    """One title for each layer; by default its name, and ``"observed"`` for ``X``."""
    if titles is None:
        return ["observed" if key is None else key for key in keys]
    names = [titles] if isinstance(titles, str) else list(titles)
    if len(names) != len(keys):
        raise DataError(f"titles: {len(names)} titles were given for {len(keys)} layers.")
    return names


def check_room(ax: Axes | None, n_panels: int) -> None:
    """Raise a DataError if more panels are to be drawn than the Axes that were given hold."""
    if ax is not None and n_panels > 1:
        raise DataError(
            f"ax: it holds one panel, and this call draws {n_panels}. Leave ax out, or name one layer."
        )


def blocks(adata: AnnData, layer: str | None) -> Iterator[tuple[Place, Any]]:
    """Yield a layer in blocks of cells (of genes if it is csc), each a numpy array or sparse matrix.

    Neither a file nor a view is read as a whole, and nothing sparse is made dense. Only a view of a file is
    read at once, as it is stored: anndata makes no views of it.
    """
    by_view = adata.is_view and not adata.isbacked
    first = _matrix(adata[:1] if by_view else adata, layer)
    by_gene = getattr(first, "format", None) == "csc"
    n_major, n_minor = (adata.n_vars, adata.n_obs) if by_gene else adata.shape
    step = max(1, _BLOCK // max(1, n_minor))
    for start in range(0, n_major, step):
        part = slice(start, min(start + step, n_major))
        place = (slice(0, n_minor), part) if by_gene else (part, slice(0, n_minor))
        block = _matrix(adata[place], layer) if by_view else first[place]
        yield place, block if sparse.issparse(block) else np.asarray(block)


def gene_values(adata: AnnData, layer: str | None, positions: Sequence[int]) -> np.ndarray:
    """Values of the genes at `positions`, cells x positions, in double precision."""
    values = np.empty((adata.n_obs, len(positions)))
    for (cells, genes), block in blocks(adata, layer):
        for i, position in enumerate(positions):
            if genes.start <= position < genes.stop:
                at = position - genes.start
                column = block[:, at : at + 1]
                values[cells, i] = (column.toarray() if sparse.issparse(column) else column)[:, 0]
    return values


def _matrix(adata: AnnData, layer: str | None) -> Any:
    matrix = adata.X if layer is None else adata.layers[layer]
    if matrix is None:
        raise DataError("layers: adata.X is empty; name layers that hold the values.")
    check_numbers(matrix, layer or "X")
    return matrix
