"""One call from cells to a trained GAN, with the cells placed among its codes."""

from typing import Any, Literal

import numpy as np
from anndata import AnnData

from latentcell import _keys
from latentcell.model import GAN, ConditionalGAN

from ._fit import added, fit, record


def gan(
    adata: AnnData,
    labels_key: str | None = None,
    *,
    layer: str | None = None,
    mask_var: str | np.ndarray | None | Literal["auto"] = "auto",
    batch_key: str | None = None,
    max_epochs: int | None = None,
    key_added: str | None = None,
    seed: int = 0,
    progress: bool | None = None,
    **model_args: Any,
) -> GAN | ConditionalGAN:
    """Train a GAN on cells, which then draws new ones, and write where the cells lie among its codes.

    New cells come from the model: ``model.generate(500)``, or with labels
    ``model.generate(labels={"B cells": 100})``. :func:`latentcell.tl.augment` adds them to `adata`.

    Parameters
    ----------
    adata
        See :func:`latentcell.tl.ae`.
    labels_key
        ``obs`` key of labels that new cells are asked for by: trains a
        :class:`latentcell.model.ConditionalGAN`. None trains a :class:`latentcell.model.GAN`.
    layer, mask_var, batch_key, seed, progress
        See :func:`latentcell.tl.ae`; the output follows from what the matrix holds (``gene_likelihood=``).
    max_epochs
        Passes over the cells; see :meth:`latentcell.model.GAN.train`.
    key_added
        ``obsm`` key of the codes. Default: ``"X_gan"``, with labels ``"X_conditionalgan"``.
    **model_args
        Arguments of the class, e.g. ``n_latent=32``, ``hidden=(128, 256)``.

    Returns
    -------
    The trained model. Written to `adata`:

    ``obsm[key_added]``
        Codes (cells x n_latent), float32, found by :meth:`latentcell.model.GAN.project`: what the generator
        makes each cell of. An embedding of an encoder is better for clusters and maps.
    ``uns["gan"]`` or ``uns["conditionalgan"]``
        Parameters, the output in use, kind and layer of the matrix, final figures of the history, versions.

    Raises
    ------
    DataError
        If `adata` is a view, a label is missing or the matrix cannot be modelled; it names the cells, genes
        or argument.

    Warns
    -----
    ModeCollapseWarning
        If the generator draws cells near a part of the real ones only.

    References
    ----------
    Marouf et al., Nature Communications 2020, `doi:10.1038/s41467-019-14018-z
    <https://doi.org/10.1038/s41467-019-14018-z>`__.

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_groups(seed=0)
    >>> model = lc.tl.gan(adata, "group", max_epochs=2, progress=False)
    >>> model.generate(labels={"rare": 3}).obs["group"].tolist(), adata.obsm["X_conditionalgan"].shape
    (['rare', 'rare', 'rare'], (90, 32))
    """
    model_class = GAN if labels_key is None else ConditionalGAN
    key_added = _keys.latent(model_class.__name__.lower()) if key_added is None else key_added
    keys = {"batch_key": batch_key, "labels_key": labels_key}
    model = fit(model_class, adata, layer, mask_var, keys, max_epochs, seed, progress, model_args)
    adata.obsm[key_added] = model.project()
    adata.uns[_keys.params(key_added)] = record(model, layer, keys)
    added(obsm=[key_added], uns=[_keys.params(key_added)])
    return model
