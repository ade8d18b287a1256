"""One call from cells to a map of them in two dimensions."""

from typing import Any, Literal

import numpy as np
from anndata import AnnData

from latentcell import _keys
from latentcell.model import SCVIS, VASC

from ._fit import Mask, added, fit, record

_AT_ONCE = 1024


def scvis(
    adata: AnnData,
    *,
    layer: str | None = None,
    mask_var: Mask | Literal["auto"] = "auto",
    batch_key: str | None = None,
    max_epochs: int | None = None,
    key_added: str = _keys.latent("scvis"),
    seed: int = 0,
    progress: bool | None = None,
    **model_args: Any,
) -> SCVIS:
    """Draw a map of cells on which new cells can be placed, and write it to `adata`.

    Parameters
    ----------
    adata
        See :func:`latentcell.tl.ae`; log-normalised values, or counts, which are log-normalised inside.
    layer, mask_var, batch_key, max_epochs, key_added, seed, progress
        See :func:`latentcell.tl.ae`.
    **model_args
        Arguments of :class:`latentcell.model.SCVIS`, e.g. ``neighbors=50.0``, ``n_components=30``.

    Returns
    -------
    The trained model: ``model.get_latent_representation(new)`` places new cells. Written to `adata`, for
    ``key_added="X_scvis"``:

    ``obsm["X_scvis"]``
        Places on the map (cells x 2), float32; ``sc.pl.embedding(adata, "X_scvis")`` draws it.
    ``obs["scvis_log_likelihood"]``
        Log-likelihood of each cell given its place, nats; before new cells are compared with these, see
        :meth:`latentcell.model.SCVIS.get_log_likelihood`.
    ``uns["scvis"]``
        Parameters, the likelihood in use, kind and layer of the matrix, final losses, versions.

    Raises
    ------
    DataError
        If `adata` is a view or the matrix cannot be modelled; it names the cells, genes or argument.

    References
    ----------
    Ding, Condon and Shah, Nature Communications 2018, `doi:10.1038/s41467-018-04368-5
    <https://doi.org/10.1038/s41467-018-04368-5>`__.

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.pbmc68k()
    >>> model = lc.tl.scvis(adata, max_epochs=2, progress=False)
    >>> adata.obsm["X_scvis"].shape, "scvis_log_likelihood" in adata.obs
    ((700, 2), True)
    """
    keys = {"batch_key": batch_key}
    model = fit(SCVIS, adata, layer, mask_var, keys, max_epochs, seed, progress, model_args)
    adata.obsm[key_added] = model.get_latent_representation()
    adata.obs[_keys.log_likelihood(key_added)] = model.get_log_likelihood()
    adata.uns[_keys.params(key_added)] = record(model, layer, keys)
    added(obsm=[key_added], obs=[_keys.log_likelihood(key_added)], uns=[_keys.params(key_added)])
    return model


def vasc(
    adata: AnnData,
    *,
    layer: str | None = None,
    mask_var: Mask | Literal["auto"] = "auto",
    batch_key: str | None = None,
    max_epochs: int | None = None,
    key_added: str = _keys.latent("vasc"),
    seed: int = 0,
    progress: bool | None = None,
    **model_args: Any,
) -> VASC:
    """Embed cells in two dimensions with VASC, which allows for lost values, and write the codes to `adata`.

    Parameters
    ----------
    adata
        See :func:`latentcell.tl.ae`; non-negative values on a log scale, or counts, which are log-normalised
        inside.
    layer, mask_var, batch_key, max_epochs, key_added, seed, progress
        See :func:`latentcell.tl.ae`.
    **model_args
        Arguments of :class:`latentcell.model.VASC`, e.g. ``n_latent=2``, ``input_dropout=0.5``.

    Returns
    -------
    The trained model. Written to `adata`, for ``key_added="X_vasc"``:

    ``obsm["X_vasc"]``
        Codes (posterior means, cells x n_latent), float32.
    ``var["vasc_dropout"]``
        Mean probability over cells that a value of the gene was lost; NaN for genes that were not used.
    ``uns["vasc"]``
        Parameters, the likelihood in use, kind and layer of the matrix, final losses, versions.

    Raises
    ------
    DataError
        If `adata` is a view or the matrix cannot be modelled; it names the cells, genes or argument.

    References
    ----------
    Wang and Gu, Genomics, Proteomics & Bioinformatics 2018, `doi:10.1016/j.gpb.2018.08.003
    <https://doi.org/10.1016/j.gpb.2018.08.003>`__.

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_groups(seed=0)
    >>> adata.X = adata.X - adata.X.min()
    >>> model = lc.tl.vasc(adata, max_epochs=1, hidden=(16,), progress=False)
    >>> adata.obsm["X_vasc"].shape, bool(adata.var["vasc_dropout"].between(0, 1).all())
    ((90, 2), True)
    """
    keys = {"batch_key": batch_key}
    model = fit(VASC, adata, layer, mask_var, keys, max_epochs, seed, progress, model_args)
    adata.obsm[key_added] = model.get_latent_representation()
    parts = [
        np.arange(start, min(start + _AT_ONCE, adata.n_obs)) for start in range(0, adata.n_obs, _AT_ONCE)
    ]
    total = sum(model.get_dropout_probability(indices=rows).sum(axis=0, dtype=np.float64) for rows in parts)
    lost = np.full(adata.n_vars, np.nan)
    lost[adata.var_names.get_indexer(model.spec.genes)] = total / adata.n_obs
    adata.var[_keys.dropout(key_added)] = lost
    adata.uns[_keys.params(key_added)] = record(model, layer, keys)
    added(obsm=[key_added], var=[_keys.dropout(key_added)], uns=[_keys.params(key_added)])
    return model
