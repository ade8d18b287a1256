"""The check on counts, for users."""

from anndata import AnnData

from latentcell._checks import check_matrix
from latentcell._errors import DataError, nearest


def check_counts(adata: AnnData, *, layer: str | None = None) -> None:
    """Refuse data that are not raw counts.

    Counts are finite, non-negative integers (of any dtype), and every cell has at least one. Everything is
    looked at in chunks, so that backed data are not loaded whole.

    Parameters
    ----------
    adata
        Cells x genes, in memory or backed.
    layer
        Layer to check; ``None`` is ``adata.X``.

    Returns
    -------
    Nothing; `adata` is not changed.

    Raises
    ------
    DataError
        Naming the first cells (and genes) that are not counts, or the cells without counts, and what to do.

    References
    ----------
    Heumos et al. (2023), Best practices for single-cell analysis across modalities, Nat Rev Genet 24,
    https://doi.org/10.1038/s41576-023-00586-w

    Examples
    --------
    >>> import anndata as ad, numpy as np
    >>> import latentcell as lc
    >>> adata = ad.AnnData(np.array([[1.0, 0.0], [0.0, 3.0]]))
    >>> lc.pp.check_counts(adata)
    >>> adata.X = np.log1p(adata.X)
    >>> lc.pp.check_counts(adata)
    Traceback (most recent call last):
        ...
    latentcell._errors.DataError: X holds fractional values where counts are needed: cell '0', gene '0'...
    """
    matrix, where = expression(adata, layer)
    check_matrix(matrix, adata.obs_names, adata.var_names, kind="counts", where=where)


def expression(adata: AnnData, layer: str | None):
    """Give the matrix of a layer (``None``: ``X``) and what error messages call it."""
    if layer is None:
        if adata.X is None:
            raise DataError("adata.X is None; name the layer that holds the data: layer=...")
        return adata.X, "X"
    if layer not in adata.layers:
        have = ", ".join(repr(key) for key in adata.layers if key is not None) or "none"
        raise DataError(
            f"layer={layer!r} is not in adata.layers (there: {have}).{nearest(layer, adata.layers)}"
        )
    return adata.layers[layer], f"layers[{layer!r}]"


def refuse_backed(adata: AnnData, function: str) -> None:
    """Refuse backed data in a function that works in memory."""
    if adata.isbacked:
        raise DataError(f"{function} works in memory, and adata is backed: pass adata.to_memory().")


def refuse_view(adata: AnnData, function: str) -> None:
    """Refuse to write into a view: it would turn into a copy, unseen."""
    if adata.is_view:
        raise DataError(
            f"adata is a view of another AnnData; {function} would change a hidden copy of it. "
            "Pass `adata.copy()`, or copy=True and take the result."
        )
