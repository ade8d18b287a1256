"""One call from cells to clusters that a network finds by itself."""

from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from latentcell import _keys
from latentcell.model import DESC, SAUCIE

from ._fit import Mask, added, fit, record


def saucie(
    adata: AnnData,
    *,
    layer: str | None = None,
    mask_var: Mask | Literal["auto"] = "auto",
    batch_key: str | None = None,
    max_epochs: int | None = None,
    key_added: str = _keys.latent("saucie"),
    seed: int = 0,
    progress: bool | None = None,
    **model_args: Any,
) -> SAUCIE:
    """Embed cells in two dimensions, mix their batches and find clusters, with SAUCIE.

    Parameters
    ----------
    adata, layer, mask_var, max_epochs, key_added, seed, progress
        See :func:`latentcell.tl.ae`.
    batch_key
        ``obs`` key of the batch, whose codes are drawn together.
    **model_args
        Arguments of :class:`latentcell.model.SAUCIE`, e.g. ``information_dimension=0.4`` for fewer clusters.

    Returns
    -------
    The trained model. Written to `adata`, for ``key_added="X_saucie"``:

    ``obsm["X_saucie"]``
        The map (cells x 2), float32.
    ``obs["saucie_clusters"]``
        Clusters (categories ``"0"``, the largest, ``"1"``, ...); ``"unassigned"`` of cells whose binary code
        is rare.
    ``uns["saucie"]``
        Parameters, the likelihood in use, kind and layer of the matrix, final losses, versions.

    Raises
    ------
    DataError
        If `adata` is a view or the matrix cannot be modelled; it names the cells, genes or argument.

    References
    ----------
    Amodio et al., Nature Methods 2019, `doi:10.1038/s41592-019-0576-7
    <https://doi.org/10.1038/s41592-019-0576-7>`__.

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.pbmc68k()
    >>> model = lc.tl.saucie(adata, max_epochs=2, progress=False)
    >>> adata.obsm["X_saucie"].shape, adata.obs["saucie_clusters"].dtype.name
    ((700, 2), 'category')
    """
    keys = {"batch_key": batch_key}
    model = fit(SAUCIE, adata, layer, mask_var, keys, max_epochs, seed, progress, model_args)
    adata.obsm[key_added] = model.get_embedding()
    adata.obs[_keys.clusters(key_added)] = _named(model.get_clusters())
    adata.uns[_keys.params(key_added)] = record(model, layer, keys)
    added(obsm=[key_added], obs=[_keys.clusters(key_added)], uns=[_keys.params(key_added)])
    return model


def desc(
    adata: AnnData,
    *,
    layer: str | None = None,
    mask_var: Mask | Literal["auto"] = "auto",
    batch_key: str | None = None,
    max_epochs: int | None = None,
    key_added: str = _keys.latent("desc"),
    seed: int = 0,
    progress: bool | None = None,
    **model_args: Any,
) -> DESC:
    """Embed and cluster cells with DESC, and say how sure each cell's cluster is.

    Parameters
    ----------
    adata, layer, mask_var, batch_key, max_epochs, key_added, seed, progress
        See :func:`latentcell.tl.ae`.
    **model_args
        Arguments of :class:`latentcell.model.DESC`, e.g. ``resolution=0.6`` for more clusters.

    Returns
    -------
    The trained model. Written to `adata`, for ``key_added="X_desc"``:

    ``obsm["X_desc"]``
        Codes (cells x n_latent), float32.
    ``obsm["desc_probabilities"]``
        Probability of each cluster (cells x clusters), float32.
    ``obs["desc_clusters"]``, ``obs["desc_confidence"]``
        The most probable cluster (categories ``"0"``, ``"1"``, ...), and its probability (0 to 1).
    ``uns["desc"]``
        Parameters, the likelihood in use, kind and layer of the matrix, final losses, versions.

    Raises
    ------
    DataError
        If `adata` is a view or the matrix cannot be modelled; it names the cells, genes or argument.

    References
    ----------
    Li et al., Nature Communications 2020, `doi:10.1038/s41467-020-15851-3
    <https://doi.org/10.1038/s41467-020-15851-3>`__.

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.pbmc68k()
    >>> model = lc.tl.desc(adata, max_epochs=4, progress=False)
    >>> sure = adata.obs["desc_confidence"]
    >>> bool((adata.obsm["desc_probabilities"].max(axis=1) == sure).all()), adata.obsm["X_desc"].shape
    (True, (700, 10))
    """
    keys = {"batch_key": batch_key}
    model = fit(DESC, adata, layer, mask_var, keys, max_epochs, seed, progress, model_args)
    probabilities = model.get_cluster_probabilities()
    adata.obsm[key_added] = model.get_latent_representation()
    adata.obsm[_keys.probabilities(key_added)] = probabilities
    adata.obs[_keys.clusters(key_added)] = _named(probabilities.argmax(axis=1))
    adata.obs[_keys.confidence(key_added)] = probabilities.max(axis=1)
    adata.uns[_keys.params(key_added)] = record(model, layer, keys)
    added(
        obsm=[key_added, _keys.probabilities(key_added)],
        obs=[_keys.clusters(key_added), _keys.confidence(key_added)],
        uns=[_keys.params(key_added)],
    )
    return model


def _named(clusters: np.ndarray) -> pd.Categorical:
    """Clusters 0, 1, ... by name in their order; -1 is unassigned."""
    numbers = np.unique(clusters[clusters >= 0])
    names = [str(number) for number in numbers]
    codes = np.where(clusters < 0, len(numbers), np.searchsorted(numbers, clusters))
    if (clusters < 0).any():
        names.append(_keys.UNASSIGNED)
    return pd.Categorical.from_codes(codes.tolist(), categories=pd.Index(names, dtype=object))
